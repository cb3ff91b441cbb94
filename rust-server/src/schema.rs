//! The executable schema, checked against contract/schema.graphql, and the cache of parsed and validated documents.

use crate::{
    errors::{Code, Failure, RequestError},
    limits::{Limits, check_limits, check_tokens},
    resolvers::{Located, Mutation, Query, Scope},
    store::Date,
    telemetry::{DocumentCounts, lock},
};
use anyhow::Context;
use async_graphql::{
    EmptySubscription, Request, ServerError, ValidationMode,
    parser::types::{OperationType, TypeKind, TypeSystemDefinition},
};
use lru::LruCache;
use spec::{Plan, Variables, ast::Document, json};
use std::{
    collections::BTreeMap,
    fmt::Write,
    num::NonZeroUsize,
    path::Path,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

type Library = async_graphql::Schema<Query, Mutation, EmptySubscription>;

/// A parsed and validated document.
pub struct Prepared {
    document: Document,
    /// The plan of a document with one operation and no variables: it never changes.
    constant: OnceLock<Plan>,
}

/// What is left to execute.
pub struct Planned {
    pub kind: OperationType,
    plan: Plan,
}

pub struct Schema {
    library: Library,
    rules: spec::Schema,
    limits: Limits,
    documents: Mutex<LruCache<Box<str>, Arc<Prepared>>>,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Schema {
    /// Builds the schema; fails where it is not the contract's.
    pub fn new(contract_dir: &Path, limits: &Limits) -> anyhow::Result<Schema> {
        let path = contract_dir.join("schema.graphql");
        let sdl = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        // Validation is ours, once per document (`spec`); what is handed over cannot be too deep.
        let library = Library::build(Query, Mutation, EmptySubscription)
            .validation_mode(ValidationMode::Fast)
            .disable_suggestions()
            .limit_recursive_depth(usize::MAX)
            .finish();
        let (ours, theirs) = (outline(&library.sdl())?, outline(&sdl)?);
        anyhow::ensure!(
            ours == theirs,
            "{} differs from the resolvers: {}",
            path.display(),
            difference(&ours, &theirs)
        );
        let rules = spec::Schema::parse(&sdl, &[("Date", |text| Date::parse(text).is_some())])
            .map_err(anyhow::Error::msg)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let capacity = NonZeroUsize::new(limits.cached_documents).unwrap_or(NonZeroUsize::MIN);
        Ok(Schema {
            library,
            rules,
            limits: limits.clone(),
            documents: Mutex::new(LruCache::new(capacity)),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        })
    }

    pub fn document_counts(&self) -> DocumentCounts {
        DocumentCounts {
            cached: lock(&self.documents).len(),
            hits: self.hits.load(Relaxed),
            misses: self.misses.load(Relaxed),
        }
    }

    pub fn cached(&self, text: &str) -> Option<Arc<Prepared>> {
        let cached = lock(&self.documents).get(text).cloned();
        if cached.is_some() { &self.hits } else { &self.misses }.fetch_add(1, Relaxed);
        cached
    }

    /// Tokens and parsing.
    pub fn parse(&self, text: &str) -> Result<Document, RequestError> {
        let tokens = check_tokens(&self.limits, text)?;
        spec::parse(tokens).map_err(|error| RequestError::broken(Code::ParseFailed, error))
    }

    /// Validation; what passes is kept.
    pub fn validate(&self, text: &str, document: Document) -> Result<Arc<Prepared>, Vec<RequestError>> {
        spec::validate(&self.rules, &document).map_err(|errors| {
            errors.into_iter().map(|error| RequestError::broken(Code::ValidationFailed, error)).collect::<Vec<_>>()
        })?;
        let prepared = Arc::new(Prepared { document, constant: OnceLock::new() });
        lock(&self.documents).put(text.into(), prepared.clone());
        Ok(prepared)
    }

    /// Operation name, variables, depth, aliases, cost, in this order. `refuse` looks at the operation's kind once it is
    /// known.
    pub fn plan(
        &self,
        prepared: &Prepared,
        operation_name: Option<&str>,
        variables: &json::Object<'_>,
        refuse: impl FnOnce(OperationType) -> Result<(), RequestError>,
    ) -> Result<Planned, RequestError> {
        let Prepared { document, constant } = prepared;
        let operation = document
            .operation(operation_name)
            .map_err(|message| RequestError::new(Code::OperationResolutionFailure, message))?;
        let kind = operation.kind;
        refuse(kind)?;
        if let Some(plan) = constant.get() {
            return Ok(Planned { kind, plan: plan.clone() });
        }
        let variables = spec::coerce_variables(&self.rules, operation, variables)
            .map_err(|error| RequestError::broken(Code::BadUserInput, error))?;
        check_limits(&self.limits, &self.rules, document, operation, &variables)?;
        let plan = self.expand(document, operation, &variables)?;
        if operation.variables.is_empty() && document.operations.len() == 1 {
            return Ok(Planned { kind, plan: constant.get_or_init(|| plan).clone() });
        }
        Ok(Planned { kind, plan })
    }

    fn expand(
        &self,
        document: &Document,
        operation: &spec::ast::Operation,
        variables: &Variables,
    ) -> Result<Plan, RequestError> {
        spec::plan(&self.rules, document, operation, variables)
            .map_err(|spec::TooLarge| RequestError::new(Code::QueryTooCostly, "Query expands to too many fields."))
    }

    /// Executes; data (null where an error reached the root) and errors.
    pub async fn execute(&self, planned: Planned, scope: Scope) -> (async_graphql::Value, Vec<ExecutionError>) {
        let mut request = Request::new("");
        request.set_parsed_query(planned.plan.document);
        let mut response = self.library.execute(request.data(scope)).await;
        if planned.plan.asks_interfaces {
            spec::mend_interfaces(&mut response.data);
        }
        (response.data, response.errors.into_iter().map(ExecutionError::from).collect())
    }
}

/// One error of an answer that has data.
pub struct ExecutionError {
    pub failure: Failure,
    pub path: Vec<async_graphql::PathSegment>,
    pub locations: Vec<async_graphql::Pos>,
}

impl From<ServerError> for ExecutionError {
    fn from(error: ServerError) -> Self {
        let (failure, path) = match error.source::<Located>() {
            Some(located) => (located.failure.clone(), located.path.clone()),
            // Not one of ours: the library's words may tell more than a client should know.
            None => (Failure::internal(&error.message), error.path),
        };
        ExecutionError { failure, path, locations: error.locations }
    }
}

/// A schema's types in a form that can be compared: per type its kind, description, and members in order.
fn outline(sdl: &str) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    let document = async_graphql::parser::parse_schema(sdl).context("cannot parse the schema")?;
    let mut types = BTreeMap::new();
    for definition in document.definitions {
        let TypeSystemDefinition::Type(definition) = definition else { continue };
        let definition = definition.node;
        let mut lines = vec![format!("{:?}", definition.description.map(|text| text.node))];
        let input = |input: &async_graphql::parser::types::InputValueDefinition| {
            let mut line = format!("{}: {}", input.name.node, input.ty.node);
            if let Some(default) = &input.default_value {
                let _ = write!(line, " = {}", default.node);
            }
            if let Some(description) = &input.description {
                let _ = write!(line, " {:?}", description.node);
            }
            line
        };
        let field = |field: &async_graphql::parser::types::FieldDefinition| {
            let arguments: Vec<_> = field.arguments.iter().map(|argument| input(&argument.node)).collect();
            let description = field.description.as_ref().map(|text| &text.node);
            format!("{}({}): {} {description:?}", field.name.node, arguments.join(", "), field.ty.node)
        };
        match &definition.kind {
            TypeKind::Scalar => lines.push("scalar".into()),
            TypeKind::Object(kind) => {
                lines.push(format!(
                    "type {:?}",
                    kind.implements.iter().map(|name| name.node.as_str()).collect::<Vec<_>>()
                ));
                lines.extend(kind.fields.iter().map(|f| field(&f.node)));
            }
            TypeKind::Interface(kind) => {
                lines.push("interface".into());
                lines.extend(kind.fields.iter().map(|f| field(&f.node)));
            }
            TypeKind::Union(kind) => {
                lines.push("union".into());
                lines.extend(kind.members.iter().map(|name| name.node.to_string()));
            }
            TypeKind::Enum(kind) => {
                lines.push("enum".into());
                lines.extend(kind.values.iter().map(|value| value.node.value.node.to_string()));
            }
            TypeKind::InputObject(kind) => {
                lines.push("input".into());
                lines.extend(kind.fields.iter().map(|f| input(&f.node)));
            }
        }
        types.insert(definition.name.node.to_string(), lines);
    }
    Ok(types)
}

fn difference(ours: &BTreeMap<String, Vec<String>>, theirs: &BTreeMap<String, Vec<String>>) -> String {
    let names = ours.keys().chain(theirs.keys());
    let name = names.into_iter().find(|name| ours.get(*name) != theirs.get(*name));
    match name {
        Some(name) => format!("type {name}: {:?} is not {:?}", ours.get(name), theirs.get(name)),
        None => String::new(),
    }
}
