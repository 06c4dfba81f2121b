//! The body that is passed on: what came, with the records that the module changed in the place of what stood there.
//!
//! In: the texts of a batch, and for each text its changes. Out: the body in pieces, and what the alerts in it are. Bounds: long
//! parts are not copied; memory is asked for before short ones are, and freed as changes are used up. Not here: packing.

use std::collections::HashMap;

use axum::body::Bytes;

use crate::alerts::{self, Alert};
use crate::logs::body::{self, Change};
use crate::serve::memory::{Exhausted, MemoryPermit};
use crate::serve::pieces::Pieces;

/// What a change takes beside its text, in bytes: its place in a list that may have doubled, and what the allocator adds.
pub const CHANGE: usize = 112;

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

/// Puts a text with these changes, in its order, behind a body. The permit stands for all of it.
///
/// # Errors
/// [`Exhausted`].
pub fn push_text(
    body: &mut Pieces,
    text: &Bytes,
    changes: Vec<Change>,
    permit: &mut MemoryPermit,
) -> Result<(), Exhausted> {
    if changes.is_empty() {
        body.push(text.clone());
        return Ok(());
    }
    let (mut at, mut is_copied) = (0, true);
    let mut push_gap = |body: &mut Pieces, gap: Bytes, permit: &mut MemoryPermit| {
        permit.take(Pieces::copies(&gap))?;
        is_copied &= Pieces::copies(&gap) == gap.len();
        body.push_or_copy(gap);
        Ok(())
    };
    for (place, change) in changes {
        push_gap(body, text.slice(at..place.start), permit)?;
        push_change(body, change, permit)?;
        at = place.end;
    }
    push_gap(body, text.slice(at..), permit)?;
    if is_copied {
        permit.free(text.len());
    }
    Ok(())
}

/// Puts the changed records alone behind a body: in an array, or each on a line.
///
/// # Errors
/// [`Exhausted`].
pub fn push_alone(
    body: &mut Pieces,
    records: impl IntoIterator<Item = Vec<u8>>,
    is_array: bool,
    permit: &mut MemoryPermit,
) -> Result<(), Exhausted> {
    body::each_alone(records, is_array, |record, of| {
        match (record.len(), of) {
            // What stands around the records.
            (length, 0) => permit.take(length + CHANGE)?,
            (length, of) if length > of => permit.take(length - of)?,
            (length, of) => permit.free(of - length),
        }
        push_change(body, record, permit)
    })
}

/// Puts what the permit stands for as a change behind a body.
fn push_change(body: &mut Pieces, change: Vec<u8>, permit: &mut MemoryPermit) -> Result<(), Exhausted> {
    let copied = Pieces::copies(&change);
    permit.take(copied)?;
    body.push_or_copy(Bytes::from(change));
    if copied > 0 {
        permit.free(copied + CHANGE);
    }
    Ok(())
}

/// The body's bytes, one behind the other.
#[cfg(test)]
fn joined(body: Pieces) -> Vec<u8> {
    body.into_pieces().collect::<Vec<_>>().concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::serve::memory::Memory;

    /// The text with the changes, the plain way.
    fn replaced(text: &[u8], changes: &[Change]) -> Vec<u8> {
        let (mut out, mut at) = (Vec::new(), 0);
        for (place, change) in changes {
            out.extend_from_slice(&text[at..place.start]);
            out.extend_from_slice(change);
            at = place.end;
        }
        out.extend_from_slice(&text[at..]);
        out
    }

    fn permit_for(memory: &std::sync::Arc<Memory>, text: &[u8], changes: &[Change]) -> MemoryPermit {
        let mut permit = memory.permit();
        let held = text.len() + changes.iter().map(|(_, change)| change.len() + CHANGE).sum::<usize>();
        permit.take(held).expect("there is room");
        permit
    }

    proptest! {
        #[test]
        fn each_change_stands_where_its_record_stood(
            parts in proptest::collection::vec((0usize..9000, 0usize..3000, 0usize..9000), 0..8), end in 0usize..9000,
        ) {
            let (mut text, mut changes) = (Vec::new(), Vec::new());
            for (number, (gap, record, change)) in parts.into_iter().enumerate() {
                text.resize(text.len() + gap, b'g');
                changes.push((text.len()..text.len() + record, vec![b'0' + number as u8; change]));
                text.resize(text.len() + record, b'r');
            }
            text.resize(text.len() + end, b'e');
            let expected = replaced(&text, &changes);
            let memory = Memory::new(1 << 20);
            let mut permit = permit_for(&memory, &text, &changes);
            let mut body = Pieces::default();
            push_text(&mut body, &Bytes::from(text), changes, &mut permit).expect("there is room");
            // The permit stands for each byte of the body at least.
            prop_assert!(memory.held() >= expected.len());
            prop_assert_eq!(body.len(), expected.len());
            prop_assert_eq!(joined(body), expected);
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
            let changes: Vec<Change> = records.iter().map(|record| (0..0, record.to_vec())).collect();
            let mut permit = permit_for(&memory, b"", &changes);
            let mut body = Pieces::default();
            let alone = changes.into_iter().map(|(_, change)| change);
            push_alone(&mut body, alone, is_array, &mut permit).expect("there is room");
            assert_eq!(joined(body), expected);
        }
    }
}
