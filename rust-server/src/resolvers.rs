//! The types of contract/schema.graphql. Descriptions are the schema's; `schema` checks that nothing differs.

use crate::{
    cache::Table,
    config::MasterSource,
    errors::Failure,
    limits::Limits,
    loaders::{Loaders, Page},
    master::{Master, add_business_days},
    ranking::{FEATURES, rank_items},
    store::{self, Added, Found, Session},
    telemetry::WaitClock,
    upstream::Upstream,
};
use async_graphql::{
    ContextSelectionSet, Error, ID, InputObject, InputType, InputValueError, InputValueResult, Interface, Object,
    OutputType, PathSegment, Positioned, QueryPathNode, QueryPathSegment, Result, Scalar, ScalarType, ServerResult,
    Union, Value, parser::types::Field, registry::Registry,
};
use futures_util::{
    TryFutureExt,
    future::{BoxFuture, Either, ready},
};
use std::{
    borrow::Cow,
    future::poll_fn,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

type Context<'a> = async_graphql::Context<'a>;

/// What resolvers share over all requests.
pub struct Environment {
    pub master: Arc<Master>,
    pub master_source: MasterSource,
    pub upstream: Upstream,
    pub limits: Limits,
    pub request_timeout: Duration,
}

impl Environment {
    /// Where master data is asked for first, if it is in Redis.
    pub fn cached(&self) -> Option<&Arc<Master>> {
        (self.master_source == MasterSource::Redis).then_some(&self.master)
    }
}

/// What resolvers share over one request.
pub struct Scope {
    pub environment: Arc<Environment>,
    /// The replica for queries, the primary for mutations.
    pub session: Session,
    /// None with LOADER=off: then every call is a statement of its own.
    pub loaders: Option<Arc<Loaders>>,
    pub deadline: Instant,
    /// None unless the request asked for Server-Timing.
    pub clock: Option<Arc<WaitClock>>,
}

impl Scope {
    fn late(&self) -> Failure {
        Failure::Timeout { limit_ms: self.environment.request_timeout.as_millis() as u64 }
    }
}

/// A failure and the true path of its field. The library cuts the path of an error short while it passes lists; this
/// travels as the error's source, and the response is written from it.
pub struct Located {
    pub failure: Failure,
    pub path: Vec<PathSegment>,
}

fn scope<'a>(ctx: &Context<'a>) -> &'a Scope {
    ctx.data_unchecked::<Scope>()
}

fn path_of(node: Option<&QueryPathNode<'_>>) -> Vec<PathSegment> {
    let Some(node) = node else { return Vec::new() };
    let mut path: Vec<_> = std::iter::once(node)
        .chain(node.parents())
        .map(|node| match node.segment {
            QueryPathSegment::Name(name) => PathSegment::Field(name.to_owned()),
            QueryPathSegment::Index(index) => PathSegment::Index(index),
        })
        .collect();
    path.reverse();
    path
}

fn located(ctx: &Context<'_>, failure: Failure) -> Error {
    let path = path_of(ctx.path_node.as_ref());
    Error { message: failure.to_string(), source: Some(Arc::new(Located { failure, path })), extensions: None }
}

/// `?` for resolvers: puts the field's path to a failure.
trait At<T> {
    fn at(self, ctx: &Context<'_>) -> Result<T>;
}

impl<T> At<T> for Result<T, Failure> {
    fn at(self, ctx: &Context<'_>) -> Result<T> {
        self.map_err(|failure| located(ctx, failure))
    }
}

fn must(what: impl Into<Cow<'static, str>>) -> Failure {
    Failure::UserInput(what.into())
}

/// An argument of a non-null type. A null that reaches it through a nullable variable is the field's error and not the
/// library's, so that it carries code and path.
#[derive(Clone, Default)]
pub struct Arg<T>(Option<T>);

impl<T> Arg<T> {
    fn get(self, name: &str) -> Result<T, Failure> {
        self.0.ok_or_else(|| must(format!("Argument \"{name}\" must not be null.")))
    }
}

impl Arg<i32> {
    fn within(self, name: &str, low: i32, high: i32) -> Result<i32, Failure> {
        match self.get(name)? {
            value if (low..=high).contains(&value) => Ok(value),
            _ => Err(must(format!("Argument \"{name}\" must be from {low} to {high}."))),
        }
    }
}

impl Arg<ID> {
    /// The id, None where it is beyond the database's 32 bits and so unknown.
    fn id(self, name: &str) -> Result<Option<i32>, Failure> {
        parse_id(name, &self.get(name)?)
    }
}

impl Arg<String> {
    fn text(self, name: &str) -> Result<String, Failure> {
        match self.get(name)? {
            text if text.contains('\0') => Err(must(format!("Argument \"{name}\" must not contain U+0000."))),
            text => Ok(text),
        }
    }
}

/// `0|[1-9][0-9]*`.
fn parse_id(name: &str, text: &str) -> Result<Option<i32>, Failure> {
    let is_decimal = text == "0" || (text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0'));
    match is_decimal && !text.is_empty() {
        true => Ok(text.parse().ok()),
        false => Err(must(format!("Argument \"{name}\" must be a decimal integer."))),
    }
}

impl<T: InputType> InputType for Arg<T> {
    type RawValueType = T::RawValueType;

    fn type_name() -> Cow<'static, str> {
        T::type_name()
    }

    fn qualified_type_name() -> String {
        T::qualified_type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        T::create_type_info(registry)
    }

    fn parse(value: Option<Value>) -> InputValueResult<Self> {
        match value {
            None | Some(Value::Null) => Ok(Arg(None)),
            value => T::parse(value).map(|value| Arg(Some(value))).map_err(InputValueError::propagate),
        }
    }

    fn to_value(&self) -> Value {
        self.0.as_ref().map_or(Value::Null, T::to_value)
    }

    fn as_raw_value(&self) -> Option<&Self::RawValueType> {
        self.0.as_ref().and_then(T::as_raw_value)
    }
}

/// An id of the database as the scalar ID: written once, not copied.
pub struct Id(i32);

impl OutputType for Id {
    fn type_name() -> Cow<'static, str> {
        <ID as OutputType>::type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        <ID as OutputType>::create_type_info(registry)
    }

    async fn resolve(&self, _: &ContextSelectionSet<'_>, _: &Positioned<Field>) -> ServerResult<Value> {
        Ok(Value::String(itoa::Buffer::new().format(self.0).to_owned()))
    }
}

/// An object or a list whose own future is boxed. The library gives every field of an object a future with room for the
/// largest of them: without this, each scalar of an item would carry (and move) the state of resolving its reviews.
pub struct Boxed<T>(T);

impl<T: OutputType> OutputType for Boxed<T> {
    fn type_name() -> Cow<'static, str> {
        T::type_name()
    }

    fn qualified_type_name() -> String {
        T::qualified_type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        T::create_type_info(registry)
    }

    async fn resolve(&self, ctx: &ContextSelectionSet<'_>, field: &Positioned<Field>) -> ServerResult<Value> {
        Box::pin(self.0.resolve(ctx, field)).await
    }
}

/// A list whose elements are polled together: they wait for the same loaders and are woken together, so a waker and a
/// queue for each, which the library's own lists have, would only cost.
pub struct List<T>(Vec<T>);

impl<T> FromIterator<T> for List<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        List(elements.into_iter().collect())
    }
}

impl<T: OutputType> OutputType for List<T> {
    fn type_name() -> Cow<'static, str> {
        <Vec<T> as OutputType>::type_name()
    }

    fn qualified_type_name() -> String {
        <Vec<T> as OutputType>::qualified_type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        <Vec<T> as OutputType>::create_type_info(registry)
    }

    async fn resolve(&self, ctx: &ContextSelectionSet<'_>, field: &Positioned<Field>) -> ServerResult<Value> {
        let element = |(index, element)| {
            let ctx = ctx.with_index(index);
            Box::pin(async move { T::resolve(element, &ctx, field).await })
        };
        let mut left: Vec<_> = self.0.iter().enumerate().map(element).map(Some).collect();
        let mut values = vec![Value::Null; left.len()];
        poll_fn(|cx| {
            let mut pending = false;
            for (future, value) in left.iter_mut().zip(&mut values) {
                let Some(running) = future else { continue };
                match running.as_mut().poll(cx) {
                    Poll::Pending => pending = true,
                    Poll::Ready(Ok(resolved)) => {
                        *value = resolved;
                        *future = None;
                    }
                    // An element of these lists is never null: the list is lost, as the specification has it.
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                }
            }
            if pending { Poll::Pending } else { Poll::Ready(Ok(())) }
        })
        .await?;
        Ok(Value::List(values))
    }
}

/// A calendar date, YYYY-MM-DD.
#[derive(Clone, Copy)]
pub struct Date(pub store::Date);

/// A calendar date, YYYY-MM-DD.
#[Scalar]
impl ScalarType for Date {
    fn parse(value: Value) -> InputValueResult<Self> {
        match &value {
            Value::String(text) => store::Date::parse(text).map(Date).ok_or(InputValueError::expected_type(value)),
            _ => Err(InputValueError::expected_type(value)),
        }
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_text())
    }
}

#[derive(Clone, Copy)]
pub struct DateTime(store::DateTime);

/// An instant in UTC, RFC 3339 with milliseconds: 2026-02-27T09:30:00.000Z.
#[Scalar]
impl ScalarType for DateTime {
    fn parse(value: Value) -> InputValueResult<Self> {
        Err(InputValueError::expected_type(value))
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_text())
    }
}

/// Loading functions return a loader's small future where there are loaders, and box the rest: every field of the library
/// has room for the largest of its object's futures.
impl Scope {
    fn item(&self, id: i32) -> impl Future<Output = Result<Option<Arc<store::Item>>, Failure>> {
        match &self.loaders {
            Some(loaders) => Either::Left(loaders.items_by_ids.load(id)),
            None => {
                Either::Right(Box::pin(async move { Ok(self.session.items_by_ids(&[id]).await?.pop().map(Arc::new)) })
                    as BoxFuture<_>)
            }
        }
    }

    fn user(&self, id: i32) -> impl Future<Output = Result<Option<Arc<store::Named>>, Failure>> {
        match &self.loaders {
            Some(loaders) => Either::Left(loaders.users_by_ids.load(id)),
            None => {
                Either::Right(Box::pin(async move { Ok(self.session.users_by_ids(&[id]).await?.pop().map(Arc::new)) })
                    as BoxFuture<_>)
            }
        }
    }

    fn category(&self, id: i32) -> impl Future<Output = Result<Option<Arc<store::Named>>, Failure>> {
        match &self.loaders {
            Some(loaders) => Either::Left(loaders.categories_by_ids.load(id)),
            None => {
                Either::Right(Box::pin(
                    async move { Ok(self.session.categories_by_ids(&[id]).await?.pop().map(Arc::new)) },
                ) as BoxFuture<_>)
            }
        }
    }

    fn area(&self, id: i32) -> impl Future<Output = Result<Option<Arc<store::Named>>, Failure>> {
        // One that was made a moment ago, and not yet announced, is looked up.
        if self.environment.master_source == MasterSource::Memory
            && let Some(area) = self.environment.master.area(id)
        {
            return Either::Left(ready(Ok(Some(area))));
        }
        Either::Right(match &self.loaders {
            Some(loaders) => Either::Left(loaders.areas_by_ids.load(id)),
            None => Either::Right(Box::pin(async move {
                let mut rows = match self.environment.cached() {
                    Some(master) => master.by_ids(&self.session, Table::Area, &[id]).await?,
                    None => self.session.areas_by_ids(&[id]).await?,
                };
                Ok(rows.pop().map(Arc::new))
            }) as BoxFuture<_>),
        })
    }

    fn genre(&self, id: i32) -> impl Future<Output = Result<Option<Arc<store::Named>>, Failure>> {
        if self.environment.master_source == MasterSource::Memory
            && let Some(genre) = self.environment.master.genre(id)
        {
            return Either::Left(ready(Ok(Some(genre))));
        }
        Either::Right(match &self.loaders {
            Some(loaders) => Either::Left(loaders.genres_by_ids.load(id)),
            None => Either::Right(Box::pin(async move {
                let mut rows = match self.environment.cached() {
                    Some(master) => master.by_ids(&self.session, Table::Genre, &[id]).await?,
                    None => self.session.genres_by_ids(&[id]).await?,
                };
                Ok(rows.pop().map(Arc::new))
            }) as BoxFuture<_>),
        })
    }

    fn items_by_category_ids(&self, id: i32, first: i32) -> impl Future<Output = Result<Page<store::Item>, Failure>> {
        match &self.loaders {
            Some(loaders) => {
                Either::Left(loaders.items_by_category_ids.load((id, first)).map_ok(Option::unwrap_or_default))
            }
            None => {
                Either::Right(Box::pin(
                    async move { Ok(shared(self.session.items_by_category_ids(&[id], first).await?)) },
                ) as BoxFuture<_>)
            }
        }
    }

    fn reviews_by_item_ids(&self, id: i32, first: i32) -> impl Future<Output = Result<Page<store::Review>, Failure>> {
        match &self.loaders {
            Some(loaders) => {
                Either::Left(loaders.reviews_by_item_ids.load((id, first)).map_ok(Option::unwrap_or_default))
            }
            None => Either::Right(Box::pin(
                async move { Ok(shared(self.session.reviews_by_item_ids(&[id], first).await?)) },
            ) as BoxFuture<_>),
        }
    }

    fn reviews_by_user_ids(&self, id: i32, first: i32) -> impl Future<Output = Result<Page<store::Review>, Failure>> {
        match &self.loaders {
            Some(loaders) => {
                Either::Left(loaders.reviews_by_user_ids.load((id, first)).map_ok(Option::unwrap_or_default))
            }
            None => Either::Right(Box::pin(
                async move { Ok(shared(self.session.reviews_by_user_ids(&[id], first).await?)) },
            ) as BoxFuture<_>),
        }
    }

    fn review_stats(&self, item_id: i32) -> impl Future<Output = Result<Option<store::ReviewStats>, Failure>> {
        match &self.loaders {
            Some(loaders) => Either::Left(loaders.review_stats_by_item_ids.load(item_id)),
            None => Either::Right(Box::pin(async move {
                Ok(self.session.review_stats_by_item_ids(&[item_id]).await?.pop().map(|(_, stats)| stats))
            }) as BoxFuture<_>),
        }
    }

    fn first(&self, first: Arg<i32>) -> Result<i32, Failure> {
        first.within("first", 0, self.environment.limits.page_size)
    }
}

fn shared<T>(rows: Vec<T>) -> Page<T> {
    Arc::new(rows.into_iter().map(Arc::new).collect())
}

/// A row that a foreign key promises.
fn promised<T>(row: Option<T>, what: &str, id: i32) -> Result<T, Failure> {
    row.ok_or_else(|| Failure::internal(format_args!("{what} {id} is gone")))
}

/// What can be found by its name.
#[derive(Interface)]
#[graphql(field(name = "id", ty = "Id"), field(name = "name", ty = "&str"))]
pub enum Named {
    Area(Area),
    Genre(Genre),
    Category(Category),
    Item(Item),
}

pub struct Query;

#[Object]
impl Query {
    /// Items by ascending id, after the given one; with areaId or genreId only those of that area or genre.
    async fn items(
        &self,
        ctx: &Context<'_>,
        #[graphql(default_with = "Arg(Some(20))")] first: Arg<i32>,
        after: Option<ID>,
        area_id: Option<ID>,
        genre_id: Option<ID>,
    ) -> Result<List<Item>> {
        async {
            let scope = scope(ctx);
            let first = scope.first(first)?;
            // Some(None): given, and beyond every row.
            let id = |name, id: Option<ID>| id.map(|id| parse_id(name, &id)).transpose();
            let (after, area_id, genre_id) = (id("after", after)?, id("areaId", area_id)?, id("genreId", genre_id)?);
            if [after, area_id, genre_id].contains(&Some(None)) {
                return Ok(List::from_iter([]));
            }
            let after = after.flatten().unwrap_or(0);
            let items = scope.session.items(after, first, area_id.flatten(), genre_id.flatten()).await?;
            Ok(items.into_iter().map(|row| Item(Arc::new(row))).collect())
        }
        .await
        .at(ctx)
    }

    async fn item(&self, ctx: &Context<'_>, id: Arg<ID>) -> Option<Result<Item>> {
        let item = async {
            match id.id("id")? {
                Some(id) => scope(ctx).item(id).await,
                None => Ok(None),
            }
        };
        item.await.at(ctx).map(|item| item.map(Item)).transpose()
    }

    async fn categories(&self, ctx: &Context<'_>) -> Result<List<Category>> {
        Ok(scope(ctx).session.categories().await.at(ctx)?.into_iter().map(|row| Category(Arc::new(row))).collect())
    }

    async fn areas(&self, ctx: &Context<'_>) -> Result<List<Area>> {
        let scope = scope(ctx);
        Ok(match scope.environment.master_source {
            MasterSource::Memory => scope.environment.master.areas().iter().cloned().map(Area).collect(),
            MasterSource::Redis => {
                let rows = scope.environment.master.every(&scope.session, Table::Area).await.at(ctx)?;
                rows.into_iter().map(|row| Area(Arc::new(row))).collect()
            }
            MasterSource::None => {
                scope.session.areas().await.at(ctx)?.into_iter().map(|row| Area(Arc::new(row))).collect()
            }
        })
    }

    async fn genres(&self, ctx: &Context<'_>) -> Result<List<Genre>> {
        let scope = scope(ctx);
        Ok(match scope.environment.master_source {
            MasterSource::Memory => scope.environment.master.genres().iter().cloned().map(Genre).collect(),
            MasterSource::Redis => {
                let rows = scope.environment.master.every(&scope.session, Table::Genre).await.at(ctx)?;
                rows.into_iter().map(|row| Genre(Arc::new(row))).collect()
            }
            MasterSource::None => {
                scope.session.genres().await.at(ctx)?.into_iter().map(|row| Genre(Arc::new(row))).collect()
            }
        })
    }

    /// Areas, genres, categories and items whose name begins with the text, case as given; by type in that order, then by id.
    async fn search(
        &self,
        ctx: &Context<'_>,
        text: Arg<String>,
        #[graphql(default_with = "Arg(Some(10))")] first: Arg<i32>,
    ) -> Result<List<Named>> {
        let found = async {
            let (text, first) = (text.text("text")?, scope(ctx).first(first)?);
            scope(ctx).session.search(&text, first).await
        };
        let named = |found| match found {
            Found::Area(row) => Named::Area(Area(Arc::new(row))),
            Found::Genre(row) => Named::Genre(Genre(Arc::new(row))),
            Found::Category(row) => Named::Category(Category(Arc::new(row))),
            Found::Item(row) => Named::Item(Item(Arc::new(row))),
        };
        Ok(found.await.at(ctx)?.into_iter().map(named).collect())
    }

    /// The items of the highest score: the sum of weight × feature over 32 integer features. Ties go to the lower id. Computed in the server from vectors held in memory.
    async fn ranking(
        &self,
        ctx: &Context<'_>,
        weights: Arg<Vec<i32>>,
        #[graphql(default_with = "Arg(Some(10))")] first: Arg<i32>,
        area_id: Option<ID>,
    ) -> Result<List<RankedItem>> {
        let scope = scope(ctx);
        let ranked = || {
            let weights: [i32; FEATURES] = weights
                .get("weights")?
                .try_into()
                .ok()
                .filter(|weights: &[i32; FEATURES]| weights.iter().all(|weight| (-1000..=1000).contains(weight)))
                .ok_or_else(|| must("Argument \"weights\" must have exactly 32 integers from -1000 to 1000."))?;
            let first = first.within("first", 0, scope.environment.limits.ranking_size)?;
            let area_id = match area_id.map(|id| parse_id("areaId", &id)).transpose()? {
                Some(None) => return Ok(Vec::new()),
                area_id => area_id.flatten(),
            };
            let vectors = scope.environment.master.item_vectors();
            rank_items(&vectors, &weights, first as usize, area_id, scope.deadline, || scope.late())
        };
        Ok(ranked().at(ctx)?.into_iter().map(|(score, item_id)| RankedItem { score, item_id }).collect())
    }

    /// The day that many business days later: weekends and holidays don't count. Computed in the server.
    async fn business_day(&self, ctx: &Context<'_>, from: Arg<Date>, days: Arg<i32>) -> Result<Date> {
        let day = async {
            let scope = scope(ctx);
            let from = from.get("from")?.0;
            let days = days.within("days", 0, scope.environment.limits.business_days)?;
            let holidays = match scope.environment.master_source {
                MasterSource::Memory => scope.environment.master.holidays(),
                MasterSource::Redis => Arc::new(scope.environment.master.every_holiday(&scope.session).await?),
                MasterSource::None => Arc::new(scope.session.holidays().await?),
            };
            match add_business_days(from, days, &holidays, scope.deadline, || scope.late())? {
                day if day > store::Date::LAST => Err(must("Argument \"days\" must not lead beyond 9999-12-31.")),
                day => Ok(day),
            }
        };
        day.await.at(ctx).map(Date)
    }

    /// A price from the outside service.
    async fn quote(&self, ctx: &Context<'_>, item_id: Arg<ID>, guests: Arg<i32>) -> Result<Quote> {
        let quote = async {
            let scope = scope(ctx);
            let item_id = item_id.get("itemId")?;
            parse_id("itemId", &item_id)?;
            let guests = guests.within("guests", 1, 100)?;
            let calling = scope.clock.as_ref().map(|clock| clock.call());
            let price = scope.environment.upstream.quote(&item_id, guests).await?;
            drop(calling);
            Ok(Quote { item_id, guests, total_cents: price.total_cents, currency: price.currency })
        };
        quote.await.at(ctx)
    }
}

pub struct Mutation;

#[Object]
impl Mutation {
    async fn add_review(&self, ctx: &Context<'_>, input: Arg<AddReviewInput>) -> Result<AddReviewResult> {
        let added = async {
            let scope = scope(ctx);
            let AddReviewInput { item_id, author_id, rating, body } = input.get("input")?;
            let (item_id, author_id) = (item_id.get("input.itemId")?, author_id.get("input.authorId")?);
            // No row has id 0: an id beyond 32 bits is unknown, and the other one is still looked at.
            let item_key = parse_id("input.itemId", &item_id)?.unwrap_or(0);
            let author_key = parse_id("input.authorId", &author_id)?.unwrap_or(0);
            let rating = rating.within("input.rating", 1, 5)?;
            let body = body.text("input.body")?;
            if !(1..=2000).contains(&body.chars().count()) {
                return Err(must("Argument \"input.body\" must have from 1 to 2000 characters."));
            }
            let added = scope.session.add_review(item_key, author_key, rating, &body).await?;
            if let Some(loaders) = &scope.loaders {
                loaders.clear();
            }
            Ok(match added {
                Added::Review(review) => AddReviewResult::ReviewAdded(ReviewAdded { review: Review(Arc::new(review)) }),
                Added::ItemNotFound => AddReviewResult::ItemNotFound(ItemNotFound { item_id }),
                Added::AuthorNotFound => AddReviewResult::AuthorNotFound(AuthorNotFound { author_id }),
            })
        };
        added.await.at(ctx)
    }

    /// Null where there is no such area. Every process of the server answers with the new name soon after.
    async fn rename_area(&self, ctx: &Context<'_>, id: Arg<ID>, name: Arg<String>) -> Option<Result<Area>> {
        let renamed = async {
            let scope = scope(ctx);
            let id = id.id("id")?;
            let name = name.text("name")?;
            let name = name.trim_matches([' ', '\t', '\r', '\n']);
            if !(1..=200).contains(&name.chars().count()) {
                return Err(must("Argument \"name\" must have from 1 to 200 characters."));
            }
            let Some(id) = id else { return Ok(None) };
            let renamed = scope.environment.master.rename_area(&scope.session, id, name).await?;
            if let Some(loaders) = &scope.loaders {
                loaders.clear();
            }
            Ok(renamed)
        };
        renamed.await.at(ctx).map(|area| area.map(Area)).transpose()
    }
}

/// Master data: small, needed by every request, rarely changed.
pub struct Area(Arc<store::Named>);

/// Master data: small, needed by every request, rarely changed.
#[Object]
impl Area {
    async fn id(&self) -> Id {
        Id(self.0.id)
    }

    async fn name(&self) -> &str {
        &self.0.name
    }
}

pub struct Genre(Arc<store::Named>);

/// Master data.
#[Object]
impl Genre {
    async fn id(&self) -> Id {
        Id(self.0.id)
    }

    async fn name(&self) -> &str {
        &self.0.name
    }
}

pub struct Category(Arc<store::Named>);

#[Object]
impl Category {
    async fn id(&self) -> Id {
        Id(self.0.id)
    }

    async fn name(&self) -> &str {
        &self.0.name
    }

    async fn items(
        &self,
        ctx: &Context<'_>,
        #[graphql(default_with = "Arg(Some(5))")] first: Arg<i32>,
    ) -> Result<List<Item>> {
        let scope = scope(ctx);
        let first = scope.first(first).at(ctx)?;
        let items = scope.items_by_category_ids(self.0.id, first).await.at(ctx)?;
        Ok(items.iter().cloned().map(Item).collect())
    }
}

pub struct Item(Arc<store::Item>);

#[Object]
impl Item {
    async fn id(&self) -> Id {
        Id(self.0.id)
    }

    async fn name(&self) -> &str {
        self.0.name()
    }

    async fn description(&self) -> Option<&str> {
        self.0.description()
    }

    async fn price_cents(&self) -> i32 {
        self.0.price_cents()
    }

    async fn opened_on(&self) -> Date {
        Date(self.0.opened_on())
    }

    async fn updated_at(&self) -> DateTime {
        DateTime(self.0.updated_at())
    }

    /// Null where the item was never put in one.
    async fn category(&self, ctx: &Context<'_>) -> Option<Result<Boxed<Category>>> {
        let category = scope(ctx).category(self.0.category_id?).await;
        category.at(ctx).map(|row| row.map(|row| Boxed(Category(row)))).transpose()
    }

    async fn area(&self, ctx: &Context<'_>) -> Result<Boxed<Area>> {
        let area = scope(ctx).area(self.0.area_id()).await;
        area.and_then(|row| promised(row, "area", self.0.area_id())).at(ctx).map(|row| Boxed(Area(row)))
    }

    async fn genre(&self, ctx: &Context<'_>) -> Result<Boxed<Genre>> {
        let genre = scope(ctx).genre(self.0.genre_id()).await;
        genre.and_then(|row| promised(row, "genre", self.0.genre_id())).at(ctx).map(|row| Boxed(Genre(row)))
    }

    async fn owner(&self, ctx: &Context<'_>) -> Option<Result<Boxed<User>>> {
        scope(ctx).user(self.0.owner_id()?).await.at(ctx).map(|row| row.map(|row| Boxed(User(row)))).transpose()
    }

    async fn editor(&self, ctx: &Context<'_>) -> Option<Result<Boxed<User>>> {
        scope(ctx).user(self.0.editor_id()?).await.at(ctx).map(|row| row.map(|row| Boxed(User(row)))).transpose()
    }

    /// Newest first, then by descending id.
    async fn reviews(
        &self,
        ctx: &Context<'_>,
        #[graphql(default_with = "Arg(Some(3))")] first: Arg<i32>,
    ) -> Result<Boxed<List<Review>>> {
        let scope = scope(ctx);
        let first = scope.first(first).at(ctx)?;
        let reviews = scope.reviews_by_item_ids(self.0.id, first).await.at(ctx)?;
        Ok(Boxed(reviews.iter().cloned().map(Review).collect()))
    }

    async fn review_stats(&self, ctx: &Context<'_>) -> Result<Boxed<ReviewStats>> {
        let none = store::ReviewStats { count: 0, average: None };
        scope(ctx).review_stats(self.0.id).await.at(ctx).map(|stats| Boxed(ReviewStats(stats.unwrap_or(none))))
    }
}

pub struct Review(Arc<store::Review>);

#[Object]
impl Review {
    async fn id(&self) -> Id {
        Id(self.0.id())
    }

    async fn rating(&self) -> i32 {
        self.0.rating()
    }

    async fn body(&self) -> &str {
        self.0.body()
    }

    async fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at())
    }

    /// Null where the author is gone.
    async fn author(&self, ctx: &Context<'_>) -> Option<Result<Boxed<User>>> {
        scope(ctx).user(self.0.author_id).await.at(ctx).map(|row| row.map(|row| Boxed(User(row)))).transpose()
    }

    async fn item(&self, ctx: &Context<'_>) -> Result<Boxed<Item>> {
        let item = scope(ctx).item(self.0.item_id).await;
        item.and_then(|row| promised(row, "item", self.0.item_id)).at(ctx).map(|row| Boxed(Item(row)))
    }
}

pub struct User(Arc<store::Named>);

#[Object]
impl User {
    async fn id(&self) -> Id {
        Id(self.0.id)
    }

    async fn name(&self) -> &str {
        &self.0.name
    }

    /// Newest first, then by descending id.
    async fn reviews(
        &self,
        ctx: &Context<'_>,
        #[graphql(default_with = "Arg(Some(3))")] first: Arg<i32>,
    ) -> Result<Boxed<List<Review>>> {
        let scope = scope(ctx);
        let first = scope.first(first).at(ctx)?;
        let reviews = scope.reviews_by_user_ids(self.0.id, first).await.at(ctx)?;
        Ok(Boxed(reviews.iter().cloned().map(Review).collect()))
    }
}

pub struct ReviewStats(store::ReviewStats);

#[Object]
impl ReviewStats {
    async fn count(&self) -> i32 {
        self.0.count
    }

    /// Null where there is no review.
    async fn average(&self) -> Option<f64> {
        self.0.average
    }
}

pub struct RankedItem {
    score: i32,
    item_id: i32,
}

#[Object]
impl RankedItem {
    async fn score(&self) -> i32 {
        self.score
    }

    async fn item(&self, ctx: &Context<'_>) -> Result<Item> {
        let item = scope(ctx).item(self.item_id).await;
        item.and_then(|row| promised(row, "item", self.item_id)).at(ctx).map(Item)
    }
}

pub struct Quote {
    item_id: ID,
    guests: i32,
    total_cents: i32,
    currency: String,
}

#[Object]
impl Quote {
    async fn item_id(&self) -> &ID {
        &self.item_id
    }

    async fn guests(&self) -> i32 {
        self.guests
    }

    async fn total_cents(&self) -> i32 {
        self.total_cents
    }

    async fn currency(&self) -> &str {
        &self.currency
    }
}

#[derive(InputObject)]
pub struct AddReviewInput {
    item_id: Arg<ID>,
    author_id: Arg<ID>,
    /// 1 to 5.
    rating: Arg<i32>,
    /// At most 2,000 characters.
    body: Arg<String>,
}

#[derive(Union)]
pub enum AddReviewResult {
    ReviewAdded(ReviewAdded),
    ItemNotFound(ItemNotFound),
    AuthorNotFound(AuthorNotFound),
}

pub struct ReviewAdded {
    review: Review,
}

#[Object]
impl ReviewAdded {
    async fn review(&self) -> &Review {
        &self.review
    }
}

pub struct ItemNotFound {
    item_id: ID,
}

#[Object]
impl ItemNotFound {
    async fn item_id(&self) -> &ID {
        &self.item_id
    }
}

pub struct AuthorNotFound {
    author_id: ID,
}

#[Object]
impl AuthorNotFound {
    async fn author_id(&self) -> &ID {
        &self.author_id
    }
}
