//! The concurrency models, each as a process of its own over the database of TEST_DATABASE_URL.

mod common;

use common::{contract_dir, database_url, run, sql};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, ChildStdout, Command, Stdio},
    thread::sleep,
    time::Duration,
};

struct Running {
    child: Child,
    first_line: Value,
    /// Kept open: the server writes to it.
    _stdout: BufReader<ChildStdout>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn start(settings: &[(&str, &str)]) -> Running {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rust-server"))
            .env_clear()
            .env("CONTRACT_DIR", contract_dir())
            .env("DATABASE_URL", database_url())
            .env("PORT", "0")
            .envs(settings.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server's binary runs");
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("a first line");
        let first_line: Value = serde_json::from_str(&line).expect("a line of JSON");
        let running = Running { child, first_line, _stdout: stdout };
        while running.ask("GET", "/readyz", "").0 != 200 {
            sleep(Duration::from_millis(20));
        }
        running
    }

    /// Asks on a connection of its own, which the kernel gives to whichever runtime it likes.
    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let port = self.first_line["port"].as_u64().expect("a port") as u16;
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, body.to_owned())
    }

    fn data(&self, query: &str) -> Value {
        let (status, body) = self.ask("POST", "/graphql", &json!({ "query": query }).to_string());
        assert_eq!(status, 200, "{body}");
        let answer: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(answer.get("errors"), None, "{query}");
        answer["data"].clone()
    }

    /// The sum of a metric's samples that carry a label.
    fn metric(&self, name: &str, label: &str) -> f64 {
        let (_, page) = self.ask("GET", "/metrics", "");
        let samples = page.lines().filter(|line| line.starts_with(name) && line.contains(label));
        samples.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }

    /// Ends it as an operator does, and gives its exit status.
    fn terminate(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
        self.child.wait().expect("it ends").code()
    }
}

const MODELS: [(&str, &str); 3] = [("multi-thread", "3"), ("current-thread", "1"), ("per-core", "3")];

#[test]
fn every_model_answers_the_same() {
    run(async {
        for (model, workers) in MODELS {
            let server = Running::start(&[("CONCURRENCY_MODEL", model), ("WORKERS", workers), ("POOL_SIZE", "7")]);
            assert_eq!(server.first_line["concurrency_model"], *model);
            assert_eq!(server.first_line["workers"].to_string(), *workers);
            assert_eq!(server.metric("tokio_workers ", ""), workers.parse::<f64>().expect("a number"), "{model}");
            assert_eq!(server.metric("tokio_worker_parks_total", &format!("worker=\"{workers}\"")), 0.0, "{model}");
            let last = format!("worker=\"{}\"", workers.parse::<usize>().expect("a number") - 1);
            for worker in ["worker=\"0\"", &last] {
                assert!(server.metric("lab_worker_busy_seconds_total", worker) > 0.0, "{model}, {worker}");
                assert!(server.metric("lab_worker_elapsed_seconds_total", worker) > 0.0, "{model}, {worker}");
            }
            assert!(server.metric("lab_heap_committed_bytes", "") > 1e6, "{model}");
            assert_eq!(
                server.metric("lab_pool_connections", ""),
                7.0,
                "{model}: the whole pool is open when it is ready"
            );
            let before = server.metric("lab_requests_total", "code=\"OK\"");
            for _ in 0..30 {
                assert_eq!(server.data("{ item(id: 1) { id } }"), json!({ "item": { "id": "1" } }), "{model}");
            }
            assert_eq!(server.metric("lab_requests_total", "code=\"OK\"") - before, 30.0, "{model}");
            assert_eq!(server.terminate(), Some(0), "{model}");
        }
    });
}

#[test]
fn runtimes_share_out_the_pool_and_listen_once() {
    run(async {
        let server = Running::start(&[("CONCURRENCY_MODEL", "per-core"), ("WORKERS", "3"), ("POOL_SIZE", "7")]);
        // Other tests have connections of the same name, so these are told by their ports.
        let of_server = format!(
            "select count(*) from pg_stat_activity where application_name = 'rust-server' and client_port = any('{{{}}}')",
            ports_of(server.child.id()).join(",")
        );
        let client = sql().await;
        let connections: i64 = client.query_one(&of_server, &[]).await.expect("a row").get(0);
        assert_eq!(connections, 8, "7 of the pools and one that listens");
    });
}

/// The local TCP ports of a process's connections, by /proc; none where the database is reached by another way.
fn ports_of(pid: u32) -> Vec<String> {
    let sockets: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("/proc")
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']').map(str::to_owned))
        .collect();
    let table =
        ["tcp", "tcp6"].map(|name| std::fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default());
    let fields =
        table.iter().flat_map(|text| text.lines().skip(1)).map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields
        .filter(|fields| fields.len() > 9 && sockets.iter().any(|inode| inode == fields[9]))
        .filter_map(|fields| u16::from_str_radix(fields[1].rsplit_once(':')?.1, 16).ok())
        .map(|port| port.to_string())
        .collect()
}

#[test]
fn a_rename_is_seen_by_every_runtime() {
    run(async {
        let server = Running::start(&[("CONCURRENCY_MODEL", "per-core"), ("WORKERS", "3"), ("POOL_SIZE", "6")]);
        let client = sql().await;
        let old: String = client.query_one("select name from area where id = 11", &[]).await.expect("a row").get(0);
        server.data("mutation { renameArea(id: 11, name: \"Of a runtime\") { id } }");
        // Memory is one, so there is nothing to wait for, whichever runtime the connection falls to.
        for _ in 0..30 {
            let data = server.data("{ areas { id name } }");
            let areas = data["areas"].as_array().expect("a list");
            let area = areas.iter().find(|area| area["id"] == "11").expect("the area");
            assert_eq!(area["name"], "Of a runtime");
        }
        client.execute("update area set name = $1 where id = 11", &[&old]).await.expect("the old name");
    });
}

#[test]
fn a_port_that_is_taken_is_refused() {
    run(async {
        for (first, model) in [
            ("multi-thread", "current-thread"),
            ("current-thread", "multi-thread"),
            ("multi-thread", "per-core"),
            ("per-core", "per-core"),
            ("per-core", "multi-thread"),
        ] {
            let workers = if first == "current-thread" { "1" } else { "2" };
            let first = Running::start(&[("CONCURRENCY_MODEL", first), ("WORKERS", workers)]);
            let port = first.first_line["port"].to_string();
            let output = Command::new(env!("CARGO_BIN_EXE_rust-server"))
                .env_clear()
                .env("CONTRACT_DIR", contract_dir())
                .env("DATABASE_URL", database_url())
                .env("CONCURRENCY_MODEL", model)
                .envs([("PORT", port.as_str()), ("WORKERS", if model == "current-thread" { "1" } else { "2" })])
                .output()
                .expect("the binary runs");
            assert_eq!(output.status.code(), Some(1), "{model}");
            assert!(String::from_utf8_lossy(&output.stderr).contains(&port), "{model}");
        }
    });
}
