//! limits.json, and the limits of a document: tokens, depth, aliases, cost.

use crate::errors::{Code, RequestError};
use anyhow::Context;
use async_graphql::parser::types::BaseType;
use serde::Deserialize;
use spec::{
    ParseError, Tokens, Variables,
    ast::{Document, Field, Operation, Selection, Value},
};
use std::{collections::HashMap, path::Path, time::Duration};

/// limits.json, read by all three servers.
#[derive(Clone, Debug)]
pub struct Limits {
    pub body_bytes: usize,
    pub tokens: usize,
    pub depth: usize,
    pub aliases: usize,
    pub cost: u64,
    pub page_size: i32,
    pub ranking_size: i32,
    pub business_days: i32,
    pub request_timeout: Duration,
    pub requests_in_flight: usize,
    pub cached_documents: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LimitsFile {
    body_bytes: usize,
    tokens: usize,
    depth: usize,
    aliases: usize,
    cost: u64,
    page_size: i32,
    ranking_size: i32,
    business_days: i32,
    request_timeout: String,
    requests_in_flight: usize,
    cached_documents: usize,
}

impl Limits {
    /// Reads `limits.json` in the contract's folder.
    pub fn read(contract_dir: &Path) -> anyhow::Result<Limits> {
        let path = contract_dir.join("limits.json");
        let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let file: LimitsFile =
            serde_json::from_slice(&text).with_context(|| format!("cannot read {}", path.display()))?;
        let request_timeout = crate::config::parse_duration(&file.request_timeout)
            .with_context(|| format!("{}: requestTimeout is not a duration", path.display()))?;
        Ok(Limits {
            body_bytes: file.body_bytes,
            tokens: file.tokens,
            depth: file.depth,
            aliases: file.aliases,
            cost: file.cost,
            page_size: file.page_size,
            ranking_size: file.ranking_size,
            business_days: file.business_days,
            request_timeout,
            requests_in_flight: file.requests_in_flight,
            cached_documents: file.cached_documents,
        })
    }
}

/// A document's lexical tokens, counted until the limit.
pub fn check_tokens<'a>(limits: &Limits, text: &'a str) -> Result<Tokens<'a>, RequestError> {
    spec::tokenize(text, limits.tokens).map_err(|error| match error {
        ParseError::TooManyTokens => {
            let limit = limits.tokens;
            let message = format!("Query has more than {limit} tokens; the limit is {limit}.");
            RequestError::new(Code::QueryTooLong, message)
        }
        ParseError::Syntax(error) => RequestError::broken(Code::ParseFailed, error),
    })
}

/// How many objects a list without `first` is taken to hold.
const UNBOUNDED_LIST: u64 = 50;

/// Depth, aliases, cost, in this order. The document is valid and its variables are coerced.
pub fn check_limits(
    limits: &Limits,
    schema: &spec::Schema,
    document: &Document,
    operation: &Operation,
    variables: &Variables,
) -> Result<(), RequestError> {
    let mut measure = Measure { schema, document, variables, depths: HashMap::new(), costs: HashMap::new() };
    let depth = measure.depth(&operation.selections);
    if depth > limits.depth {
        let message = format!("Query has depth {depth}; the limit is {}.", limits.depth);
        return Err(RequestError::new(Code::QueryTooDeep, message));
    }
    if document.aliases > limits.aliases {
        let message = format!("Query has {} aliases; the limit is {}.", document.aliases, limits.aliases);
        return Err(RequestError::new(Code::QueryTooManyAliases, message));
    }
    let root = schema.root(operation.kind).map_or("", |name| name.as_str());
    let cost = measure.cost(root, &operation.selections);
    if cost > limits.cost {
        let message = format!("Query costs {cost}; the limit is {}.", limits.cost);
        return Err(RequestError::new(Code::QueryTooCostly, message));
    }
    Ok(())
}

/// Each fragment is measured once, however often it is spread.
struct Measure<'a> {
    schema: &'a spec::Schema,
    document: &'a Document,
    variables: &'a Variables,
    depths: HashMap<&'a str, usize>,
    costs: HashMap<&'a str, u64>,
}

impl<'a> Measure<'a> {
    /// Levels of nested fields, the leaf counted, introspection left out.
    fn depth(&mut self, selections: &'a [Selection]) -> usize {
        let depth = |measure: &mut Self, selection: &'a Selection| match selection {
            Selection::Field(field) if is_introspection(field) => 0,
            Selection::Field(field) => 1 + measure.depth(&field.selections),
            Selection::Inline(inline) => measure.depth(&inline.selections),
            Selection::Spread(spread) => {
                if let Some(depth) = measure.depths.get(spread.name.as_str()) {
                    return *depth;
                }
                let fragment = measure.document.fragment(&spread.name);
                let depth = fragment.map_or(0, |fragment| measure.depth(&fragment.selections));
                measure.depths.insert(&spread.name, depth);
                depth
            }
        };
        selections.iter().map(|selection| depth(self, selection)).max().unwrap_or(0)
    }

    /// Objects that the answer may hold, saturating.
    fn cost(&mut self, parent: &str, selections: &'a [Selection]) -> u64 {
        let cost = |measure: &mut Self, selection: &'a Selection| match selection {
            Selection::Field(field) => measure.field_cost(parent, field),
            Selection::Inline(inline) => {
                measure.cost(inline.on.as_ref().map_or(parent, |name| name.as_str()), &inline.selections)
            }
            Selection::Spread(spread) => {
                if let Some(cost) = measure.costs.get(spread.name.as_str()) {
                    return *cost;
                }
                let fragment = measure.document.fragment(&spread.name);
                let cost = fragment.map_or(0, |fragment| measure.cost(&fragment.on, &fragment.selections));
                measure.costs.insert(&spread.name, cost);
                cost
            }
        };
        selections.iter().map(|selection| cost(self, selection)).fold(0, u64::saturating_add)
    }

    fn field_cost(&mut self, parent: &str, field: &'a Field) -> u64 {
        if is_introspection(field) || field.selections.is_empty() {
            return 0;
        }
        let schema = self.schema;
        let Some(definition) = schema.field(parent, &field.name) else { return 0 };
        let within = self.cost(spec::named(&definition.ty), &field.selections).saturating_add(1);
        self.count(definition, field).saturating_mul(within)
    }

    /// How many objects the field itself holds.
    fn count(&self, definition: &spec::FieldDefinition, field: &Field) -> u64 {
        if !matches!(definition.ty.base, BaseType::List(_)) {
            return 1;
        }
        let Some(first) = definition.arguments.iter().find(|argument| argument.name == *"first") else {
            return UNBOUNDED_LIST;
        };
        let written = match field.argument("first").map(|argument| &argument.value) {
            Some(Value::Int(text)) => text.parse().ok(),
            Some(Value::Variable(name)) => self.variables.get(name).and_then(as_i64),
            _ => None,
        };
        let first = written.or_else(|| first.default.as_ref().and_then(as_i64)).unwrap_or(0);
        u64::try_from(first).unwrap_or(0)
    }
}

fn as_i64(value: &async_graphql::Value) -> Option<i64> {
    match value {
        async_graphql::Value::Number(number) => number.as_i64(),
        _ => None,
    }
}

fn is_introspection(field: &Field) -> bool {
    field.name.starts_with("__")
}
