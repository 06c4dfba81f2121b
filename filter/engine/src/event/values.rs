//! The values that were found in a record, and where each slot's are.
//!
//! In: what the reader captured in one scope. Out: the values of a slot in one step. Bounds: a few words a value and a slot.
//! Not here: reading, and what a field is made of ([`super::EventView`]).

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use super::json;
use super::paths::Slot;
use super::value::{self, Value};

/// A value that was found: where, and its text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Captured<'a> {
    /// Of text without escapes what it spells, of anything else its JSON text.
    pub(super) text: &'a str,
    pub(super) is_plain: bool,
    pub(super) slot: Slot,
}

impl<'a> Captured<'a> {
    /// The text, if it is one that is not empty and has no escapes.
    #[inline]
    pub(crate) fn plain_text(&self) -> Option<&'a str> {
        if self.is_plain && !self.text.is_empty() { Some(self.text) } else { None }
    }

    /// What it spells if it is text, or else its JSON text.
    pub(crate) fn decoded(&self) -> Result<Cow<'a, str>, &'a str> {
        if self.is_plain { Ok(Cow::Borrowed(self.text)) } else { json::decode(self.text).ok_or(self.text) }
    }

    /// What it holds if it is text that is itself JSON, as Sentinel keeps objects, or its own JSON text.
    pub(crate) fn structure(&self) -> Cow<'a, str> {
        match self.decoded() {
            Ok(Cow::Borrowed(text)) => Cow::Borrowed(text.trim_ascii()),
            Ok(Cow::Owned(text)) => Cow::Owned(String::from(text.trim_ascii())),
            Err(json) => Cow::Borrowed(json),
        }
    }

    /// Calls `visit` with each value until it breaks.
    pub(crate) fn each(&self, visit: &mut dyn FnMut(Value<'a>) -> ControlFlow<()>) -> ControlFlow<()> {
        match self.plain_text() {
            Some(text) => visit(Value::Text(Cow::Borrowed(text))),
            None if self.is_plain => ControlFlow::Continue(()),
            None => value::each(self.text, visit),
        }
    }

    /// Whether it holds a value at all.
    pub(crate) fn has_value(&self) -> bool {
        self.each(&mut |_| ControlFlow::Break(())).is_break()
    }
}

/// Set in the place of a slot's first value if it has others behind that.
const IS_REPEATED: u32 = 1 << 31;

/// The values that were found in one scope, by slot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Values<'a> {
    captured: &'a [Captured<'a>],
    index: &'a Index,
}

/// Where the values of each slot are among those of one scope.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// The first value of each slot, by its place from 1 on and perhaps with [`IS_REPEATED`]; 0 if there is none.
    first: Vec<u32>,
}

impl Index {
    /// Becomes the index of these values.
    pub(crate) fn set(&mut self, captured: &[Captured<'_>], slots: usize) {
        if self.first.len() == slots {
            self.first.fill(0);
        } else {
            self.first = vec![0; slots];
        }
        let first = self.first.as_mut_slice();
        // From the last on, so that the first of each slot stays.
        let mut place = captured.len() as u32;
        for value in captured.iter().rev() {
            if let Some(first) = first.get_mut(usize::from(value.slot.0)) {
                *first = place | u32::from(*first != 0) << IS_REPEATED.trailing_zeros();
            }
            place -= 1;
        }
    }

    /// The values that it is the index of.
    pub(crate) fn values<'a>(&'a self, captured: &'a [Captured<'a>]) -> Values<'a> {
        Values { captured, index: self }
    }
}

impl<'a> Values<'a> {
    /// What was found at a slot, in the record's order.
    pub(crate) fn at(&self, slot: Slot) -> impl Iterator<Item = &'a Captured<'a>> + Clone + use<'a> {
        let first = self.index.first.get(usize::from(slot.0)).copied().unwrap_or(0);
        let from = ((first & !IS_REPEATED) as usize).wrapping_sub(1);
        let found = match self.captured.get(from..) {
            Some([only, ..]) if first & IS_REPEATED == 0 => core::slice::from_ref(only),
            found => found.unwrap_or_default(),
        };
        found.iter().filter(move |value| value.slot == slot)
    }

    /// What was found at a slot, if that is one value.
    #[inline]
    pub(crate) fn only(&self, slot: Slot) -> Option<&'a Captured<'a>> {
        let first = *self.index.first.get(usize::from(slot.0))?;
        self.captured.get((first as usize).wrapping_sub(1))
    }
}
