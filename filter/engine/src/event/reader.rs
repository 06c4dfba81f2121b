//! One pass over a record's JSON that picks out the values the loaded rules ask for.
//!
//! In: which paths matter ([`Paths`], made once per pack) and a record. Out: the JSON text of each value that stands at
//! such a path, borrowed, with the scope it was found in. A path's levels may be nested objects, one flat key with
//! dots, or any mix, since upstream filters write all three; an array of objects counts as each of its objects.
//! Values are found by slot in one step. Bounds: memory is a few words per value found and per path; recursion is as deep as the longest path has levels
//! ([`super::fields::MAX_LEVELS`]), whatever the record nests, for envelopes are read one after another. Not here: what the
//! values mean.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::OnceCell;
use core::ops::ControlFlow;

use super::json::{self, Behind, Kind, Next};
use super::value::{self, Value};
use crate::words::{first_word, same};

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
    /// In the order of their [`bucket`]s.
    children: Vec<Child>,
    /// For each bucket, where in `children` it ends; it begins where the one before ends.
    ends: [u16; BUCKETS],
    slot: Option<Slot>,
    envelope: Option<Envelope>,
}

/// A level below a node.
#[derive(Debug)]
struct Child {
    name: Box<[u8]>,
    /// The first eight bytes of the name, as [`first_word`] has them, and which bits of them are the name's.
    first: u64,
    mask: u64,
    node: NodeId,
}

/// What may hold an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Envelope {
    Object,
    ObjectOrText,
}

type NodeId = usize;

/// Children of a node stand in buckets by their first letter: most keys of a record find an empty one.
const BUCKETS: usize = 32;

/// The bucket of a level, or of the first one of those that stand ahead.
fn bucket(ahead: &[u8]) -> usize {
    match ahead.first() {
        None | Some(b'.' | b'"') => 0,
        Some(first) => usize::from(*first) % BUCKETS,
    }
}

impl Node {
    fn bucket(&self, bucket: usize) -> &[Child] {
        let end = usize::from(self.ends[bucket]);
        let begin = bucket.checked_sub(1).map_or(0, |before| usize::from(self.ends[before]));
        self.children.get(begin..end).unwrap_or_default()
    }

    /// The child of this name.
    fn child(&self, name: &[u8]) -> Option<NodeId> {
        self.bucket(bucket(name)).iter().find(|child| *child.name == *name).map(|child| child.node)
    }

    /// The child whose name stands ahead, with a quote or a dot behind it.
    #[inline]
    fn child_ahead(&self, ahead: &[u8]) -> Option<&Child> {
        let children = self.bucket(bucket(ahead));
        if children.is_empty() {
            return None;
        }
        let word = first_word(ahead);
        children.iter().find(|child| {
            word & child.mask == child.first
                && matches!(ahead.get(child.name.len()), Some(b'"' | b'.'))
                && (child.name.len() <= 8 || same(&ahead[8..child.name.len()], &child.name[8..]))
        })
    }

    fn add_child(&mut self, name: &[u8], node: NodeId) {
        let bucket = bucket(name);
        let mask = u64::MAX.checked_shr(8 * 8usize.saturating_sub(name.len()) as u32).unwrap_or(0);
        // A name that JSON writes with an escape does not stand anywhere as it is.
        let is_plain = core::str::from_utf8(name).is_ok_and(json::is_plain);
        let (first, mask) = if is_plain { (first_word(name), mask) } else { (1, 0) };
        let child = Child { name: name.into(), first, mask, node };
        self.children.insert(usize::from(self.ends[bucket]), child);
        self.ends[bucket..].iter_mut().for_each(|end| *end += 1);
    }
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
        for level in path.as_bytes().split(|byte| *byte == b'.') {
            let added = self.nodes.len();
            node = match self.nodes[node].child(level) {
                Some(child) => child,
                None => {
                    self.nodes[node].add_child(level, added);
                    self.nodes.push(Node::default());
                    added
                }
            };
        }
        node
    }

    /// Goes down by a name, which may be of several levels with dots between.
    fn descend(&self, node: NodeId, name: &[u8]) -> Option<NodeId> {
        name.split(|byte| *byte == b'.').try_fold(node, |node, level| self.nodes[node].child(level))
    }

    /// Goes down by the key that stands ahead in JSON, its opening quote left out; where to, and the key's length. `None` if no
    /// path has the key, or if it has but is written with an escape.
    #[inline]
    fn descend_ahead(&self, mut node: NodeId, ahead: &[u8]) -> Option<(NodeId, usize)> {
        let mut len = 0;
        loop {
            let child = self.nodes[node].child_ahead(ahead.get(len..)?)?;
            node = child.node;
            len += child.name.len();
            if ahead.get(len) == Some(&b'"') {
                return Some((node, len));
            }
            len += 1;
        }
    }

    /// Reads a record. `texts` keep what stands in it as JSON text. `None` if the record is not one JSON object.
    pub(crate) fn read<'a>(&self, record: &'a str, texts: &'a Texts) -> Option<Values<'a>> {
        let mut reading = Reading { paths: self, captured: Vec::with_capacity(32), envelopes: Vec::new() };
        reading.whole_object(record, 0)?;
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
            if reading.whole_object(inner, scope).is_none() {
                reading.captured.truncate(captured);
                reading.envelopes.truncate(envelopes);
            }
        }
        Some(Values::new(reading.captured, usize::from(self.slots)))
    }
}

/// A value that was found: where, how deep, and its JSON text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Captured<'a> {
    pub(crate) json: &'a str,
    /// The next value of the same slot, or [`NONE`].
    next: u32,
    slot: Slot,
    pub(crate) scope: Scope,
    /// Whether it is text without escapes.
    is_plain: bool,
}

impl<'a> Captured<'a> {
    /// The text, if it is one that is not empty and has no escapes.
    pub(crate) fn plain_text(&self) -> Option<&'a str> {
        if self.is_plain && self.json.len() > 2 { Some(json::unquoted(self.json)) } else { None }
    }

    /// Calls `visit` with each value until it breaks.
    pub(crate) fn each(&self, visit: &mut dyn FnMut(Value<'a>) -> ControlFlow<()>) -> ControlFlow<()> {
        match self.plain_text() {
            Some(text) => visit(Value::Text(Cow::Borrowed(text))),
            None => value::each(self.json, visit),
        }
    }

    /// Whether it holds a value at all.
    pub(crate) fn has_value(&self) -> bool {
        self.each(&mut |_| ControlFlow::Break(())).is_break()
    }
}

/// No value.
const NONE: u32 = u32::MAX;

/// The values that were found in a record, by slot.
#[derive(Debug)]
pub(crate) struct Values<'a> {
    captured: Vec<Captured<'a>>,
    /// The first value of each slot, or [`NONE`].
    first: Vec<u32>,
}

impl<'a> Values<'a> {
    fn new(mut captured: Vec<Captured<'a>>, slots: usize) -> Values<'a> {
        let mut first = vec![NONE; slots];
        for (at, value) in captured.iter_mut().enumerate().rev() {
            if let Some(first) = first.get_mut(usize::from(value.slot.0)) {
                value.next = core::mem::replace(first, u32::try_from(at).unwrap_or(NONE));
            }
        }
        Values { captured, first }
    }

    /// What was found at a slot, in the record's order.
    pub(crate) fn of(&self, slot: Slot) -> impl Iterator<Item = &Captured<'a>> {
        let get = |at: u32| self.captured.get(usize::try_from(at).ok()?);
        let first = self.first.get(usize::from(slot.0)).and_then(|at| get(*at));
        core::iter::successors(first, move |value| get(value.next))
    }

    /// What was found at a slot in a scope, in the record's order.
    pub(crate) fn at(&self, slot: Slot, scope: Scope) -> impl Iterator<Item = &Captured<'a>> {
        self.of(slot).filter(move |value| value.scope == scope)
    }

    /// The innermost scope that anything was found in; `None` if nothing was.
    pub(crate) fn deepest(&self) -> Option<Scope> {
        self.captured.iter().map(|value| value.scope).max()
    }
}

struct Reading<'p, 'a> {
    paths: &'p Paths,
    captured: Vec<Captured<'a>>,
    /// The envelopes, each an object or text, and the scope of what is in it.
    envelopes: Vec<(&'a str, Scope)>,
}

impl<'a> Reading<'_, 'a> {
    /// Reads the object that is the whole of `text`.
    fn whole_object(&mut self, text: &'a str, scope: Scope) -> Option<()> {
        let behind = self.object(text, 0, ROOT, scope)?;
        (json::token(text.as_bytes(), behind.get()) == text.len()).then_some(())
    }

    /// Reads the object ahead, which stands at `node`.
    fn object(&mut self, text: &'a str, at: usize, node: NodeId, scope: Scope) -> Option<Behind> {
        let bytes = text.as_bytes();
        let mut at = json::expect(bytes, at, b'{')?.get();
        if let Some(behind) = json::expect(bytes, at, b'}') {
            return Some(behind);
        }
        loop {
            let quote = json::expect(bytes, at, b'"')?.get();
            let known = self.paths.descend_ahead(node, bytes.get(quote..)?);
            let (below, behind) = match known {
                Some((below, len)) => (Some(below), quote + len + 1),
                None => {
                    let end = json::string(bytes, quote)?;
                    // A plain key that leads somewhere would have been found.
                    let below = if end.is_plain() { None } else { self.escaped_key(text, quote, end.behind(), node) };
                    (below, end.behind().get())
                }
            };
            let value = json::expect(bytes, behind, b':')?.get();
            let behind = match below {
                None => json::skip(bytes, value)?,
                Some(below) => self.value(text, value, below, scope)?,
            };
            match json::next(bytes, behind.get(), b'}')? {
                Next::At(next) => at = next,
                Next::End(behind) => return Some(behind),
            }
        }
    }

    /// Where a key leads to that is written with escapes, and stands behind `quote`.
    #[cold]
    fn escaped_key(&self, text: &str, quote: usize, behind: Behind, node: NodeId) -> Option<NodeId> {
        let name = json::decode(text.get(quote - 1..behind.get())?)?;
        self.paths.descend(node, name.as_bytes())
    }

    /// Reads the value ahead, which stands at `node`.
    fn value(&mut self, text: &'a str, at: usize, node: NodeId, scope: Scope) -> Option<Behind> {
        let bytes = text.as_bytes();
        let Node { slot, envelope, children, .. } = &self.paths.nodes[node];
        let at = json::token(bytes, at);
        let kind = json::kind(bytes, at);
        if slot.is_none() && envelope.is_none() {
            return self.below(text, at, kind, node, scope);
        }
        let (behind, is_plain) = match kind {
            Kind::Text => json::string(bytes, at + 1).map(|end| (end.behind(), end.is_plain()))?,
            _ => (json::skip(bytes, at)?, false),
        };
        // Both ends stand beside ASCII, so there is no character that they could cut.
        let json = text.get(at..behind.get())?;
        if let Some(slot) = *slot {
            self.captured.push(Captured { json, next: NONE, slot, scope, is_plain });
        }
        if scope < MAX_SCOPE {
            match (envelope, kind) {
                (Some(_), Kind::Object) | (Some(Envelope::ObjectOrText), Kind::Text) => {
                    self.envelopes.push((json, scope + 1));
                }
                _ => {}
            }
        }
        match kind {
            Kind::Object | Kind::Array if !children.is_empty() => self.below(text, at, kind, node, scope),
            _ => Some(behind),
        }
    }

    /// Reads what stands below `node` in the value ahead. Arrays directly inside arrays hold no fields; not following them
    /// keeps the recursion short.
    fn below(&mut self, text: &'a str, at: usize, kind: Kind, node: NodeId, scope: Scope) -> Option<Behind> {
        let bytes = text.as_bytes();
        match kind {
            Kind::Object => self.object(text, at, node, scope),
            Kind::Text | Kind::Other => json::skip(bytes, at),
            Kind::Array => {
                let mut at = json::expect(bytes, at, b'[')?.get();
                if let Some(behind) = json::expect(bytes, at, b']') {
                    return Some(behind);
                }
                loop {
                    let behind = match json::kind(bytes, at) {
                        Kind::Object => self.object(text, at, node, scope)?,
                        _ => json::skip(bytes, at)?,
                    };
                    match json::next(bytes, behind.get(), b']')? {
                        Next::At(next) => at = next,
                        Next::End(behind) => return Some(behind),
                    }
                }
            }
        }
    }
}
