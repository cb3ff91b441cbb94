//! Master data in memory: areas, genres, holidays, item vectors. Kept fresh by LISTEN/NOTIFY.

use crate::{
    config::Start,
    errors::Failure,
    log,
    store::{Date, ItemVectors, Named, Session, Store, describe},
};
use futures_util::{StreamExt, stream::poll_fn};
use std::{
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio_postgres::{AsyncMessage, NoTls};

/// The channel of contract/sql/schema.sql; its payload is the table's name.
const CHANNEL: &str = "master_changed";

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
    areas: Swap<Table>,
    genres: Swap<Table>,
    /// Ascending.
    holidays: Swap<Vec<Date>>,
    vectors: Swap<ItemVectors>,
    loaded: AtomicBool,
    /// Held while a table is read and replaced, and while `renameArea` writes, so that no older reading lands on top
    /// of a newer one.
    changing: tokio::sync::Mutex<()>,
}

impl Master {
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
        match table {
            "area" => self.areas.set(table_of(session.areas().await?)),
            "genre" => self.genres.set(table_of(session.genres().await?)),
            "holiday" => self.holidays.set(session.holidays().await?),
            "item_vector" => self.vectors.set(session.item_vectors().await?),
            _ => {}
        }
        Ok(())
    }

    /// Reads everything from the primary.
    pub async fn load_master(&self, session: &Session, start: Start) -> Result<(), Failure> {
        let _changing = self.changing.lock().await;
        let tables = ["area", "genre", "holiday", "item_vector"].map(|table| self.load_table(session, table));
        match start {
            Start::Concurrent => {
                futures_util::future::try_join_all(tables).await?;
            }
            Start::Sequential => {
                for table in tables {
                    table.await?;
                }
            }
        }
        self.loaded.store(true, Ordering::Release);
        Ok(())
    }

    /// Renames in the database and in this process's own memory; other processes hear of it by NOTIFY.
    pub async fn rename_area(&self, session: &Session, id: i32, name: &str) -> Result<Option<Arc<Named>>, Failure> {
        let _changing = self.changing.lock().await;
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
            if let Err(cause) = self.listen_once(store, start).await {
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
        config.keepalives_idle(Duration::from_secs(10));
        let (client, mut connection) = config.connect(NoTls).await.map_err(|error| describe(&error))?;
        let mut messages = poll_fn(move |cx| connection.poll_message(cx));
        let (tables, mut announced) = tokio::sync::mpsc::unbounded_channel::<String>();
        // The connection must be polled for the client's own statements to get anywhere.
        let pump = async move {
            while let Some(message) = messages.next().await {
                match message {
                    Ok(AsyncMessage::Notification(note)) if note.channel() == CHANNEL => {
                        let _ = tables.send(note.payload().to_owned());
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
            self.load_master(&session, start).await.map_err(|failure| format!("{:?}", failure.cause()))?;
            log!(Info, "master data loaded");
            while let Some(table) = announced.recv().await {
                // Several announcements of one table that wait already are answered by one reading.
                let mut changed = vec![table];
                while let Ok(table) = announced.try_recv() {
                    if !changed.contains(&table) {
                        changed.push(table);
                    }
                }
                let _changing = self.changing.lock().await;
                for table in changed {
                    self.load_table(&session, &table)
                        .await
                        .map_err(|failure| format!("{table}: {:?}", failure.cause()))?;
                }
            }
            Err("closed".to_owned())
        };
        tokio::select! {
            result = pump => result,
            result = follow => result,
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
