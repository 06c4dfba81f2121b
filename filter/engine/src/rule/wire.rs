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
    Rule, Settings, Severity, Suppression, Template, TemplatePart, Test,
};

/// Why bytes are not what was to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mismatch {
    /// Where, in bytes from the start of the payload.
    pub(super) offset: usize,
    /// What was expected there.
    pub(super) expected: &'static str,
}

/// The bytes that are still to be read.
#[derive(Debug)]
pub(super) struct Reader<'b> {
    bytes: &'b [u8],
    offset: usize,
    nesting: usize,
}

impl<'b> Reader<'b> {
    fn take(&mut self, len: usize, expected: &'static str) -> Result<&'b [u8], Mismatch> {
        let taken = self.offset.checked_add(len).and_then(|end| self.bytes.get(self.offset..end));
        let taken = taken.ok_or_else(|| self.mismatch(expected))?;
        self.offset += len;
        Ok(taken)
    }

    fn mismatch(&self, expected: &'static str) -> Mismatch {
        Mismatch { offset: self.offset, expected }
    }

    fn tag<T: Copy>(&mut self, choices: &[T], expected: &'static str) -> Result<T, Mismatch> {
        let at = self.mismatch(expected);
        choices.get(usize::from(u8::read(self)?)).copied().ok_or(at)
    }
}

/// Reads a value that the bytes are the whole of.
pub(super) fn from_bytes<T: Wire>(bytes: &[u8]) -> Result<T, Mismatch> {
    let mut reader = Reader { bytes, offset: 0, nesting: 0 };
    let value = T::read(&mut reader)?;
    if reader.offset == bytes.len() { Ok(value) } else { Err(reader.mismatch("the end")) }
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
    fn read(reader: &mut Reader<'_>) -> Result<Self, Mismatch>;
    #[cfg(any(feature = "compile", test))]
    fn write(&self, out: &mut Vec<u8>);
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Wire for $number {
            fn read(reader: &mut Reader<'_>) -> Result<Self, Mismatch> {
                let bytes = reader.take(size_of::<$number>(), "a number")?;
                let mut number = [0; size_of::<$number>()];
                number.copy_from_slice(bytes);
                Ok(<$number>::from_le_bytes(number))
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
            fn read(reader: &mut Reader<'_>) -> Result<Self, Mismatch> {
                Ok($structure { $($field: Wire::read(reader)?),* })
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
            fn read(reader: &mut Reader<'_>) -> Result<Self, Mismatch> {
                reader.tag(&[$($choice::$variant),*], $name)
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
    Settings { event_root, dialect, as_organization_key, output_key, capacity }
    Rule { id, name, version, severity, risk_score, query, new_terms, suppression, alert }
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
    "a severity" Severity { Low, Medium, High, Critical }
    "a choice for missing fields" MissingFields { Suppress, DoNotSuppress }
    "a comparison of a range" RangeOp { Less, LessOrEqual, Greater, GreaterOrEqual }
}

impl Wire for bool {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Mismatch> {
        reader.tag(&[false, true], "0 or 1")
    }

    #[cfg(any(feature = "compile", test))]
    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl<T: Wire> Wire for Option<T> {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Mismatch> {
        if bool::read(reader)? { T::read(reader).map(Some) } else { Ok(None) }
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
    fn read(reader: &mut Reader<'_>) -> Result<Self, Mismatch> {
        let len = u32::read(reader)?;
        let at = reader.mismatch("UTF-8 text");
        let bytes = reader.take(len as usize, "text")?;
        core::str::from_utf8(bytes).map(String::from).map_err(|_| at)
    }

    #[cfg(any(feature = "compile", test))]
    fn write(&self, out: &mut Vec<u8>) {
        write_len(self.len(), out);
        out.extend_from_slice(self.as_bytes());
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Mismatch> {
        let len = u32::read(reader)?;
        // Grown as it is read: the length is not believed until then. Every item takes a byte at least.
        let mut items = Vec::new();
        for _ in 0..len {
            items.push(T::read(reader)?);
        }
        Ok(items)
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
    fn read(reader: &mut Reader<'_>) -> Result<Self, Mismatch> {
        Ok((A::read(reader)?, B::read(reader)?))
    }

    #[cfg(any(feature = "compile", test))]
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
        self.1.write(out);
    }
}

impl Wire for TemplatePart {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Mismatch> {
        match reader.tag(&[0, 1], "a template's part")? {
            0 => Wire::read(reader).map(TemplatePart::Text),
            _ => Wire::read(reader).map(TemplatePart::Field),
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
    fn read(reader: &mut Reader<'_>) -> Result<Self, Mismatch> {
        match reader.tag(&[0, 1, 2, 3, 4], "a test")? {
            0 => Ok(Test::Exists),
            1 => Wire::read(reader).map(Test::Equals),
            2 => Wire::read(reader).map(Test::Wildcard),
            3 => Ok(Test::Range(Wire::read(reader)?, Wire::read(reader)?)),
            _ => Wire::read(reader).map(Test::Cidr),
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
    fn read(reader: &mut Reader<'_>) -> Result<Self, Mismatch> {
        let at = reader.mismatch("a predicate that nests no deeper");
        let tag = reader.tag(&[0, 1, 2, 3], "a predicate")?;
        if tag == 3 {
            return Wire::read(reader).map(Predicate::Is);
        }
        if reader.nesting == MAX_NESTING {
            return Err(at);
        }
        reader.nesting += 1;
        let predicate = match tag {
            0 => Predicate::All(Wire::read(reader)?),
            1 => Predicate::Any(Wire::read(reader)?),
            _ => Predicate::Not(Box::new(Predicate::read(reader)?)),
        };
        reader.nesting -= 1;
        Ok(predicate)
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
