//! Liveness and readiness.

use crate::{app::App, http::respond};
use axum::{
    body::Body,
    extract::State,
    http::{Response, StatusCode},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How old the last look at the database may be, and how long a look may take.
const FRESH: Duration = Duration::from_secs(1);

/// The last look at the database.
#[derive(Default)]
pub struct Readiness(tokio::sync::Mutex<Option<(Instant, bool)>>);

fn status(status: StatusCode, text: &'static str) -> Response<Body> {
    respond(status, "application/json; charset=utf-8", format!("{{\"status\":\"{text}\"}}"))
}

/// The process runs.
pub async fn livez() -> Response<Body> {
    status(StatusCode::OK, "ok")
}

/// Database and master data are there.
pub async fn readyz(State(app): State<Arc<App>>) -> Response<Body> {
    if app.is_closing() {
        return status(StatusCode::SERVICE_UNAVAILABLE, "shutting down");
    }
    if !app.environment.master.is_loaded() {
        return status(StatusCode::SERVICE_UNAVAILABLE, "master data not loaded");
    }
    // One look at a time; whoever waited finds it fresh.
    let mut last = app.readiness.0.lock().await;
    let reachable = match *last {
        Some((at, reachable)) if at.elapsed() < FRESH => reachable,
        _ => {
            let reachable = matches!(tokio::time::timeout(FRESH, app.store.ping()).await, Ok(Ok(())));
            *last = Some((Instant::now(), reachable));
            reachable
        }
    };
    match reachable {
        true => status(StatusCode::OK, "ok"),
        false => status(StatusCode::SERVICE_UNAVAILABLE, "database not reachable"),
    }
}
