//! A document with nothing left to decide, in async-graphql's own types: one operation, each field once, arguments as
//! constants, no fragments but one per possible type where the type is abstract, no directives.
//!
//! async-graphql resolves a field as often as it is selected and merges the answers; a mutation would be executed twice.

use crate::{
    ast::{Argument, Directive, Document, Field, Operation, Selection, Value},
    schema::{FieldDefinition, Schema, named},
    variables::{Variables, from_literal},
};
use async_graphql::{
    Name, Pos, Positioned, Value as ConstValue,
    parser::types::{self as library, DocumentOperations, ExecutableDocument},
};
use std::collections::HashMap;

/// Fragments that multiply: the plan would have too many fields.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLarge;

/// Selections looked at; far more than what the limits of depth and cost let through.
const WORK_LIMIT: usize = 50_000;

/// What is to be executed.
#[derive(Clone)]
pub struct Plan {
    pub document: ExecutableDocument,
    /// Whether its data are to be handed to [`mend_interfaces`].
    pub asks_interfaces: bool,
}

/// Goes before the response key of a `__Type.interfaces`. No client can write a name with a blank in it.
const KIND_OF: &str = "kind of ";

/// The library knows no interfaces of an interface, and says null where an empty list is due. A plan asks for the kind of
/// each type whose interfaces it asks for; here the kinds are taken out of the data again, and the lists put in.
pub fn mend_interfaces(data: &mut ConstValue) {
    match data {
        ConstValue::List(values) => values.iter_mut().for_each(mend_interfaces),
        ConstValue::Object(fields) => {
            let is_kind = |name: &Name| name.starts_with(KIND_OF);
            while let Some(at) = fields.keys().position(is_kind) {
                let Some((name, kind)) = fields.shift_remove_index(at) else { break };
                let is_interface = matches!(kind, ConstValue::Enum(kind) if kind == *"INTERFACE");
                if let Some(interfaces @ ConstValue::Null) = fields.get_mut(&name[KIND_OF.len()..])
                    && is_interface
                {
                    *interfaces = ConstValue::List(Vec::new());
                }
            }
            fields.values_mut().for_each(mend_interfaces);
        }
        _ => {}
    }
}

/// Plans a validated operation for these variables.
pub fn plan(
    schema: &Schema,
    document: &Document,
    operation: &Operation,
    variables: &Variables,
) -> Result<Plan, TooLarge> {
    let mut planner = Planner { schema, document, variables, work: 0, asks_interfaces: false };
    let root = schema.root(operation.kind).ok_or(TooLarge)?;
    let items = planner.object(root, &[&operation.selections])?;
    let definition = library::OperationDefinition {
        ty: operation.kind,
        variable_definitions: Vec::new(),
        directives: Vec::new(),
        selection_set: Positioned::new(library::SelectionSet { items }, operation.position),
    };
    let document = ExecutableDocument {
        operations: DocumentOperations::Single(Positioned::new(definition, operation.position)),
        fragments: HashMap::new(),
    };
    Ok(Plan { document, asks_interfaces: planner.asks_interfaces })
}

struct Planner<'a> {
    schema: &'a Schema,
    document: &'a Document,
    variables: &'a Variables,
    work: usize,
    asks_interfaces: bool,
}

/// The fields of one response key, in the order of their first appearance.
type Collected<'a> = Vec<(&'a Name, Vec<&'a Field>)>;

impl<'a> Planner<'a> {
    /// The selections on an object type, each response key once.
    fn object(
        &mut self,
        ty: &'a Name,
        sets: &[&'a [Selection]],
    ) -> Result<Vec<Positioned<library::Selection>>, TooLarge> {
        let mut collected = Collected::new();
        let mut visited = Vec::new();
        for set in sets {
            self.collect(ty, set, &mut visited, &mut collected)?;
        }
        let mut items = Vec::with_capacity(collected.len());
        for (key, fields) in collected {
            items.push(self.field(ty, &fields)?);
            if fields[0].name == *"interfaces" && *ty == *"__Type" {
                self.asks_interfaces = true;
                items.push(kind_of(key, fields[0].position));
            }
        }
        Ok(items)
    }

    /// CollectFields of the specification.
    fn collect(
        &mut self,
        ty: &'a Name,
        set: &'a [Selection],
        visited: &mut Vec<&'a Name>,
        collected: &mut Collected<'a>,
    ) -> Result<(), TooLarge> {
        for selection in set {
            self.work += 1;
            if self.work > WORK_LIMIT {
                return Err(TooLarge);
            }
            match selection {
                Selection::Field(field) if self.is_selected(&field.directives) => {
                    let key = field.response_key();
                    match collected.iter_mut().find(|(known, _)| *known == key) {
                        Some((_, fields)) => fields.push(field),
                        None => collected.push((key, vec![field])),
                    }
                }
                Selection::Spread(spread) if self.is_selected(&spread.directives) => {
                    if visited.contains(&&spread.name) {
                        continue;
                    }
                    visited.push(&spread.name);
                    if let Some(fragment) = self.document.fragment(&spread.name)
                        && self.schema.possible(&fragment.on).contains(ty)
                    {
                        self.collect(ty, &fragment.selections, visited, collected)?;
                    }
                }
                Selection::Inline(inline)
                    if self.is_selected(&inline.directives)
                        && inline.on.as_ref().is_none_or(|on| self.schema.possible(on).contains(ty)) =>
                {
                    self.collect(ty, &inline.selections, visited, collected)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn is_selected(&self, directives: &[Directive]) -> bool {
        let condition = |name: &str| {
            let directive = directives.iter().find(|directive| directive.name == *name)?;
            let value = directive.arguments.iter().find(|argument| argument.name == *"if")?;
            match &value.value {
                Value::Boolean(value) => Some(*value),
                Value::Variable(name) => self.variables.get(name).map(|value| *value == ConstValue::Boolean(true)),
                _ => None,
            }
        };
        condition("skip") != Some(true) && condition("include") != Some(false)
    }

    fn field(&mut self, parent: &Name, fields: &[&'a Field]) -> Result<Positioned<library::Selection>, TooLarge> {
        let first = fields[0];
        let definition = self.schema.field(parent, &first.name);
        let mut items = Vec::new();
        if !first.selections.is_empty()
            && let Some(definition) = definition
        {
            let sets: Vec<&'a [Selection]> = fields.iter().map(|field| field.selections.as_slice()).collect();
            items = self.selections(named(&definition.ty), &sets, first)?;
        }
        let position = first.position;
        let field = library::Field {
            alias: first.alias.clone().map(|alias| Positioned::new(alias, position)),
            name: Positioned::new(first.name.clone(), position),
            arguments: definition.map(|definition| self.arguments(definition, &first.arguments)).unwrap_or_default(),
            directives: Vec::new(),
            selection_set: Positioned::new(library::SelectionSet { items }, position),
        };
        Ok(Positioned::new(library::Selection::Field(Positioned::new(field, position)), position))
    }

    fn selections(
        &mut self,
        ty: &'a Name,
        sets: &[&'a [Selection]],
        field: &Field,
    ) -> Result<Vec<Positioned<library::Selection>>, TooLarge> {
        if self.schema.is_object(ty) {
            return self.object(ty, sets);
        }
        let mut items = Vec::new();
        for possible in self.schema.possible(ty) {
            let selection_set = library::SelectionSet { items: self.object(possible, sets)? };
            let condition = library::TypeCondition { on: Positioned::new(possible.clone(), field.position) };
            let inline = library::InlineFragment {
                type_condition: Some(Positioned::new(condition, field.position)),
                directives: Vec::new(),
                selection_set: Positioned::new(selection_set, field.position),
            };
            let inline = library::Selection::InlineFragment(Positioned::new(inline, field.position));
            items.push(Positioned::new(inline, field.position));
        }
        Ok(items)
    }

    /// The arguments that have a value; the library puts in the defaults of the others.
    fn arguments(
        &self,
        definition: &FieldDefinition,
        given: &[Argument],
    ) -> Vec<(Positioned<Name>, Positioned<async_graphql_value::Value>)> {
        let value = |argument: &Argument| {
            let input = definition.arguments.iter().find(|input| input.name == argument.name)?;
            let value = from_literal(self.schema, &input.ty, &argument.value, self.variables)?;
            let name = Positioned::new(argument.name.clone(), argument.position);
            Some((name, Positioned::new(value.into_value(), argument.position)))
        };
        given.iter().filter_map(value).collect()
    }
}

/// `kind`, under the key by which [`mend_interfaces`] finds it.
fn kind_of(key: &Name, position: Pos) -> Positioned<library::Selection> {
    let field = library::Field {
        alias: Some(Positioned::new(Name::new(format!("{KIND_OF}{key}")), position)),
        name: Positioned::new(Name::new("kind"), position),
        arguments: Vec::new(),
        directives: Vec::new(),
        selection_set: Positioned::default(),
    };
    Positioned::new(library::Selection::Field(Positioned::new(field, position)), position)
}
