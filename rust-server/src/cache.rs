//! Master data in Redis, shared by all processes (MASTER=redis): a hash for each table, whose fields are ids (of
//! holidays, days) and whose values are names. What is not in it is read from the primary. A Redis that is away, slow or
//! full costs time and never truth:
//!
//! - A change makes the table be forgotten and gives it a new epoch. Who read from the database under an older epoch puts
//!   nothing into the table.
//! - A process that could not make a table be forgotten does not ask for it until it could, and neither does one that
//!   does not hear of changes.
//! - A process that lost its connection makes every table be forgotten before it asks again: what comes back may be older.
//!   An answer that is late says nothing of that.

use crate::{log, telemetry::lock};
use redis::{
    AsyncCommands, Client, ConnectionInfo, ErrorKind, IntoConnectionInfo, ProtocolVersion, RedisError, Script,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

// Limits of the cache, the same in all servers.
const COMMAND_TIMEOUT: Duration = Duration::from_millis(100);
/// After a failure nobody asks for that long.
const PAUSE: Duration = Duration::from_secs(1);
/// Of a table that nobody fills again.
const EXPIRY: Duration = Duration::from_mins(1);
/// Between two tries to make Redis forget a table.
pub const RETRY: Duration = Duration::from_millis(200);

/// The field of a hash that has another text after each change.
const EPOCH: &str = "epoch";
/// The field that is there when the hash has every row.
const ALL: &str = "all";

/// Puts fields into a table of that epoch and says whether it did.
const FILL: &str = "
if (redis.call('HGET', KEYS[1], 'epoch') or '') ~= ARGV[1] then return 0 end
for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
if redis.call('HEXISTS', KEYS[1], 'all') == 1 or redis.call('PTTL', KEYS[1]) < 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1";

/// Empties a table and gives it an epoch.
const FORGET: &str = "
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'epoch', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1";

/// The tables that a cache has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Table {
    Area,
    Genre,
    Holiday,
}

impl Table {
    pub const EVERY: [Table; 3] = [Table::Area, Table::Genre, Table::Holiday];

    pub fn name(self) -> &'static str {
        match self {
            Table::Area => "area",
            Table::Genre => "genre",
            Table::Holiday => "holiday",
        }
    }

    pub fn named(name: &str) -> Option<Table> {
        Table::EVERY.into_iter().find(|table| table.name() == name)
    }
}

/// What came of a question.
#[derive(Clone, Copy)]
enum Asked {
    Hit,
    Miss,
    Failed,
    Skipped,
}

const RESULTS: [&str; 4] = ["hit", "miss", "failed", "skipped"];

/// What Redis said of a table: names by field, and whether it has every row that there was when it was filled.
pub struct Cached {
    pub epoch: String,
    pub all: bool,
    pub names: HashMap<String, String>,
}

/// How many changes of a table were heard of, and up to which of them Redis is known to have nothing old.
#[derive(Clone, Copy, Default)]
struct Known {
    changes: u64,
    forgotten: u64,
}

pub struct Cache {
    connection: ConnectionManager,
    fill: Script,
    forget: Script,
    prefix: String,
    /// Whether changes are listened to.
    heard: AtomicBool,
    known: Mutex<[Known; 3]>,
    away_until: Mutex<Option<Instant>>,
    lookups: [[AtomicU64; 4]; 3],
    epochs: AtomicU64,
    /// Of this process, so that its epochs are nobody else's.
    own: u64,
}

/// Tells databases apart that share a Redis, by host, port and name as they stand in the URL: FNV-1a, 64 bits.
pub fn prefix(database_url: &str) -> String {
    let rest = database_url.split_once("://").map_or(database_url, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let hash = host
        .bytes()
        .chain(path.bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("lab:{hash:016x}:")
}

/// An address of Redis, spoken to in RESP2 whatever it says: with RESP3 the connection manager connects again by itself, and
/// no command fails that would tell of the lost connection.
fn address(url: &str) -> Result<ConnectionInfo, RedisError> {
    let info = url.into_connection_info()?;
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP2);
    Ok(info.set_redis_settings(settings))
}

impl Cache {
    /// Connects when it is first asked.
    ///
    /// # Panics
    ///
    /// Panics outside of a runtime.
    pub fn new(url: &str, prefix: String) -> Result<Cache, RedisError> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(COMMAND_TIMEOUT))
            .set_response_timeout(Some(COMMAND_TIMEOUT))
            .set_number_of_retries(0); // what failed is read from the database
        Ok(Cache {
            connection: ConnectionManager::new_lazy_with_config(Client::open(address(url)?)?, config)?,
            fill: Script::new(FILL),
            forget: Script::new(FORGET),
            prefix,
            heard: AtomicBool::new(false),
            known: Mutex::default(),
            away_until: Mutex::default(),
            lookups: Default::default(),
            epochs: AtomicU64::new(0),
            own: rand(),
        })
    }

    /// Reads these fields of a table, or all where none are given; `None` where Redis is not to be asked or did not
    /// answer.
    pub async fn ask(&self, table: Table, fields: Option<&[String]>) -> Option<Cached> {
        let changes = self.changes_of(table); // before the question: an answer tells nothing of what came after it
        if !self.trusts(table) {
            self.count(table, Asked::Skipped);
            return None;
        }
        let mut connection = self.connection.clone();
        let key = self.key(table);
        let answer = async {
            let mut cached = Cached { epoch: String::new(), all: false, names: HashMap::new() };
            if let Some(fields) = fields {
                let mut asked = vec![EPOCH, ALL];
                asked.extend(fields.iter().map(String::as_str));
                let values: Vec<Option<String>> =
                    redis::cmd("HMGET").arg(&key).arg(asked).query_async(&mut connection).await?;
                let mut values = values.into_iter();
                cached.epoch = values.next().flatten().unwrap_or_default();
                cached.all = values.next().flatten().is_some();
                cached.names =
                    fields.iter().cloned().zip(values).filter_map(|(field, name)| Some((field, name?))).collect();
            } else {
                cached.names = connection.hgetall(&key).await?;
                cached.epoch = cached.names.remove(EPOCH).unwrap_or_default();
                cached.all = cached.names.remove(ALL).is_some();
            }
            Ok(cached)
        };
        match answer.await {
            // It may be older, though the table may have been forgotten meanwhile.
            Ok(_) if !self.heard.load(Relaxed) || self.changes_of(table) != changes => {
                self.count(table, Asked::Failed);
                None
            }
            Ok(cached) => {
                let whole = fields.map_or(cached.all, |fields| fields.len() == cached.names.len());
                self.count(table, if whole { Asked::Hit } else { Asked::Miss });
                Some(cached)
            }
            Err(error) => {
                self.failed(table, &error);
                None
            }
        }
    }

    /// Puts what was read from the primary into a table, unless it has changed since the epoch.
    pub async fn fill(&self, table: Table, epoch: &str, names: impl IntoIterator<Item = (String, String)>, all: bool) {
        if !self.trusts(table) {
            return;
        }
        let mut script = self.fill.key(self.key(table));
        script.arg(epoch).arg(EXPIRY.as_millis() as u64);
        let mut fields = 0;
        for (field, name) in names {
            script.arg(field).arg(name);
            fields += 1;
        }
        if all {
            script.arg(ALL).arg("1");
        } else if fields == 0 {
            return;
        }
        if let Err(error) = script.invoke_async::<i64>(&mut self.connection.clone()).await {
            self.failed(table, &error);
        }
    }

    /// Empties a table after a change and gives its new epoch, or `None` where that failed: then the table is not asked
    /// for any more until a later try succeeds.
    pub async fn forget(&self, table: Table) -> Option<String> {
        let change = self.distrust(table);
        let epoch = format!("{:016x}-{}", self.own, self.epochs.fetch_add(1, Relaxed));
        let mut script = self.forget.key(self.key(table));
        script.arg(&epoch).arg(EXPIRY.as_millis() as u64);
        if let Err(error) = script.invoke_async::<i64>(&mut self.connection.clone()).await {
            self.failed(table, &error);
            return None;
        }
        *lock(&self.away_until) = None; // it answers
        let mut known = lock(&self.known);
        let known = &mut known[table as usize];
        known.forgotten = known.forgotten.max(change);
        Some(epoch)
    }

    /// Keeps a table from being asked for until it has been forgotten, and gives the number of the change.
    pub fn distrust(&self, table: Table) -> u64 {
        let mut known = lock(&self.known);
        known[table as usize].changes += 1;
        known[table as usize].changes
    }

    /// `distrust` of every table.
    pub fn distrust_all(&self) {
        for table in Table::EVERY {
            self.distrust(table);
        }
    }

    /// Says whether changes are listened to.
    pub fn hears(&self, heard: bool) {
        self.heard.store(heard, Relaxed);
    }

    /// The tables that are still to be forgotten.
    pub fn pending(&self) -> Vec<Table> {
        let known = lock(&self.known);
        Table::EVERY
            .into_iter()
            .filter(|table| known[*table as usize].forgotten != known[*table as usize].changes)
            .collect()
    }

    /// How often each table was asked for, by what came of it.
    pub fn lookups(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        Table::EVERY.into_iter().flat_map(move |table| {
            RESULTS
                .iter()
                .enumerate()
                .map(move |(at, result)| (table.name(), *result, self.lookups[table as usize][at].load(Relaxed)))
        })
    }

    fn trusts(&self, table: Table) -> bool {
        let known = lock(&self.known)[table as usize];
        self.heard.load(Relaxed)
            && known.changes > 0
            && known.forgotten == known.changes
            && lock(&self.away_until).is_none_or(|until| Instant::now() >= until)
    }

    /// How many changes of a table were heard of.
    fn changes_of(&self, table: Table) -> u64 {
        lock(&self.known)[table as usize].changes
    }

    /// Where the connection was lost or refused, whoever answers next may be a Redis that has what was forgotten long ago.
    /// The connection manager makes no new connection before a command has failed, and keeps the one whose answer is late.
    fn failed(&self, table: Table, error: &RedisError) {
        self.count(table, Asked::Failed);
        let answered = matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension);
        if error.is_unrecoverable_error() || !(answered || error.is_timeout()) {
            self.distrust_all();
        }
        let now = Instant::now();
        let before = lock(&self.away_until).replace(now + PAUSE);
        if before.is_none_or(|until| now >= until) {
            log!(Warn, "redis does not answer", "error": error.to_string(), "retry_in_ms": PAUSE.as_millis() as u64);
        }
    }

    fn count(&self, table: Table, result: Asked) {
        self.lookups[table as usize][result as usize].fetch_add(1, Relaxed);
    }

    fn key(&self, table: Table) -> String {
        format!("{}{}", self.prefix, table.name())
    }
}

/// A number that no other process has.
fn rand() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one((std::process::id(), std::time::SystemTime::now()))
}

#[cfg(test)]
mod tests {
    use super::{Cache, ErrorKind, Known, PAUSE, Table, address, lock, prefix};
    use redis::{IntoConnectionInfo, ProtocolVersion, RedisError};

    /// One process's cache that trusts every table; nothing listens there.
    fn cache() -> Cache {
        let prefix = prefix("postgres://nobody@127.0.0.1/rust-failed");
        let cache = Cache::new("redis://127.0.0.1:1", prefix).expect("an address");
        cache.hears(true);
        *lock(&cache.known) = [Known { changes: 1, forgotten: 1 }; 3];
        assert!(Table::EVERY.into_iter().all(|table| cache.trusts(table)));
        cache
    }

    #[test]
    fn no_address_has_connections_made_again_unseen() {
        let url = "redis://somebody:secret@127.0.0.1:6380/3?protocol=resp3";
        let asked = url.into_connection_info().expect("an address");
        assert_eq!(asked.redis_settings().protocol(), ProtocolVersion::RESP3);
        let used = address(url).expect("an address");
        assert_eq!(used.redis_settings().protocol(), ProtocolVersion::RESP2);
        assert_eq!(used.addr(), asked.addr());
        assert_eq!(used.redis_settings().db(), 3);
        assert_eq!(used.redis_settings().username(), Some("somebody"));
        assert_eq!(used.redis_settings().password(), Some("secret"));
    }

    #[tokio::test]
    async fn after_a_lost_connection_nobody_asks_before_every_table_was_forgotten_anew() {
        let cache = cache();
        cache.failed(Table::Area, &RedisError::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset)));
        *lock(&cache.away_until) = None; // the pause is over
        assert_eq!(cache.pending(), Table::EVERY);
        assert!(!Table::EVERY.into_iter().any(|table| cache.trusts(table)));
    }

    #[tokio::test]
    async fn after_an_answer_that_is_an_error_or_late_nobody_asks_for_a_while() {
        for error in [
            RedisError::from((ErrorKind::Extension, "OOM")),
            RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut)),
        ] {
            let cache = cache();
            cache.failed(Table::Area, &error);
            assert!(!Table::EVERY.into_iter().any(|table| cache.trusts(table)), "{error}");
            if let Some(until) = lock(&cache.away_until).as_mut() {
                *until -= PAUSE;
            }
            assert!(Table::EVERY.into_iter().all(|table| cache.trusts(table)), "{error}");
        }
    }
}
