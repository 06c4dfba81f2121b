//! The paths that the loaded rules ask for, as a tree of their levels.
//!
//! In: paths with dots between their levels. Out: for a key of a record, the [`Node`] that it leads to, found in a few steps,
//! whether the record writes levels as nested objects, as one flat key with dots, or as a mix. Bounds: a few words a level. Not
//! here: reading records ([`super::reader`]), what the values mean.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::envelope::{self, Encoding};
use crate::words::{first_word, is_plain, same};

/// A path that is read, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(pub(super) u16);

/// The paths to read, as a tree of their levels.
#[derive(Debug)]
pub(crate) struct Paths {
    /// All but the root, each at the place before its number.
    nodes: Vec<Node>,
    /// The last node that was put into each bucket, or the root where there is none.
    buckets: Box<[u16; BUCKETS]>,
    slots: u16,
}

/// What is done with what stands at an envelope's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opens {
    pub(super) encoding: Encoding,
    /// Whether the operator names it.
    pub(super) is_event_root: bool,
}

/// A level below another node or the root.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) number: NodeId,
    /// The first eight bytes of the name, as [`first_word`] has them, and which bits of them are the name's.
    first: u64,
    mask: u64,
    /// The last eight bytes of a name that has as many.
    last: u64,
    name: Box<[u8]>,
    pub(super) parent: NodeId,
    /// The node that was put into the same bucket before, or the root if there is none.
    next: u16,
    pub(super) slot: Option<Slot>,
    pub(super) opens: Option<Opens>,
    pub(super) has_children: bool,
}

/// A level of a path, by its number; [`ROOT`] is above all.
pub(super) type NodeId = usize;

/// Nodes stand in buckets, so that a key of a record is compared with hardly any that it is not. There are about four times
/// as many as the built-in rules have nodes.
const BUCKETS: usize = 512;

/// A name as nodes are found by it.
#[derive(Debug, Clone, Copy)]
struct NameKey {
    /// As [`Node`] has them.
    first: u64,
    mask: u64,
    last: u64,
    bucket: usize,
}

impl NameKey {
    /// That of a name below this node.
    fn new(parent: NodeId, name: &[u8]) -> NameKey {
        let mask = u64::MAX.checked_shr(8 * 8usize.saturating_sub(name.len()) as u32).unwrap_or(0);
        // A name that JSON writes with an escape does not stand anywhere as it is.
        let (first, mask) = if is_plain(name) { (first_word(name), mask) } else { (1, 0) };
        let last = name.last_chunk().map(|last| u64::from_le_bytes(*last));
        let bucket = if last.is_some() { bucket_of_long(parent, first) } else { bucket_of_short(parent, first) };
        NameKey { first, mask, last: last.unwrap_or(0), bucket }
    }
}

/// The bucket of a name of eight bytes or more below this node, by the first eight.
fn bucket_of_long(parent: NodeId, first: u64) -> usize {
    // Spreads what differs over the highest bits (Fibonacci hashing).
    ((first ^ parent as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 55) as usize % BUCKETS
}

/// The bucket of a shorter name, by its first byte: where in a key a name ends is not known.
fn bucket_of_short(parent: NodeId, first: u64) -> usize {
    usize::from(first as u8).wrapping_add(parent * 37) % BUCKETS
}

impl Node {
    /// Whether the name stands ahead with a quote or a dot behind it, given that its first eight bytes do.
    #[inline]
    fn is_ahead(&self, ahead: &[u8]) -> bool {
        let Some((name, [b'"' | b'.', ..])) = ahead.split_at_checked(self.name.len()) else { return false };
        let Some((between, last)) = name.split_last_chunk() else { return true };
        u64::from_le_bytes(*last) == self.last
            && (between.len() <= 8 || same(&between[8..], &self.name[8..between.len()]))
    }
}

/// What is above all paths.
pub(super) const ROOT: NodeId = 0;

impl Paths {
    /// The paths that every record is read by: those of the envelopes, and the operator's own, `event_root`.
    pub(crate) fn new(event_root: Option<&str>) -> Paths {
        let mut paths = Paths { nodes: Vec::new(), buckets: Box::new([0; BUCKETS]), slots: 0 };
        let is_passed = |path: &str| {
            let rest = event_root.and_then(|root| root.strip_prefix(path));
            rest.is_some_and(|rest| rest.starts_with('.'))
        };
        // What the operator's path leads through is opened by that path, and not a second time by itself.
        for (path, encoding) in envelope::PATHS.into_iter().filter(|(path, _)| !is_passed(path)) {
            paths.node_at(path).opens = Some(Opens { encoding, is_event_root: false });
        }
        if let Some(path) = event_root {
            paths.node_at(path).opens = Some(Opens { encoding: Encoding::Json, is_event_root: true });
        }
        paths
    }

    /// How many slots there are.
    pub(super) fn slots(&self) -> usize {
        usize::from(self.slots)
    }

    /// The slot that values at this path go to; the same path has one slot.
    pub(crate) fn slot(&mut self, path: &str) -> Slot {
        let next = Slot(self.slots);
        let slot = *self.node_at(path).slot.get_or_insert(next);
        self.slots += u16::from(slot == next);
        slot
    }

    /// The node of a path, which is made if there is none.
    fn node_at(&mut self, path: &str) -> &mut Node {
        let mut at = None;
        for level in path.as_bytes().split(|byte| *byte == b'.') {
            let parent = at.map_or(ROOT, |at: usize| self.nodes[at].number);
            let key = NameKey::new(parent, level);
            at = Some(match self.tree().child_of_key(parent, level, key) {
                Some(child) => child.number - 1,
                None => self.add_child(parent, level, key),
            });
        }
        // A path has one level at least.
        &mut self.nodes[at.unwrap_or(0)]
    }

    /// Makes a child; its place in the list of nodes.
    fn add_child(&mut self, parent: NodeId, name: &[u8], key: NameKey) -> usize {
        let NameKey { first, mask, last, bucket } = key;
        if let Some(parent) = self.nodes.get_mut(parent.wrapping_sub(1)) {
            parent.has_children = true;
        }
        let at = self.nodes.len();
        self.nodes.push(Node {
            number: at + 1,
            first,
            mask,
            last,
            name: name.into(),
            parent,
            next: core::mem::replace(&mut self.buckets[bucket], at as u16 + 1),
            slot: None,
            opens: None,
            has_children: false,
        });
        at
    }

    pub(super) fn tree(&self) -> Tree<'_> {
        Tree { nodes: &self.nodes, buckets: &self.buckets }
    }
}

/// The nodes and how they are found, where no store can be thought to change them: what reads them keeps their addresses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tree<'p> {
    nodes: &'p [Node],
    buckets: &'p [u16; BUCKETS],
}

impl<'p> Tree<'p> {
    /// The child of this name.
    fn child(self, parent: NodeId, name: &[u8]) -> Option<&'p Node> {
        self.child_of_key(parent, name, NameKey::new(parent, name))
    }

    /// The child of a name whose key is known.
    fn child_of_key(self, parent: NodeId, name: &[u8], key: NameKey) -> Option<&'p Node> {
        let mut number = self.buckets[key.bucket];
        loop {
            let node = self.nodes.get(usize::from(number).wrapping_sub(1))?;
            if node.parent == parent && node.first == key.first && same(&node.name, name) {
                return Some(node);
            }
            number = node.next;
        }
    }

    /// Goes down by a name, which may be of several levels with dots between.
    pub(super) fn descend(self, node: NodeId, name: &[u8]) -> Option<&'p Node> {
        let mut levels = name.split(|byte| *byte == b'.');
        let first = self.child(node, levels.next()?)?;
        levels.try_fold(first, |node, level| self.child(node.number, level))
    }

    /// Goes down by the key that stands ahead in JSON, its opening quote left out; where to, and the key's length. `None` if no
    /// path has the key, or if it has but is written with an escape.
    #[inline]
    pub(super) fn descend_ahead(self, mut parent: NodeId, key: &[u8]) -> Option<(&'p Node, usize)> {
        let mut ahead = key;
        loop {
            let node = self.child_ahead(parent, ahead)?;
            let (separator, behind) = ahead.get(node.name.len()..)?.split_first()?;
            if *separator == b'"' {
                return Some((node, key.len() - behind.len() - 1));
            }
            (parent, ahead) = (node.number, behind);
        }
    }

    /// The child whose name stands ahead, with a quote or a dot behind it.
    #[inline]
    fn child_ahead(self, parent: NodeId, ahead: &[u8]) -> Option<&'p Node> {
        let word = first_word(ahead);
        let mut number = self.buckets[bucket_of_long(parent, word)];
        let mut is_short_tried = false;
        loop {
            match self.nodes.get(usize::from(number).wrapping_sub(1)) {
                Some(node) if node.parent == parent && word & node.mask == node.first && node.is_ahead(ahead) => {
                    return Some(node);
                }
                Some(node) => number = node.next,
                None if is_short_tried => break,
                None => {
                    is_short_tried = true;
                    number = self.buckets[bucket_of_short(parent, word)];
                }
            }
        }
        // Where a name without letters stands, what follows one does.
        if let b'"' | b'.' = word as u8 { self.child(parent, b"") } else { None }
    }
}
