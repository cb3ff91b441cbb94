//! Builds the application without listening.

use crate::{
    config::{Config, Tier},
    errors::{Code, Failure},
    floor::Floor,
    health::Readiness,
    loaders::{drive, new_loaders},
    log,
    master::Master,
    resolvers::{Environment, Scope},
    schema::{ExecutionError, Planned, Schema},
    store::Store,
    telemetry::{DatabaseClock, Gauges, Metrics},
    upstream::Upstream,
};
use async_graphql::parser::types::OperationType;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

pub struct App {
    pub config: Config,
    pub store: Arc<Store>,
    pub schema: Schema,
    pub floor: Option<Floor>,
    pub environment: Arc<Environment>,
    pub metrics: Arc<Metrics>,
    pub readiness: Readiness,
    in_flight: AtomicUsize,
    closing: AtomicBool,
    started: Instant,
    /// When each code's failures were last logged, in ms since `started`, plus one.
    logged_ms: [AtomicU64; Code::ALL.len()],
}

/// A request's place among those in flight.
pub struct Entered<'a>(&'a AtomicUsize);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl App {
    /// Builds everything; opens no connection yet.
    pub fn new(config: Config) -> anyhow::Result<Arc<App>> {
        let metrics = Arc::new(Metrics::default());
        let environment = Environment {
            master: Arc::new(Master::default()),
            master_source: config.master,
            upstream: Upstream::new(config.upstream_url.clone()),
            limits: config.limits.clone(),
            request_timeout: config.request_timeout,
        };
        Ok(Arc::new(App {
            store: Arc::new(Store::new(&config, metrics.clone())?),
            schema: Schema::new(&config.contract_dir, &config.limits)?,
            floor: match config.tier {
                Tier::Floor => Some(Floor::read(&config.contract_dir)?),
                Tier::Mainstream => None,
            },
            environment: Arc::new(environment),
            metrics,
            readiness: Readiness::default(),
            in_flight: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            started: Instant::now(),
            logged_ms: [const { AtomicU64::new(0) }; Code::ALL.len()],
            config,
        }))
    }

    /// Warms the pools, loads master data and keeps it fresh, for ever.
    pub async fn run(self: Arc<Self>) {
        let mut pause = Duration::from_millis(50);
        while let Err(failure) = self.store.warm().await {
            log!(Warn, "database not reachable", "error": failure.cause(), "retry_in_ms": pause.as_millis() as u64);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
        self.environment.master.listen(&self.store, self.config.start).await;
    }

    /// Counts a request in; refuses where there are too many, or the server is not (or no longer) ready.
    pub fn enter(&self) -> Result<Entered<'_>, Failure> {
        let before = self.in_flight.fetch_add(1, Relaxed);
        let entered = Entered(&self.in_flight);
        if before >= self.config.limits.requests_in_flight {
            return Err(Failure::unavailable("too many requests in flight"));
        }
        if self.is_closing() || !self.environment.master.is_loaded() {
            return Err(Failure::unavailable("not ready"));
        }
        Ok(entered)
    }

    pub fn close(&self) {
        self.closing.store(true, Relaxed);
    }

    pub fn is_closing(&self) -> bool {
        self.closing.load(Relaxed)
    }

    pub fn late(&self) -> Failure {
        Failure::Timeout { limit_ms: self.config.request_timeout.as_millis() as u64 }
    }

    /// Executes within the request's time. Where it is over, statements under way are cancelled with the future.
    pub async fn execute(
        &self,
        planned: Planned,
        clock: Option<Arc<DatabaseClock>>,
    ) -> Result<(async_graphql::Value, Vec<ExecutionError>), Failure> {
        let session = match planned.kind {
            OperationType::Mutation => self.store.primary(clock),
            _ => self.store.replica(clock),
        };
        let deadline = Instant::now() + self.config.request_timeout;
        let loaders = self.config.loader.then(|| new_loaders(&session, &self.metrics));
        let scope = Scope { environment: self.environment.clone(), session, loaders: loaders.clone(), deadline };
        let execution = self.schema.execute(planned, scope);
        let timed = async {
            match loaders {
                Some(loaders) => tokio::time::timeout_at(deadline.into(), drive(loaders, execution)).await,
                None => tokio::time::timeout_at(deadline.into(), execution).await,
            }
        };
        let result = tokio::task::unconstrained(timed).await.map_err(|_| self.late());
        let (data, errors) = result?;
        for error in &errors {
            if error.failure.is_fatal() {
                self.log_failure(&error.failure);
                return Err(error.failure.clone());
            }
        }
        if let Some(error) = errors.iter().find(|error| error.failure.cause().is_some()) {
            self.log_failure(&error.failure);
        }
        Ok((data, errors))
    }

    /// Logs a failure's cause, at most one a second of each code.
    pub fn log_failure(&self, failure: &Failure) {
        let Some(cause) = failure.cause() else { return };
        let last = &self.logged_ms[failure.code() as usize];
        let now = self.started.elapsed().as_millis() as u64 + 1;
        let before = last.load(Relaxed);
        if (before != 0 && now < before + 1000) || last.compare_exchange(before, now, Relaxed, Relaxed).is_err() {
            return;
        }
        match failure {
            Failure::Internal { .. } => log!(Error, "request failed", "code": failure.code().as_str(), "cause": cause),
            _ => log!(Warn, "request failed", "code": failure.code().as_str(), "cause": cause),
        }
    }

    pub fn render_metrics(&self) -> String {
        self.metrics
            .render(&Gauges { pools: self.store.connections(), documents_cached: self.schema.documents_cached() })
    }
}
