//! The tokens of KQL.
//!
//! In: the query's text. Out: one token at a time with the byte it begins at. A literal comes unescaped and cut at its
//! wildcards. The words of an unquoted literal stay together, inner spaces as written, up to a keyword or a special
//! character: `MongoDB Atlas or x` is a literal, a keyword and a literal.
//! Escapes are Kibana's: outside quotes an unknown one is an error, inside quotes its backslash stands for itself. A
//! word outside quotes that begins like a comment, and a literal that begins with `'`, are refused: KQL would take both
//! for text.
//! Not here: what tokens may follow each other.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::super::RangeOp;
use super::Misread;

/// Characters that end an unquoted literal unless a backslash stands before them.
const SPECIAL: [char; 9] = ['\\', '(', ')', ':', '<', '>', '"', '{', '}'];

/// How much of a literal an error repeats, in characters.
const SHOWN: usize = 60;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    /// The byte it begins at; of the end, the byte behind the last token.
    pub(super) offset: usize,
    pub(super) kind: TokenKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TokenKind {
    Open,
    Close,
    OpenBrace,
    CloseBrace,
    Colon,
    Range(RangeOp),
    Keyword(Keyword),
    Literal(Literal),
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyword {
    And,
    Or,
    Not,
}

/// A field's name or a value, unescaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Literal {
    /// The text, cut at its wildcards: one part if there is none. Wildcards side by side count as one.
    pub(super) parts: Vec<String>,
    /// The byte of the query at which its first wildcard stands.
    pub(super) first_wildcard: Option<usize>,
}

impl Literal {
    /// Whether it is `*` and nothing else.
    pub(super) fn is_lone_wildcard(&self) -> bool {
        self.first_wildcard.is_some() && self.parts.iter().all(String::is_empty)
    }

    pub(super) fn contains(&self, wanted: char) -> bool {
        self.parts.iter().any(|part| part.contains(wanted))
    }

    /// The text, with `*` for wildcards.
    pub(super) fn described_text(&self) -> String {
        self.parts.join("*")
    }

    pub(super) fn into_text(self) -> String {
        self.parts.concat()
    }

    /// How an error calls it.
    pub(super) fn described(&self) -> String {
        let text = self.described_text();
        match text.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("the value {:?}...", &text[..end]),
            None => format!("the value {text:?}"),
        }
    }
}

impl TokenKind {
    /// How an error calls it.
    pub(super) fn described(&self) -> String {
        let text = match self {
            TokenKind::Open => "`(`",
            TokenKind::Close => "`)`",
            TokenKind::OpenBrace => "`{`",
            TokenKind::CloseBrace => "`}`",
            TokenKind::Colon => "`:`",
            TokenKind::Range(RangeOp::Less) => "`<`",
            TokenKind::Range(RangeOp::LessOrEqual) => "`<=`",
            TokenKind::Range(RangeOp::Greater) => "`>`",
            TokenKind::Range(RangeOp::GreaterOrEqual) => "`>=`",
            TokenKind::Keyword(Keyword::And) => "the keyword `and`",
            TokenKind::Keyword(Keyword::Or) => "the keyword `or`",
            TokenKind::Keyword(Keyword::Not) => "the keyword `not`",
            TokenKind::End => "an early end",
            TokenKind::Literal(literal) => return literal.described(),
        };
        text.to_string()
    }
}

pub(super) struct Lexer<'t> {
    text: &'t str,
    /// The byte that is read next.
    at: usize,
}

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t str) -> Lexer<'t> {
        Lexer { text, at: 0 }
    }

    /// The next token; at the end [`TokenKind::End`], again and again.
    pub(super) fn next(&mut self) -> Result<Token, Misread> {
        let behind_last = self.at;
        self.skip_spaces();
        let offset = if self.rest().is_empty() { behind_last } else { self.at };
        let kind = match self.peek() {
            None => TokenKind::End,
            Some('(') => self.single(TokenKind::Open),
            Some(')') => self.single(TokenKind::Close),
            Some('{') => self.single(TokenKind::OpenBrace),
            Some('}') => self.single(TokenKind::CloseBrace),
            Some(':') => self.single(TokenKind::Colon),
            Some('<') => self.range(RangeOp::Less, RangeOp::LessOrEqual),
            Some('>') => self.range(RangeOp::Greater, RangeOp::GreaterOrEqual),
            Some('"') => TokenKind::Literal(self.quoted()?),
            Some('\'') => {
                return Err(Misread::new(offset, "a `'`, which is no quote in KQL", "double quotes: write \"...\""));
            }
            Some(_) => match self.keyword() {
                Some((keyword, end)) => {
                    self.at = end;
                    TokenKind::Keyword(keyword)
                }
                None => TokenKind::Literal(self.unquoted()?),
            },
        };
        Ok(Token { offset, kind })
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn skip_spaces(&mut self) {
        while self.peek().is_some_and(is_space) {
            self.bump();
        }
    }

    fn single(&mut self, kind: TokenKind) -> TokenKind {
        self.bump();
        kind
    }

    fn range(&mut self, strict: RangeOp, or_equal: RangeOp) -> TokenKind {
        self.bump();
        if self.peek() != Some('=') {
            return TokenKind::Range(strict);
        }
        self.bump();
        TokenKind::Range(or_equal)
    }

    /// The keyword that begins here, and the byte behind it: a whole word without escapes.
    fn keyword(&self) -> Option<(Keyword, usize)> {
        let rest = self.rest();
        let end = rest.find(|c| is_space(c) || c == '*' || SPECIAL.contains(&c)).unwrap_or(rest.len());
        let followed_by = rest[end..].chars().next();
        if matches!(followed_by, Some('*' | '\\')) {
            return None;
        }
        let word = &rest[..end];
        [("and", Keyword::And), ("or", Keyword::Or), ("not", Keyword::Not)]
            .into_iter()
            .find(|(name, _)| word.eq_ignore_ascii_case(name))
            .map(|(_, keyword)| (keyword, self.at + end))
    }

    fn quoted(&mut self) -> Result<Literal, Misread> {
        let start = self.at;
        self.bump();
        let mut text = String::new();
        loop {
            let offset = self.at;
            match self.bump() {
                None => {
                    return Err(Misread::new(
                        start,
                        "a `\"` that is never closed",
                        "a closing `\"` (write `\\\"` for one inside a value)",
                    ));
                }
                Some('"') => break,
                Some('\\') => match self.peek() {
                    Some(c @ ('"' | '\\')) => {
                        self.bump();
                        text.push(c);
                    }
                    Some('u') if !self.is_unicode_unit() => text.push('\\'),
                    _ => text.push(self.common_escape(offset)?.unwrap_or('\\')),
                },
                Some(c) => text.push(c),
            }
        }
        Ok(Literal { parts: vec![text], first_wildcard: None })
    }

    fn unquoted(&mut self) -> Result<Literal, Misread> {
        let mut parts = vec![];
        let mut part = String::new();
        let mut first_wildcard = None;
        self.refuse_comment()?;
        // Spaces behind the last word are not part of the literal.
        loop {
            let offset = self.at;
            match self.peek() {
                Some('*') => {
                    self.bump();
                    first_wildcard.get_or_insert(offset);
                    // Side by side with the wildcard before: one wildcard.
                    if parts.is_empty() || !part.is_empty() {
                        parts.push(core::mem::take(&mut part));
                    }
                }
                Some('\\') => {
                    self.bump();
                    self.unquoted_escape(offset, &mut part)?;
                }
                Some(c) if is_space(c) => {
                    self.skip_spaces();
                    let ends = match self.peek() {
                        None => true,
                        Some('\\') => false,
                        Some(c) => SPECIAL.contains(&c) || self.keyword().is_some(),
                    };
                    if ends {
                        self.at = offset;
                        break;
                    }
                    self.refuse_comment()?;
                    part.push_str(&self.text[offset..self.at]);
                }
                Some(c) if !SPECIAL.contains(&c) => {
                    self.bump();
                    part.push(c);
                }
                _ => break,
            }
        }
        parts.push(part);
        Ok(Literal { parts, first_wildcard })
    }

    /// Refuses a word that begins as comments do elsewhere.
    fn refuse_comment(&self) -> Result<(), Misread> {
        match ["//", "#"].into_iter().find(|sign| self.rest().starts_with(sign)) {
            Some(sign) => Err(Misread::new(
                self.at,
                format!("a comment (`{sign}`)"),
                format!("none, as KQL has no comments; quote a value that contains `{sign}`"),
            )),
            None => Ok(()),
        }
    }

    /// What a backslash outside quotes stands for; the backslash at `offset` is taken already.
    fn unquoted_escape(&mut self, offset: usize, into: &mut String) -> Result<(), Misread> {
        for name in ["not", "and", "or"] {
            let rest = self.rest();
            let is_it = rest.get(..name.len()).is_some_and(|word| word.eq_ignore_ascii_case(name));
            let is_whole = !rest
                .get(name.len()..)
                .and_then(|behind| behind.chars().next())
                .is_some_and(|c| c.is_alphanumeric() || c == '_');
            if is_it && is_whole {
                into.push_str(&rest[..name.len()]);
                self.at += name.len();
                return Ok(());
            }
        }
        let escaped = match self.peek() {
            Some(c) if c == '*' || c == ' ' || SPECIAL.contains(&c) => {
                self.bump();
                Some(c)
            }
            _ => self.common_escape(offset)?,
        };
        match escaped {
            Some(c) => {
                into.push(c);
                Ok(())
            }
            None => Err(self.unknown_escape(
                offset,
                "a backslash only before `\\ ( ) : < > \" * { }`, a space, a keyword, `n`, `r`, `t` or `u0041`; \
                 write `\\\\` for a backslash",
            )),
        }
    }

    /// `n`, `r`, `t` and `uXXXX` (two of them for a surrogate pair) behind a backslash; `None` if it is something else.
    fn common_escape(&mut self, offset: usize) -> Result<Option<char>, Misread> {
        let c = match self.peek() {
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => return self.unicode_escape(offset).map(Some),
            _ => return Ok(None),
        };
        self.bump();
        Ok(Some(c))
    }

    fn unicode_escape(&mut self, offset: usize) -> Result<char, Misread> {
        let mut units = vec![];
        if let Some(unit) = self.unicode_unit() {
            units.push(unit);
            if (0xD800..0xDC00).contains(&unit) && self.rest().starts_with("\\u") {
                self.bump();
                units.extend(self.unicode_unit());
            }
        }
        match char::decode_utf16(units).next() {
            Some(Ok(c)) => Ok(c),
            _ => Err(Misread::new(
                offset,
                "a `\\u` that stands for no character",
                "`\\u` and four hexadecimal digits (twice for a surrogate pair)",
            )),
        }
    }

    /// Takes `uXXXX`.
    fn unicode_unit(&mut self) -> Option<u16> {
        if !self.is_unicode_unit() {
            return None;
        }
        let digits = &self.rest()[1..5];
        self.at += 5;
        u16::from_str_radix(digits, 16).ok()
    }

    /// Whether a `u`, or whatever stands here, is followed by four hexadecimal digits.
    fn is_unicode_unit(&self) -> bool {
        self.rest().get(1..5).is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
    }

    fn unknown_escape(&self, offset: usize, expected: &str) -> Misread {
        let found = match self.peek() {
            Some(c) => format!("the unknown escape `\\{}`", c.escape_debug()),
            None => "a backslash at its end".to_string(),
        };
        Misread::new(offset, found, expected)
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n' | '\u{a0}')
}
