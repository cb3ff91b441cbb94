//! Master data in memory: areas, genres, holidays, item vectors. Kept fresh by LISTEN/NOTIFY. With MASTER=redis all but the
//! vectors are in a cache instead.

use crate::{
    cache::{self, Cache, Table as Cached},
    config::{MasterSource, Start},
    errors::Failure,
    log,
    store::{Date, ItemVectors, Named, Session, Store, TEXT_BYTES, describe},
};
use futures_util::{StreamExt, future::try_join_all, stream::poll_fn};
use std::{
    collections::HashMap,
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Mutex, Notify};
use tokio_postgres::{AsyncMessage, NoTls};

/// The channel of contract/sql/schema.sql; its payload is the table's name.
const CHANNEL: &str = "master_changed";
/// The most that a reading of areas may take, the same in all servers.
const LOAD_TIMEOUT: Duration = Duration::from_secs(30);

/// A value that readers take whole and a writer replaces whole.
struct Swap<T>(RwLock<Arc<T>>);

impl<T: Default> Default for Swap<T> {
    fn default() -> Self {
        Swap(RwLock::new(Arc::new(T::default())))
    }
}

impl<T> Swap<T> {
    fn get(&self) -> Arc<T> {
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn with<R>(&self, read: impl FnOnce(&T) -> R) -> R {
        read(&self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn set(&self, value: T) {
        *self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(value);
    }
}

/// By ascending id.
type Table = Vec<Arc<Named>>;

fn table_of(rows: Vec<Named>) -> Table {
    rows.into_iter().map(Arc::new).collect()
}

fn find(table: &Table, id: i32) -> Option<Arc<Named>> {
    table.binary_search_by_key(&id, |row| row.id).ok().map(|at| table[at].clone())
}

#[derive(Default)]
pub struct Master {
    /// None but for MASTER=redis.
    cache: Option<Cache>,
    /// Those that are kept.
    tables: Vec<&'static str>,
    areas: Swap<Table>,
    genres: Swap<Table>,
    /// Ascending.
    holidays: Swap<Vec<Date>>,
    vectors: Swap<ItemVectors>,
    /// Master data in bulk, which no request reads.
    texts: Swap<Vec<Box<str>>>,
    /// Of texts.
    text_rows: i32,
    loaded: AtomicBool,
    /// Held while an area is renamed, from before the statement until memory has the new name, and while the areas are
    /// read and put there. So what is put there is never older than what it replaces: no name waits to be put over a
    /// later reading, and the reading that an announcement asks for begins after whatever came before it. Turns come as
    /// they were asked for, where a reading that is tried again until no rename came between might never end.
    areas_turn: Mutex<()>,
}

impl Master {
    /// `master_mb` is how much of it in bulk is kept, MiB.
    pub fn new(source: MasterSource, cache: Option<Cache>, master_mb: i32) -> Self {
        let mut tables = Vec::new();
        if source != MasterSource::None {
            tables.extend(["area", "genre", "holiday"]); // no statement of a request reads the others
        }
        tables.push("item_vector");
        if master_mb > 0 {
            tables.push("master_text");
        }
        Master { cache, tables, text_rows: master_mb * ((1 << 20) / TEXT_BYTES), ..Master::default() }
    }

    /// How much master data in bulk is kept.
    pub fn text_bytes(&self) -> usize {
        self.texts.with(Vec::len) * TEXT_BYTES as usize
    }

    pub fn cache(&self) -> Option<&Cache> {
        self.cache.as_ref()
    }

    /// Makes Redis forget a table and have it anew. Only a failure of the database is an error: a Redis that does not
    /// answer is not asked for the table until a later try succeeds.
    async fn load_cached(&self, cache: &Cache, session: &Session, table: Cached) -> Result<(), Failure> {
        if let Some(epoch) = cache.forget(table).await {
            let names = Self::read_all(session, table).await?;
            cache.fill(table, &epoch, names, true).await;
        }
        Ok(())
    }

    /// Reads a table as a hash has it.
    async fn read_all(session: &Session, table: Cached) -> Result<HashMap<String, String>, Failure> {
        let rows = match table {
            Cached::Area => session.areas().await?,
            Cached::Genre => session.genres().await?,
            Cached::Holiday => {
                let days = session.holidays().await?;
                return Ok(days.into_iter().map(|day| (day.to_text(), String::new())).collect());
            }
        };
        Ok(rows.into_iter().map(|row| (row.id.to_string(), row.name.into_string())).collect())
    }

    /// A whole table as a hash has it, from Redis or from the primary.
    async fn all(&self, session: &Session, table: Cached) -> Result<HashMap<String, String>, Failure> {
        let asked = match &self.cache {
            Some(cache) => cache.ask(table, None).await,
            None => None,
        };
        if let Some(cached) = asked.as_ref().filter(|cached| cached.all) {
            return Ok(cached.names.clone());
        }
        let names = Self::read_all(&session.on_primary(), table).await?;
        if let (Some(cache), Some(cached)) = (&self.cache, asked) {
            cache.fill(table, &cached.epoch, names.clone(), true).await;
        }
        Ok(names)
    }

    /// All rows of a table by id, from Redis or from the primary.
    pub async fn every(&self, session: &Session, table: Cached) -> Result<Vec<Named>, Failure> {
        let mut rows = Vec::new();
        for (field, name) in self.all(session, table).await? {
            let id = field.parse().map_err(|_| {
                Failure::internal(format!("redis: {} has a field {field:?}, which is no id", table.name()))
            })?;
            rows.push(Named { id, name: name.into() });
        }
        rows.sort_unstable_by_key(|row| row.id);
        Ok(rows)
    }

    /// The holidays in ascending order, from Redis or from the primary.
    pub async fn every_holiday(&self, session: &Session) -> Result<Vec<Date>, Failure> {
        let mut days = Vec::new();
        for field in self.all(session, Cached::Holiday).await?.into_keys() {
            let day = Date::parse(&field)
                .ok_or_else(|| Failure::internal(format!("redis: holiday has a field {field:?}, which is no day")))?;
            days.push(day);
        }
        days.sort_unstable();
        Ok(days)
    }

    /// The rows of these ids, from Redis in one round trip, and what that does not have from the primary by one statement.
    /// So is what a whole hash does not have: ids come from items, whose areas and genres exist, be it since a moment
    /// ago and not announced yet.
    pub async fn by_ids(&self, session: &Session, table: Cached, ids: &[i32]) -> Result<Vec<Named>, Failure> {
        let fields: Vec<String> = ids.iter().map(i32::to_string).collect();
        let mut asked = match &self.cache {
            Some(cache) => cache.ask(table, Some(&fields)).await,
            None => None,
        };
        let mut rows = Vec::with_capacity(ids.len());
        let mut missing = Vec::new();
        for (id, field) in ids.iter().zip(&fields) {
            match asked.as_mut().and_then(|cached| cached.names.remove(field)) {
                Some(name) => rows.push(Named { id: *id, name: name.into() }),
                None => missing.push(*id),
            }
        }
        if missing.is_empty() {
            return Ok(rows);
        }
        let primary = session.on_primary();
        let read = match table {
            Cached::Genre => primary.genres_by_ids(&missing).await?,
            _ => primary.areas_by_ids(&missing).await?,
        };
        // It would prolong the time of a whole hash.
        if let (Some(cache), Some(cached)) = (&self.cache, asked.filter(|cached| !cached.all)) {
            let names = read.iter().map(|row| (row.id.to_string(), row.name.to_string()));
            cache.fill(table, &cached.epoch, names, false).await;
        }
        rows.extend(read);
        Ok(rows)
    }

    /// Makes Redis forget what it could not be made to forget at once, for ever.
    async fn retry(&self, cache: &Cache, session: &Session) -> Result<(), String> {
        loop {
            tokio::time::sleep(cache::RETRY).await;
            for table in cache.pending() {
                if let Err(failure) = self.load_cached(cache, session, table).await {
                    log!(Warn, "master data could not be read", "table": table.name(), "error": failure.cause());
                }
            }
        }
    }

    pub fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    pub fn area(&self, id: i32) -> Option<Arc<Named>> {
        self.areas.with(|table| find(table, id))
    }

    pub fn genre(&self, id: i32) -> Option<Arc<Named>> {
        self.genres.with(|table| find(table, id))
    }

    pub fn areas(&self) -> Arc<Table> {
        self.areas.get()
    }

    pub fn genres(&self) -> Arc<Table> {
        self.genres.get()
    }

    pub fn holidays(&self) -> Arc<Vec<Date>> {
        self.holidays.get()
    }

    pub fn item_vectors(&self) -> Arc<ItemVectors> {
        self.vectors.get()
    }

    /// Reads one table anew; names of other tables are no news of ours.
    async fn load_table(&self, session: &Session, table: &str) -> Result<(), Failure> {
        if let (Some(cache), Some(cached)) = (&self.cache, Cached::named(table)) {
            return self.load_cached(cache, session, cached).await;
        }
        match table {
            "area" => {
                let _turn = self.areas_turn.lock().await;
                // Whoever renames waits for the turn: it is not to be had for as long as TCP hopes for a host that is gone.
                let read = tokio::time::timeout(LOAD_TIMEOUT, session.areas()).await;
                let late = |_| Failure::unavailable("areas: no answer in time");
                self.areas.set(table_of(read.map_err(late)??));
            }
            "genre" => self.genres.set(table_of(session.genres().await?)),
            "holiday" => self.holidays.set(session.holidays().await?),
            "item_vector" => self.vectors.set(session.item_vectors().await?),
            "master_text" => self.texts.set(session.master_texts(self.text_rows).await?),
            _ => {}
        }
        Ok(())
    }

    /// Reads everything from the primary.
    pub async fn load_master(&self, session: &Session, start: Start) -> Result<(), Failure> {
        match start {
            Start::Concurrent => {
                let readings = self.tables.iter().map(|table| self.load_table(session, table));
                try_join_all(readings).await?;
            }
            Start::Sequential => {
                for table in &self.tables {
                    self.load_table(session, table).await?;
                }
            }
        }
        self.loaded.store(true, Ordering::Release);
        Ok(())
    }

    /// Reads a table anew whenever it is announced, for ever.
    async fn reread(&self, session: &Session, table: &str, announced: &Notify) -> Result<(), String> {
        loop {
            announced.notified().await;
            self.load_table(session, table).await.map_err(|failure| format!("{table}: {:?}", failure.cause()))?;
        }
    }

    /// Renames in the database, and puts the name into this process's memory or makes Redis forget the old one; other
    /// processes hear of it by NOTIFY.
    pub async fn rename_area(&self, session: &Session, id: i32, name: &str) -> Result<Option<Arc<Named>>, Failure> {
        if let Some(cache) = &self.cache {
            let renamed = session.rename_area(id, name).await?.map(Arc::new);
            if renamed.is_some() {
                cache.forget(Cached::Area).await; // where that fails it is not asked, and the retries go on
            }
            return Ok(renamed);
        }
        if !self.tables.contains(&"area") {
            return Ok(session.rename_area(id, name).await?.map(Arc::new));
        }
        let _turn = self.areas_turn.lock().await; // without a connection in hand
        let renamed = session.rename_area(id, name).await?.map(Arc::new);
        if let Some(area) = &renamed {
            let mut table = (*self.areas.get()).clone();
            if let Ok(at) = table.binary_search_by_key(&id, |row| row.id) {
                table[at] = area.clone();
            }
            self.areas.set(table);
        }
        Ok(renamed)
    }

    /// Listens for ever on a connection beyond the pool. Whenever it is (again) established, everything is read anew:
    /// what was announced meanwhile is lost.
    pub async fn listen(&self, store: &Store, start: Start) {
        const FIRST_PAUSE: Duration = Duration::from_millis(50);
        const LONGEST_PAUSE: Duration = Duration::from_secs(2);
        let mut pause = FIRST_PAUSE;
        loop {
            let before = Instant::now();
            let ended = self.listen_once(store, start).await;
            if let Some(cache) = &self.cache {
                cache.hears(false);
            }
            if let Err(cause) = ended {
                log!(Warn, "listen connection lost", "error": cause, "retry_in_ms": pause.as_millis() as u64);
            }
            if before.elapsed() > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn listen_once(&self, store: &Store, start: Start) -> Result<(), String> {
        let mut config = store.primary_config().clone();
        // A peer that is gone without a word must be noticed.
        config
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(3);
        let (client, mut connection) = config.connect(NoTls).await.map_err(|error| describe(&error))?;
        let mut messages = poll_fn(move |cx| connection.poll_message(cx));
        // One reader for each table takes announcements that come while it reads as one.
        let announced: Vec<(&str, Notify)> = self.tables.iter().map(|table| (*table, Notify::new())).collect();
        let announced = &announced;
        // The connection must be polled for the client's own statements to get anywhere.
        let pump = async move {
            while let Some(message) = messages.next().await {
                match message {
                    Ok(AsyncMessage::Notification(note)) if note.channel() == CHANNEL => {
                        if let (Some(cache), Some(table)) = (&self.cache, Cached::named(note.payload())) {
                            cache.distrust(table); // at once; a reading may be under way, and Redis forgets only after it
                        }
                        if let Some((_, announced)) = announced.iter().find(|(table, _)| *table == note.payload()) {
                            announced.notify_one();
                        }
                    }
                    Ok(_) => {}
                    Err(error) => return Err(describe(&error)),
                }
            }
            Err("closed".to_owned())
        };
        let follow = async {
            client.batch_execute(&format!("listen {CHANNEL}")).await.map_err(|error| describe(&error))?;
            let session = store.primary(None);
            if let Some(cache) = &self.cache {
                cache.distrust_all(); // they may have changed while nobody listened
                cache.hears(true);
            }
            self.load_master(&session, start).await.map_err(|failure| format!("{:?}", failure.cause()))?;
            log!(Info, "master data loaded");
            let readers = announced.iter().map(|(table, announced)| self.reread(&session, table, announced));
            try_join_all(readers).await.map(drop)
        };
        let retry = async {
            match &self.cache {
                Some(cache) => self.retry(cache, &store.primary(None)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            result = pump => result,
            result = follow => result,
            result = retry => result,
        }
    }
}

/// The day that many business days after `from`: weekends and holidays (ascending) don't count.
pub fn add_business_days(
    from: Date,
    days: i32,
    holidays: &[Date],
    deadline: Instant,
    late: impl Fn() -> Failure,
) -> Result<Date, Failure> {
    let mut day = from;
    let mut next_holiday = holidays.partition_point(|holiday| *holiday <= from);
    let mut left = days;
    let mut steps = 0u32;
    while left > 0 {
        day = day.next();
        let is_holiday = holidays.get(next_holiday) == Some(&day);
        next_holiday += usize::from(is_holiday);
        if !is_holiday && !day.is_weekend() {
            left -= 1;
        }
        steps += 1;
        if steps.is_multiple_of(1024) && Instant::now() >= deadline {
            return Err(late());
        }
    }
    Ok(day)
}
