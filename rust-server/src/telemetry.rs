//! Prometheus metrics by hand, so that a request pays a few relaxed atomic additions; and the phases of one request.

use crate::{cache::Cache, errors::Code, store::Statement};
use std::{
    fmt::Write,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::runtime::{Handle, RuntimeMetrics};

/// A histogram of fixed bounds; each observation is three additions.
pub struct Histogram<const N: usize> {
    bounds: &'static [f64; N],
    buckets: [AtomicU64; N],
    count: AtomicU64,
    /// In the unit's millionth.
    sum_micro: AtomicU64,
}

impl<const N: usize> Histogram<N> {
    const fn new(bounds: &'static [f64; N]) -> Self {
        Histogram {
            bounds,
            buckets: [const { AtomicU64::new(0) }; N],
            count: AtomicU64::new(0),
            sum_micro: AtomicU64::new(0),
        }
    }

    pub fn observe(&self, value: f64) {
        if let Some(bucket) = self.bounds.iter().position(|bound| value <= *bound) {
            self.buckets[bucket].fetch_add(1, Relaxed);
        }
        self.count.fetch_add(1, Relaxed);
        self.sum_micro.fetch_add((value * 1e6) as u64, Relaxed);
    }

    fn render(&self, out: &mut String, name: &str, label: &str) {
        let comma = if label.is_empty() { "" } else { "," };
        let mut cumulative = 0;
        for (bound, bucket) in self.bounds.iter().zip(&self.buckets) {
            cumulative += bucket.load(Relaxed);
            let _ = writeln!(out, "{name}_bucket{{{label}{comma}le=\"{bound}\"}} {cumulative}");
        }
        // Observations under way may be counted in one and not yet in the other: never let +Inf be below a bucket.
        let count = self.count.load(Relaxed).max(cumulative);
        let braces = if label.is_empty() { String::new() } else { format!("{{{label}}}") };
        let _ = writeln!(out, "{name}_bucket{{{label}{comma}le=\"+Inf\"}} {count}");
        let _ = writeln!(out, "{name}_sum{braces} {}", self.sum_micro.load(Relaxed) as f64 / 1e6);
        let _ = writeln!(out, "{name}_count{braces} {count}");
    }
}

const REQUEST_SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const WAIT_SECONDS: [f64; 12] = [0.00001, 0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];
const BATCH_KEYS: [f64; 11] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 5000.0];

/// The loaders, as `lab_loader_batch_keys` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum LoaderName {
    AreasByIds,
    GenresByIds,
    CategoriesByIds,
    ItemsByIds,
    UsersByIds,
    ItemsByCategoryIds,
    ReviewsByItemIds,
    ReviewsByUserIds,
    ReviewStatsByItemIds,
}

impl LoaderName {
    const ALL: [(&'static str, LoaderName); 9] = [
        ("areas_by_ids", LoaderName::AreasByIds),
        ("genres_by_ids", LoaderName::GenresByIds),
        ("categories_by_ids", LoaderName::CategoriesByIds),
        ("items_by_ids", LoaderName::ItemsByIds),
        ("users_by_ids", LoaderName::UsersByIds),
        ("items_by_category_ids", LoaderName::ItemsByCategoryIds),
        ("reviews_by_item_ids", LoaderName::ReviewsByItemIds),
        ("reviews_by_user_ids", LoaderName::ReviewsByUserIds),
        ("review_stats_by_item_ids", LoaderName::ReviewStatsByItemIds),
    ];
}

/// Everything `/metrics` counts.
pub struct Metrics {
    ok: AtomicU64,
    by_code: [AtomicU64; Code::ALL.len()],
    request_seconds: Histogram<14>,
    pub pool_wait_seconds: Histogram<12>,
    loader_batch_keys: [Histogram<11>; LoaderName::ALL.len()],
    statements: [AtomicU64; Statement::ALL.len()],
    started: Instant,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            ok: AtomicU64::new(0),
            by_code: [const { AtomicU64::new(0) }; Code::ALL.len()],
            request_seconds: Histogram::new(&REQUEST_SECONDS),
            pool_wait_seconds: Histogram::new(&WAIT_SECONDS),
            loader_batch_keys: [const { Histogram::new(&BATCH_KEYS) }; LoaderName::ALL.len()],
            statements: [const { AtomicU64::new(0) }; Statement::ALL.len()],
            started: Instant::now(),
        }
    }
}

/// What the cache of documents counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DocumentCounts {
    pub cached: usize,
    /// How often a document was asked for that was there.
    pub hits: u64,
    pub misses: u64,
}

/// The figures that are asked for at the time of a scrape.
pub struct Gauges<'a> {
    /// Address, in use, idle.
    pub pools: Vec<(&'static str, usize, usize)>,
    pub documents: DocumentCounts,
    /// Of master data in Redis, where it is there.
    pub cache: Option<&'a Cache>,
    /// Of master data in bulk.
    pub text_bytes: usize,
    pub runtimes: Vec<&'a Handle>,
}

impl Metrics {
    /// One request answered; `code` is its first error's, if any.
    pub fn request(&self, code: Option<Code>, elapsed: Duration) {
        match code {
            None => &self.ok,
            Some(code) => &self.by_code[code as usize],
        }
        .fetch_add(1, Relaxed);
        self.request_seconds.observe(elapsed.as_secs_f64());
    }

    pub fn statement(&self, statement: Statement) {
        self.statements[statement as usize].fetch_add(1, Relaxed);
    }

    pub fn batch(&self, loader: LoaderName, keys: usize) {
        self.loader_batch_keys[loader as usize].observe(keys as f64);
    }

    /// The Prometheus text format.
    pub fn render(&self, gauges: &Gauges<'_>) -> String {
        let mut out = String::with_capacity(16 << 10);
        let head = |out: &mut String, name: &str, kind: &str, help: &str| {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        };
        head(&mut out, "lab_requests_total", "counter", "Requests answered, by their first error's code.");
        let _ = writeln!(out, "lab_requests_total{{code=\"OK\"}} {}", self.ok.load(Relaxed));
        for code in Code::ALL {
            let count = self.by_code[code as usize].load(Relaxed);
            let _ = writeln!(out, "lab_requests_total{{code=\"{}\"}} {count}", code.as_str());
        }
        head(&mut out, "lab_request_seconds", "histogram", "Time from a request's head to its answer.");
        self.request_seconds.render(&mut out, "lab_request_seconds", "");
        head(&mut out, "lab_pool_connections", "gauge", "Connections of the pool.");
        for (address, in_use, idle) in &gauges.pools {
            let _ = writeln!(out, "lab_pool_connections{{address=\"{address}\",state=\"in_use\"}} {in_use}");
            let _ = writeln!(out, "lab_pool_connections{{address=\"{address}\",state=\"idle\"}} {idle}");
        }
        head(&mut out, "lab_pool_wait_seconds", "histogram", "Time waited for a connection.");
        self.pool_wait_seconds.render(&mut out, "lab_pool_wait_seconds", "");
        head(&mut out, "lab_loader_batch_keys", "histogram", "Keys per call of a loader.");
        for (name, loader) in LoaderName::ALL {
            let label = format!("loader=\"{name}\"");
            self.loader_batch_keys[loader as usize].render(&mut out, "lab_loader_batch_keys", &label);
        }
        head(&mut out, "lab_statements_total", "counter", "Statements sent, by file.");
        for statement in Statement::ALL {
            let count = self.statements[statement as usize].load(Relaxed);
            let _ = writeln!(out, "lab_statements_total{{statement=\"{}\"}} {count}", statement.name());
        }
        head(&mut out, "lab_documents_cached", "gauge", "Parsed documents kept.");
        let _ = writeln!(out, "lab_documents_cached {}", gauges.documents.cached);
        head(&mut out, "lab_master_text_bytes", "gauge", "Master data in bulk that is kept in memory.");
        let _ = writeln!(out, "lab_master_text_bytes {}", gauges.text_bytes);
        head(
            &mut out,
            "lab_document_lookups_total",
            "counter",
            "Requests that asked the cache of documents, by whether theirs was there.",
        );
        let _ = writeln!(out, "lab_document_lookups_total{{result=\"hit\"}} {}", gauges.documents.hits);
        let _ = writeln!(out, "lab_document_lookups_total{{result=\"miss\"}} {}", gauges.documents.misses);
        if let Some(cache) = gauges.cache {
            head(
                &mut out,
                "lab_cache_lookups_total",
                "counter",
                "Questions to Redis by table and what came of them: hit, miss, failed; skipped where it was not asked.",
            );
            for (table, result, count) in cache.lookups() {
                let _ = writeln!(out, "lab_cache_lookups_total{{table=\"{table}\",result=\"{result}\"}} {count}");
            }
        }
        let heap = heap();
        for (name, help, bytes) in [
            ("lab_heap_used_bytes", "Memory that the allocator has handed out.", heap.used_bytes),
            ("lab_heap_committed_bytes", "Memory that the allocator has of the system.", heap.committed_bytes),
        ] {
            if let Some(bytes) = bytes {
                head(&mut out, name, "gauge", help);
                let _ = writeln!(out, "{name} {bytes}");
            }
        }
        self.render_runtimes(&mut out, &gauges.runtimes);
        out
    }

    /// tokio's stable figures, the workers of all runtimes in a row, and the process's own.
    fn render_runtimes(&self, out: &mut String, runtimes: &[&Handle]) {
        let metrics: Vec<_> = runtimes.iter().map(|runtime| runtime.metrics()).collect();
        let sum = |of: fn(&RuntimeMetrics) -> usize| metrics.iter().map(of).sum::<usize>();
        let workers: Vec<_> = metrics
            .iter()
            .flat_map(|metrics| (0..metrics.num_workers()).map(move |worker| (metrics, worker)))
            .collect();
        let _ = writeln!(out, "# TYPE tokio_workers gauge\ntokio_workers {}", workers.len());
        let alive = sum(RuntimeMetrics::num_alive_tasks);
        let _ = writeln!(out, "# TYPE tokio_alive_tasks gauge\ntokio_alive_tasks {alive}");
        let depth = sum(RuntimeMetrics::global_queue_depth);
        let _ = writeln!(out, "# TYPE tokio_global_queue_depth gauge\ntokio_global_queue_depth {depth}");
        let times: Vec<_> = workers
            .iter()
            .map(|(metrics, worker)| (metrics.worker_total_busy_duration(*worker), self.started.elapsed()))
            .collect();
        let _ = writeln!(out, "# TYPE lab_worker_busy_seconds_total counter");
        for (index, (busy, _)) in times.iter().enumerate() {
            let _ = writeln!(out, "lab_worker_busy_seconds_total{{worker=\"{index}\"}} {}", busy.as_secs_f64());
        }
        let _ = writeln!(out, "# TYPE lab_worker_elapsed_seconds_total counter");
        for (index, (_, elapsed)) in times.iter().enumerate() {
            let _ = writeln!(out, "lab_worker_elapsed_seconds_total{{worker=\"{index}\"}} {}", elapsed.as_secs_f64());
        }
        for (name, kind, count) in WORKER_FIGURES {
            let _ = writeln!(out, "# TYPE {name} {kind}");
            for (index, (metrics, worker)) in workers.iter().enumerate() {
                let _ = writeln!(out, "{name}{{worker=\"{index}\"}} {}", count(metrics, *worker));
            }
        }
        let _ = writeln!(out, "# TYPE process_uptime_seconds gauge");
        let _ = writeln!(out, "process_uptime_seconds {}", self.started.elapsed().as_secs_f64());
        // /proc is Linux's; elsewhere these figures are simply not there.
        if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
            let kib = |key: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(key))?;
                line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().ok()
            };
            if let Some(rss) = kib("VmRSS") {
                let _ = writeln!(out, "# TYPE process_resident_memory_bytes gauge");
                let _ = writeln!(out, "process_resident_memory_bytes {}", rss * 1024);
            }
            if let Some(threads) = kib("Threads") {
                let _ = writeln!(out, "# TYPE process_threads gauge\nprocess_threads {threads}");
            }
        }
        if let Some(cpu_ticks) = cpu_ticks() {
            // USER_HZ is 100 on every Linux that Rust runs on.
            let _ = writeln!(out, "# TYPE process_cpu_seconds_total counter");
            let _ = writeln!(out, "process_cpu_seconds_total {}", cpu_ticks as f64 / 100.0);
        }
    }
}

type WorkerFigure = (&'static str, &'static str, fn(&RuntimeMetrics, usize) -> u64);

/// What tokio tells of each worker.
#[cfg(not(tokio_unstable))]
const WORKER_FIGURES: &[WorkerFigure] = &[("tokio_worker_parks_total", "counter", RuntimeMetrics::worker_park_count)];
/// What tokio tells of each worker where it is built to tell more.
#[cfg(tokio_unstable)]
const WORKER_FIGURES: &[WorkerFigure] = &[
    ("tokio_worker_parks_total", "counter", RuntimeMetrics::worker_park_count),
    ("tokio_worker_steals_total", "counter", RuntimeMetrics::worker_steal_count),
    ("tokio_worker_polls_total", "counter", RuntimeMetrics::worker_poll_count),
    ("tokio_worker_local_queue_depth", "gauge", |metrics, worker| metrics.worker_local_queue_depth(worker) as u64),
];

/// What the allocator tells of its memory; what it does not is `None`.
struct Heap {
    used_bytes: Option<u64>,
    committed_bytes: Option<u64>,
}

/// mimalloc counts what it has of the system; it could count what is in use at the price of doing so at each allocation.
#[cfg(feature = "mimalloc")]
fn heap() -> Heap {
    let mut committed = 0_usize;
    let none = std::ptr::null_mut;
    // SAFETY: each argument is null or points to a usize that outlives the call.
    unsafe {
        libmimalloc_sys::mi_process_info(none(), none(), none(), none(), none(), &mut committed, none(), none());
    }
    Heap { used_bytes: None, committed_bytes: Some(committed as u64) }
}

#[cfg(all(feature = "jemalloc", not(feature = "mimalloc")))]
fn heap() -> Heap {
    use tikv_jemalloc_ctl::{epoch, stats};
    // Its figures are those of the last epoch.
    let read = || {
        epoch::advance()?;
        Ok::<_, tikv_jemalloc_ctl::Error>((stats::allocated::read()? as u64, stats::mapped::read()? as u64))
    };
    let read = read().ok();
    Heap { used_bytes: read.map(|(used, _)| used), committed_bytes: read.map(|(_, committed)| committed) }
}

/// glibc's malloc: its arenas, and what it has mapped for large requests alone.
#[cfg(all(not(feature = "mimalloc"), not(feature = "jemalloc"), target_os = "linux", target_env = "gnu"))]
fn heap() -> Heap {
    // SAFETY: it has no argument and answers by value.
    let info = unsafe { libc::mallinfo2() };
    Heap {
        used_bytes: Some((info.uordblks + info.hblkhd) as u64),
        committed_bytes: Some((info.arena + info.hblkhd) as u64),
    }
}

#[cfg(all(not(feature = "mimalloc"), not(feature = "jemalloc"), not(all(target_os = "linux", target_env = "gnu"))))]
fn heap() -> Heap {
    Heap { used_bytes: None, committed_bytes: None }
}

/// User and system time of this process in clock ticks.
fn cpu_ticks() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may hold spaces: count from behind it. utime and stime are fields 14 and 15.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// Wall time in which a request waits: for the database while at least one statement is in flight, else for the outside
/// service while a call of it is.
#[derive(Default)]
pub struct WaitClock(Mutex<ClockState>);

#[derive(Default)]
struct ClockState {
    /// In flight.
    statements: usize,
    calls: usize,
    turned: Option<Instant>,
    database: Duration,
    upstream: Duration,
}

impl ClockState {
    /// Books the time since the last turn to what was waited for.
    fn turn(&mut self) {
        let now = Instant::now();
        let since = self.turned.replace(now).map_or(Duration::ZERO, |turned| now - turned);
        if self.statements > 0 {
            self.database += since;
        } else if self.calls > 0 {
            self.upstream += since;
        }
    }
}

/// Ends one statement's or one call's time when dropped.
pub struct Running<'a> {
    clock: &'a WaitClock,
    statement: bool,
}

impl WaitClock {
    pub fn statement(&self) -> Running<'_> {
        let mut state = lock(&self.0);
        state.turn();
        state.statements += 1;
        Running { clock: self, statement: true }
    }

    pub fn call(&self) -> Running<'_> {
        let mut state = lock(&self.0);
        state.turn();
        state.calls += 1;
        Running { clock: self, statement: false }
    }

    /// Of the database, and of the outside service.
    fn totals(&self) -> (Duration, Duration) {
        let state = lock(&self.0);
        (state.database, state.upstream)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.clock.0);
        state.turn();
        match self.statement {
            true => state.statements -= 1,
            false => state.calls -= 1,
        }
    }
}

/// A lock whose holder panicked holds nothing half-done here.
pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The marks of one request that asked for `Server-Timing`. Each phase ends where the next begins, so they are disjoint
/// and add up to the total.
pub struct Phases {
    begun: Instant,
    last: Instant,
    parse: Duration,
    validate: Duration,
    execute: Duration,
    serialize: Duration,
    pub waits: std::sync::Arc<WaitClock>,
}

impl Phases {
    pub fn begin(at: Instant) -> Self {
        Phases {
            begun: at,
            last: at,
            parse: Duration::ZERO,
            validate: Duration::ZERO,
            execute: Duration::ZERO,
            serialize: Duration::ZERO,
            waits: Default::default(),
        }
    }

    fn lap(&mut self) -> Duration {
        let now = Instant::now();
        let lap = now - self.last;
        self.last = now;
        lap
    }

    pub fn parsed(&mut self) {
        let lap = self.lap();
        self.parse += lap;
    }

    pub fn validated(&mut self) {
        let lap = self.lap();
        self.validate += lap;
    }

    pub fn executed(&mut self) {
        let lap = self.lap();
        self.execute += lap;
    }

    pub fn serialized(&mut self) {
        let lap = self.lap();
        self.serialize += lap;
    }

    /// The header's value, in milliseconds.
    pub fn header(&self) -> String {
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        let (database, upstream) = self.waits.totals();
        let database = database.min(self.execute);
        let upstream = upstream.min(self.execute - database);
        // There only if the outside service was waited for.
        let waited = if upstream.is_zero() { String::new() } else { format!("upstream;dur={:.3}, ", ms(upstream)) };
        format!(
            "parse;dur={:.3}, validate;dur={:.3}, execute;dur={:.3}, db;dur={:.3}, {waited}serialize;dur={:.3}, total;dur={:.3}",
            ms(self.parse),
            ms(self.validate),
            ms(self.execute - database - upstream),
            ms(database),
            ms(self.serialize),
            ms(self.last - self.begun),
        )
    }
}
