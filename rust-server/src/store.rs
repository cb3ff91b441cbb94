//! Runs the statements of contract/sql/statements over pooled connections. Each function is exactly one statement.

use crate::{
    config::Config,
    errors::Failure,
    log,
    telemetry::{Metrics, WaitClock},
};
use anyhow::Context;
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime};
use futures_util::future::{BoxFuture, try_join_all};
use std::{
    fmt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_postgres::{
    NoTls, Row,
    error::SqlState,
    types::{FromSql, ToSql, Type},
};

macro_rules! statements {
    ($($variant:ident $name:literal,)*) => {
        /// The files of contract/sql/statements.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Statement { $($variant),* }

        impl Statement {
            pub const ALL: [Statement; [$($name),*].len()] = [$(Statement::$variant),*];

            /// The file's stem.
            pub fn name(self) -> &'static str {
                match self { $(Statement::$variant => $name),* }
            }
        }
    };
}

statements! {
    AddReview "add_review",
    Areas "areas",
    AreasByIds "areas_by_ids",
    Categories "categories",
    CategoriesByIds "categories_by_ids",
    Genres "genres",
    GenresByIds "genres_by_ids",
    Holidays "holidays",
    ItemVectors "item_vectors",
    Items "items",
    ItemsByArea "items_by_area",
    ItemsByAreaAndGenre "items_by_area_and_genre",
    ItemsByCategoryIds "items_by_category_ids",
    ItemsByGenre "items_by_genre",
    ItemsByIds "items_by_ids",
    MasterTexts "master_texts",
    RenameArea "rename_area",
    ReviewStatsByItemIds "review_stats_by_item_ids",
    ReviewsByItemIds "reviews_by_item_ids",
    ReviewsByUserIds "reviews_by_user_ids",
    Search "search",
    UsersByIds "users_by_ids",
}

/// Their texts, sent verbatim.
pub struct Statements([String; Statement::ALL.len()]);

impl Statements {
    /// Reads `sql/statements/*.sql` in the contract's folder.
    pub fn read(contract_dir: &Path) -> anyhow::Result<Statements> {
        let mut texts = [const { String::new() }; Statement::ALL.len()];
        for statement in Statement::ALL {
            let path = contract_dir.join("sql/statements").join(statement.name()).with_extension("sql");
            texts[statement as usize] =
                std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        }
        Ok(Statements(texts))
    }

    fn text(&self, statement: Statement) -> &str {
        &self.0[statement as usize]
    }
}

/// A calendar date: days since 1970-01-01 in the proleptic Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date(pub i32);

/// Days from 1970-01-01 to 2000-01-01, where PostgreSQL begins to count.
const POSTGRES_EPOCH_DAYS: i32 = 10_957;

impl Date {
    /// Parses `YYYY-MM-DD`; None for a date that is none, such as 2026-02-30.
    pub fn parse(text: &str) -> Option<Date> {
        let bytes = text.as_bytes();
        if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
            return None;
        }
        let number = |from: usize, to: usize| {
            bytes[from..to].iter().try_fold(0i32, |n, b| b.is_ascii_digit().then(|| n * 10 + i32::from(b - b'0')))
        };
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let date = Date::from_civil(year, month, day);
        ((1..=12).contains(&month) && date.civil() == (year, month, day)).then_some(date)
    }

    /// Howard Hinnant, "chrono-compatible low-level date algorithms", days_from_civil.
    fn from_civil(year: i32, month: i32, day: i32) -> Date {
        let year = if month <= 2 { year - 1 } else { year };
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        Date(era * 146_097 + day_of_era - 719_468)
    }

    /// Year, month, day (civil_from_days).
    fn civil(self) -> (i32, i32, i32) {
        let days = self.0 + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        (year_of_era + era * 400 + i32::from(month <= 2), month, day)
    }

    /// 9999-12-31, the last one that YYYY-MM-DD can say.
    pub const LAST: Date = Date(2_932_896);

    pub fn next(self) -> Date {
        Date(self.0 + 1)
    }

    /// 1970-01-01 was a Thursday.
    pub fn is_weekend(self) -> bool {
        matches!(self.0.rem_euclid(7), 2 | 3)
    }

    /// Appends `YYYY-MM-DD`.
    pub fn write(self, out: &mut Vec<u8>) {
        let (year, month, day) = self.civil();
        if !(0..=9999).contains(&year) {
            out.extend_from_slice(itoa::Buffer::new().format(year).as_bytes());
        } else {
            digits(out, year / 100);
            digits(out, year % 100);
        }
        out.push(b'-');
        digits(out, month);
        out.push(b'-');
        digits(out, day);
    }
}

/// Two decimal digits.
fn digits(out: &mut Vec<u8>, n: i32) {
    out.extend([b'0' + (n / 10) as u8, b'0' + (n % 10) as u8]);
}

/// What `write` functions append is ASCII.
fn ascii(write: impl FnOnce(&mut Vec<u8>), capacity: usize) -> String {
    let mut out = Vec::with_capacity(capacity);
    write(&mut out);
    String::from_utf8(out).unwrap_or_default()
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

impl Date {
    pub fn to_text(self) -> String {
        ascii(|out| self.write(out), 10)
    }
}

/// An instant in UTC: milliseconds since 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DateTime(i64);

impl DateTime {
    pub fn from_unix_ms(ms: i64) -> Self {
        DateTime(ms)
    }

    /// Appends RFC 3339 with milliseconds.
    pub fn write(self, out: &mut Vec<u8>) {
        let ms = self.0.rem_euclid(86_400_000) as i32;
        Date(self.0.div_euclid(86_400_000) as i32).write(out);
        out.push(b'T');
        digits(out, ms / 3_600_000);
        out.push(b':');
        digits(out, ms / 60_000 % 60);
        out.push(b':');
        digits(out, ms / 1000 % 60);
        out.push(b'.');
        out.push(b'0' + (ms % 1000 / 100) as u8);
        digits(out, ms % 100);
        out.push(b'Z');
    }

    pub fn to_text(self) -> String {
        ascii(|out| self.write(out), 24)
    }
}

impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

type SqlError = Box<dyn std::error::Error + Sync + Send>;

impl<'a> FromSql<'a> for Date {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, SqlError> {
        let days = i32::from_be_bytes(raw.try_into()?);
        Ok(Date(days.checked_add(POSTGRES_EPOCH_DAYS).ok_or("a date out of range")?))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::DATE
    }
}

impl<'a> FromSql<'a> for DateTime {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, SqlError> {
        let microseconds = i64::from_be_bytes(raw.try_into()?);
        Ok(DateTime(microseconds.div_euclid(1000) + i64::from(POSTGRES_EPOCH_DAYS) * 86_400_000))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }
}

/// Master data, categories and users: an id and a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub id: i32,
    pub name: Box<str>,
}

/// A row of item. All but its keys stays in the row's own buffer until it is asked for.
///
/// # Panics
///
/// The readers panic where a column is not of the contract's type: then the statement is not the contract's.
#[derive(Debug)]
pub struct Item {
    pub id: i32,
    pub category_id: Option<i32>,
    row: Row,
    /// The column of id: `search` has one before it.
    base: usize,
}

impl Item {
    fn from_row(row: Row, base: usize) -> Result<Item, tokio_postgres::Error> {
        Ok(Item { id: row.try_get(base)?, category_id: row.try_get(base + 6)?, row, base })
    }

    pub fn name(&self) -> &str {
        self.row.get(self.base + 1)
    }

    pub fn description(&self) -> Option<&str> {
        self.row.get(self.base + 2)
    }

    pub fn price_cents(&self) -> i32 {
        self.row.get(self.base + 3)
    }

    pub fn opened_on(&self) -> Date {
        self.row.get(self.base + 4)
    }

    pub fn updated_at(&self) -> DateTime {
        self.row.get(self.base + 5)
    }

    pub fn area_id(&self) -> i32 {
        self.row.get(self.base + 7)
    }

    pub fn genre_id(&self) -> i32 {
        self.row.get(self.base + 8)
    }

    pub fn owner_id(&self) -> Option<i32> {
        self.row.get(self.base + 9)
    }

    pub fn editor_id(&self) -> Option<i32> {
        self.row.get(self.base + 10)
    }
}

/// A row of review, read as `Item` is.
#[derive(Debug)]
pub struct Review {
    pub item_id: i32,
    pub author_id: i32,
    row: Row,
    base: usize,
}

impl Review {
    fn from_row(row: Row, base: usize) -> Result<Review, tokio_postgres::Error> {
        Ok(Review { item_id: row.try_get(base + 1)?, author_id: row.try_get(base + 2)?, row, base })
    }

    pub fn id(&self) -> i32 {
        self.row.get(self.base)
    }

    pub fn rating(&self) -> i32 {
        self.row.get(self.base + 3)
    }

    pub fn body(&self) -> &str {
        self.row.get(self.base + 4)
    }

    pub fn created_at(&self) -> DateTime {
        self.row.get(self.base + 5)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReviewStats {
    pub count: i32,
    pub average: Option<f64>,
}

/// One result of `search`.
pub enum Found {
    Area(Named),
    Genre(Named),
    Category(Named),
    Item(Item),
}

/// What `add_review` came to.
pub enum Added {
    Review(Review),
    ItemNotFound,
    AuthorNotFound,
}

/// The feature vectors of all items, by ascending item id.
#[derive(Debug, Default)]
pub struct ItemVectors {
    pub item_ids: Vec<i32>,
    pub area_ids: Vec<i32>,
    pub features: Vec<[i8; 32]>,
}

/// Bytes of a row of master data in bulk.
pub const TEXT_BYTES: i32 = 1024;

/// So many rows of it are read at once that a reading ends long before a statement's time.
const TEXTS_PER_PAGE: i32 = 4096;

/// Which database a statement goes to, and whose time it takes.
#[derive(Clone)]
pub struct Session {
    pool: Pool,
    shared: Arc<Shared>,
    clock: Option<Arc<WaitClock>>,
}

struct Shared {
    primary: Pool,
    statements: Statements,
    metrics: Arc<Metrics>,
    timeout_ms: u64,
}

/// The pools of both addresses and the statements.
pub struct Store {
    replica: Pool,
    primary: Pool,
    shared: Arc<Shared>,
    primary_config: tokio_postgres::Config,
}

/// A pooled connection for the length of one statement. Dropped before the statement is done (deadline, client gone),
/// it cancels the statement and never goes back to the pool.
struct Lease {
    object: Option<Object>,
    finished: bool,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(object) = self.object.take().filter(|_| !self.finished) else { return };
        let client = Object::take(object);
        // Without a runtime the process ends, and its connections with it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            // The connection stays open until the server has taken the cancel request, so that its process still is
            // the one the request names.
            if let Err(error) = client.cancel_token().cancel_query(NoTls).await {
                log!(Warn, "cancel failed", "error": describe(&error));
            }
        });
    }
}

type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

impl Session {
    /// The same request's, to the primary.
    pub fn on_primary(&self) -> Session {
        Session { pool: self.shared.primary.clone(), shared: self.shared.clone(), clock: self.clock.clone() }
    }

    /// The one way to the database: takes a connection, runs the statement, gives the connection back. Boxed, so that
    /// the futures of resolvers, of which there is one per field, don't each have room for a whole query.
    fn query<'a>(
        &'a self,
        statement: Statement,
        parameters: Parameters<'a>,
    ) -> BoxFuture<'a, Result<Vec<Row>, Failure>> {
        Box::pin(async move {
            let (rows, dead) = self.attempt(statement, parameters).await;
            // A connection that died while it lay in the pool: the statement never ran. A write is not sent twice.
            if dead && !matches!(statement, Statement::AddReview | Statement::RenameArea) {
                return self.attempt(statement, parameters).await.0;
            }
            rows
        })
    }

    async fn attempt(&self, statement: Statement, parameters: Parameters<'_>) -> (Result<Vec<Row>, Failure>, bool) {
        let asked = Instant::now();
        let object = match self.pool.get().await {
            Ok(object) => object,
            Err(error) => return (Err(pool_failure(error)), false),
        };
        self.shared.metrics.pool_wait_seconds.observe(asked.elapsed().as_secs_f64());
        self.shared.metrics.statement(statement);
        let _running = self.clock.as_ref().map(|clock| clock.statement());
        let mut lease = Lease { object: Some(object), finished: false };
        let result = match &lease.object {
            Some(object) => match object.prepare_cached(self.shared.statements.text(statement)).await {
                Ok(prepared) => object.query(&prepared, parameters).await,
                Err(error) => Err(error),
            },
            None => return (Err(Failure::internal("a lease without a connection")), false),
        };
        lease.finished = true;
        match result {
            Ok(rows) => (Ok(rows), false),
            Err(error) => {
                let dead = error.is_closed();
                if dead && let Some(object) = lease.object.take() {
                    drop(Object::take(object));
                }
                (Err(self.statement_failure(statement, &error)), dead)
            }
        }
    }

    fn statement_failure(&self, statement: Statement, error: &tokio_postgres::Error) -> Failure {
        let cause = || format!("{}: {}", statement.name(), describe(error));
        match error.code() {
            Some(&SqlState::QUERY_CANCELED) => Failure::Timeout { limit_ms: self.shared.timeout_ms },
            Some(code) if is_unavailable(code) => Failure::unavailable(cause()),
            Some(_) => Failure::internal(cause()),
            None if error.is_closed() || std::error::Error::source(error).is_some_and(|e| e.is::<std::io::Error>()) => {
                Failure::unavailable(cause())
            }
            None => Failure::internal(cause()),
        }
    }

    async fn named(&self, statement: Statement, parameters: Parameters<'_>) -> Result<Vec<Named>, Failure> {
        let rows = self.query(statement, parameters).await?;
        collect(statement, rows, |row| Ok(Named { id: row.try_get(0)?, name: row.try_get::<_, &str>(1)?.into() }))
    }

    async fn item_rows(&self, statement: Statement, parameters: Parameters<'_>) -> Result<Vec<Item>, Failure> {
        let rows = self.query(statement, parameters).await?;
        collect(statement, rows, |row| Item::from_row(row, 0))
    }

    async fn review_rows(&self, statement: Statement, parameters: Parameters<'_>) -> Result<Vec<Review>, Failure> {
        let rows = self.query(statement, parameters).await?;
        collect(statement, rows, |row| Review::from_row(row, 0))
    }

    /// Items by ascending id, after the given one.
    pub async fn items(
        &self,
        after: i32,
        first: i32,
        area_id: Option<i32>,
        genre_id: Option<i32>,
    ) -> Result<Vec<Item>, Failure> {
        match (area_id, genre_id) {
            (None, None) => self.item_rows(Statement::Items, &[&after, &first]).await,
            (Some(area), None) => self.item_rows(Statement::ItemsByArea, &[&after, &first, &area]).await,
            (None, Some(genre)) => self.item_rows(Statement::ItemsByGenre, &[&after, &first, &genre]).await,
            (Some(area), Some(genre)) => {
                self.item_rows(Statement::ItemsByAreaAndGenre, &[&after, &first, &area, &genre]).await
            }
        }
    }

    pub async fn items_by_ids(&self, ids: &[i32]) -> Result<Vec<Item>, Failure> {
        self.item_rows(Statement::ItemsByIds, &[&ids]).await
    }

    /// Each category's first items, with the category's id in `category_id`.
    pub async fn items_by_category_ids(&self, ids: &[i32], first: i32) -> Result<Vec<Item>, Failure> {
        self.item_rows(Statement::ItemsByCategoryIds, &[&ids, &first]).await
    }

    pub async fn areas(&self) -> Result<Vec<Named>, Failure> {
        self.named(Statement::Areas, &[]).await
    }

    pub async fn areas_by_ids(&self, ids: &[i32]) -> Result<Vec<Named>, Failure> {
        self.named(Statement::AreasByIds, &[&ids]).await
    }

    pub async fn genres(&self) -> Result<Vec<Named>, Failure> {
        self.named(Statement::Genres, &[]).await
    }

    pub async fn genres_by_ids(&self, ids: &[i32]) -> Result<Vec<Named>, Failure> {
        self.named(Statement::GenresByIds, &[&ids]).await
    }

    pub async fn categories(&self) -> Result<Vec<Named>, Failure> {
        self.named(Statement::Categories, &[]).await
    }

    pub async fn categories_by_ids(&self, ids: &[i32]) -> Result<Vec<Named>, Failure> {
        self.named(Statement::CategoriesByIds, &[&ids]).await
    }

    pub async fn users_by_ids(&self, ids: &[i32]) -> Result<Vec<Named>, Failure> {
        self.named(Statement::UsersByIds, &[&ids]).await
    }

    pub async fn reviews_by_item_ids(&self, ids: &[i32], first: i32) -> Result<Vec<Review>, Failure> {
        self.review_rows(Statement::ReviewsByItemIds, &[&ids, &first]).await
    }

    pub async fn reviews_by_user_ids(&self, ids: &[i32], first: i32) -> Result<Vec<Review>, Failure> {
        self.review_rows(Statement::ReviewsByUserIds, &[&ids, &first]).await
    }

    /// Item id and figures; an item without reviews has none.
    pub async fn review_stats_by_item_ids(&self, ids: &[i32]) -> Result<Vec<(i32, ReviewStats)>, Failure> {
        let rows = self.query(Statement::ReviewStatsByItemIds, &[&ids]).await?;
        collect(Statement::ReviewStatsByItemIds, rows, |row| {
            Ok((row.try_get(0)?, ReviewStats { count: row.try_get(1)?, average: row.try_get(2)? }))
        })
    }

    pub async fn search(&self, text: &str, first: i32) -> Result<Vec<Found>, Failure> {
        let rows = self.query(Statement::Search, &[&text, &first]).await?;
        let found = collect(Statement::Search, rows, |row| {
            let kind: i32 = row.try_get(0)?;
            if kind == 4 {
                return Ok(Some(Found::Item(Item::from_row(row, 1)?)));
            }
            let named = Named { id: row.try_get(1)?, name: row.try_get::<_, &str>(2)?.into() };
            Ok(match kind {
                1 => Some(Found::Area(named)),
                2 => Some(Found::Genre(named)),
                3 => Some(Found::Category(named)),
                _ => None,
            })
        })?;
        found.into_iter().map(|found| found.ok_or_else(|| Failure::internal("search: an unknown kind"))).collect()
    }

    pub async fn holidays(&self) -> Result<Vec<Date>, Failure> {
        let rows = self.query(Statement::Holidays, &[]).await?;
        collect(Statement::Holidays, rows, |row| row.try_get(0))
    }

    pub async fn item_vectors(&self) -> Result<ItemVectors, Failure> {
        let rows = self.query(Statement::ItemVectors, &[]).await?;
        let mut vectors = ItemVectors::default();
        let all = collect(Statement::ItemVectors, rows, |row| {
            let bytes: &[u8] = row.try_get(2)?;
            Ok((row.try_get(0)?, row.try_get(1)?, <[u8; 32]>::try_from(bytes)))
        })?;
        for (item_id, area_id, features) in all {
            let features = features.map_err(|_| Failure::internal("item_vectors: not 32 features"))?;
            vectors.item_ids.push(item_id);
            vectors.area_ids.push(area_id);
            vectors.features.push(features.map(|byte| byte as i8));
        }
        Ok(vectors)
    }

    /// The first so many rows of master data in bulk. Fails where there are fewer.
    pub async fn master_texts(&self, rows: i32) -> Result<Vec<Box<str>>, Failure> {
        let mut texts = Vec::with_capacity(rows as usize);
        for after in (0..rows).step_by(TEXTS_PER_PAGE as usize) {
            let last = rows.min(after + TEXTS_PER_PAGE);
            let page = self.query(Statement::MasterTexts, &[&after, &last]).await?;
            texts.extend(collect(Statement::MasterTexts, page, |row| Ok(row.try_get::<_, &str>(0)?.into()))?);
        }
        if texts.len() != rows as usize {
            let found = texts.len();
            return Err(Failure::internal(format_args!("master_texts: the database has {found} of {rows} rows")));
        }
        Ok(texts)
    }

    pub async fn add_review(&self, item_id: i32, author_id: i32, rating: i32, body: &str) -> Result<Added, Failure> {
        let rows = self.query(Statement::AddReview, &[&item_id, &author_id, &rating, &body]).await?;
        let mut added = collect(Statement::AddReview, rows, |row| {
            Ok(match (row.try_get(0)?, row.try_get(1)?) {
                (false, _) => Added::ItemNotFound,
                (true, false) => Added::AuthorNotFound,
                (true, true) => Added::Review(Review::from_row(row, 2)?),
            })
        })?;
        added.pop().ok_or_else(|| Failure::internal("add_review: no row"))
    }

    /// None where there is no such area.
    pub async fn rename_area(&self, id: i32, name: &str) -> Result<Option<Named>, Failure> {
        Ok(self.named(Statement::RenameArea, &[&id, &name]).await?.pop())
    }
}

fn collect<T>(
    statement: Statement,
    rows: Vec<Row>,
    read: impl Fn(Row) -> Result<T, tokio_postgres::Error>,
) -> Result<Vec<T>, Failure> {
    let read = |row| read(row).map_err(|error| Failure::internal(format_args!("{}: {error}", statement.name())));
    rows.into_iter().map(read).collect()
}

/// `tokio_postgres::Error` prints only "db error" and leaves the rest to its source.
pub fn describe(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), std::error::Error::source(error)) {
        (Some(db), _) => format!("{} {}", db.code().code(), db.message()),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}

/// The server goes down, comes up, or has no place left: not the fault of the statement.
fn is_unavailable(code: &SqlState) -> bool {
    code.code().starts_with("08")
        || [
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::TOO_MANY_CONNECTIONS,
        ]
        .contains(code)
}

fn pool_failure(error: PoolError) -> Failure {
    match error {
        PoolError::Backend(error) => Failure::unavailable(describe(&error)),
        error => Failure::unavailable(error),
    }
}

fn pool(config: &tokio_postgres::Config, size: usize) -> anyhow::Result<Pool> {
    let manager =
        Manager::from_config(config.clone(), NoTls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
    // A replacement connection prepares its statements as they come; the first ones are warmed in `Store::warm`.
    Ok(Pool::builder(manager).max_size(size).runtime(Runtime::Tokio1).build()?)
}

impl Store {
    /// Opens nothing yet; `pool_size` connections to each address later.
    pub fn new(config: &Config, pool_size: usize, metrics: Arc<Metrics>) -> anyhow::Result<Store> {
        // statement_timeout is a backstop for a cancel request that was lost; UTC keeps the log of the database plain.
        let statement_timeout_ms = (config.request_timeout + Duration::from_millis(500)).as_millis();
        let session = |database: &tokio_postgres::Config| {
            let mut database = database.clone();
            let given = database.get_options().unwrap_or_default();
            let options = format!("{given} -c statement_timeout={statement_timeout_ms} -c timezone=UTC");
            database.options(options.trim_start());
            database.application_name("rust-server");
            if database.get_connect_timeout().is_none() {
                database.connect_timeout(Duration::from_secs(3));
            }
            database
        };
        let primary_config = session(&config.database);
        let primary = pool(&primary_config, pool_size)?;
        let shared = Arc::new(Shared {
            primary: primary.clone(),
            statements: Statements::read(&config.contract_dir)?,
            metrics,
            timeout_ms: config.request_timeout.as_millis() as u64,
        });
        let replica = match config.one_address {
            true => primary.clone(),
            false => pool(&session(&config.replica), pool_size)?,
        };
        Ok(Store { replica, primary, shared, primary_config })
    }

    /// For queries.
    pub fn replica(&self, clock: Option<Arc<WaitClock>>) -> Session {
        Session { pool: self.replica.clone(), shared: self.shared.clone(), clock }
    }

    /// For mutations, their reads included, and for what LISTEN announced.
    pub fn primary(&self, clock: Option<Arc<WaitClock>>) -> Session {
        Session { pool: self.primary.clone(), shared: self.shared.clone(), clock }
    }

    /// A connection of one's own, beyond the pool, to the primary.
    pub fn primary_config(&self) -> &tokio_postgres::Config {
        &self.primary_config
    }

    fn one_address(&self) -> bool {
        std::ptr::eq(self.primary.manager(), self.replica.manager())
    }

    fn pools(&self) -> Vec<(&'static str, &Pool)> {
        match self.one_address() {
            true => vec![("primary", &self.primary)],
            false => vec![("primary", &self.primary), ("replica", &self.replica)],
        }
    }

    /// Opens every connection and prepares every statement on each, so that no request pays for it: all at once, since one
    /// after the other they would be as many round trips.
    pub async fn warm(&self) -> Result<(), Failure> {
        let pools = self.pools();
        try_join_all(pools.iter().map(|(_, pool)| self.warm_pool(pool))).await?;
        Ok(())
    }

    async fn warm_pool(&self, pool: &Pool) -> Result<(), Failure> {
        let open = (0..pool.status().max_size).map(|_| async {
            let object = pool.get().await.map_err(pool_failure)?;
            let prepare = |statement: Statement| {
                let object = &object;
                async move {
                    let prepared = object.prepare_cached(self.shared.statements.text(statement)).await;
                    prepared
                        .map_err(|error| Failure::unavailable(format!("{}: {}", statement.name(), describe(&error))))
                }
            };
            try_join_all(Statement::ALL.into_iter().map(prepare)).await?;
            Ok(object)
        });
        // Held together until the last is open: otherwise one connection would serve every turn.
        try_join_all(open).await?;
        Ok(())
    }

    /// Whether both addresses answer.
    pub async fn ping(&self) -> Result<(), Failure> {
        for (_, pool) in self.pools() {
            let mut lease = Lease { object: Some(pool.get().await.map_err(pool_failure)?), finished: false };
            let answer = match &lease.object {
                Some(object) => object.simple_query("select 1").await.map(drop),
                None => Ok(()),
            };
            lease.finished = true;
            answer.map_err(|error| Failure::unavailable(describe(&error)))?;
        }
        Ok(())
    }

    /// Address, in use, idle.
    pub fn connections(&self) -> Vec<(&'static str, usize, usize)> {
        let of = |pool: &Pool| {
            let status = pool.status();
            (status.size.saturating_sub(status.available), status.available)
        };
        let (in_use, idle) = of(&self.primary);
        let mut connections = vec![("primary", in_use, idle)];
        if !self.one_address() {
            let (in_use, idle) = of(&self.replica);
            connections.push(("replica", in_use, idle));
        }
        connections
    }

    pub fn close(&self) {
        self.primary.close();
        self.replica.close();
    }
}
