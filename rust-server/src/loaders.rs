//! DataLoader that dispatches when the request is pending: JavaScript's tick made explicit.
//!
//! A request is resolved inside one task. A poll of it that returns Pending, with no wake during that poll, means that
//! no resolver can go further: then every loader's queued keys go out, one statement per loader. No timer is involved,
//! so a batch is whole at any concurrency and nothing is added to the latency.

use crate::{
    cache::Table,
    errors::Failure,
    master::Master,
    store::{Item, Named, Review, ReviewStats, Session},
    telemetry::{LoaderName, Metrics, lock},
};
use futures_util::{future::BoxFuture, task::AtomicWaker};
use std::{
    collections::HashMap,
    future::poll_fn,
    hash::Hash,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
};

/// What a call of a batch function comes to.
pub type Called<K, V> = BoxFuture<'static, Result<ByKey<K, V>, Failure>>;

/// What a loader calls: distinct keys in the order they were asked for; a key without a value is missing from the answer.
pub trait Batch: Send + Sync + 'static {
    type Key: Copy + Eq + Hash + Send + Sync + 'static;
    type Value: Clone + Send + Sync + 'static;

    fn call(&self, keys: Vec<Self::Key>) -> Called<Self::Key, Self::Value>;

    /// Keys that one call cannot take together go apart: every group is one call.
    fn split(keys: Vec<Self::Key>) -> Vec<Vec<Self::Key>> {
        vec![keys]
    }
}

enum Entry<V> {
    Waiting(Vec<Waker>),
    Done(Result<Option<V>, Failure>),
}

struct State<K, V> {
    cache: ByKey<K, Entry<V>>,
    queue: Vec<K>,
    /// Loads that the cache answers. They wait for the batch that is being gathered, as in graphql/dataloader: were they
    /// ready before their siblings, the next level would go out in two parts.
    hits: Vec<Arc<Hit>>,
}

#[derive(Default)]
struct Hit {
    released: AtomicBool,
    waker: AtomicWaker,
}

impl Hit {
    fn release(&self) {
        self.released.store(true, SeqCst);
        self.waker.wake();
    }
}

/// Releases hits with the last of the batches they waited for.
struct Hits(Vec<Arc<Hit>>);

impl Drop for Hits {
    fn drop(&mut self) {
        self.0.iter().for_each(|hit| hit.release());
    }
}

/// Keys are integers of our own database, and a loader lives for one request: no need to resist chosen collisions
/// beyond spreading the bits.
#[derive(Clone, Copy, Default)]
pub struct FastHash;

/// Values by the ids of our own database.
pub type ByKey<K, V> = HashMap<K, V, FastHash>;

impl std::hash::BuildHasher for FastHash {
    type Hasher = Mix;

    fn build_hasher(&self) -> Mix {
        Mix(0)
    }
}

/// Fibonacci hashing of each integer.
pub struct Mix(u64);

impl std::hash::Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_i32(&mut self, n: i32) {
        self.write_u64(n as u32 as u64);
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(5) ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

/// What a load has waited for so far.
enum Waited {
    No,
    Batch,
    Hit(Arc<Hit>),
}

/// One loader of one request.
pub struct Loader<B: Batch> {
    batch: B,
    state: Mutex<State<B::Key, B::Value>>,
}

impl<B: Batch> Loader<B> {
    pub fn new(batch: B) -> Self {
        Loader { batch, state: Mutex::new(State { cache: ByKey::default(), queue: Vec::new(), hits: Vec::new() }) }
    }

    /// The value of a key, None where there is none. Asked for twice, it is loaded once.
    pub fn load(&self, key: B::Key) -> impl Future<Output = Result<Option<B::Value>, Failure>> + use<'_, B> {
        let mut waited = Waited::No;
        poll_fn(move |cx| {
            if let Waited::Hit(hit) = &waited {
                hit.waker.register(cx.waker());
                if !hit.released.load(SeqCst) {
                    return Poll::Pending;
                }
            }
            let state = &mut *lock(&self.state);
            match state.cache.get_mut(&key) {
                Some(Entry::Done(value)) => {
                    if !matches!(waited, Waited::No) {
                        return Poll::Ready(value.clone());
                    }
                    let hit = Arc::new(Hit::default());
                    hit.waker.register(cx.waker());
                    state.hits.push(hit.clone());
                    waited = Waited::Hit(hit);
                    return Poll::Pending;
                }
                Some(Entry::Waiting(wakers)) => {
                    if !wakers.last().is_some_and(|waker| waker.will_wake(cx.waker())) {
                        wakers.push(cx.waker().clone());
                    }
                }
                None => {
                    state.cache.insert(key, Entry::Waiting(vec![cx.waker().clone()]));
                    state.queue.push(key);
                }
            }
            waited = Waited::Batch;
            Poll::Pending
        })
    }

    /// Forgets what was loaded: a mutation's next field must see what this one wrote.
    pub fn clear(&self) {
        lock(&self.state).cache.clear();
    }

    fn fill(&self, keys: &[B::Key], result: Result<ByKey<B::Key, B::Value>, Failure>) {
        let mut wakers = Vec::with_capacity(keys.len());
        {
            let state = &mut *lock(&self.state);
            let (mut values, failure) = match result {
                Ok(values) => (values, None),
                Err(failure) => (ByKey::default(), Some(failure)),
            };
            for key in keys {
                let value = match &failure {
                    None => Ok(values.remove(key)),
                    Some(failure) => Err(failure.clone()),
                };
                if let Some(Entry::Waiting(waiting)) = state.cache.insert(*key, Entry::Done(value)) {
                    wakers.extend(waiting);
                }
            }
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// One future per call for everything queued; `of` finds this loader again in the set that owns it.
    fn dispatch_into<S: Send + Sync + 'static>(
        set: &Arc<S>,
        of: fn(&S) -> &Loader<B>,
        out: &mut Vec<BoxFuture<'static, ()>>,
    ) {
        let (keys, hits) = {
            let state = &mut *lock(&of(set).state);
            (std::mem::take(&mut state.queue), std::mem::take(&mut state.hits))
        };
        if keys.is_empty() {
            drop(Hits(hits));
            return;
        }
        let hits = Arc::new(Hits(hits));
        for keys in B::split(keys) {
            let (set, hits) = (set.clone(), hits.clone());
            out.push(Box::pin(async move {
                let result = of(&set).batch.call(keys.clone()).await;
                of(&set).fill(&keys, result);
                drop(hits);
            }));
        }
    }
}

/// A set of loaders that go out together.
pub trait Dispatch: Send + Sync + 'static {
    /// One future per call for every loader with queued keys.
    fn dispatch(self: &Arc<Self>) -> Vec<BoxFuture<'static, ()>>;
}

impl<B: Batch> Dispatch for Loader<B> {
    fn dispatch(self: &Arc<Self>) -> Vec<BoxFuture<'static, ()>> {
        let mut out = Vec::new();
        Loader::dispatch_into(self, |loader| loader, &mut out);
        out
    }
}

/// Remembers that it was woken; passes the wake on to the task only when the task is not inside its poll, where the
/// flag is looked at anyway.
#[derive(Default)]
struct Flag {
    woken: AtomicBool,
    polling: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, SeqCst);
        if !self.polling.load(SeqCst) {
            self.task.wake();
        }
    }
}

/// Rounds of polling before the task lets others run.
const ROUNDS: usize = 256;

/// Runs `future`; whenever it is Pending and was not woken during the poll, every loader's queue goes out. To be run
/// under `tokio::task::unconstrained`: with tokio's cooperative budget spent, a resource wakes its task and stays
/// Pending, which would look like progress for ever.
pub async fn drive<D: Dispatch, F: Future>(set: Arc<D>, future: F) -> F::Output {
    let (request, batches) = (Arc::new(Flag::default()), Arc::new(Flag::default()));
    let (request_waker, batch_waker) = (Waker::from(request.clone()), Waker::from(batches.clone()));
    let mut future = pin!(future);
    let mut flying: Vec<BoxFuture<'static, ()>> = Vec::new();
    request.woken.store(true, SeqCst);
    poll_fn(move |cx| {
        request.task.register(cx.waker());
        batches.task.register(cx.waker());
        for _ in 0..ROUNDS {
            request.polling.store(true, SeqCst);
            batches.polling.store(true, SeqCst);
            if batches.woken.swap(false, SeqCst) {
                let mut cx = Context::from_waker(&batch_waker);
                flying.retain_mut(|batch| batch.as_mut().poll(&mut cx).is_pending());
            }
            if request.woken.swap(false, SeqCst) {
                if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&request_waker)) {
                    return Poll::Ready(output);
                }
                if !request.woken.load(SeqCst) {
                    let calls = set.dispatch();
                    if !calls.is_empty() {
                        flying.extend(calls);
                        batches.woken.store(true, SeqCst);
                    }
                }
            }
            request.polling.store(false, SeqCst);
            batches.polling.store(false, SeqCst);
            if !request.woken.load(SeqCst) && !batches.woken.load(SeqCst) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

macro_rules! by_ids {
    ($($loader:ident, $value:ty, $call:ident, $name:ident;)*) => { $(
        pub struct $loader(Arc<Source>);

        impl Batch for $loader {
            type Key = i32;
            type Value = Arc<$value>;

            fn call(&self, ids: Vec<i32>) -> Called<i32, Arc<$value>> {
                let source = self.0.clone();
                Box::pin(async move {
                    source.metrics.batch(LoaderName::$name, ids.len());
                    let rows = source.session.$call(&ids).await?;
                    Ok(rows.into_iter().map(|row| (row.id, Arc::new(row))).collect())
                })
            }
        }
    )* };
}

macro_rules! master_by_ids {
    ($($loader:ident, $table:ident, $call:ident, $name:ident;)*) => { $(
        /// Master data, where that is not in memory.
        pub struct $loader(Arc<Source>);

        impl Batch for $loader {
            type Key = i32;
            type Value = Arc<Named>;

            fn call(&self, ids: Vec<i32>) -> Called<i32, Arc<Named>> {
                let source = self.0.clone();
                Box::pin(async move {
                    source.metrics.batch(LoaderName::$name, ids.len());
                    let rows = match &source.cached {
                        Some(master) => master.by_ids(&source.session, Table::$table, &ids).await?,
                        None => source.session.$call(&ids).await?,
                    };
                    Ok(rows.into_iter().map(|row| (row.id, Arc::new(row))).collect())
                })
            }
        }
    )* };
}

master_by_ids! {
    AreasByIds, Area, areas_by_ids, AreasByIds;
    GenresByIds, Genre, genres_by_ids, GenresByIds;
}

by_ids! {
    CategoriesByIds, Named, categories_by_ids, CategoriesByIds;
    UsersByIds, Named, users_by_ids, UsersByIds;
    ItemsByIds, Item, items_by_ids, ItemsByIds;
}

/// An id and how many of the first rows.
pub type PageKey = (i32, i32);
pub type Page<T> = Arc<Vec<Arc<T>>>;

/// One statement per distinct `first`.
fn split_by_first(keys: Vec<PageKey>) -> Vec<Vec<PageKey>> {
    let mut groups: Vec<Vec<PageKey>> = Vec::new();
    for key in keys {
        match groups.iter_mut().find(|group| group[0].1 == key.1) {
            Some(group) => group.push(key),
            None => groups.push(vec![key]),
        }
    }
    groups
}

/// Every key gets a page, an empty one where there are no rows; rows keep their order.
fn group<T>(keys: &[PageKey], rows: Vec<T>, id: impl Fn(&T) -> Option<i32>) -> ByKey<PageKey, Page<T>> {
    let mut pages: ByKey<i32, Vec<Arc<T>>> = keys.iter().map(|key| (key.0, Vec::new())).collect();
    for row in rows {
        if let Some(page) = id(&row).and_then(|id| pages.get_mut(&id)) {
            page.push(Arc::new(row));
        }
    }
    let first = keys.first().map_or(0, |key| key.1);
    pages.into_iter().map(|(id, page)| ((id, first), Arc::new(page))).collect()
}

macro_rules! pages {
    ($($loader:ident, $value:ty, $call:ident, $name:ident, $id:expr;)*) => { $(
        pub struct $loader(Arc<Source>);

        impl Batch for $loader {
            type Key = PageKey;
            type Value = Page<$value>;

            fn call(&self, keys: Vec<PageKey>) -> Called<PageKey, Page<$value>> {
                let source = self.0.clone();
                Box::pin(async move {
                    source.metrics.batch(LoaderName::$name, keys.len());
                    let ids: Vec<i32> = keys.iter().map(|key| key.0).collect();
                    let first = keys.first().map_or(0, |key| key.1);
                    Ok(group(&keys, source.session.$call(&ids, first).await?, $id))
                })
            }

            fn split(keys: Vec<PageKey>) -> Vec<Vec<PageKey>> {
                split_by_first(keys)
            }
        }
    )* };
}

pages! {
    ItemsByCategoryIds, Item, items_by_category_ids, ItemsByCategoryIds, |item| item.category_id;
    ReviewsByItemIds, Review, reviews_by_item_ids, ReviewsByItemIds, |review| Some(review.item_id);
    ReviewsByUserIds, Review, reviews_by_user_ids, ReviewsByUserIds, |review| Some(review.author_id);
}

pub struct ReviewStatsByItemIds(Arc<Source>);

impl Batch for ReviewStatsByItemIds {
    type Key = i32;
    type Value = ReviewStats;

    fn call(&self, ids: Vec<i32>) -> Called<i32, ReviewStats> {
        let source = self.0.clone();
        Box::pin(async move {
            source.metrics.batch(LoaderName::ReviewStatsByItemIds, ids.len());
            Ok(source.session.review_stats_by_item_ids(&ids).await?.into_iter().collect())
        })
    }
}

struct Source {
    session: Session,
    metrics: Arc<Metrics>,
    /// Where master data is asked for first; none: in the database alone.
    cached: Option<Arc<Master>>,
}

/// All loaders of one request.
pub struct Loaders {
    pub areas_by_ids: Loader<AreasByIds>,
    pub genres_by_ids: Loader<GenresByIds>,
    pub categories_by_ids: Loader<CategoriesByIds>,
    pub users_by_ids: Loader<UsersByIds>,
    pub items_by_ids: Loader<ItemsByIds>,
    pub items_by_category_ids: Loader<ItemsByCategoryIds>,
    pub reviews_by_item_ids: Loader<ReviewsByItemIds>,
    pub reviews_by_user_ids: Loader<ReviewsByUserIds>,
    pub review_stats_by_item_ids: Loader<ReviewStatsByItemIds>,
}

/// Fresh loaders with empty caches: they live for one request.
pub fn new_loaders(session: &Session, metrics: &Arc<Metrics>, cached: Option<&Arc<Master>>) -> Arc<Loaders> {
    let source = Arc::new(Source { session: session.clone(), metrics: metrics.clone(), cached: cached.cloned() });
    let source = || source.clone();
    Arc::new(Loaders {
        areas_by_ids: Loader::new(AreasByIds(source())),
        genres_by_ids: Loader::new(GenresByIds(source())),
        categories_by_ids: Loader::new(CategoriesByIds(source())),
        users_by_ids: Loader::new(UsersByIds(source())),
        items_by_ids: Loader::new(ItemsByIds(source())),
        items_by_category_ids: Loader::new(ItemsByCategoryIds(source())),
        reviews_by_item_ids: Loader::new(ReviewsByItemIds(source())),
        reviews_by_user_ids: Loader::new(ReviewsByUserIds(source())),
        review_stats_by_item_ids: Loader::new(ReviewStatsByItemIds(source())),
    })
}

impl Loaders {
    /// After a write. Mutations run one after the other, so nothing is waiting then.
    pub fn clear(&self) {
        self.areas_by_ids.clear();
        self.genres_by_ids.clear();
        self.categories_by_ids.clear();
        self.users_by_ids.clear();
        self.items_by_ids.clear();
        self.items_by_category_ids.clear();
        self.reviews_by_item_ids.clear();
        self.reviews_by_user_ids.clear();
        self.review_stats_by_item_ids.clear();
    }
}

impl Dispatch for Loaders {
    fn dispatch(self: &Arc<Self>) -> Vec<BoxFuture<'static, ()>> {
        let mut out = Vec::new();
        Loader::dispatch_into(self, |set| &set.areas_by_ids, &mut out);
        Loader::dispatch_into(self, |set| &set.genres_by_ids, &mut out);
        Loader::dispatch_into(self, |set| &set.categories_by_ids, &mut out);
        Loader::dispatch_into(self, |set| &set.users_by_ids, &mut out);
        Loader::dispatch_into(self, |set| &set.items_by_ids, &mut out);
        Loader::dispatch_into(self, |set| &set.items_by_category_ids, &mut out);
        Loader::dispatch_into(self, |set| &set.reviews_by_item_ids, &mut out);
        Loader::dispatch_into(self, |set| &set.reviews_by_user_ids, &mut out);
        Loader::dispatch_into(self, |set| &set.review_stats_by_item_ids, &mut out);
        out
    }
}
