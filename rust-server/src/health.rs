//! Liveness and readiness.

use crate::{app::App, config, http::respond, store::Store};
use anyhow::{Context, bail};
use axum::{
    body::Body,
    extract::State,
    http::{Response, StatusCode},
};
use futures_util::future::join_all;
use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// How old the last look at the database may be, and how long a look may take.
const FRESH: Duration = Duration::from_secs(1);

/// What is known of one runtime's way to the database.
#[derive(Default)]
pub struct Readiness {
    warm: AtomicBool,
    /// The last look at the database.
    last: tokio::sync::Mutex<Option<(Instant, bool)>>,
}

impl Readiness {
    /// All connections have been open.
    pub fn warmed(&self) {
        self.warm.store(true, Relaxed);
    }

    pub fn is_warm(&self) -> bool {
        self.warm.load(Relaxed)
    }

    async fn reachable(&self, store: &Store) -> bool {
        // One look at a time; whoever waited finds it fresh.
        let mut last = self.last.lock().await;
        match *last {
            Some((at, reachable)) if at.elapsed() < FRESH => reachable,
            _ => {
                let reachable = matches!(tokio::time::timeout(FRESH, store.ping()).await, Ok(Ok(())));
                *last = Some((Instant::now(), reachable));
                reachable
            }
        }
    }
}

fn status(status: StatusCode, text: &'static str) -> Response<Body> {
    respond(status, "application/json; charset=utf-8", format!("{{\"status\":\"{text}\"}}"))
}

/// The process runs.
pub async fn livez() -> Response<Body> {
    status(StatusCode::OK, "ok")
}

/// Database and master data are there, in every runtime.
pub async fn readyz(State(app): State<Arc<App>>) -> Response<Body> {
    if app.is_closing() {
        return status(StatusCode::SERVICE_UNAVAILABLE, "shutting down");
    }
    if !app.environment.master.is_loaded() {
        return status(StatusCode::SERVICE_UNAVAILABLE, "master data not loaded");
    }
    if !app.cores.iter().all(|core| core.readiness.is_warm()) {
        return status(StatusCode::SERVICE_UNAVAILABLE, "connections not open");
    }
    // Each runtime looks for itself: a connection that has to be opened anew belongs to the runtime that opens it.
    let looks = app.cores.iter().map(|core| {
        let (readiness, store) = (core.readiness.clone(), core.store.clone());
        core.runtime.spawn(async move { readiness.reachable(&store).await })
    });
    match join_all(looks).await.into_iter().all(|look| look.unwrap_or(false)) {
        true => status(StatusCode::OK, "ok"),
        false => status(StatusCode::SERVICE_UNAVAILABLE, "database not reachable"),
    }
}

/// How long `check` waits for each part of an answer.
const CHECK_TIMEOUT: Duration = Duration::from_secs(4);

/// Asks the server that runs with this environment whether it is ready: what a container's health check calls.
pub fn check(get: impl Fn(&str) -> Option<String>) -> anyhow::Result<()> {
    let (host, port) = config::address(get)?;
    let mut address = (host.as_str(), port)
        .to_socket_addrs()
        .with_context(|| format!("cannot resolve {host}"))?
        .next()
        .with_context(|| format!("{host} has no address"))?;
    // A server that listens everywhere is asked where nobody is in between.
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    let answer = ask(address).with_context(|| format!("http://{address}/readyz"))?;
    if answer.starts_with("HTTP/1.1 200 ") {
        return Ok(());
    }
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    bail!("http://{address}/readyz answered {} {}", head.lines().next().unwrap_or("nothing"), body.trim())
}

/// The answer to `/readyz`, head and body as they came.
fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, CHECK_TIMEOUT)?;
    stream.set_read_timeout(Some(CHECK_TIMEOUT))?;
    stream.set_write_timeout(Some(CHECK_TIMEOUT))?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
