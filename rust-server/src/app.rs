//! Builds the application without listening.

use crate::{
    cache::{Cache, prefix},
    config::{Config, MasterSource, Tier},
    errors::{Code, Failure},
    floor::Floor,
    health::Readiness,
    loaders::{drive, new_loaders},
    log,
    master::Master,
    resolvers::{Environment, Scope},
    schema::{ExecutionError, Planned, Schema},
    store::Store,
    telemetry::{Gauges, Metrics, WaitClock},
    upstream::Upstream,
    workers::share,
};
use anyhow::Context;
use async_graphql::parser::types::OperationType;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::runtime::Handle;

/// The application as one runtime has it. Where there are several, each has its own connections to the database and to
/// the outside service, and shares the rest.
pub struct App {
    pub store: Arc<Store>,
    pub environment: Arc<Environment>,
    /// Which of `cores` this is.
    pub index: usize,
    shared: Arc<Shared>,
}

/// What all runtimes share.
pub struct Shared {
    pub config: Config,
    pub schema: Schema,
    pub floor: Option<Floor>,
    pub metrics: Arc<Metrics>,
    pub cores: Vec<Core>,
    in_flight: AtomicUsize,
    closing: AtomicBool,
    started: Instant,
    /// When each code's failures were last logged, in ms since `started`, plus one.
    logged_ms: [AtomicU64; Code::ALL.len()],
}

/// What the runtimes know of each other.
pub struct Core {
    pub runtime: Handle,
    pub store: Arc<Store>,
    pub readiness: Arc<Readiness>,
}

impl std::ops::Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

/// A request's place among those in flight.
pub struct Entered<'a>(&'a AtomicUsize);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl App {
    /// Builds everything for this runtime; opens no connection yet.
    ///
    /// # Panics
    ///
    /// Panics outside of a runtime.
    pub fn new(config: Config) -> anyhow::Result<Arc<App>> {
        let mut apps = App::for_each(config, &[Handle::current()])?;
        Ok(apps.remove(0))
    }

    /// Builds everything for several runtimes, in their order.
    pub fn for_each(config: Config, runtimes: &[Handle]) -> anyhow::Result<Vec<Arc<App>>> {
        let metrics = Arc::new(Metrics::default());
        let cache = match (&config.redis_url, config.master) {
            (Some(url), MasterSource::Redis) => {
                // Its connection is a task of the runtime that makes it.
                let _runtime = runtimes.first().map(Handle::enter);
                Some(Cache::new(url, prefix(&config.database_url)).context("REDIS_URL")?)
            }
            _ => None,
        };
        let master = Arc::new(Master::new(config.master, cache, config.master_mb));
        let mut cores = Vec::with_capacity(runtimes.len());
        for (index, runtime) in runtimes.iter().enumerate() {
            let pool_size = share(config.pool_size, runtimes.len(), index);
            cores.push(Core {
                runtime: runtime.clone(),
                store: Arc::new(Store::new(&config, pool_size, metrics.clone())?),
                readiness: Arc::default(),
            });
        }
        let shared = Arc::new(Shared {
            schema: Schema::new(&config.contract_dir, &config.limits)?,
            floor: match config.tier {
                Tier::Floor => Some(Floor::read(&config.contract_dir)?),
                Tier::Mainstream => None,
            },
            metrics,
            cores,
            in_flight: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            started: Instant::now(),
            logged_ms: [const { AtomicU64::new(0) }; Code::ALL.len()],
            config,
        });
        let app = |(index, core): (usize, &Core)| {
            let environment = Environment {
                master: master.clone(),
                master_source: shared.config.master,
                // The client's connections are tasks of the runtime that opens them.
                upstream: Upstream::new(shared.config.upstream_url.clone()),
                limits: shared.config.limits.clone(),
                request_timeout: shared.config.request_timeout,
            };
            let (store, environment) = (core.store.clone(), Arc::new(environment));
            Arc::new(App { store, environment, index, shared: shared.clone() })
        };
        Ok(shared.cores.iter().enumerate().map(app).collect())
    }

    /// Warms the pools; the first of the runtimes meanwhile loads master data, and keeps it fresh for ever.
    pub async fn run(self: Arc<Self>) {
        let follow = async {
            if self.index == 0 {
                self.environment.master.listen(&self.store, self.config.start).await;
            }
        };
        tokio::join!(self.warm(), follow);
    }

    async fn warm(&self) {
        let mut pause = Duration::from_millis(50);
        while let Err(failure) = self.store.warm().await {
            log!(Warn, "database not reachable", "error": failure.cause(), "retry_in_ms": pause.as_millis() as u64);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
        self.cores[self.index].readiness.warmed();
    }

    /// Counts a request in; refuses where there are too many, or the server is not (or no longer) ready.
    pub fn enter(&self) -> Result<Entered<'_>, Failure> {
        let before = self.in_flight.fetch_add(1, Relaxed);
        let entered = Entered(&self.in_flight);
        if before >= self.config.limits.requests_in_flight {
            return Err(Failure::unavailable("too many requests in flight"));
        }
        if self.is_closing() || !self.cores[self.index].readiness.is_warm() || !self.environment.master.is_loaded() {
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
        clock: Option<Arc<WaitClock>>,
    ) -> Result<(async_graphql::Value, Vec<ExecutionError>), Failure> {
        let session = match planned.kind {
            OperationType::Mutation => self.store.primary(clock.clone()),
            _ => self.store.replica(clock.clone()),
        };
        let deadline = Instant::now() + self.config.request_timeout;
        let loaders = self.config.loader.then(|| new_loaders(&session, &self.metrics, self.environment.cached()));
        let scope = Scope { environment: self.environment.clone(), session, loaders: loaders.clone(), deadline, clock };
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
        // In the order of the addresses, the same in each.
        let mut pools = self.store.connections();
        for core in self.cores.iter().filter(|core| !Arc::ptr_eq(&core.store, &self.store)) {
            for (sum, (_, in_use, idle)) in pools.iter_mut().zip(core.store.connections()) {
                sum.1 += in_use;
                sum.2 += idle;
            }
        }
        let runtimes = self.cores.iter().map(|core| &core.runtime).collect();
        self.metrics.render(&Gauges {
            pools,
            documents: self.schema.document_counts(),
            cache: self.environment.master.cache(),
            text_bytes: self.environment.master.text_bytes(),
            runtimes,
        })
    }
}
