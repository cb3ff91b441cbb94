//! Executable documents by recursive descent. Nesting is bounded by the limit of tokens.

use crate::{
    Error,
    ast::*,
    lexer::{Kind, Lexer, Token},
};
use async_graphql::{
    Name, Pos,
    parser::types::{BaseType, OperationType, Type},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// Counting stopped at the limit.
    TooManyTokens,
    Syntax(Error),
}

/// The lexical tokens of a document.
pub struct Tokens<'a> {
    tokens: Vec<Token<'a>>,
    end: Pos,
}

/// Takes a document apart into at most `limit` lexical tokens, comments not counted.
pub fn tokenize(source: &str, limit: usize) -> Result<Tokens<'_>, ParseError> {
    let mut lexer = Lexer::new(source);
    let mut tokens = Vec::new();
    while let Some(token) = lexer.next().map_err(ParseError::Syntax)? {
        if tokens.len() == limit {
            return Err(ParseError::TooManyTokens);
        }
        tokens.push(token);
    }
    Ok(Tokens { tokens, end: lexer.position() })
}

/// Parses a document.
pub fn parse(tokens: Tokens<'_>) -> Result<Document> {
    Parser { tokens: tokens.tokens.into_iter(), end: tokens.end, aliases: 0 }.document()
}

struct Parser<'a> {
    tokens: std::vec::IntoIter<Token<'a>>,
    end: Pos,
    aliases: usize,
}

type Result<T, E = Error> = std::result::Result<T, E>;

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&Token<'a>> {
        self.tokens.as_slice().first()
    }

    fn position(&self) -> Pos {
        self.peek().map_or(self.end, |token| token.position)
    }

    fn unexpected<T>(&self, expected: &str) -> Result<T> {
        let found = self.peek().map_or("<EOF>", |token| token.text);
        let found: String = found.chars().take(40).collect();
        Err(Error {
            message: format!("Syntax Error: Expected {expected}, found {found}."),
            position: Some(self.position()),
        })
    }

    fn at(&self, punctuator: u8) -> bool {
        self.peek().is_some_and(|token| token.kind == Kind::Punctuator(punctuator))
    }

    fn take(&mut self, punctuator: u8) -> bool {
        let at = self.at(punctuator);
        if at {
            self.tokens.next();
        }
        at
    }

    fn expect(&mut self, punctuator: u8) -> Result<()> {
        match self.take(punctuator) {
            true => Ok(()),
            false => self.unexpected(&format!("\"{}\"", punctuator as char)),
        }
    }

    fn at_keyword(&self, keyword: &str) -> bool {
        self.peek().is_some_and(|token| token.kind == Kind::Name && token.text == keyword)
    }

    fn name(&mut self) -> Result<Name> {
        match self.peek() {
            Some(token) if token.kind == Kind::Name => {
                let name = Name::new(token.text);
                self.tokens.next();
                Ok(name)
            }
            _ => self.unexpected("Name"),
        }
    }

    fn document(&mut self) -> Result<Document> {
        let mut document = Document { operations: Vec::new(), fragments: Vec::new(), aliases: 0 };
        while self.peek().is_some() || (document.operations.is_empty() && document.fragments.is_empty()) {
            let is_described = self.take_description();
            if self.at_keyword("fragment") {
                let fragment = self.fragment()?;
                document.fragments.push(fragment);
            } else if is_described && self.at(b'{') {
                // The short form has none.
                return self.unexpected("a definition");
            } else {
                let operation = self.operation()?;
                document.operations.push(operation);
            }
        }
        document.aliases = self.aliases;
        Ok(document)
    }

    /// What is said about a definition. It has no effect.
    fn take_description(&mut self) -> bool {
        let is_there = self.peek().is_some_and(|token| matches!(token.kind, Kind::String(_)));
        if is_there {
            self.tokens.next();
        }
        is_there
    }

    fn operation(&mut self) -> Result<Operation> {
        let position = self.position();
        if self.at(b'{') {
            return Ok(Operation {
                kind: OperationType::Query,
                name: None,
                variables: Vec::new(),
                directives: Vec::new(),
                selections: self.selections()?,
                position,
            });
        }
        let kind = match self.peek().map(|token| token.text) {
            Some("query") => OperationType::Query,
            Some("mutation") => OperationType::Mutation,
            Some("subscription") => OperationType::Subscription,
            _ => return self.unexpected("a definition"),
        };
        self.tokens.next();
        let name = match self.peek() {
            Some(token) if token.kind == Kind::Name => Some(self.name()?),
            _ => None,
        };
        let mut variables = Vec::new();
        if self.take(b'(') {
            while !self.take(b')') || variables.is_empty() {
                variables.push(self.variable_definition()?);
            }
        }
        let directives = self.directives(false)?;
        Ok(Operation { kind, name, variables, directives, selections: self.selections()?, position })
    }

    fn variable_definition(&mut self) -> Result<VariableDefinition> {
        self.take_description();
        let position = self.position();
        self.expect(b'$')?;
        let name = self.name()?;
        self.expect(b':')?;
        let ty = self.ty()?;
        let default = if self.take(b'=') { Some(self.value(true)?) } else { None };
        Ok(VariableDefinition { name, ty, default, directives: self.directives(true)?, position })
    }

    fn ty(&mut self) -> Result<Type> {
        let base = if self.take(b'[') {
            let inner = self.ty()?;
            self.expect(b']')?;
            BaseType::List(Box::new(inner))
        } else {
            BaseType::Named(self.name()?)
        };
        Ok(Type { base, nullable: !self.take(b'!') })
    }

    fn fragment(&mut self) -> Result<Fragment> {
        let position = self.position();
        self.tokens.next();
        if self.at_keyword("on") {
            return self.unexpected("the fragment's name");
        }
        let name = self.name()?;
        if !self.at_keyword("on") {
            return self.unexpected("\"on\"");
        }
        self.tokens.next();
        let on = self.name()?;
        let directives = self.directives(false)?;
        Ok(Fragment { name, on, directives, selections: self.selections()?, position })
    }

    fn selections(&mut self) -> Result<Vec<Selection>> {
        self.expect(b'{')?;
        let mut selections = Vec::new();
        while !self.take(b'}') || selections.is_empty() {
            selections.push(self.selection()?);
        }
        Ok(selections)
    }

    fn selection(&mut self) -> Result<Selection> {
        let position = self.position();
        if self.peek().is_some_and(|token| token.kind == Kind::Spread) {
            self.tokens.next();
            return self.spread(position);
        }
        self.field(position).map(Selection::Field)
    }

    fn spread(&mut self, position: Pos) -> Result<Selection> {
        let on = if self.at_keyword("on") {
            self.tokens.next();
            Some(self.name()?)
        } else if self.peek().is_some_and(|token| token.kind == Kind::Name) {
            let name = self.name()?;
            return Ok(Selection::Spread(Spread { name, directives: self.directives(false)?, position }));
        } else {
            None
        };
        let directives = self.directives(false)?;
        Ok(Selection::Inline(Inline { on, directives, selections: self.selections()?, position }))
    }

    fn field(&mut self, position: Pos) -> Result<Field> {
        let mut name = self.name()?;
        let mut alias = None;
        if self.take(b':') {
            alias = Some(std::mem::replace(&mut name, self.name()?));
            self.aliases += 1;
        }
        let arguments = self.arguments(false)?;
        let directives = self.directives(false)?;
        let selections = if self.at(b'{') { self.selections()? } else { Vec::new() };
        Ok(Field { alias, name, arguments, directives, selections, position })
    }

    fn arguments(&mut self, constant: bool) -> Result<Vec<Argument>> {
        let mut arguments = Vec::new();
        if self.take(b'(') {
            while !self.take(b')') || arguments.is_empty() {
                let position = self.position();
                let name = self.name()?;
                self.expect(b':')?;
                arguments.push(Argument { name, value: self.value(constant)?, position });
            }
        }
        Ok(arguments)
    }

    fn directives(&mut self, constant: bool) -> Result<Vec<Directive>> {
        let mut directives = Vec::new();
        while self.at(b'@') {
            let position = self.position();
            self.tokens.next();
            let name = self.name()?;
            directives.push(Directive { name, arguments: self.arguments(constant)?, position });
        }
        Ok(directives)
    }

    fn value(&mut self, constant: bool) -> Result<Value> {
        let Some(token) = self.peek() else { return self.unexpected("a value") };
        let value = match &token.kind {
            Kind::Int => Value::Int(token.text.into()),
            Kind::Float => Value::Float(token.text.into()),
            Kind::String(text) => Value::String(text.clone()),
            Kind::Name => match token.text {
                "true" => Value::Boolean(true),
                "false" => Value::Boolean(false),
                "null" => Value::Null,
                name => Value::Enum(Name::new(name)),
            },
            Kind::Punctuator(b'$') if !constant => {
                self.tokens.next();
                return self.name().map(Value::Variable);
            }
            Kind::Punctuator(b'[') => {
                self.tokens.next();
                let mut values = Vec::new();
                while !self.take(b']') {
                    values.push(self.value(constant)?);
                }
                return Ok(Value::List(values));
            }
            Kind::Punctuator(b'{') => {
                self.tokens.next();
                let mut fields = Vec::new();
                while !self.take(b'}') {
                    let name = self.name()?;
                    self.expect(b':')?;
                    fields.push((name, self.value(constant)?));
                }
                return Ok(Value::Object(fields));
            }
            _ => return self.unexpected("a value"),
        };
        self.tokens.next();
        Ok(value)
    }
}
