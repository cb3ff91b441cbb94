//! Lexical tokens, after the specification's appendix B.

use crate::{Error, Pos};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One of `! $ & ( ) : = @ [ ] { | }`.
    Punctuator(u8),
    Spread,
    Name,
    Int,
    Float,
    String(String),
}

#[derive(Clone, Debug)]
pub struct Token<'a> {
    pub kind: Kind,
    pub text: &'a str,
    pub position: Pos,
}

pub struct Lexer<'a> {
    source: &'a str,
    at: usize,
    line: usize,
    /// Up to where this line's characters are counted, and how many they are.
    counted: (usize, usize),
}

type Result<T> = std::result::Result<T, Error>;

impl<'a> Lexer<'a> {
    pub fn new(source: &'a str) -> Self {
        Lexer { source, at: 0, line: 1, counted: (0, 0) }
    }

    fn byte(&self, ahead: usize) -> Option<u8> {
        self.source.as_bytes().get(self.at + ahead).copied()
    }

    pub fn position(&self) -> Pos {
        let (from, column) = self.counted;
        let more = self.source.get(from..self.at).map_or(0, |line| line.chars().count());
        Pos { line: self.line, column: column + more + 1 }
    }

    fn fail<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(Error { message: format!("Syntax Error: {}", message.into()), position: Some(self.position()) })
    }

    /// Past one line terminator at the current place.
    fn newline(&mut self) {
        self.at += if self.source[self.at..].starts_with("\r\n") { 2 } else { 1 };
        self.line += 1;
        self.counted = (self.at, 0);
    }

    fn skip_ignored(&mut self) {
        while let Some(byte) = self.byte(0) {
            match byte {
                b' ' | b'\t' | b',' => self.at += 1,
                b'\n' | b'\r' => self.newline(),
                b'#' => {
                    let rest = &self.source.as_bytes()[self.at..];
                    self.at += rest.iter().position(|b| matches!(b, b'\n' | b'\r')).unwrap_or(rest.len());
                }
                0xEF if self.source[self.at..].starts_with('\u{feff}') => self.at += 3,
                _ => return,
            }
        }
    }

    /// The next token, None at the end.
    pub fn next(&mut self) -> Result<Option<Token<'a>>> {
        self.skip_ignored();
        let Some(byte) = self.byte(0) else { return Ok(None) };
        let (start, position) = (self.at, self.position());
        self.counted = (start, position.column - 1);
        let kind = match byte {
            b'!' | b'$' | b'&' | b'(' | b')' | b':' | b'=' | b'@' | b'[' | b']' | b'{' | b'|' | b'}' => {
                self.at += 1;
                Kind::Punctuator(byte)
            }
            b'.' if self.source[self.at..].starts_with("...") => {
                self.at += 3;
                Kind::Spread
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                while self.byte(0).is_some_and(is_name_continue) {
                    self.at += 1;
                }
                Kind::Name
            }
            b'0'..=b'9' | b'-' => self.number()?,
            b'"' if self.source[self.at..].starts_with("\"\"\"") => Kind::String(self.block_string()?),
            b'"' => Kind::String(self.string()?),
            _ => {
                let character = self.source[self.at..].chars().next().unwrap_or_default();
                return self.fail(format!("Unexpected character: {character:?}."));
            }
        };
        Ok(Some(Token { kind, text: &self.source[start..self.at], position }))
    }

    fn digits(&mut self) -> Result<()> {
        if !self.byte(0).is_some_and(|byte| byte.is_ascii_digit()) {
            return self.fail("Invalid number, expected digit.");
        }
        while self.byte(0).is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<Kind> {
        let mut kind = Kind::Int;
        if self.byte(0) == Some(b'-') {
            self.at += 1;
        }
        if self.byte(0) == Some(b'0') {
            self.at += 1;
            if self.byte(0).is_some_and(|byte| byte.is_ascii_digit()) {
                return self.fail("Invalid number, unexpected digit after 0.");
            }
        } else {
            self.digits()?;
        }
        if self.byte(0) == Some(b'.') {
            self.at += 1;
            self.digits()?;
            kind = Kind::Float;
        }
        if matches!(self.byte(0), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.byte(0), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
            kind = Kind::Float;
        }
        // 1a and 1.2.3 are no two tokens.
        match self.byte(0) {
            Some(byte) if byte == b'.' || is_name_continue(byte) => self.fail("Invalid number, expected digit."),
            _ => Ok(kind),
        }
    }

    fn string(&mut self) -> Result<String> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let rest = &self.source[self.at..];
            let stop = rest.find(['"', '\\', '\n', '\r']);
            out.push_str(&rest[..stop.unwrap_or(rest.len())]);
            self.at += stop.unwrap_or(rest.len());
            match self.byte(0) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => out.push(self.escape()?),
                _ => return self.fail("Unterminated string."),
            }
        }
    }

    fn escape(&mut self) -> Result<char> {
        let simple = match self.byte(1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => return self.fail("Invalid character escape sequence."),
        };
        self.at += 2;
        Ok(simple)
    }

    fn hex(&self, from: usize, to: usize) -> Option<u32> {
        let digits = self.source.as_bytes().get(self.at + from..self.at + to)?;
        digits.iter().try_fold(0u32, |n, byte| n.checked_mul(16)?.checked_add((*byte as char).to_digit(16)?))
    }

    fn unicode_escape(&mut self) -> Result<char> {
        let (code, length) = if self.byte(2) == Some(b'{') {
            let end = self.source[self.at..].find('}').unwrap_or(0);
            match self.hex(3, end.max(3)) {
                Some(code) if end > 3 && end <= 11 => (code, end + 1),
                _ => return self.fail("Invalid Unicode escape sequence."),
            }
        } else {
            match self.hex(2, 6) {
                // A pair of surrogates is one character.
                Some(high @ 0xD800..=0xDBFF) if self.byte(6) == Some(b'\\') && self.byte(7) == Some(b'u') => {
                    match self.hex(8, 12) {
                        Some(low @ 0xDC00..=0xDFFF) => (0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00), 12),
                        _ => return self.fail("Invalid Unicode escape sequence."),
                    }
                }
                Some(code) => (code, 6),
                None => return self.fail("Invalid Unicode escape sequence."),
            }
        };
        match char::from_u32(code) {
            Some(character) => {
                self.at += length;
                Ok(character)
            }
            None => self.fail("Invalid Unicode escape sequence."),
        }
    }

    fn block_string(&mut self) -> Result<String> {
        self.at += 3;
        let mut raw = String::new();
        loop {
            let rest = &self.source[self.at..];
            let Some(character) = rest.chars().next() else { return self.fail("Unterminated string.") };
            if rest.starts_with("\"\"\"") {
                self.at += 3;
                return Ok(dedent(&raw));
            } else if rest.starts_with("\\\"\"\"") {
                raw.push_str("\"\"\"");
                self.at += 4;
            } else if matches!(character, '\n' | '\r') {
                raw.push('\n');
                self.newline();
            } else {
                raw.push(character);
                self.at += character.len_utf8();
            }
        }
    }
}

fn is_name_continue(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}

/// BlockStringValue of the specification.
fn dedent(raw: &str) -> String {
    let lines: Vec<&str> = raw.split('\n').collect();
    let indent_of = |line: &str| line.len() - line.trim_start_matches([' ', '\t']).len();
    let is_blank = |line: &&str| line.trim_matches([' ', '\t']).is_empty();
    let indent = lines.iter().skip(1).filter(|line| !is_blank(line)).map(|line| indent_of(line)).min().unwrap_or(0);
    let lines: Vec<&str> = lines
        .iter()
        .enumerate()
        .map(|(at, line)| if at == 0 { line } else { line.get(indent.min(indent_of(line))..).unwrap_or("") })
        .collect();
    let start = lines.iter().position(|line| !is_blank(line)).unwrap_or(lines.len());
    let end = lines.iter().rposition(|line| !is_blank(line)).map_or(start, |at| at + 1);
    lines[start..end].join("\n")
}
