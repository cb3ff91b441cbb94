//! The one reader of the environment.

use crate::{limits::Limits, logging::Level};
use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    Floor,
    Mainstream,
}

/// Where master data is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MasterSource {
    Memory,
    Redis,
    None,
}

/// How master data is loaded at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Concurrent,
    Sequential,
}

/// Whose threads run the tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConcurrencyModel {
    /// One tokio runtime, whose threads steal tasks from each other.
    MultiThread,
    /// One tokio runtime on one thread.
    CurrentThread,
    /// As many of those as there are workers, each with its share of connections and pool.
    PerCore,
}

impl ConcurrencyModel {
    pub const ALL: [ConcurrencyModel; 3] =
        [ConcurrencyModel::MultiThread, ConcurrencyModel::CurrentThread, ConcurrencyModel::PerCore];

    /// Its value in the environment.
    pub fn name(self) -> &'static str {
        match self {
            ConcurrencyModel::MultiThread => "multi-thread",
            ConcurrencyModel::CurrentThread => "current-thread",
            ConcurrencyModel::PerCore => "per-core",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Config {
    pub host: String,
    pub port: u16,
    pub contract_dir: PathBuf,
    pub database: tokio_postgres::Config,
    /// Holds a password.
    pub database_url: String,
    pub replica: tokio_postgres::Config,
    /// Whether both addresses are one, so that one pool serves both.
    pub one_address: bool,
    /// Of all workers together.
    pub pool_size: usize,
    pub upstream_url: Option<String>,
    /// Holds a password.
    pub redis_url: Option<String>,
    pub tier: Tier,
    pub loader: bool,
    pub master: MasterSource,
    /// Master data in bulk that is kept in memory, MiB.
    pub master_mb: i32,
    pub start: Start,
    pub concurrency_model: ConcurrencyModel,
    /// Threads of the runtime, or runtimes of one thread.
    pub workers: usize,
    pub request_timeout: Duration,
    pub graphiql: bool,
    pub profiler: bool,
    pub log_level: Level,
    pub limits: Limits,
}

/// Names the variable, the value and what was expected.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    pub variable: &'static str,
    pub value: Option<String>,
    pub expected: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}={value:?}: expected {}", self.variable, self.expected),
            None => write!(f, "{} is not set: expected {}", self.variable, self.expected),
        }
    }
}

/// `--help`: what it is and every variable.
pub const HELP: &str = "\
rust-server: the Rust server of the lab, GraphQL with DataLoader over PostgreSQL.

  --version   print one JSON line about language and libraries
  --health    ask the server at HOST and PORT whether it is ready: exit status 0 or 1
  --help      print this
  bench hand-over --bytes N --duration TIME
  bench loader --keys N --batch N
              measure this program itself and print one line of JSON

Environment:
  HOST, PORT             where to listen (127.0.0.1, 8080; port 0: any free one, see the first log line)
  CONTRACT_DIR           the folder with schema.graphql, limits.json and sql/ (../contract)
  DATABASE_URL           postgres URL of the primary (required)
  DATABASE_REPLICA_URL   postgres URL for queries (DATABASE_URL)
  POOL_SIZE              connections per address, shared out among runtimes (16)
  UPSTREAM_URL           http URL of the service that quotes prices (none: quote answers UPSTREAM_FAILED)
  REDIS_URL              redis URL of the cache of master data (none)
  TIER                   mainstream | floor (mainstream)
  LOADER                 on | off (on)
  MASTER                 memory | redis | none (memory); redis needs REDIS_URL and no TIER=floor
  MASTER_MB              MiB of master data in bulk to keep in memory, 0 to 1024 (0)
  START                  concurrent | sequential (concurrent)
  CONCURRENCY_MODEL      multi-thread | current-thread | per-core (multi-thread)
  WORKERS                multi-thread: threads of the runtime; per-core: runtimes (cores allowed to the process);
                         current-thread: 1
  REQUEST_TIMEOUT        such as 5s, 300ms, 1m (limits.json)
  GRAPHIQL               on | off (off)
  PROFILER               on | off (off): GET /profile?seconds=N
  LOG_LEVEL              debug | info | warn | error (info)
";

/// A duration such as `5s`, `300ms`, `1m`; None where it is none or not above zero.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| c != '.' && !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_at);
    let number = f64::from_str(number).ok()?;
    let seconds = number
        * match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            _ => return None,
        };
    Duration::try_from_secs_f64(seconds).ok().filter(|duration| *duration >= Duration::from_millis(1))
}

/// Where a server with this environment listens.
pub fn address(get: impl Fn(&str) -> Option<String>) -> Result<(String, u16), ConfigError> {
    let env = Reader(get);
    let port =
        env.parse("PORT", "a port from 1 to 65535", DEFAULT_PORT, |value| value.parse().ok().filter(|port| *port > 0))?;
    Ok((env.host(), port))
}

const DEFAULT_PORT: u16 = 8080;

struct Reader<F>(F);

impl<F: Fn(&str) -> Option<String>> Reader<F> {
    /// An empty variable counts as unset.
    fn text(&self, variable: &str) -> Option<String> {
        (self.0)(variable).filter(|value| !value.is_empty())
    }

    fn host(&self) -> String {
        self.text("HOST").unwrap_or_else(|| "127.0.0.1".into())
    }

    fn parse<T>(
        &self,
        variable: &'static str,
        expected: &str,
        default: T,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, ConfigError> {
        match self.text(variable) {
            None => Ok(default),
            Some(value) => {
                parse(&value).ok_or_else(|| ConfigError { variable, value: Some(value), expected: expected.to_owned() })
            }
        }
    }

    fn choice<T: Copy>(&self, variable: &'static str, choices: &[(&str, T)], default: T) -> Result<T, ConfigError> {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        let expected = format!("one of {}", names.join(", "));
        self.parse(variable, &expected, default, |value| {
            choices.iter().find(|(name, _)| *name == value).map(|(_, choice)| *choice)
        })
    }

    fn database(&self, variable: &'static str) -> Result<Option<tokio_postgres::Config>, ConfigError> {
        let Some(url) = self.text(variable) else { return Ok(None) };
        let parsed = (url.starts_with("postgres://") || url.starts_with("postgresql://"))
            .then(|| tokio_postgres::Config::from_str(&url).ok())
            .flatten();
        match parsed {
            Some(config) => Ok(Some(config)),
            // A password may stand in it: the value is not repeated.
            None => {
                Err(ConfigError { variable, value: Some("(not shown)".into()), expected: "a postgres:// URL".into() })
            }
        }
    }
}

impl Config {
    /// Reads every variable through `get` and limits.json. Fails on the first value that is none.
    pub fn from_environment(get: impl Fn(&str) -> Option<String>) -> Result<Config, ConfigError> {
        let env = Reader(get);
        let contract_dir = PathBuf::from(env.text("CONTRACT_DIR").unwrap_or_else(|| "../contract".into()));
        let limits = Limits::read(&contract_dir).map_err(|error| ConfigError {
            variable: "CONTRACT_DIR",
            value: Some(contract_dir.display().to_string()),
            expected: format!("the contract's folder ({error:#})"),
        })?;
        let database = env.database("DATABASE_URL")?.ok_or_else(|| ConfigError {
            variable: "DATABASE_URL",
            value: None,
            expected: "a postgres:// URL".into(),
        })?;
        let replica = env.database("DATABASE_REPLICA_URL")?.unwrap_or_else(|| database.clone());
        let positive = |value: &str| value.parse().ok().filter(|n| (1..=1024).contains(n));
        let concurrency_model = env.choice(
            "CONCURRENCY_MODEL",
            &ConcurrencyModel::ALL.map(|model| (model.name(), model)),
            ConcurrencyModel::MultiThread,
        )?;
        let workers = match concurrency_model {
            ConcurrencyModel::CurrentThread => {
                env.parse("WORKERS", "1: CONCURRENCY_MODEL=current-thread has one thread", 1, |value| {
                    (value == "1").then_some(1)
                })?
            }
            _ => {
                let cores = std::thread::available_parallelism().map_or(1, usize::from);
                env.parse("WORKERS", "a number from 1 to 1024", cores, positive)?
            }
        };
        let pool_size = env.parse("POOL_SIZE", "a number from 1 to 1024", 16, positive)?;
        if concurrency_model == ConcurrencyModel::PerCore && pool_size < workers {
            return Err(ConfigError {
                variable: "POOL_SIZE",
                value: Some(pool_size.to_string()),
                expected: format!("at least {workers}, a connection for each of the WORKERS"),
            });
        }
        let tier = env.text("TIER");
        if tier.as_deref() == Some("compiled") {
            return Err(ConfigError {
                variable: "TIER",
                value: tier,
                expected: "one of floor, mainstream (compiled is not built yet)".into(),
            });
        }
        let redis_url = env.text("REDIS_URL");
        if redis_url
            .as_ref()
            .is_some_and(|url| !url.starts_with("redis://") || redis::Client::open(url.as_str()).is_err())
        {
            return Err(ConfigError {
                variable: "REDIS_URL",
                value: Some("(not shown)".into()), // a password may stand in it
                expected: "a redis:// URL".into(),
            });
        }
        if env.text("MASTER").as_deref() == Some("redis") {
            if redis_url.is_none() {
                return Err(ConfigError {
                    variable: "REDIS_URL",
                    value: None,
                    expected: "an address, since MASTER is redis".into(),
                });
            }
            if tier.as_deref() == Some("floor") {
                return Err(ConfigError {
                    variable: "MASTER",
                    value: Some("redis".into()),
                    expected: "memory or none, since TIER is floor".into(),
                });
            }
        }
        Ok(Config {
            host: env.host(),
            port: env.parse("PORT", "a port from 0 to 65535", DEFAULT_PORT, |value| value.parse().ok())?,
            one_address: replica == database,
            database_url: env.text("DATABASE_URL").unwrap_or_default(),
            database,
            replica,
            pool_size,
            redis_url,
            upstream_url: env.parse("UPSTREAM_URL", "an http:// URL", None, |value| {
                let uri: hyper::Uri = value.parse().ok()?;
                (uri.scheme_str() == Some("http") && uri.host().is_some())
                    .then(|| Some(value.trim_end_matches('/').to_owned()))
            })?,
            tier: env.choice("TIER", &[("floor", Tier::Floor), ("mainstream", Tier::Mainstream)], Tier::Mainstream)?,
            loader: env.choice("LOADER", &[("on", true), ("off", false)], true)?,
            master: env.choice(
                "MASTER",
                &[("memory", MasterSource::Memory), ("redis", MasterSource::Redis), ("none", MasterSource::None)],
                MasterSource::Memory,
            )?,
            master_mb: env.parse("MASTER_MB", "a number from 0 to 1024", 0, |value| {
                value.parse().ok().filter(|n| (0..=1024).contains(n))
            })?,
            start: env.choice(
                "START",
                &[("concurrent", Start::Concurrent), ("sequential", Start::Sequential)],
                Start::Concurrent,
            )?,
            concurrency_model,
            workers,
            request_timeout: env.parse(
                "REQUEST_TIMEOUT",
                "a duration such as 5s, 300ms or 1m",
                limits.request_timeout,
                parse_duration,
            )?,
            graphiql: env.choice("GRAPHIQL", &[("on", true), ("off", false)], false)?,
            profiler: env.choice("PROFILER", &[("on", true), ("off", false)], false)?,
            log_level: env.choice(
                "LOG_LEVEL",
                &[("debug", Level::Debug), ("info", Level::Info), ("warn", Level::Warn), ("error", Level::Error)],
                Level::Info,
            )?,
            contract_dir,
            limits,
        })
    }
}
