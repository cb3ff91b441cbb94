//! The floor: the headline operations by hand, without a GraphQL library. The same statements through the same store.

use crate::{
    config::MasterSource,
    errors::Failure,
    http::{write_integer, write_string},
    loaders::ByKey,
    resolvers::Environment,
    store::{Item, Named, Review, Session},
};
use anyhow::Context;
use std::{path::Path, sync::Arc};

/// A headline operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Headline {
    Q1,
    Q2,
    Q3,
}

/// Recognises the headline operations by their text.
pub struct Floor {
    /// As written, and squeezed.
    texts: [(Headline, String, String); 3],
}

/// White space and commas mean nothing in GraphQL but between two names.
fn squeezed(text: &str) -> String {
    let is_space = |c: char| c.is_ascii_whitespace() || c == ',';
    let is_name = |c: char| c == '_' || c.is_ascii_alphanumeric();
    let mut out = String::with_capacity(text.len());
    let mut parted = false;
    for character in text.chars() {
        if is_space(character) {
            parted = true;
            continue;
        }
        if parted && is_name(character) && out.ends_with(is_name) {
            out.push(' ');
        }
        parted = false;
        out.push(character);
    }
    out
}

impl Floor {
    /// Reads `operations/q1|q2|q3/query.graphql` in the contract's folder.
    pub fn read(contract_dir: &Path) -> anyhow::Result<Floor> {
        let read = |headline, name: &str| -> anyhow::Result<_> {
            let path = contract_dir.join("operations").join(name).join("query.graphql");
            let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let squeezed = squeezed(&text);
            Ok((headline, text.trim().to_owned(), squeezed))
        };
        Ok(Floor { texts: [read(Headline::Q1, "q1")?, read(Headline::Q2, "q2")?, read(Headline::Q3, "q3")?] })
    }

    pub fn recognise(&self, query: &str) -> Option<Headline> {
        if let Some((headline, ..)) = self.texts.iter().find(|(_, text, _)| text == query) {
            return Some(*headline);
        }
        let query = squeezed(query);
        self.texts.iter().find(|(_, _, text)| *text == query).map(|(headline, ..)| *headline)
    }
}

type ById = ByKey<i32, Arc<Named>>;

/// The rows of an answer.
pub struct Rows {
    headline: Headline,
    items: Vec<Item>,
    categories: ById,
    areas: ById,
    reviews: ByKey<i32, Vec<Review>>,
    users: ById,
}

/// Ascending and distinct.
fn distinct(mut ids: Vec<i32>) -> Vec<i32> {
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn by_id(rows: Vec<Named>) -> ById {
    rows.into_iter().map(|row| (row.id, Arc::new(row))).collect()
}

impl Headline {
    /// Runs the statements; those of one level at once.
    pub async fn fetch(self, session: Session, environment: Arc<Environment>) -> Result<Rows, Failure> {
        let first = if self == Headline::Q3 { 500 } else { 20 };
        let items = session.items(0, first, None, None).await?;
        let mut rows = Rows {
            headline: self,
            categories: ById::default(),
            areas: ById::default(),
            reviews: ByKey::default(),
            users: ById::default(),
            items: Vec::new(),
        };
        let category_ids = distinct(items.iter().filter_map(|item| item.category_id).collect());
        let categories = async {
            match category_ids.is_empty() {
                true => Ok(ById::default()),
                false => session.categories_by_ids(&category_ids).await.map(by_id),
            }
        };
        if self != Headline::Q2 {
            rows.categories = categories.await?;
            rows.items = items;
            return Ok(rows);
        }
        let area_ids = distinct(items.iter().map(|item| item.area_id()).collect());
        let areas = async {
            match environment.master_source {
                _ if area_ids.is_empty() => Ok(ById::default()),
                MasterSource::None | MasterSource::Redis => session.areas_by_ids(&area_ids).await.map(by_id),
                MasterSource::Memory => {
                    let known: ById =
                        area_ids.iter().filter_map(|id| Some((*id, environment.master.area(*id)?))).collect();
                    match known.len() == area_ids.len() {
                        true => Ok(known),
                        // Made a moment ago, and not yet announced.
                        false => session.areas_by_ids(&area_ids).await.map(by_id),
                    }
                }
            }
        };
        let reviews_and_users = async {
            let mut reviews: ByKey<i32, Vec<Review>> = ByKey::default();
            let item_ids: Vec<i32> = items.iter().map(|item| item.id).collect();
            if item_ids.is_empty() {
                return Ok((reviews, ById::default()));
            }
            let rows = session.reviews_by_item_ids(&item_ids, 3).await?;
            let user_ids = distinct(rows.iter().map(|review| review.author_id).collect());
            for review in rows {
                reviews.entry(review.item_id).or_default().push(review);
            }
            let users = match user_ids.is_empty() {
                true => ById::default(),
                false => by_id(session.users_by_ids(&user_ids).await?),
            };
            Ok((reviews, users))
        };
        (rows.categories, rows.areas, (rows.reviews, rows.users)) =
            futures_util::try_join!(categories, areas, reviews_and_users)?;
        if let Some(item) = items.iter().find(|item| !rows.areas.contains_key(&item.area_id())) {
            return Err(Failure::internal(format_args!("area {} is gone", item.area_id())));
        }
        rows.items = items;
        Ok(rows)
    }
}

/// `{"name":…}` or null.
fn write_name(out: &mut Vec<u8>, row: Option<&Arc<Named>>) {
    match row {
        Some(row) => {
            out.extend_from_slice(b"{\"name\":");
            write_string(out, &row.name);
            out.push(b'}');
        }
        None => out.extend_from_slice(b"null"),
    }
}

impl Rows {
    /// The answer's body.
    pub fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.items.len() * 512);
        out.extend_from_slice(b"{\"data\":{\"items\":[");
        for (at, item) in self.items.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            self.write_item(&mut out, item);
        }
        out.extend_from_slice(b"]}}");
        out
    }

    fn write_item(&self, out: &mut Vec<u8>, item: &Item) {
        out.extend_from_slice(b"{\"id\":\"");
        write_integer(out, item.id);
        out.extend_from_slice(b"\",\"name\":");
        write_string(out, item.name());
        if self.headline == Headline::Q3 {
            out.extend_from_slice(b",\"description\":");
            match item.description() {
                Some(description) => write_string(out, description),
                None => out.extend_from_slice(b"null"),
            }
        }
        out.extend_from_slice(b",\"priceCents\":");
        write_integer(out, item.price_cents());
        if self.headline == Headline::Q3 {
            out.extend_from_slice(b",\"openedOn\":\"");
            item.opened_on().write(out);
            out.extend_from_slice(b"\",\"updatedAt\":\"");
            item.updated_at().write(out);
            out.push(b'"');
        }
        out.extend_from_slice(b",\"category\":");
        write_name(out, item.category_id.and_then(|id| self.categories.get(&id)));
        if self.headline == Headline::Q2 {
            out.extend_from_slice(b",\"area\":");
            write_name(out, self.areas.get(&item.area_id()));
            out.extend_from_slice(b",\"reviews\":[");
            for (at, review) in self.reviews.get(&item.id).into_iter().flatten().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(b"{\"rating\":");
                write_integer(out, review.rating());
                out.extend_from_slice(b",\"body\":");
                write_string(out, review.body());
                out.extend_from_slice(b",\"author\":");
                write_name(out, self.users.get(&review.author_id));
                out.push(b'}');
            }
            out.push(b']');
        }
        out.push(b'}');
    }
}
