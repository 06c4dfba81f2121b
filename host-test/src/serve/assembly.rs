//! The body that is passed on: what came, with the records that the module changed in the place of what stood there.
//!
//! In: the texts of a batch, and the changed records one by one. Out: the body in pieces, and what the alerts in it are. Bounds: long
//! parts that stay as they are are not copied; memory is asked for before anything else is, once. Not here: packing.

use std::collections::HashMap;
use std::ops::Range;

use axum::body::Bytes;

use crate::alerts::{self, Alert};
use crate::logs::json_text;
use crate::serve::memory::{Exhausted, MemoryPermit};
use crate::serve::pieces::Pieces;

/// What the alerts of a batch are, to be counted when it is delivered.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Found {
    /// How many there are, by rule and reason; no reason for a rule that asks for no new terms.
    pub alerts: HashMap<(String, String), u64>,
    /// Events in a group that has alerted already.
    pub suppressed: u64,
}

impl Found {
    /// Takes down the alerts that a change has appended to a record.
    pub fn note(&mut self, record: &[u8], change: &[u8], output_key: &str) {
        let Some(appended) = alerts::appended(record, change, output_key) else { return };
        for alert in appended.alerts.iter().filter_map(|alert| Alert::read(alert)) {
            let reason = alert.new_terms.and_then(|new_terms| new_terms.reason).unwrap_or_default();
            *self.alerts.entry((alert.rule.id, reason)).or_default() += 1;
        }
        self.suppressed += appended.suppressed.len() as u64;
    }
}

/// The body that is passed on, as it grows.
#[derive(Debug, Default)]
pub struct Assembly {
    body: Pieces,
    /// Up to where the text in work is done.
    at: usize,
    /// Where a record stands alone, before it is copied.
    compact: Vec<u8>,
    /// How many records were changed.
    pub changed: u64,
    /// The alerts in them.
    pub found: Found,
}

impl Assembly {
    /// Puts a changed record behind the text before it. The permit stands for all of it.
    ///
    /// # Errors
    /// [`Exhausted`].
    pub fn replace(
        &mut self,
        text: &Bytes,
        place: &Range<usize>,
        changed: &[u8],
        permit: &mut MemoryPermit,
    ) -> Result<(), Exhausted> {
        let gap = text.slice(self.at..place.start);
        permit.take(Pieces::copies(&gap) + changed.len())?;
        self.body.push_or_copy(gap);
        self.body.copy(changed);
        self.at = place.end;
        self.changed += 1;
        Ok(())
    }

    /// Puts a changed record behind the others, in an array or on a line of its own.
    ///
    /// # Errors
    /// [`Exhausted`].
    pub fn add(&mut self, changed: &[u8], is_array: bool, permit: &mut MemoryPermit) -> Result<(), Exhausted> {
        self.compact.clear();
        if is_array {
            self.compact.push(if self.changed == 0 { b'[' } else { b',' });
        }
        json_text::compact(changed, &mut self.compact);
        if !is_array {
            self.compact.push(b'\n');
        }
        permit.take(self.compact.len())?;
        self.body.copy(&self.compact);
        self.changed += 1;
        Ok(())
    }

    /// Puts what is left of a text behind its changed records.
    ///
    /// # Errors
    /// [`Exhausted`].
    pub fn end_text(&mut self, text: &Bytes, permit: &mut MemoryPermit) -> Result<(), Exhausted> {
        let rest = text.slice(std::mem::take(&mut self.at)..);
        if rest.len() == text.len() {
            self.body.push(rest);
            return Ok(());
        }
        permit.take(Pieces::copies(&rest))?;
        self.body.push_or_copy(rest);
        Ok(())
    }

    /// Ends a body of records alone.
    pub fn end_alone(&mut self, is_array: bool) {
        if is_array {
            self.body.copy(if self.changed == 0 { b"[]" } else { b"]" });
        }
    }

    /// The body, and what its alerts are.
    pub fn into_parts(self) -> (Pieces, Found) {
        (self.body, self.found)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::serve::memory::Memory;

    fn joined(assembly: Assembly) -> Vec<u8> {
        assembly.into_parts().0.into_pieces().collect::<Vec<_>>().concat()
    }

    proptest! {
        #[test]
        fn each_change_stands_where_its_record_stood(
            texts in proptest::collection::vec((
                proptest::collection::vec((0usize..9000, 0usize..3000, 0usize..9000), 0..5), 0usize..9000,
            ), 0..4),
        ) {
            let (memory, mut assembly, mut expected) = (Memory::new(1 << 30), Assembly::default(), Vec::new());
            let mut permit = memory.permit();
            for (parts, end) in texts {
                let (mut text, mut changes) = (Vec::new(), Vec::new());
                for (number, (gap, record, change)) in parts.into_iter().enumerate() {
                    text.resize(text.len() + gap, b'g');
                    expected.resize(expected.len() + gap, b'g');
                    changes.push((text.len()..text.len() + record, vec![b'0' + number as u8; change]));
                    expected.resize(expected.len() + change, b'0' + number as u8);
                    text.resize(text.len() + record, b'r');
                }
                text.resize(text.len() + end, b'e');
                expected.resize(expected.len() + end, b'e');
                permit.take(text.len()).expect("there is room");
                let text = Bytes::from(text);
                for (place, change) in &changes {
                    assembly.replace(&text, place, change, &mut permit).expect("there is room");
                }
                assembly.end_text(&text, &mut permit).expect("there is room");
            }
            // The permit stands for each byte of the body at least.
            prop_assert!(memory.held() >= expected.len());
            prop_assert_eq!(joined(assembly), expected);
        }
    }

    #[test]
    fn changed_records_stand_alone() {
        let memory = Memory::new(1 << 20);
        for (is_array, records, expected) in [
            (true, vec![&b"{\n\"c\": 3 }"[..], b"{}"], &b"[{\"c\":3},{}]"[..]),
            (false, vec![b"{\n\"c\": 3 }", b"{}"], b"{\"c\":3}\n{}\n"),
            (true, vec![], b"[]"),
            (false, vec![], b""),
        ] {
            let (mut permit, mut assembly) = (memory.permit(), Assembly::default());
            for record in records {
                assembly.add(record, is_array, &mut permit).expect("there is room");
            }
            assembly.end_alone(is_array);
            assert_eq!(joined(assembly), expected);
        }
        assert_eq!(Assembly::default().add(&[b'1'; 2 << 20], false, &mut memory.permit()), Err(Exhausted::Ever));
    }
}
