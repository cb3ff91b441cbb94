//! Section 5 of the specification, rule by rule, and the bound on introspection that graphql-js has.

use crate::{
    Error,
    ast::{Argument, Directive, Document, Field, Operation, Selection, Value, VariableDefinition},
    schema::{InputDefinition, Schema, TypeDefinition, named},
    variables::scalar_from_literal,
};
use async_graphql::{
    Name, Pos,
    parser::types::{BaseType, Type},
};
use std::collections::{HashMap, HashSet};

/// Steps of comparing fields that may be merged; fragments can multiply them without end.
const WORK_LIMIT: usize = 100_000;

/// Nested lists of introspection's own types, as graphql-js's MaxIntrospectionDepthRule.
const INTROSPECTION_LISTS: usize = 3;

/// Checks a document against the schema. Every broken rule that was found, at least one where one is broken.
pub fn validate(schema: &Schema, document: &Document) -> Result<(), Vec<Error>> {
    let mut validator = Validator { schema, document, errors: Vec::new() };
    validator.definitions();
    // What follows expands fragments: they must exist and must not go in circles.
    if validator.errors.is_empty() {
        validator.variables();
        validator.introspection();
    }
    if validator.errors.is_empty() {
        let mut merging = Merging { schema, document, seen: HashSet::new(), work: 0 };
        if let Err(error) = merging.document() {
            validator.errors.push(error);
        }
    }
    match validator.errors.is_empty() {
        true => Ok(()),
        false => Err(validator.errors),
    }
}

struct Validator<'a> {
    schema: &'a Schema,
    document: &'a Document,
    errors: Vec<Error>,
}

/// Where a directive stands.
#[derive(Clone, Copy, PartialEq)]
enum Location {
    Field,
    Fragment,
    Other,
}

impl<'a> Validator<'a> {
    fn fail(&mut self, position: Pos, message: String) {
        self.errors.push(Error { message, position: Some(position) });
    }

    fn definitions(&mut self) {
        let document = self.document;
        let mut names = HashSet::new();
        for operation in &document.operations {
            match &operation.name {
                Some(name) if !names.insert(name) => {
                    self.fail(operation.position, format!("There can be only one operation named \"{name}\"."));
                }
                None if document.operations.len() > 1 => {
                    self.fail(
                        operation.position,
                        "This anonymous operation must be the only defined operation.".into(),
                    );
                }
                _ => {}
            }
            self.variable_definitions(operation);
            self.directives(&operation.directives, Location::Other);
            match self.schema.root(operation.kind) {
                Some(root) => self.selections(root, &operation.selections),
                None => {
                    self.fail(operation.position, format!("The schema has no type for a {}.", operation.kind));
                }
            }
        }
        let mut names = HashSet::new();
        for fragment in &document.fragments {
            if !names.insert(&fragment.name) {
                self.fail(fragment.position, format!("There can be only one fragment named \"{}\".", fragment.name));
            }
            self.directives(&fragment.directives, Location::Other);
            if self.condition(&fragment.on, fragment.position) {
                self.selections(&fragment.on, &fragment.selections);
            }
        }
        self.fragment_use();
    }

    fn variable_definitions(&mut self, operation: &'a Operation) {
        let mut names = HashSet::new();
        for definition in &operation.variables {
            if !names.insert(&definition.name) {
                let message = format!("There can be only one variable named \"${}\".", definition.name);
                self.fail(definition.position, message);
            }
            self.directives(&definition.directives, Location::Other);
            let name = named(&definition.ty);
            if self.schema.type_definition(name).is_none() {
                self.fail(definition.position, format!("Unknown type \"{name}\"."));
            } else if !self.schema.is_input(name) {
                let message =
                    format!("Variable \"${}\" cannot be non-input type \"{}\".", definition.name, definition.ty);
                self.fail(definition.position, message);
            } else if let Some(default) = &definition.default {
                self.value(&definition.ty, default, definition.position);
            }
        }
    }

    /// Whether fragments can be on that type.
    fn condition(&mut self, on: &Name, position: Pos) -> bool {
        if self.schema.type_definition(on).is_none() {
            self.fail(position, format!("Unknown type \"{on}\"."));
        } else if !self.schema.is_composite(on) {
            self.fail(position, format!("Fragment cannot condition on non composite type \"{on}\"."));
        } else {
            return true;
        }
        false
    }

    fn selections(&mut self, parent: &Name, selections: &'a [Selection]) {
        for selection in selections {
            match selection {
                Selection::Field(field) => self.field(parent, field),
                Selection::Inline(inline) => {
                    self.directives(&inline.directives, Location::Fragment);
                    let on = inline.on.as_ref().unwrap_or(parent);
                    if inline.on.is_none() || self.condition(on, inline.position) {
                        self.possible_spread(parent, on, inline.position);
                        self.selections(on, &inline.selections);
                    }
                }
                Selection::Spread(spread) => {
                    self.directives(&spread.directives, Location::Fragment);
                    match self.document.fragment(&spread.name) {
                        Some(fragment) if self.schema.is_composite(&fragment.on) => {
                            self.possible_spread(parent, &fragment.on, spread.position);
                        }
                        Some(_) => {}
                        None => self.fail(spread.position, format!("Unknown fragment \"{}\".", spread.name)),
                    }
                }
            }
        }
    }

    fn possible_spread(&mut self, parent: &Name, on: &Name, position: Pos) {
        let possible = self.schema.possible(on);
        if !self.schema.possible(parent).iter().any(|name| possible.contains(name)) {
            let message = format!(
                "Fragment cannot be spread here as objects of type \"{parent}\" can never be of type \"{on}\"."
            );
            self.fail(position, message);
        }
    }

    fn field(&mut self, parent: &Name, field: &'a Field) {
        self.directives(&field.directives, Location::Field);
        let schema = self.schema;
        let Some(definition) = schema.field(parent, &field.name) else {
            return self.fail(field.position, format!("Cannot query field \"{}\" on type \"{parent}\".", field.name));
        };
        let owner = format!("Field \"{}\"", field.name);
        self.arguments(&owner, &definition.arguments, &field.arguments, field.position);
        let ty = named(&definition.ty);
        match (schema.is_composite(ty), field.selections.is_empty()) {
            (true, true) => {
                let message = format!(
                    "Field \"{}\" of type \"{}\" must have a selection of subfields.",
                    field.name, definition.ty
                );
                self.fail(field.position, message);
            }
            (false, false) => {
                let message = format!(
                    "Field \"{}\" must not have a selection since type \"{}\" has no subfields.",
                    field.name, definition.ty
                );
                self.fail(field.position, message);
            }
            (true, false) => self.selections(ty, &field.selections),
            (false, true) => {}
        }
    }

    fn arguments(&mut self, owner: &str, known: &[InputDefinition], given: &'a [Argument], position: Pos) {
        let mut names = HashSet::new();
        for argument in given {
            if !names.insert(&argument.name) {
                self.fail(argument.position, format!("There can be only one argument named \"{}\".", argument.name));
            }
            match known.iter().find(|definition| definition.name == argument.name) {
                Some(definition) => self.value(&definition.ty, &argument.value, argument.position),
                None => self.fail(argument.position, format!("Unknown argument \"{}\". ({owner})", argument.name)),
            }
        }
        for definition in known.iter().filter(|definition| definition.is_required()) {
            if !given.iter().any(|argument| argument.name == definition.name) {
                let (name, ty) = (&definition.name, &definition.ty);
                self.fail(
                    position,
                    format!("{owner} argument \"{name}\" of type \"{ty}\" is required, but it was not provided."),
                );
            }
        }
    }

    fn directives(&mut self, directives: &'a [Directive], location: Location) {
        let condition = InputDefinition {
            name: Name::new("if"),
            ty: Type { base: BaseType::Named(Name::new("Boolean")), nullable: false },
            default: None,
        };
        let mut names = HashSet::new();
        for directive in directives {
            let name = directive.name.as_str();
            match name {
                "skip" | "include" if location != Location::Other => {
                    let owner = format!("Directive \"@{name}\"");
                    self.arguments(&owner, std::slice::from_ref(&condition), &directive.arguments, directive.position);
                }
                "skip" | "include" | "deprecated" | "specifiedBy" => {
                    self.fail(directive.position, format!("Directive \"@{name}\" may not be used here."));
                }
                _ => self.fail(directive.position, format!("Unknown directive \"@{name}\".")),
            }
            if !names.insert(name) {
                let message = format!("The directive \"@{name}\" can only be used once at this location.");
                self.fail(directive.position, message);
            }
        }
    }

    /// ValuesOfCorrectType, UniqueInputFieldNames. Variables in it are looked at later.
    fn value(&mut self, ty: &Type, value: &'a Value, position: Pos) {
        let schema = self.schema;
        match value {
            Value::Variable(_) => return,
            Value::Null if ty.nullable => return,
            Value::Null => return self.fail(position, format!("Expected value of type \"{ty}\", found null.")),
            _ => {}
        }
        let name = match (&ty.base, value) {
            (BaseType::List(inner), Value::List(values)) => {
                return values.iter().for_each(|value| self.value(inner, value, position));
            }
            // A single value stands for a list of one.
            (BaseType::List(inner), value) => return self.value(inner, value, position),
            (BaseType::Named(name), _) => name,
        };
        let Some(TypeDefinition::Input { fields }) = schema.type_definition(name) else {
            if scalar_from_literal(schema, name, value).is_none() {
                self.fail(position, format!("Expected value of type \"{ty}\"."));
            }
            return;
        };
        let Value::Object(given) = value else {
            return self.fail(position, format!("Expected value of type \"{ty}\"."));
        };
        let mut names = HashSet::new();
        for (field, value) in given {
            if !names.insert(field) {
                self.fail(position, format!("There can be only one input field named \"{field}\"."));
            }
            match fields.iter().find(|definition| definition.name == *field) {
                Some(definition) => self.value(&definition.ty, value, position),
                None => self.fail(position, format!("Field \"{field}\" is not defined by type \"{name}\".")),
            }
        }
        for definition in fields.iter().filter(|definition| definition.is_required()) {
            if !given.iter().any(|(field, _)| *field == definition.name) {
                let message = format!(
                    "Field \"{name}.{}\" of required type \"{}\" was not provided.",
                    definition.name, definition.ty
                );
                self.fail(position, message);
            }
        }
    }

    /// NoUnusedFragments, NoFragmentCycles.
    fn fragment_use(&mut self) {
        let document = self.document;
        let mut used = HashSet::new();
        for operation in &document.operations {
            reach(document, &operation.selections, &mut used);
        }
        for fragment in &document.fragments {
            if !used.contains(&fragment.name) {
                self.fail(fragment.position, format!("Fragment \"{}\" is never used.", fragment.name));
            }
            let mut reached = HashSet::new();
            reach(document, &fragment.selections, &mut reached);
            if reached.contains(&fragment.name) {
                self.fail(fragment.position, format!("Cannot spread fragment \"{}\" within itself.", fragment.name));
            }
        }
    }

    /// NoUndefinedVariables, NoUnusedVariables, VariablesInAllowedPosition: for each operation with the fragments it uses.
    fn variables(&mut self) {
        let document = self.document;
        for operation in &document.operations {
            let Some(root) = self.schema.root(operation.kind) else { continue };
            let mut usages = Usages { schema: self.schema, found: Vec::new() };
            usages.directives(&operation.directives);
            usages.selections(root, &operation.selections);
            let mut used = HashSet::new();
            reach(document, &operation.selections, &mut used);
            for fragment in document.fragments.iter().filter(|fragment| used.contains(&fragment.name)) {
                usages.directives(&fragment.directives);
                usages.selections(&fragment.on, &fragment.selections);
            }
            let mut seen = HashSet::new();
            for usage in usages.found {
                seen.insert(usage.name);
                match operation.variables.iter().find(|definition| definition.name == *usage.name) {
                    None => self.fail(usage.position, format!("Variable \"${}\" is not defined.", usage.name)),
                    Some(definition) if !is_allowed(definition, &usage) => {
                        let message = format!(
                            "Variable \"${}\" of type \"{}\" used in position expecting type \"{}\".",
                            usage.name, definition.ty, usage.ty
                        );
                        self.fail(usage.position, message);
                    }
                    Some(_) => {}
                }
            }
            for definition in operation.variables.iter().filter(|definition| !seen.contains(&definition.name)) {
                self.fail(definition.position, format!("Variable \"${}\" is never used.", definition.name));
            }
        }
    }

    /// Introspection that goes in circles through lists answers with more than anyone can want.
    fn introspection(&mut self) {
        let document = self.document;
        let mut too_deep = None;
        for operation in &document.operations {
            for_each_field(document, &operation.selections, &mut HashSet::new(), &mut |field| {
                if matches!(field.name.as_str(), "__schema" | "__type") {
                    let mut lists = IntrospectionLists { document, known: HashMap::new() };
                    if lists.deepest(&field.selections) >= INTROSPECTION_LISTS {
                        too_deep = Some(field.position);
                    }
                }
            });
        }
        if let Some(position) = too_deep {
            self.fail(position, "Maximum introspection depth exceeded.".into());
        }
    }
}

/// The fragments that selections lead to.
fn reach<'a>(document: &'a Document, selections: &'a [Selection], reached: &mut HashSet<&'a Name>) {
    for selection in selections {
        match selection {
            Selection::Field(field) => reach(document, &field.selections, reached),
            Selection::Inline(inline) => reach(document, &inline.selections, reached),
            Selection::Spread(spread) => {
                if reached.insert(&spread.name)
                    && let Some(fragment) = document.fragment(&spread.name)
                {
                    reach(document, &fragment.selections, reached);
                }
            }
        }
    }
}

/// Each field once, fragments included.
fn for_each_field<'a>(
    document: &'a Document,
    selections: &'a [Selection],
    visited: &mut HashSet<&'a Name>,
    look: &mut impl FnMut(&'a Field),
) {
    for selection in selections {
        match selection {
            Selection::Field(field) => {
                look(field);
                for_each_field(document, &field.selections, visited, look);
            }
            Selection::Inline(inline) => for_each_field(document, &inline.selections, visited, look),
            Selection::Spread(spread) => {
                if visited.insert(&spread.name)
                    && let Some(fragment) = document.fragment(&spread.name)
                {
                    for_each_field(document, &fragment.selections, visited, look);
                }
            }
        }
    }
}

struct IntrospectionLists<'a> {
    document: &'a Document,
    known: HashMap<&'a Name, usize>,
}

impl<'a> IntrospectionLists<'a> {
    /// How many of introspection's lists of types and fields are nested in selections.
    fn deepest(&mut self, selections: &'a [Selection]) -> usize {
        let depth = |lists: &mut Self, selection: &'a Selection| match selection {
            Selection::Field(field) => {
                let is_list = matches!(field.name.as_str(), "fields" | "interfaces" | "possibleTypes" | "inputFields");
                usize::from(is_list) + lists.deepest(&field.selections)
            }
            Selection::Inline(inline) => lists.deepest(&inline.selections),
            Selection::Spread(spread) => {
                if let Some(known) = lists.known.get(&spread.name) {
                    return *known;
                }
                let fragment = lists.document.fragment(&spread.name);
                let depth = fragment.map_or(0, |fragment| lists.deepest(&fragment.selections));
                lists.known.insert(&spread.name, depth);
                depth
            }
        };
        selections.iter().map(|selection| depth(self, selection)).max().unwrap_or(0)
    }
}

/// A variable where a value of a type is wanted.
struct Usage<'a> {
    name: &'a Name,
    ty: Type,
    has_default: bool,
    position: Pos,
}

struct Usages<'a> {
    schema: &'a Schema,
    found: Vec<Usage<'a>>,
}

impl<'a> Usages<'a> {
    fn selections(&mut self, parent: &Name, selections: &'a [Selection]) {
        for selection in selections {
            match selection {
                Selection::Field(field) => {
                    self.directives(&field.directives);
                    let Some(definition) = self.schema.field(parent, &field.name) else { continue };
                    for argument in &field.arguments {
                        let input = definition.arguments.iter().find(|input| input.name == argument.name);
                        if let Some(input) = input {
                            self.value(&input.ty, input.default.is_some(), &argument.value, argument.position);
                        }
                    }
                    self.selections(named(&definition.ty), &field.selections);
                }
                Selection::Inline(inline) => {
                    self.directives(&inline.directives);
                    self.selections(inline.on.as_ref().unwrap_or(parent), &inline.selections);
                }
                Selection::Spread(spread) => self.directives(&spread.directives),
            }
        }
    }

    fn directives(&mut self, directives: &'a [Directive]) {
        let condition = Type { base: BaseType::Named(Name::new("Boolean")), nullable: false };
        for directive in directives {
            for argument in &directive.arguments {
                self.value(&condition, false, &argument.value, argument.position);
            }
        }
    }

    fn value(&mut self, ty: &Type, has_default: bool, value: &'a Value, position: Pos) {
        match value {
            Value::Variable(name) => self.found.push(Usage { name, ty: ty.clone(), has_default, position }),
            Value::List(values) => {
                if let BaseType::List(inner) = &ty.base {
                    values.iter().for_each(|value| self.value(inner, false, value, position));
                }
            }
            Value::Object(given) => {
                // A single object stands for a list of one.
                let mut bottom = ty;
                while let BaseType::List(inner) = &bottom.base {
                    bottom = inner;
                }
                let schema = self.schema;
                if let Some(TypeDefinition::Input { fields }) = schema.type_definition(named(bottom)) {
                    for (name, value) in given {
                        if let Some(input) = fields.iter().find(|input| input.name == *name) {
                            self.value(&input.ty, input.default.is_some(), value, position);
                        }
                    }
                }
            }
            _ => {}
        }
    }
}

/// IsVariableUsageAllowed.
fn is_allowed(definition: &VariableDefinition, usage: &Usage) -> bool {
    let has_default = matches!(&definition.default, Some(default) if !matches!(default, Value::Null));
    if !usage.ty.nullable && definition.ty.nullable {
        let nullable = Type { base: usage.ty.base.clone(), nullable: true };
        return (has_default || usage.has_default) && is_compatible(&definition.ty, &nullable);
    }
    is_compatible(&definition.ty, &usage.ty)
}

/// AreTypesCompatible.
fn is_compatible(variable: &Type, location: &Type) -> bool {
    if variable.nullable && !location.nullable {
        return false;
    }
    match (&variable.base, &location.base) {
        (BaseType::List(variable), BaseType::List(location)) => is_compatible(variable, location),
        (BaseType::Named(variable), BaseType::Named(location)) => variable == location,
        _ => false,
    }
}

/// FieldsInSetCanMerge, after Simon Adameit's algorithm: fields of one response key are compared with the first of them
/// and their selections merged, instead of every pair.
struct Merging<'a> {
    schema: &'a Schema,
    document: &'a Document,
    /// Groups of fields that were compared already, in either way.
    seen: HashSet<(bool, Vec<*const Field>)>,
    work: usize,
}

type Collected<'a> = Vec<(Name, &'a Field)>;

impl<'a> Merging<'a> {
    fn document(&mut self) -> Result<(), Error> {
        for operation in &self.document.operations {
            if let Some(root) = self.schema.root(operation.kind) {
                let mut fields = Vec::new();
                self.collect(root, &operation.selections, &mut HashSet::new(), &mut fields)?;
                self.same_shape(&fields)?;
                self.same_field(&fields)?;
            }
        }
        Ok(())
    }

    fn step(&mut self, position: Pos) -> Result<(), Error> {
        self.work += 1;
        match self.work > WORK_LIMIT {
            true => Err(Error { message: "Too many fields to compare.".into(), position: Some(position) }),
            false => Ok(()),
        }
    }

    fn collect(
        &mut self,
        parent: &Name,
        selections: &'a [Selection],
        visited: &mut HashSet<&'a Name>,
        fields: &mut Collected<'a>,
    ) -> Result<(), Error> {
        for selection in selections {
            match selection {
                Selection::Field(field) => {
                    self.step(field.position)?;
                    fields.push((parent.clone(), field));
                }
                Selection::Inline(inline) => {
                    self.step(inline.position)?;
                    self.collect(inline.on.as_ref().unwrap_or(parent), &inline.selections, visited, fields)?;
                }
                Selection::Spread(spread) => {
                    self.step(spread.position)?;
                    if visited.insert(&spread.name)
                        && let Some(fragment) = self.document.fragment(&spread.name)
                    {
                        self.collect(&fragment.on, &fragment.selections, visited, fields)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn groups(&self, fields: &Collected<'a>) -> Vec<Collected<'a>> {
        let mut at: HashMap<&Name, usize> = HashMap::new();
        let mut groups: Vec<Collected<'a>> = Vec::new();
        for (parent, field) in fields {
            let group = *at.entry(field.response_key()).or_insert_with(|| {
                groups.push(Vec::new());
                groups.len() - 1
            });
            groups[group].push((parent.clone(), field));
        }
        groups
    }

    fn children(&mut self, group: &Collected<'a>) -> Result<Collected<'a>, Error> {
        let mut fields = Vec::new();
        let mut visited = HashSet::new();
        let schema = self.schema;
        for (parent, field) in group {
            if let Some(definition) = schema.field(parent, &field.name) {
                self.collect(named(&definition.ty), &field.selections, &mut visited, &mut fields)?;
            }
        }
        Ok(fields)
    }

    fn is_new(&mut self, shape: bool, group: &Collected<'a>) -> bool {
        let mut key: Vec<*const Field> = group.iter().map(|(_, field)| std::ptr::from_ref(*field)).collect();
        key.sort_unstable();
        key.dedup();
        self.seen.insert((shape, key))
    }

    fn conflict(first: &Field, field: &Field, why: &str) -> Error {
        let key = first.response_key();
        Error {
            message: format!("Fields \"{key}\" conflict because {why}. Use different aliases on the fields."),
            position: Some(field.position),
        }
    }

    /// SameResponseShape: whatever object it turns out to be, a key holds one kind of value.
    fn same_shape(&mut self, fields: &Collected<'a>) -> Result<(), Error> {
        for group in self.groups(fields) {
            if !self.is_new(true, &group) {
                continue;
            }
            let schema = self.schema;
            let shape = |(parent, field): &(Name, &'a Field)| schema.field(parent, &field.name).map(|field| &field.ty);
            if let Some(first) = shape(&group[0]) {
                for other in &group[1..] {
                    self.step(other.1.position)?;
                    if shape(other).is_some_and(|ty| !has_same_shape(schema, first, ty)) {
                        return Err(Self::conflict(group[0].1, other.1, "they return conflicting types"));
                    }
                }
            }
            let children = self.children(&group)?;
            self.same_shape(&children)?;
        }
        Ok(())
    }

    /// Where parents may be the same object, a key is one field with the same arguments.
    fn same_field(&mut self, fields: &Collected<'a>) -> Result<(), Error> {
        for group in self.groups(fields) {
            let schema = self.schema;
            let is_abstract = |(parent, _): &&(Name, &'a Field)| !schema.is_object(parent);
            let mut concrete: Vec<&Name> = Vec::new();
            for (parent, _) in group.iter().filter(|field| !is_abstract(field)) {
                if !concrete.contains(&parent) {
                    concrete.push(parent);
                }
            }
            let any: Collected<'a> = group.iter().filter(is_abstract).cloned().collect();
            let common: Vec<Collected<'a>> = match concrete.is_empty() {
                true => vec![any],
                false => concrete
                    .iter()
                    .map(|parent| {
                        group.iter().filter(|field| field.0 == **parent || is_abstract(field)).cloned().collect()
                    })
                    .collect(),
            };
            for group in common {
                if !self.is_new(false, &group) {
                    continue;
                }
                let first = group[0].1;
                for (_, field) in &group[1..] {
                    self.step(field.position)?;
                    if first.name != field.name {
                        let why = format!("\"{}\" and \"{}\" are different fields", first.name, field.name);
                        return Err(Self::conflict(first, field, &why));
                    }
                    if !are_same_arguments(&first.arguments, &field.arguments) {
                        return Err(Self::conflict(first, field, "they have differing arguments"));
                    }
                }
                let children = self.children(&group)?;
                self.same_field(&children)?;
            }
        }
        Ok(())
    }
}

fn has_same_shape(schema: &Schema, a: &Type, b: &Type) -> bool {
    if a.nullable != b.nullable {
        return false;
    }
    match (&a.base, &b.base) {
        (BaseType::List(a), BaseType::List(b)) => has_same_shape(schema, a, b),
        (BaseType::Named(a), BaseType::Named(b)) => a == b || (schema.is_composite(a) && schema.is_composite(b)),
        _ => false,
    }
}

fn are_same_arguments(a: &[Argument], b: &[Argument]) -> bool {
    a.len() == b.len()
        && a.iter().all(|argument| {
            b.iter().any(|other| other.name == argument.name && is_same_value(&argument.value, &other.value))
        })
}

fn is_same_value(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Variable(a), Value::Variable(b)) | (Value::Enum(a), Value::Enum(b)) => a == b,
        (Value::Int(a), Value::Int(b)) | (Value::Float(a), Value::Float(b)) => a == b,
        (Value::String(a), Value::String(b)) => a == b,
        (Value::Boolean(a), Value::Boolean(b)) => a == b,
        (Value::Null, Value::Null) => true,
        (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same_value(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(name, a)| b.iter().any(|(other, b)| name == other && is_same_value(a, b)))
        }
        _ => false,
    }
}
