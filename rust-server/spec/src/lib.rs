//! What the GraphQL specification (October 2021) asks of a document before it is executed: lexing, parsing, validation,
//! coercion of variables, and a plan that holds nothing an executor could get wrong.
//!
//! async-graphql executes well, but its own front end is loose: it refuses valid documents (`[ Int! ]`, fields of
//! different types under one name), lets invalid ones pass, overflows the stack on nested lists, ignores an argument's
//! default where a variable was left out, and resolves a field twice that was selected twice. A plan has one operation,
//! no fragments on object types, no variables, no directives, and each field once.

pub mod ast;
pub mod json;
mod lexer;
mod parser;
mod plan;
mod schema;
mod validate;
mod variables;

pub use async_graphql::{Name, Pos, parser::types::OperationType};
pub use parser::{ParseError, Tokens, parse, tokenize};
pub use plan::{Plan, TooLarge, mend_interfaces, plan};
pub use schema::{FieldDefinition, InputDefinition, Schema, TypeDefinition, named};
pub use validate::validate;
pub use variables::{Variables, coerce_variables};

/// A broken rule: what, and where in the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub message: String,
    pub position: Option<Pos>,
}
