//! JSON as it is written, after RFC 8259: strings borrowed, numbers as text. A number is judged by the type it is for, so
//! one beyond every machine type is a wrong `Int`, an `ID` like any other, and nothing at all where nobody asks for it.

use std::{borrow::Cow, collections::BTreeMap, fmt};

/// Of members of one name the last.
pub type Object<'a> = BTreeMap<Cow<'a, str>, Json<'a>>;

#[derive(Clone, Debug, PartialEq)]
pub enum Json<'a> {
    Null,
    Boolean(bool),
    Number(&'a str),
    String(Cow<'a, str>),
    Array(Vec<Json<'a>>),
    Object(Object<'a>),
}

/// Levels of arrays and objects that the contract allows. Bounds the stack, also where values are dropped.
const NESTING_LIMIT: usize = 128;

/// What is wrong, and after how many bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonError {
    pub what: &'static str,
    pub at: usize,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

type Result<T> = std::result::Result<T, JsonError>;

impl<'a> Json<'a> {
    /// Reads a text that is one JSON value.
    pub fn parse(text: &'a str) -> Result<Json<'a>> {
        let mut reader = Reader { text, at: 0, nesting: 0 };
        let value = reader.value()?;
        match reader.peek() {
            None => Ok(value),
            Some(_) => reader.fail("trailing characters"),
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Json::String(text) => Some(text),
            _ => None,
        }
    }
}

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let string =
            |f: &mut fmt::Formatter<'_>, text: &str| f.write_str(&serde_json::to_string(text).map_err(|_| fmt::Error)?);
        match self {
            Json::Null => f.write_str("null"),
            Json::Boolean(value) => write!(f, "{value}"),
            Json::Number(text) => f.write_str(text),
            Json::String(text) => string(f, text),
            Json::Array(values) => {
                f.write_str("[")?;
                for (at, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if at > 0 { "," } else { "" })?;
                }
                f.write_str("]")
            }
            Json::Object(members) => {
                f.write_str("{")?;
                for (at, (name, value)) in members.iter().enumerate() {
                    f.write_str(if at > 0 { "," } else { "" })?;
                    string(f, name)?;
                    write!(f, ":{value}")?;
                }
                f.write_str("}")
            }
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    nesting: usize,
}

impl<'a> Reader<'a> {
    fn fail<T>(&self, what: &'static str) -> Result<T> {
        Err(JsonError { what, at: self.at })
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.byte() {
            self.at += 1;
        }
        self.byte()
    }

    fn take(&mut self, byte: u8) -> bool {
        let is_there = self.byte() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    fn value(&mut self) -> Result<Json<'a>> {
        match self.peek() {
            Some(b'"') => self.string().map(Json::String),
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'n') => self.word("null", Json::Null),
            Some(b't') => self.word("true", Json::Boolean(true)),
            Some(b'f') => self.word("false", Json::Boolean(false)),
            _ => self.fail("expected a value"),
        }
    }

    fn word(&mut self, word: &str, value: Json<'a>) -> Result<Json<'a>> {
        if !self.text[self.at..].starts_with(word) {
            return self.fail("expected a value");
        }
        self.at += word.len();
        Ok(value)
    }

    /// An array or an object, behind its opening bracket.
    fn nested(&mut self, read: fn(&mut Self) -> Result<Json<'a>>) -> Result<Json<'a>> {
        if self.nesting == NESTING_LIMIT {
            return self.fail("too many levels");
        }
        self.nesting += 1;
        self.at += 1;
        let value = read(self)?;
        self.nesting -= 1;
        Ok(value)
    }

    fn array(&mut self) -> Result<Json<'a>> {
        let mut values = Vec::new();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Json::Array(values));
        }
        loop {
            values.push(self.value()?);
            self.peek();
            if self.take(b']') {
                return Ok(Json::Array(values));
            }
            if !self.take(b',') {
                return self.fail("expected a comma or a bracket");
            }
        }
    }

    fn object(&mut self) -> Result<Json<'a>> {
        let mut members = Object::new();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Json::Object(members));
        }
        loop {
            if self.peek() != Some(b'"') {
                return self.fail("expected a name");
            }
            let name = self.string()?;
            self.peek();
            if !self.take(b':') {
                return self.fail("expected a colon");
            }
            let value = self.value()?;
            members.insert(name, value);
            self.peek();
            if self.take(b'}') {
                return Ok(Json::Object(members));
            }
            if !self.take(b',') {
                return self.fail("expected a comma or a brace");
            }
        }
    }

    fn digits(&mut self) -> Result<()> {
        let start = self.at;
        while self.byte().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        match self.at > start {
            true => Ok(()),
            false => self.fail("expected a digit"),
        }
    }

    fn number(&mut self) -> Result<Json<'a>> {
        let start = self.at;
        self.take(b'-');
        // After a leading zero comes no digit: what follows is then no comma, and refused.
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _sign = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        Ok(Json::Number(&self.text[start..self.at]))
    }

    /// Up to a quote, an escape, or what may not stand in a string.
    fn run(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        let length = rest.bytes().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn string(&mut self) -> Result<Cow<'a, str>> {
        self.at += 1;
        let run = self.run();
        if self.take(b'"') {
            return Ok(Cow::Borrowed(run));
        }
        let mut text = String::with_capacity(run.len() * 2);
        text.push_str(run);
        loop {
            if self.take(b'"') {
                return Ok(Cow::Owned(text));
            }
            if !self.take(b'\\') {
                return self.fail("unfinished string or control character");
            }
            text.push(self.escape()?);
            text.push_str(self.run());
        }
    }

    fn escape(&mut self) -> Result<char> {
        let character = match self.byte() {
            Some(plain @ (b'"' | b'\\' | b'/')) => char::from(plain),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => return self.fail("no such escape"),
        };
        self.at += 1;
        Ok(character)
    }

    /// `uXXXX`, or a pair of surrogates.
    fn unicode(&mut self) -> Result<char> {
        let first = self.code_unit()?;
        let code = match first {
            0xd800..=0xdbff if self.take(b'\\') && self.byte() == Some(b'u') => match self.code_unit()? {
                second @ 0xdc00..=0xdfff => 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00),
                _ => return self.fail("lone surrogate"),
            },
            code => code,
        };
        // A surrogate is no character.
        char::from_u32(code).map_or_else(|| self.fail("lone surrogate"), Ok)
    }

    fn code_unit(&mut self) -> Result<u32> {
        let digits = self.text.as_bytes().get(self.at + 1..self.at + 5).unwrap_or_default();
        if digits.len() < 4 {
            return self.fail("unfinished escape");
        }
        let code = digits.iter().try_fold(0, |code, digit| Some(code << 4 | char::from(*digit).to_digit(16)?));
        let Some(code) = code else { return self.fail("no such escape") };
        self.at += 5;
        Ok(code)
    }
}
