//! Benchmarks of this program by itself, without a database: handing memory to another thread of control, and the loader.

use crate::{
    loaders::{Batch, ByKey, Called, Loader, drive},
    store::Named,
};
use anyhow::{Context, bail, ensure};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc as blocking,
    },
    thread,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot, watch};

/// Bounds of what a bench may be asked for, the same in all servers.
const MOST_BYTES: usize = 100_000_000;
const MOST_KEYS: usize = 100_000_000;
const MOST_BATCH: usize = 10_000;
const MOST_DURATION: Duration = Duration::from_secs(60);
const STARTED_TASKS: usize = 10_000;
const STARTED_THREADS: usize = 64;

/// Runs a benchmark command, such as `hand-over --bytes 1000 --duration 1s`, and gives the line to print: figures with
/// their units in their names. An error says which argument is wrong.
pub fn bench(arguments: &[&str]) -> anyhow::Result<Value> {
    let Some((command, rest)) = arguments.split_first() else { bail!("bench: expected hand-over or loader") };
    let run = match *command {
        "hand-over" => hand_over,
        "loader" => loader,
        _ => bail!("bench {command:?}: expected hand-over or loader"),
    };
    Flags::parse(rest).and_then(run).with_context(|| format!("bench {command}"))
}

struct Flags<'a>(HashMap<&'a str, &'a str>);

impl<'a> Flags<'a> {
    fn parse(arguments: &[&'a str]) -> anyhow::Result<Self> {
        let mut flags = HashMap::new();
        for pair in arguments.chunks(2) {
            let known = pair[0].strip_prefix("--").filter(|name| ["bytes", "duration", "keys", "batch"].contains(name));
            match (known, pair.get(1)) {
                (Some(name), Some(value)) if flags.insert(name, *value).is_none() => {}
                _ => {
                    bail!("{:?}: expected --bytes N and --duration TIME, or --keys N and --batch N, each once", pair[0])
                }
            }
        }
        Ok(Flags(flags))
    }

    /// Takes a flag's value, from 1 to `most`.
    fn number(&mut self, name: &str, most: usize) -> anyhow::Result<usize> {
        let text = self.0.remove(name).unwrap_or_default();
        match text.parse() {
            Ok(n) if (1..=most).contains(&n) => Ok(n),
            _ => bail!("--{name} {text:?}: expected a number from 1 to {most}"),
        }
    }

    fn duration(&mut self) -> anyhow::Result<Duration> {
        let text = self.0.remove("duration").unwrap_or_default();
        let parsed = match text.strip_suffix("ms") {
            Some(n) => n.parse().ok().map(Duration::from_millis),
            None => text.strip_suffix('s').and_then(|n| n.parse().ok()).map(Duration::from_secs),
        };
        match parsed {
            Some(d) if d >= Duration::from_millis(1) && d <= MOST_DURATION => Ok(d),
            _ => bail!("--duration {text:?}: expected 1ms to 1m0s, as in 500ms or 1s"),
        }
    }

    /// Refuses flags that the command does not have.
    fn end(self) -> anyhow::Result<()> {
        match self.0.keys().next() {
            Some(name) => bail!("--{name} is not among its flags"),
            None => Ok(()),
        }
    }
}

/// Adds up little-endian words of 32 bits: it reads every byte.
fn checksum(data: &[u8]) -> u32 {
    data.as_chunks::<4>().0.iter().fold(0, |sum: u32, word| sum.wrapping_add(u32::from_le_bytes(*word)))
}

/// The data that all servers hand over.
fn filled(bytes: usize) -> Box<[u8]> {
    (0..bytes).map(|i| i.wrapping_mul(31) as u8).collect()
}

fn number(data: &mut [u8], n: u32) {
    data[..4].copy_from_slice(&n.to_le_bytes());
}

struct Repeated {
    walls_ns: Vec<u64>,
    cpu: Duration,
}

/// Measures an operation again and again for a time, and verifies each answer. The sender numbers the data each time, so
/// that no answer can be an earlier one.
async fn repeat(
    duration: Duration,
    base: u32,
    mut operation: impl AsyncFnMut(u32) -> anyhow::Result<u32>,
) -> anyhow::Result<Repeated> {
    let mut walls_ns = Vec::with_capacity(1024);
    let (cpu, began) = (process_cpu(), Instant::now());
    let mut n = 0;
    while n == 0 || began.elapsed() < duration {
        let start = Instant::now();
        let got = operation(n).await?;
        walls_ns.push(start.elapsed().as_nanos() as u64);
        let expected = base.wrapping_add(n);
        ensure!(got == expected, "the receiver's checksum is {got}, expected {expected}");
        n += 1;
    }
    Ok(Repeated { walls_ns, cpu: process_cpu() - cpu })
}

/// The smallest value that at least that share of them does not exceed.
fn quantile(values: &mut [u64], q: f64) -> u64 {
    values.sort_unstable();
    let rank = (q * values.len() as f64).ceil() as usize;
    values[rank.clamp(1, values.len()) - 1]
}

fn hand_over(mut flags: Flags) -> anyhow::Result<Value> {
    let bytes = flags.number("bytes", MOST_BYTES)?;
    ensure!(bytes % 4 == 0, "--bytes {bytes}: expected a multiple of 4");
    let duration = flags.duration()?;
    flags.end()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        // Started first, and the tasks alive until the threads have ended, so that no other's memory is used again.
        let (tasks, end_tasks) = start_tasks().await?;
        let starts = [tasks, start_threads()?];
        end_tasks.await?;
        let mut data = filled(bytes);
        let base = checksum(&data[4..]);
        let mut touched = repeat(duration / 4, base, async |n| {
            number(&mut data, n);
            Ok(checksum(std::hint::black_box(&data)))
        })
        .await?
        .walls_ns;
        let touch_ns = quantile(&mut touched, 0.5);
        let way = |name: &str, mut done: Repeated| {
            json!({
                "way": name,
                "iterations": done.walls_ns.len(),
                "cpu_ns_per_operation": done.cpu.as_nanos() as f64 / done.walls_ns.len() as f64,
                "wall_ns_p50": quantile(&mut done.walls_ns, 0.5),
                "wall_ns_p99": quantile(&mut done.walls_ns, 0.99),
                "touch_wall_ns_p50": touch_ns,
            })
        };
        let task = way("task-channel", to_a_task(duration, base, bytes).await?);
        let thread = way("thread-channel", to_a_thread(duration, base, bytes).await?);
        Ok(json!({ "bench": "hand-over", "bytes": bytes, "ways": [task, thread], "starts": starts }))
    })
}

/// By ownership through a channel, and back with the answer.
async fn to_a_task(duration: Duration, base: u32, bytes: usize) -> anyhow::Result<Repeated> {
    type Answer = (Box<[u8]>, u32);
    let (requests, mut received) = mpsc::channel::<(Box<[u8]>, oneshot::Sender<Answer>)>(1);
    tokio::spawn(async move {
        while let Some((data, answer)) = received.recv().await {
            let sum = checksum(&data);
            let _ = answer.send((data, sum));
        }
    });
    let mut held = filled(bytes);
    let mut over = async |n| {
        let mut data = std::mem::take(&mut held);
        number(&mut data, n);
        let (sender, answer) = oneshot::channel();
        requests.send((data, sender)).await?;
        let (data, sum) = answer.await?;
        held = data;
        Ok(sum)
    };
    repeat(duration / 10, base, &mut over).await?; // warm
    repeat(duration, base, over).await
}

async fn to_a_thread(duration: Duration, base: u32, bytes: usize) -> anyhow::Result<Repeated> {
    let (requests, received) = blocking::sync_channel::<Box<[u8]>>(1);
    let (sender, answers) = blocking::sync_channel(1);
    let receiver = thread::spawn(move || {
        for data in received {
            let sum = checksum(&data);
            if sender.send((data, sum)).is_err() {
                return;
            }
        }
    });
    let mut held = filled(bytes);
    let mut over = async |n| {
        let mut data = std::mem::take(&mut held);
        number(&mut data, n);
        requests.send(data)?;
        let (data, sum) = answers.recv()?;
        held = data;
        Ok(sum)
    };
    repeat(duration / 10, base, &mut over).await?; // warm
    let done = repeat(duration, base, over).await;
    drop(requests);
    receiver.join().map_err(|_| anyhow::anyhow!("the receiving thread panicked"))?;
    done
}

/// Time and memory of what was started, until it said that it runs.
fn started(unit: &str, mut walls_ns: Vec<u64>, cpu: Duration, before: Option<i64>) -> Value {
    let count = walls_ns.len();
    let each = pss_bytes().zip(before).map(|(after, before)| (after - before) as f64 / count as f64);
    json!({
        "unit": unit,
        "count": count,
        "wall_ns_p50": quantile(&mut walls_ns, 0.5),
        "cpu_ns_each": cpu.as_nanos() as f64 / count as f64,
        "pss_bytes_each": each,
    })
}

/// Gives what it measured, and what ends the tasks.
async fn start_tasks() -> anyhow::Result<(Value, impl Future<Output = anyhow::Result<()>>)> {
    let end = watch::Sender::new(false);
    let (before, cpu) = (pss_bytes(), process_cpu());
    let mut walls_ns = Vec::with_capacity(STARTED_TASKS);
    let mut tasks = Vec::with_capacity(STARTED_TASKS);
    for _ in 0..STARTED_TASKS {
        let (runs, running) = oneshot::channel();
        let mut end = end.subscribe();
        let start = Instant::now();
        let task = tokio::spawn(async move {
            let _ = runs.send(());
            let _ = end.changed().await;
        });
        running.await?;
        walls_ns.push(start.elapsed().as_nanos() as u64);
        tasks.push(task);
    }
    let result = started("task", walls_ns, process_cpu() - cpu, before);
    let end_tasks = async move {
        drop(end);
        for task in tasks {
            task.await?;
        }
        Ok(())
    };
    Ok((result, end_tasks))
}

fn start_threads() -> anyhow::Result<Value> {
    let (before, cpu) = (pss_bytes(), process_cpu());
    let mut walls_ns = Vec::with_capacity(STARTED_THREADS);
    let mut ends = Vec::new();
    for _ in 0..STARTED_THREADS {
        let (runs, running) = blocking::sync_channel(1);
        let (end, ended) = blocking::sync_channel::<()>(1);
        let start = Instant::now();
        let handle = thread::Builder::new().spawn(move || {
            let _ = runs.send(());
            let _ = ended.recv();
        })?;
        running.recv()?;
        walls_ns.push(start.elapsed().as_nanos() as u64);
        ends.push((end, handle));
    }
    let result = started("thread", walls_ns, process_cpu() - cpu, before);
    for (end, handle) in ends {
        drop(end);
        let _ = handle.join();
    }
    Ok(result)
}

/// Answers at once from memory, and counts its calls.
struct FromMemory {
    rows: Arc<Vec<Arc<Named>>>,
    batches: Arc<AtomicUsize>,
}

impl Batch for FromMemory {
    type Key = i32;
    type Value = Arc<Named>;

    fn call(&self, ids: Vec<i32>) -> Called<i32, Arc<Named>> {
        self.batches.fetch_add(1, Relaxed);
        let rows = self.rows.clone();
        Box::pin(async move {
            Ok(ids.into_iter().map(|id| (id, rows[id as usize].clone())).collect::<ByKey<i32, Arc<Named>>>())
        })
    }
}

fn loader(mut flags: Flags) -> anyhow::Result<Value> {
    let keys = flags.number("keys", MOST_KEYS)?;
    let batch = flags.number("batch", MOST_BATCH)?;
    flags.end()?;
    let rows = Arc::new((0..=batch as i32).map(|id| Arc::new(Named { id, name: "".into() })).collect::<Vec<_>>());
    let ids: Vec<i32> = (1..=batch as i32).collect();
    let batches = Arc::new(AtomicUsize::new(0));
    let load = async |keys: usize| {
        for from in (0..keys).step_by(batch) {
            // A loader lives for one request.
            let loader = Arc::new(Loader::new(FromMemory { rows: rows.clone(), batches: batches.clone() }));
            let asked = &ids[..batch.min(keys - from)];
            let loaded = drive(loader.clone(), join_all(asked.iter().map(|id| loader.load(*id)))).await;
            for (id, row) in asked.iter().zip(loaded) {
                let row = row.map_err(|failure| anyhow::anyhow!("{failure}"))?;
                ensure!(row.is_some_and(|row| row.id == *id), "key {id} was answered with another's value");
            }
        }
        Ok(())
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(tokio::task::unconstrained(async {
        load(batch.max(keys / 10)).await?; // warm
        batches.store(0, Relaxed);
        let (cpu, began) = (process_cpu(), Instant::now());
        load(keys).await?;
        let (cpu, wall) = (process_cpu() - cpu, began.elapsed());
        Ok(json!({
            "bench": "loader",
            "keys": keys,
            "batch": batch,
            "batches": batches.load(Relaxed),
            "cpu_ns_per_key": cpu.as_nanos() as f64 / keys as f64,
            "wall_ns": wall.as_nanos() as u64,
        }))
    }))
}

/// User and system time of this process.
fn process_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes the timespec that it is given, which outlives it.
    match unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) } {
        0 => Duration::new(time.tv_sec as u64, time.tv_nsec as u32),
        _ => Duration::ZERO,
    }
}

/// This process's proportional set size, or None where the kernel does not tell.
fn pss_bytes() -> Option<i64> {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let kib = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?.trim().strip_suffix(" kB")?;
    Some(kib.trim().parse::<i64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hands_over_and_verifies() {
        let result = bench(&["hand-over", "--bytes", "1000", "--duration", "5ms"]).expect("figures");
        assert_eq!(result["bytes"], 1000);
        let ways: Vec<&str> = result["ways"].as_array().unwrap().iter().map(|w| w["way"].as_str().unwrap()).collect();
        assert_eq!(ways, ["task-channel", "thread-channel"]);
        assert!(result["ways"][0]["iterations"].as_u64() > Some(0));
        assert_eq!(result["starts"][0]["unit"], "task");
    }

    #[tokio::test]
    async fn a_wrong_answer_is_an_error() {
        let wrong = repeat(Duration::from_millis(1), 7, async |n| Ok(8 + n)).await;
        assert_eq!(wrong.err().unwrap().to_string(), "the receiver's checksum is 8, expected 7");
    }

    #[test]
    fn the_checksum_reads_every_byte() {
        let mut data = filled(1000);
        let sum = checksum(&data);
        assert_eq!(sum, 2_067_197_484, "as in the other servers");
        for i in 0..data.len() {
            data[i] = data[i].wrapping_add(1);
            assert_ne!(checksum(&data), sum, "byte {i}");
            data[i] = data[i].wrapping_sub(1);
        }
    }

    #[test]
    fn counts_batches() {
        for (batch, batches) in [("1", 1001), ("20", 51), ("500", 3)] {
            let result = bench(&["loader", "--keys", "1001", "--batch", batch]).expect("figures");
            assert_eq!(result["batches"], batches, "{batch}");
        }
    }

    #[test]
    fn refuses_bad_arguments() {
        for (arguments, expected) in [
            (&[][..], "expected hand-over or loader"),
            (&["hand"], "bench \"hand\": expected"),
            (&["hand-over", "--bytes", "3x", "--duration", "1s"], "--bytes \"3x\""),
            (&["hand-over", "--bytes", "6", "--duration", "1s"], "--bytes 6"),
            (&["hand-over", "--bytes", "8"], "--duration \"\""),
            (&["loader", "--keys", "5", "--batch", "0"], "--batch \"0\""),
            (&["loader", "--size", "5"], "\"--size\""),
            (&["loader", "--keys", "5", "--batch", "1", "--bytes", "4"], "--bytes is not among"),
        ] {
            let error = format!("{:#}", bench(arguments).expect_err("refused"));
            assert!(error.contains(expected), "{error}");
        }
    }
}
