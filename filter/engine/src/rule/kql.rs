//! KQL (Kibana's kuery), as far as it compares keyword fields, to [`Predicate`].
//!
//! ```text
//! query      = or | "*"                                  "*" alone: every event
//! or         = and { "or" and }                          keywords in any case
//! and        = not { "and" not }
//! not        = { "not" } group
//! group      = "(" or ")" | comparison
//! comparison = field ":" ( value | "(" list ")" ) | field ( "<" | "<=" | ">" | ">=" ) value
//! list       = or, and, not and groups as above, of values instead of comparisons
//! value      = quoted | unquoted                         "*" unquoted: the field exists
//! ```
//!
//! In: the text of one query, and a function that knows the fields. Out: the predicate, or an [`Error`] with its place.
//! Nested `and`s become one [`Predicate::All`], nested `or`s one [`Predicate::Any`].
//! Bounds: groups and `not`s nest at most [`MAX_NESTING`] deep, and so does the predicate; time and memory are
//! proportional to the text.
//! Refused, as an event is a flat set of keyword fields here: values without a field (full-text search), wildcards in
//! field names, nested queries (`field: { ... }`), date arithmetic (`now-1d`). Refused as well is what Kibana reads as
//! something else than was most likely meant: literals that begin with `'`, and words that begin with `#` or `//`; and
//! ranges of addresses, which would compare as text.

mod lexer;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use self::lexer::{Keyword, Lexer, Literal, Token, TokenKind};
use super::diagnostic::{Mismatch, line_and_column};
use super::network::Network;
use super::{Comparison, FieldRef, MAX_NESTING, Predicate, RangeOp, Test};

/// Why a text is no query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Where, in bytes from the start of the text.
    pub offset: usize,
    /// Line of the text, from 1 on.
    pub line: usize,
    /// Column in characters, from 1 on.
    pub column: usize,
    /// What was read there and what was expected instead.
    pub mismatch: Mismatch,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mismatch { found, expected } = &self.mismatch;
        write!(f, "{}:{}: the query has {found}; expected {expected}", self.line, self.column)
    }
}

impl core::error::Error for Error {}

/// Compiles a query. `fields` turns a field's name into its reference, or says which name it expected.
pub fn parse(text: &str, fields: &mut dyn FnMut(&str) -> Result<FieldRef, Mismatch>) -> Result<Predicate, Error> {
    parse_with_offsets(text, fields).map(|(predicate, _)| predicate)
}

/// Compiles a query, and returns for each of its comparisons, in the predicate's order, the byte at which the text names the field.
pub(crate) fn parse_with_offsets(
    text: &str,
    fields: &mut dyn FnMut(&str) -> Result<FieldRef, Mismatch>,
) -> Result<(Predicate, Vec<usize>), Error> {
    let next = Token { offset: 0, kind: TokenKind::End };
    let mut parser = Parser { lexer: Lexer::new(text), next, fields, offsets: Vec::new() };
    match parser.query() {
        Ok(predicate) => Ok((predicate, parser.offsets)),
        Err(misread) => {
            let (line, column) = line_and_column(text, misread.offset);
            Err(Error { offset: misread.offset, line, column, mismatch: misread.mismatch })
        }
    }
}

/// A [`Mismatch`] and the byte it begins at.
struct Misread {
    offset: usize,
    mismatch: Mismatch,
}

impl Misread {
    fn new(offset: usize, found: impl Into<String>, expected: impl Into<String>) -> Misread {
        Misread { offset, mismatch: Mismatch::new(found, expected) }
    }
}

/// A predicate with its [`Predicate::nesting`], so that it need not be counted again at every step.
struct Part {
    predicate: Predicate,
    nesting: usize,
}

/// The field that a list's values are compared with.
#[derive(Clone, Copy)]
struct Field {
    reference: FieldRef,
    /// The byte at which the query names it.
    offset: usize,
    holds_addresses: bool,
}

struct Parser<'t, 'f> {
    lexer: Lexer<'t>,
    /// The token that comes next; it is not yet taken.
    next: Token,
    fields: &'f mut dyn FnMut(&str) -> Result<FieldRef, Mismatch>,
    /// Where the field of each comparison so far stands.
    offsets: Vec<usize>,
}

impl Parser<'_, '_> {
    fn query(&mut self) -> Result<Predicate, Misread> {
        self.advance()?;
        if let TokenKind::Literal(literal) = &self.next.kind
            && literal.is_lone_wildcard()
        {
            let offset = self.next.offset;
            self.advance()?;
            return match self.next.kind {
                TokenKind::End => Ok(Predicate::All(Vec::new())),
                TokenKind::Colon | TokenKind::Range(_) => Err(wildcard_in_name(offset)),
                _ => Err(self.unexpected("nothing behind the `*` that matches every event")),
            };
        }
        let part = self.or(None, 0)?;
        match self.next.kind {
            TokenKind::End => Ok(part.predicate),
            _ => Err(self.unexpected("`and`, `or` or the end of the query")),
        }
    }

    /// `within` is the field if this is a list of its values; `depth` counts the groups and `not`s around.
    fn or(&mut self, within: Option<Field>, depth: usize) -> Result<Part, Misread> {
        self.joined(Keyword::Or, Self::and, within, depth)
    }

    fn and(&mut self, within: Option<Field>, depth: usize) -> Result<Part, Misread> {
        self.joined(Keyword::And, Self::not, within, depth)
    }

    /// One or more operands with the keyword between them.
    fn joined(
        &mut self,
        keyword: Keyword,
        operand: fn(&mut Self, Option<Field>, usize) -> Result<Part, Misread>,
        within: Option<Field>,
        depth: usize,
    ) -> Result<Part, Misread> {
        let start = self.next.offset;
        let first = operand(self, within, depth)?;
        if self.next.kind != TokenKind::Keyword(keyword) {
            return Ok(first);
        }
        let mut nesting = 0;
        let mut parts = Vec::new();
        let mut add = |part: Part| match (keyword, part.predicate) {
            (Keyword::And, Predicate::All(inner)) | (Keyword::Or, Predicate::Any(inner)) => {
                nesting = nesting.max(part.nesting);
                parts.extend(inner);
            }
            (_, predicate) => {
                nesting = nesting.max(part.nesting + 1);
                parts.push(predicate);
            }
        };
        add(first);
        while self.next.kind == TokenKind::Keyword(keyword) {
            self.advance()?;
            add(operand(self, within, depth)?);
        }
        let predicate = match keyword {
            Keyword::Or => Predicate::Any(parts),
            _ => Predicate::All(parts),
        };
        bounded(start, predicate, nesting)
    }

    fn not(&mut self, within: Option<Field>, depth: usize) -> Result<Part, Misread> {
        let start = self.next.offset;
        if self.next.kind != TokenKind::Keyword(Keyword::Not) {
            return self.group(within, depth);
        }
        self.advance()?;
        let part = self.not(within, deeper(start, depth)?)?;
        bounded(start, Predicate::Not(Box::new(part.predicate)), part.nesting + 1)
    }

    fn group(&mut self, within: Option<Field>, depth: usize) -> Result<Part, Misread> {
        if self.next.kind != TokenKind::Open {
            let predicate = match within {
                Some(field) => {
                    let (offset, value) = self.value()?;
                    self.offsets.push(field.offset);
                    comparison(field, value_test(field, offset, value)?)
                }
                None => return self.comparison(depth),
            };
            return Ok(Part { predicate, nesting: 0 });
        }
        let depth = deeper(self.next.offset, depth)?;
        self.advance()?;
        let part = self.or(within, depth)?;
        match self.next.kind {
            TokenKind::Close => self.advance()?,
            _ => return Err(self.unexpected("`and`, `or` or `)`")),
        }
        Ok(part)
    }

    fn comparison(&mut self, depth: usize) -> Result<Part, Misread> {
        let (offset, name) = match self.take()? {
            Token { offset, kind: TokenKind::Literal(literal) } => (offset, literal),
            other => {
                return Err(Misread::new(other.offset, other.kind.described(), "a field or `(`"));
            }
        };
        let operator = match &self.next.kind {
            TokenKind::Colon => None,
            TokenKind::Range(operator) => Some(*operator),
            _ => {
                let advice = instead_of_equals(&name.described_text())
                    .unwrap_or("quote a value that contains `and`, `or` or `not`");
                return Err(Misread::new(
                    offset,
                    format!("{} without a field", name.described()),
                    format!("a field and a value, such as `event.action: \"GetCallerIdentity\"`; {advice}"),
                ));
            }
        };
        let field = self.field(offset, name)?;
        self.advance()?;
        match (operator, &self.next.kind) {
            (Some(operator), _) => {
                let (offset, value) = self.value()?;
                self.offsets.push(field.offset);
                Ok(Part { predicate: comparison(field, range_test(field, operator, offset, value)?), nesting: 0 })
            }
            (None, TokenKind::OpenBrace) => Err(self.unexpected("a value, as nested queries are not supported")),
            (None, TokenKind::Keyword(Keyword::Not)) => {
                Err(self.unexpected("a value; write `not field: value` or `field: (not value)`"))
            }
            (None, _) => self.group(Some(field), depth),
        }
    }

    fn field(&mut self, offset: usize, name: Literal) -> Result<Field, Misread> {
        let name = match (name.first_wildcard, name.into_text()) {
            (Some(wildcard), _) => return Err(wildcard_in_name(wildcard)),
            (None, name) if name.is_empty() => {
                return Err(Misread::new(offset, "an empty name", "the name of a field"));
            }
            (None, name) => name,
        };
        let reference = (self.fields)(&name).map_err(|mut mismatch| {
            if let Some(advice) = instead_of_equals(&name) {
                mismatch.expected = format!("a field; {advice}, and {QUOTE_COLONS}");
            }
            Misread { offset, mismatch }
        })?;
        Ok(Field { reference, offset, holds_addresses: name == "ip" || name.ends_with(".ip") })
    }

    fn value(&mut self) -> Result<(usize, Literal), Misread> {
        match self.take()? {
            Token { offset, kind: TokenKind::Literal(literal) } => Ok((offset, literal)),
            Token { offset, kind: kind @ TokenKind::Keyword(_) } => {
                Err(Misread::new(offset, kind.described(), "a value; quote the word if it is meant as one"))
            }
            other => Err(other.unexpected("a value")),
        }
    }

    /// Takes the next token. Behind the end comes the end again.
    fn take(&mut self) -> Result<Token, Misread> {
        let following = self.lexer.next()?;
        Ok(core::mem::replace(&mut self.next, following))
    }

    fn advance(&mut self) -> Result<(), Misread> {
        self.take().map(drop)
    }

    fn unexpected(&self, expected: &str) -> Misread {
        self.next.unexpected(expected)
    }
}

impl Token {
    /// Something else was expected. A `:` is most likely part of a value such as an ARN, a time or an IPv6 address.
    fn unexpected(&self, expected: &str) -> Misread {
        let expected = match self.kind {
            TokenKind::Colon => format!("{expected}; {QUOTE_COLONS}"),
            _ => String::from(expected),
        };
        Misread::new(self.offset, self.kind.described(), expected)
    }
}

const QUOTE_COLONS: &str = "quote a value that contains `:`";

/// What to write if a field, or a text without one, has an `=` in it.
fn instead_of_equals(text: &str) -> Option<&'static str> {
    if text.contains("!=") {
        return Some("write `not field: value` in place of `!=`");
    }
    text.contains('=').then_some("write `:` in place of `=`")
}

fn wildcard_in_name(offset: usize) -> Misread {
    Misread::new(
        offset,
        "a wildcard in a field's name",
        "the whole name of one field (`*` alone, without a field, matches every event)",
    )
}

fn deeper(offset: usize, depth: usize) -> Result<usize, Misread> {
    if depth == MAX_NESTING {
        return Err(too_deep(offset));
    }
    Ok(depth + 1)
}

fn bounded(offset: usize, predicate: Predicate, nesting: usize) -> Result<Part, Misread> {
    if nesting > MAX_NESTING {
        return Err(too_deep(offset));
    }
    Ok(Part { predicate, nesting })
}

fn too_deep(offset: usize) -> Misread {
    Misread::new(
        offset,
        format!("a part that nests more than {MAX_NESTING} deep"),
        "fewer groups and `not`s inside each other",
    )
}

fn comparison(field: Field, test: Test) -> Predicate {
    Predicate::Is(Comparison { field: field.reference, test, ignore_case: false })
}

fn value_test(field: Field, offset: usize, value: Literal) -> Result<Test, Misread> {
    if field.holds_addresses && value.contains('/') {
        return match (value.first_wildcard, Network::parse(&value.described_text())) {
            (None, Some(network)) => Ok(Test::Cidr(format!("{network}"))),
            _ => Err(Misread::new(
                offset,
                value.described(),
                "an IP network such as \"10.0.0.0/8\" or \"2001:db8::/32\"",
            )),
        };
    }
    if value.is_lone_wildcard() {
        return Ok(Test::Exists);
    }
    if value.first_wildcard.is_some() {
        return Ok(Test::Wildcard(value.parts));
    }
    let text = value.into_text();
    // Events have addresses in canonical form, and text compares as text.
    match text.parse::<IpAddr>() {
        Ok(address) if field.holds_addresses => Ok(Test::Equals(format!("{address}"))),
        _ => Ok(Test::Equals(text)),
    }
}

fn range_test(field: Field, operator: RangeOp, offset: usize, value: Literal) -> Result<Test, Misread> {
    if field.holds_addresses {
        return Err(Misread::new(
            offset,
            "a range of addresses",
            "`:` and an IP network, such as `source.ip: \"10.0.0.0/8\"`",
        ));
    }
    if let Some(wildcard) = value.first_wildcard {
        return Err(Misread::new(wildcard, "a wildcard in a range", "a value to compare with"));
    }
    let text = value.into_text();
    if text.strip_prefix("now").is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '+', '/'])) {
        return Err(Misread::new(
            offset,
            format!("the date arithmetic `{text}`"),
            "a fixed value, as a stream has no time of search",
        ));
    }
    Ok(Test::Range(operator, text))
}
