//! A document as written: order kept, duplicates kept, numbers as text.

use async_graphql::{
    Name, Pos,
    parser::types::{OperationType, Type},
};

#[derive(Debug)]
pub struct Document {
    pub operations: Vec<Operation>,
    pub fragments: Vec<Fragment>,
    /// Aliased fields.
    pub aliases: usize,
}

impl Document {
    pub fn fragment(&self, name: &str) -> Option<&Fragment> {
        self.fragments.iter().find(|fragment| fragment.name == *name)
    }

    /// The operation of that name, or the only one.
    pub fn operation(&self, name: Option<&str>) -> Result<&Operation, String> {
        match (name, self.operations.as_slice()) {
            (Some(name), operations) => operations
                .iter()
                .find(|operation| operation.name.as_ref().is_some_and(|own| own == name))
                .ok_or_else(|| format!("Unknown operation named \"{name}\".")),
            (None, [operation]) => Ok(operation),
            (None, []) => Err("There is no operation.".to_owned()),
            (None, _) => Err("Must provide operation name if query contains multiple operations.".to_owned()),
        }
    }
}

#[derive(Debug)]
pub struct Operation {
    pub kind: OperationType,
    pub name: Option<Name>,
    pub variables: Vec<VariableDefinition>,
    pub directives: Vec<Directive>,
    pub selections: Vec<Selection>,
    pub position: Pos,
}

#[derive(Debug)]
pub struct VariableDefinition {
    pub name: Name,
    pub ty: Type,
    pub default: Option<Value>,
    pub directives: Vec<Directive>,
    pub position: Pos,
}

#[derive(Debug)]
pub struct Fragment {
    pub name: Name,
    pub on: Name,
    pub directives: Vec<Directive>,
    pub selections: Vec<Selection>,
    pub position: Pos,
}

#[derive(Debug)]
pub enum Selection {
    Field(Field),
    Spread(Spread),
    Inline(Inline),
}

#[derive(Debug)]
pub struct Field {
    pub alias: Option<Name>,
    pub name: Name,
    pub arguments: Vec<Argument>,
    pub directives: Vec<Directive>,
    /// Empty for a leaf: `{ }` does not parse.
    pub selections: Vec<Selection>,
    pub position: Pos,
}

impl Field {
    pub fn response_key(&self) -> &Name {
        self.alias.as_ref().unwrap_or(&self.name)
    }

    pub fn argument(&self, name: &str) -> Option<&Argument> {
        self.arguments.iter().find(|argument| argument.name == *name)
    }
}

#[derive(Debug)]
pub struct Spread {
    pub name: Name,
    pub directives: Vec<Directive>,
    pub position: Pos,
}

#[derive(Debug)]
pub struct Inline {
    pub on: Option<Name>,
    pub directives: Vec<Directive>,
    pub selections: Vec<Selection>,
    pub position: Pos,
}

#[derive(Debug)]
pub struct Directive {
    pub name: Name,
    pub arguments: Vec<Argument>,
    pub position: Pos,
}

#[derive(Debug)]
pub struct Argument {
    pub name: Name,
    pub value: Value,
    pub position: Pos,
}

#[derive(Clone, Debug)]
pub enum Value {
    Variable(Name),
    Int(Box<str>),
    Float(Box<str>),
    String(String),
    Boolean(bool),
    Null,
    Enum(Name),
    List(Vec<Value>),
    Object(Vec<(Name, Value)>),
}

impl Value {
    /// Calls `found` for each variable in it.
    pub fn variables<'a>(&'a self, found: &mut impl FnMut(&'a Name)) {
        match self {
            Value::Variable(name) => found(name),
            Value::List(values) => values.iter().for_each(|value| value.variables(found)),
            Value::Object(fields) => fields.iter().for_each(|(_, value)| value.variables(found)),
            _ => {}
        }
    }
}
