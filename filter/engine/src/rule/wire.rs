//! How each type of the IR stands in a pack's payload.
//!
//! In and out: bytes. Numbers are little-endian and of their type's width; text and lists begin with their length as 32
//! bits; what may be absent begins with 0 or 1; a choice begins with its tag, one byte; a structure is its fields in the
//! order given here. Nothing names itself: the pack's format version stands for all of this. Bounds: reading takes memory
//! in proportion to the bytes there are, whatever a length claims, and predicates nest at most [`MAX_NESTING`] deep. Not
//! here: the header and the checks of what was read ([`super::pack`]).

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use super::{
    AlertTexts, Comparison, Dialect, Entity, FieldRef, MAX_NESTING, MissingFields, NewTerms, Pack, Predicate, RangeOp,
    Rule, Settings, Severity, Suppression, Sync, Template, TemplatePart, Test, Warming,
};

/// Why bytes are not what was to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mismatch {
    /// Where, in bytes from the start of the payload.
    pub(super) offset: usize,
    /// What was expected there.
    pub(super) expected: &'static str,
}

/// The bytes that are still to be read. The first mismatch is kept, and leaves no more bytes: whatever is read after it is
/// zero, empty, or the first of its choices, and is thrown away with the rest.
#[derive(Debug)]
pub(super) struct Reader<'b> {
    len: usize,
    rest: &'b [u8],
    nesting: usize,
    mismatch: Option<Mismatch>,
}

impl<'b> Reader<'b> {
    fn offset(&self) -> usize {
        self.len - self.rest.len()
    }

    fn fail(&mut self, offset: usize, expected: &'static str) {
        self.rest = &[];
        self.mismatch.get_or_insert(Mismatch { offset, expected });
    }

    fn take(&mut self, len: usize, expected: &'static str) -> &'b [u8] {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            self.fail(self.offset(), expected);
            return &[];
        };
        self.rest = rest;
        taken
    }

    /// A number of so many bytes.
    fn number(&mut self, width: usize) -> u64 {
        self.take(width, "a number").iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// The tag of one of so many choices.
    fn tag(&mut self, choices: usize, expected: &'static str) -> usize {
        let at = self.offset();
        let tag = self.number(1) as usize;
        if tag < choices {
            return tag;
        }
        self.fail(at, expected);
        0
    }
}

/// Reads a value that the bytes are the whole of.
pub(super) fn from_bytes<T: Wire>(bytes: &[u8]) -> Result<T, Mismatch> {
    let mut reader = Reader { len: bytes.len(), rest: bytes, nesting: 0, mismatch: None };
    let value = T::read(&mut reader);
    if !reader.rest.is_empty() {
        reader.fail(reader.offset(), "the end");
    }
    match reader.mismatch {
        None => Ok(value),
        Some(mismatch) => Err(mismatch),
    }
}

/// Writes a value.
#[cfg(any(feature = "compile", test))]
pub(super) fn to_bytes(value: &impl Wire) -> Vec<u8> {
    let mut out = Vec::new();
    value.write(&mut out);
    out
}

/// What can stand in a payload.
pub(super) trait Wire: Sized {
    fn read(reader: &mut Reader<'_>) -> Self;
    #[cfg(any(feature = "compile", test))]
    fn write(&self, out: &mut Vec<u8>);
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Wire for $number {
            fn read(reader: &mut Reader<'_>) -> Self {
                reader.number(size_of::<$number>()) as $number
            }

            #[cfg(any(feature = "compile", test))]
            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}

/// Structures, field by field; a field's name is only its place.
macro_rules! structures {
    ($($structure:ident { $($field:tt),* })*) => {$(
        impl Wire for $structure {
            fn read(reader: &mut Reader<'_>) -> Self {
                $structure { $($field: Wire::read(reader)),* }
            }

            #[cfg(any(feature = "compile", test))]
            fn write(&self, out: &mut Vec<u8>) {
                $(self.$field.write(out);)*
            }
        }
    )*};
}

/// Choices without content; a choice's tag is its place.
macro_rules! choices {
    ($($name:literal $choice:ident { $($variant:ident),* })*) => {$(
        impl Wire for $choice {
            fn read(reader: &mut Reader<'_>) -> Self {
                let choices = [$($choice::$variant),*];
                choices[reader.tag(choices.len(), $name)]
            }

            #[cfg(any(feature = "compile", test))]
            fn write(&self, out: &mut Vec<u8>) {
                let tag = [$($choice::$variant),*].iter().position(|choice| choice == self);
                out.extend(tag.and_then(|tag| u8::try_from(tag).ok()));
            }
        }
    )*};
}

numbers!(u8, u16, u32, u64);

structures! {
    Pack { settings, fields, rules }
    Settings { event_root, dialect, as_organization_key, output_key, capacity, warming, sync, max_clock_skew_ms }
    Rule { id, name, version, severity, risk_score, query, new_terms, suppression, alert, building_block }
    NewTerms { fields, window_ms, window }
    Suppression { group_by, duration_ms, missing }
    AlertTexts { title, description, entities, details, threat }
    Entity { kind, attributes }
    Comparison { field, test, ignore_case }
    FieldRef { 0 }
    Template { 0 }
}

choices! {
    "a dialect" Dialect { CloudTrail, Ecs, Sentinel }
    "a choice for a warming history" Warming { Mark, Hold }
    "a choice of what is synced" Sync { None, Data }
    "a severity" Severity { Low, Medium, High, Critical }
    "a choice for missing fields" MissingFields { Suppress, DoNotSuppress }
    "a comparison of a range" RangeOp { Less, LessOrEqual, Greater, GreaterOrEqual }
}

impl Wire for bool {
    fn read(reader: &mut Reader<'_>) -> Self {
        reader.tag(2, "0 or 1") == 1
    }

    #[cfg(any(feature = "compile", test))]
    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl<T: Wire> Wire for Option<T> {
    fn read(reader: &mut Reader<'_>) -> Self {
        bool::read(reader).then(|| T::read(reader))
    }

    #[cfg(any(feature = "compile", test))]
    fn write(&self, out: &mut Vec<u8>) {
        self.is_some().write(out);
        if let Some(value) = self {
            value.write(out);
        }
    }
}

impl Wire for String {
    fn read(reader: &mut Reader<'_>) -> Self {
        let len = u32::read(reader);
        let at = reader.offset();
        let text = core::str::from_utf8(reader.take(len as usize, "text")).unwrap_or_else(|_| {
            reader.fail(at, "UTF-8 text");
            ""
        });
        String::from(text)
    }

    #[cfg(any(feature = "compile", test))]
    fn write(&self, out: &mut Vec<u8>) {
        write_len(self.len(), out);
        out.extend_from_slice(self.as_bytes());
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn read(reader: &mut Reader<'_>) -> Self {
        // Grown as it is read: the length is not believed until then. Every item takes a byte at least.
        let mut items = Vec::new();
        for _ in 0..u32::read(reader) {
            items.push(T::read(reader));
            if reader.mismatch.is_some() {
                break;
            }
        }
        items
    }

    #[cfg(any(feature = "compile", test))]
    fn write(&self, out: &mut Vec<u8>) {
        write_len(self.len(), out);
        self.iter().for_each(|item| item.write(out));
    }
}

/// The compiler's bounds keep every length far below 32 bits.
#[cfg(any(feature = "compile", test))]
fn write_len(len: usize, out: &mut Vec<u8>) {
    u32::try_from(len).unwrap_or(u32::MAX).write(out);
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    fn read(reader: &mut Reader<'_>) -> Self {
        (A::read(reader), B::read(reader))
    }

    #[cfg(any(feature = "compile", test))]
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
        self.1.write(out);
    }
}

impl Wire for TemplatePart {
    fn read(reader: &mut Reader<'_>) -> Self {
        match reader.tag(2, "a template's part") {
            0 => TemplatePart::Text(Wire::read(reader)),
            _ => TemplatePart::Field(Wire::read(reader)),
        }
    }

    #[cfg(any(feature = "compile", test))]
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            TemplatePart::Text(text) => (0u8, text.clone()).write(out),
            TemplatePart::Field(field) => (1u8, *field).write(out),
        }
    }
}

impl Wire for Test {
    fn read(reader: &mut Reader<'_>) -> Self {
        match reader.tag(5, "a test") {
            0 => Test::Exists,
            1 => Test::Equals(Wire::read(reader)),
            2 => Test::Wildcard(Wire::read(reader)),
            3 => Test::Range(Wire::read(reader), Wire::read(reader)),
            _ => Test::Cidr(Wire::read(reader)),
        }
    }

    #[cfg(any(feature = "compile", test))]
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Test::Exists => 0u8.write(out),
            Test::Equals(literal) => (1u8, literal.clone()).write(out),
            Test::Wildcard(parts) => (2u8, parts.clone()).write(out),
            Test::Range(op, bound) => (3u8, (*op, bound.clone())).write(out),
            Test::Cidr(network) => (4u8, network.clone()).write(out),
        }
    }
}

impl Wire for Predicate {
    fn read(reader: &mut Reader<'_>) -> Self {
        let at = reader.offset();
        let tag = reader.tag(4, "a predicate");
        if tag == 3 {
            return Predicate::Is(Wire::read(reader));
        }
        if reader.nesting == MAX_NESTING {
            reader.fail(at, "a predicate that nests no deeper");
            return Predicate::All(Vec::new());
        }
        reader.nesting += 1;
        let predicate = match tag {
            0 => Predicate::All(Wire::read(reader)),
            1 => Predicate::Any(Wire::read(reader)),
            _ => Predicate::Not(Box::new(Wire::read(reader))),
        };
        reader.nesting -= 1;
        predicate
    }

    #[cfg(any(feature = "compile", test))]
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Predicate::All(all) => {
                out.push(0);
                all.write(out);
            }
            Predicate::Any(any) => {
                out.push(1);
                any.write(out);
            }
            Predicate::Not(inner) => {
                out.push(2);
                inner.write(out);
            }
            Predicate::Is(comparison) => {
                out.push(3);
                comparison.write(out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn bytes_stand_as_the_page_says() {
        let entity = Entity { kind: "ip".to_string(), attributes: Vec::from([("a".to_string(), FieldRef(258))]) };
        assert_eq!(to_bytes(&entity), [2, 0, 0, 0, b'i', b'p', 1, 0, 0, 0, 1, 0, 0, 0, b'a', 2, 1]);
        assert_eq!(to_bytes(&Predicate::Not(Box::new(Predicate::All(Vec::new())))), [2, 0, 0, 0, 0, 0]);
        let range = Test::Range(RangeOp::GreaterOrEqual, "9".to_string());
        assert_eq!(to_bytes(&range), [3, 3, 1, 0, 0, 0, b'9']);
        assert_eq!(to_bytes(&Some(Dialect::Sentinel)), [1, 2]);
        assert_eq!(to_bytes(&0x0102_0304u32), [4, 3, 2, 1]);
    }

    #[test]
    fn what_cannot_be_read_is_said_with_its_place() {
        let mismatch = |offset, expected| Mismatch { offset, expected };
        assert_eq!(from_bytes::<bool>(&[2]), Err(mismatch(0, "0 or 1")));
        assert_eq!(from_bytes::<String>(&[1, 0, 0, 0, 0xff]), Err(mismatch(4, "UTF-8 text")));
        assert_eq!(from_bytes::<String>(&[255, 255, 255, 255, 0]), Err(mismatch(4, "text")));
        assert_eq!(from_bytes::<Vec<u16>>(&[2, 0, 0, 0, 7, 0, 7]), Err(mismatch(6, "a number")));
        assert_eq!(from_bytes::<u8>(&[1, 2]), Err(mismatch(1, "the end")));
        assert_eq!(from_bytes::<Predicate>(&[9]), Err(mismatch(0, "a predicate")));
        let deep = [2u8; 100_000];
        assert_eq!(from_bytes::<Predicate>(&deep), Err(mismatch(MAX_NESTING, "a predicate that nests no deeper")));
    }
}
