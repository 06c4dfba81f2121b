//! One pass over a record's JSON that picks out the values the loaded rules ask for.
//!
//! In: which paths matter ([`Paths`], made once per pack) and a record. Out: the JSON text of each value that stands at
//! such a path, borrowed, with the scope it was found in. A path's levels may be nested objects, one flat key with
//! dots, or any mix, since upstream filters write all three; an array of objects counts as each of its objects.
//! Bounds: memory is a few words per value found; recursion is as deep as the longest path has levels
//! ([`super::fields::MAX_LEVELS`]), whatever the record nests, for envelopes are read one after another. Not here: what the
//! values mean.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::OnceCell;
use core::cmp::Ordering;

use super::json::{self, Cursor, Kind, NotJson};

/// A path that is read, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(u16);

/// How far inside the record a value was found: 0 is the root, each envelope (`detail`, the configured key) adds one.
pub(crate) type Scope = u8;

/// Envelopes inside envelopes that are opened: `detail` under the configured key is the deepest that anything sends.
const MAX_SCOPE: Scope = 2;

/// How many envelopes of one record are opened; only a record with repeated keys has more than two.
const MAX_ENVELOPES: usize = 4;

/// EventBridge's key for the event, which is an object.
const EVENT_BRIDGE_ROOT: &str = "detail";

/// Room for the texts of envelopes that hold their event as JSON text.
pub type Texts = [OnceCell<String>; MAX_ENVELOPES];

/// The paths to read, as a tree of their levels.
#[derive(Debug)]
pub(crate) struct Paths {
    nodes: Vec<Node>,
    slots: u16,
}

#[derive(Debug, Default)]
struct Node {
    /// Sorted by [`order`], for binary search.
    children: Vec<(Box<[u8]>, NodeId)>,
    slot: Option<Slot>,
    envelope: Option<Envelope>,
}

/// What may hold an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Envelope {
    Object,
    ObjectOrText,
}

type NodeId = usize;

/// By length first: most keys differ in it, so that few are compared letter by letter.
fn order(a: &[u8], b: &[u8]) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// The levels that a path or a key names, with dots between.
fn levels(path: &str) -> impl Iterator<Item = &[u8]> {
    path.as_bytes().split(|byte| *byte == b'.')
}

const ROOT: NodeId = 0;

impl Paths {
    /// The paths that every record is read by: none but the envelopes.
    pub(crate) fn new(event_root: Option<&str>) -> Paths {
        let mut paths = Paths { nodes: Vec::from([Node::default()]), slots: 0 };
        let detail = paths.node(EVENT_BRIDGE_ROOT);
        paths.nodes[detail].envelope = Some(Envelope::Object);
        if let Some(path) = event_root {
            let configured = paths.node(path);
            paths.nodes[configured].envelope = Some(Envelope::ObjectOrText);
        }
        paths
    }

    /// The slot that values at this path go to; the same path has one slot.
    pub(crate) fn slot(&mut self, path: &str) -> Slot {
        let node = self.node(path);
        let next = Slot(self.slots);
        let slot = *self.nodes[node].slot.get_or_insert(next);
        self.slots += u16::from(slot == next);
        slot
    }

    fn node(&mut self, path: &str) -> NodeId {
        let mut node = ROOT;
        for level in levels(path) {
            let added = self.nodes.len();
            let children = &mut self.nodes[node].children;
            node = match children.binary_search_by(|(name, _)| order(name, level)) {
                Ok(at) => children[at].1,
                Err(at) => {
                    children.insert(at, (level.into(), added));
                    self.nodes.push(Node::default());
                    added
                }
            };
        }
        node
    }

    /// Goes down by a key, which may name several levels with dots between.
    fn descend(&self, mut node: NodeId, key: &str) -> Option<NodeId> {
        for level in levels(key) {
            let children = &self.nodes[node].children;
            let at = children.binary_search_by(|(name, _)| order(name, level)).ok()?;
            node = children[at].1;
        }
        Some(node)
    }

    /// Reads a record. `texts` keep what stands in it as JSON text. `None` if the record is not one JSON object.
    pub(crate) fn read<'a>(&self, record: &'a str, texts: &'a Texts) -> Option<Vec<Captured<'a>>> {
        let mut reading = Reading { paths: self, captured: Vec::with_capacity(32), envelopes: Vec::new() };
        reading.whole_object(record, 0).ok()?;
        let mut opened = 0;
        while let Some((json, scope)) = reading.envelopes.get(opened).copied() {
            let inner = match texts.get(opened) {
                None => break,
                Some(_) if json.starts_with('{') => json,
                Some(text) => text.get_or_init(|| json::decode(json).map(String::from).unwrap_or_default()),
            };
            opened += 1;
            let (captured, envelopes) = (reading.captured.len(), reading.envelopes.len());
            // What is not JSON is just text that a log line holds.
            if reading.whole_object(inner, scope).is_err() {
                reading.captured.truncate(captured);
                reading.envelopes.truncate(envelopes);
            }
        }
        Some(reading.captured)
    }
}

/// A value that was found: where, how deep, and its JSON text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Captured<'a> {
    pub(crate) slot: Slot,
    pub(crate) scope: Scope,
    pub(crate) json: &'a str,
}

struct Reading<'p, 'a> {
    paths: &'p Paths,
    captured: Vec<Captured<'a>>,
    /// The envelopes, each an object or text, and the scope of what is in it.
    envelopes: Vec<(&'a str, Scope)>,
}

impl<'a> Reading<'_, 'a> {
    /// Reads the object that is the whole of `json`.
    fn whole_object(&mut self, json: &'a str, scope: Scope) -> Result<(), NotJson> {
        let mut cursor = Cursor::new(json);
        self.object(&mut cursor, ROOT, scope)?;
        cursor.end()
    }

    /// Reads the object ahead, which stands at `node`.
    fn object(&mut self, cursor: &mut Cursor<'a>, node: NodeId, scope: Scope) -> Result<(), NotJson> {
        cursor.object(|cursor, key| {
            let below = json::decode(key).and_then(|key| self.paths.descend(node, &key));
            match below {
                None => cursor.value().map(drop),
                Some(below) => self.value(cursor, below, scope),
            }
        })
    }

    /// Reads the value ahead, which stands at `node`.
    fn value(&mut self, cursor: &mut Cursor<'a>, node: NodeId, scope: Scope) -> Result<(), NotJson> {
        let Node { slot, envelope, children } = &self.paths.nodes[node];
        if slot.is_none() && envelope.is_none() {
            return self.below(cursor, node, scope);
        }
        let mut ahead = cursor.clone();
        let json = cursor.value()?;
        if let Some(slot) = *slot {
            self.captured.push(Captured { slot, scope, json });
        }
        if scope < MAX_SCOPE {
            match (envelope, ahead.kind()) {
                (Some(_), Kind::Object) | (Some(Envelope::ObjectOrText), Kind::Text) => {
                    self.envelopes.push((json, scope + 1));
                }
                _ => {}
            }
        }
        if children.is_empty() { Ok(()) } else { self.below(&mut ahead, node, scope) }
    }

    /// Reads what stands below `node` in the value ahead. Arrays directly inside arrays hold no fields; not following them
    /// keeps the recursion short.
    fn below(&mut self, cursor: &mut Cursor<'a>, node: NodeId, scope: Scope) -> Result<(), NotJson> {
        match cursor.kind() {
            Kind::Object => self.object(cursor, node, scope),
            Kind::Array => cursor.array(|cursor| match cursor.kind() {
                Kind::Object => self.object(cursor, node, scope),
                _ => cursor.value().map(drop),
            }),
            Kind::Text | Kind::Other => cursor.value().map(drop),
        }
    }
}
