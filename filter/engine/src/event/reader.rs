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
use crate::words::{first_word, is_plain, same};

/// A path that is read, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(u16);

/// How far inside the record a value was found: 0 is the root, each envelope (`detail`, the configured key) adds one.
pub(crate) type Scope = u8;

/// Envelopes inside envelopes that are opened: `detail` under the configured key is the deepest that anything sends.
pub(crate) const MAX_SCOPE: Scope = 2;

/// How many envelopes of one record are opened; only a record with repeated keys has more than two.
const MAX_ENVELOPES: usize = 4;

/// EventBridge's key for the event, which is an object.
pub(crate) const EVENT_BRIDGE_ROOT: &str = "detail";

/// Room for the texts of envelopes that hold their event as JSON text.
pub type Texts = [OnceCell<String>; MAX_ENVELOPES];

/// The paths to read, as a tree of their levels.
#[derive(Debug)]
pub(crate) struct Paths {
    /// All but the root, each at the place before its number.
    nodes: Vec<Node>,
    /// The last node that was put into each bucket, or the root where there is none.
    buckets: Box<[u16; BUCKETS]>,
    slots: u16,
}

/// A level below another node or the root.
#[derive(Debug)]
struct Node {
    number: NodeId,
    /// The first eight bytes of the name, as [`first_word`] has them, and which bits of them are the name's.
    first: u64,
    mask: u64,
    /// The last eight bytes of a name that has as many.
    last: u64,
    name: Box<[u8]>,
    parent: NodeId,
    /// The node that was put into the same bucket before, or the root if there is none.
    next: u16,
    slot: Option<Slot>,
    envelope: Option<Envelope>,
    has_children: bool,
}

/// What may hold an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Envelope {
    Object,
    ObjectOrText,
}

type NodeId = usize;

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

const ROOT: NodeId = 0;

impl Paths {
    /// The paths that every record is read by: none but the envelopes.
    pub(crate) fn new(event_root: Option<&str>) -> Paths {
        let mut paths = Paths { nodes: Vec::new(), buckets: Box::new([0; BUCKETS]), slots: 0 };
        paths.node_at(EVENT_BRIDGE_ROOT).envelope = Some(Envelope::Object);
        if let Some(path) = event_root {
            paths.node_at(path).envelope = Some(Envelope::ObjectOrText);
        }
        paths
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
            envelope: None,
            has_children: false,
        });
        at
    }

    fn tree(&self) -> Tree<'_> {
        Tree { nodes: &self.nodes, buckets: &self.buckets }
    }

    /// Reads a record. `texts` keep what stands in it as JSON text. `None` if the record is not one JSON object.
    pub(crate) fn read<'a>(&self, record: &'a str, texts: &'a Texts) -> Option<Values<'a>> {
        let first = vec![0; usize::from(self.slots)];
        let mut reading = Reading { tree: self.tree(), captured: Vec::with_capacity(32), first, envelopes: Vec::new() };
        reading.whole_object(record, 0)?;
        let mut deepest = if reading.captured.is_empty() { None } else { Some(0) };
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
                reading.forget_behind(captured, envelopes);
            } else if reading.captured.len() > captured {
                deepest = deepest.max(Some(scope));
            }
        }
        let Reading { captured, first, .. } = reading;
        Some(Values { captured, first, deepest })
    }
}

/// The nodes and how they are found, where no store can be thought to change them: what reads them keeps their addresses.
#[derive(Debug, Clone, Copy)]
struct Tree<'p> {
    nodes: &'p [Node],
    buckets: &'p [u16; BUCKETS],
}

impl<'p> Tree<'p> {
    /// The child of this name.
    fn child(self, parent: NodeId, name: &[u8]) -> Option<&'p Node> {
        self.child_of_key(parent, name, NameKey::new(parent, name))
    }

    /// The same, for a name whose key is known.
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
    fn descend(self, node: NodeId, name: &[u8]) -> Option<&'p Node> {
        let mut levels = name.split(|byte| *byte == b'.');
        let first = self.child(node, levels.next()?)?;
        levels.try_fold(first, |node, level| self.child(node.number, level))
    }

    /// Goes down by the key that stands ahead in JSON, its opening quote left out; where to, and the key's length. `None` if no
    /// path has the key, or if it has but is written with an escape.
    #[inline]
    fn descend_ahead(self, mut parent: NodeId, key: &[u8]) -> Option<(&'p Node, usize)> {
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

/// A value that was found: where, how deep, and its text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Captured<'a> {
    /// Of text without escapes what it spells, of anything else its JSON text.
    text: &'a str,
    is_plain: bool,
    pub(crate) scope: Scope,
    slot: Slot,
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

/// The values that were found in a record, by slot.
#[derive(Debug)]
pub(crate) struct Values<'a> {
    captured: Vec<Captured<'a>>,
    /// The first value of each slot, by its place from 1 on and perhaps with [`IS_REPEATED`]; 0 if there is none.
    first: Vec<u32>,
    /// The innermost scope that anything was found in; `None` if nothing was.
    pub(crate) deepest: Option<Scope>,
}

impl<'a> Values<'a> {
    /// What was found at a slot in a scope, in the record's order.
    pub(crate) fn at(&self, slot: Slot, scope: Scope) -> impl Iterator<Item = &Captured<'a>> {
        let first = self.first.get(usize::from(slot.0)).copied().unwrap_or(0);
        let from = ((first & !IS_REPEATED) as usize).wrapping_sub(1);
        let found = match self.captured.get(from..) {
            Some([only, ..]) if first & IS_REPEATED == 0 => core::slice::from_ref(only),
            found => found.unwrap_or_default(),
        };
        found.iter().filter(move |value| value.slot == slot && value.scope == scope)
    }

    /// What was found at a slot, if that is one value, and in this scope.
    #[inline]
    pub(crate) fn only(&self, slot: Slot, scope: Scope) -> Option<&Captured<'a>> {
        let first = *self.first.get(usize::from(slot.0))?;
        self.captured.get((first as usize).wrapping_sub(1)).filter(|value| value.scope == scope)
    }
}

/// Whether these two bytes stand there.
#[inline(always)]
fn stands_at(text: &[u8], at: usize, pair: &[u8; 2]) -> bool {
    text.get(at..).and_then(<[u8]>::first_chunk) == Some(pair)
}

struct Reading<'p, 'a> {
    tree: Tree<'p>,
    captured: Vec<Captured<'a>>,
    /// As [`Values`] has it.
    first: Vec<u32>,
    /// The envelopes, each an object or text, and the scope of what is in it.
    envelopes: Vec<(&'a str, Scope)>,
}

impl<'p, 'a> Reading<'p, 'a> {
    /// Leaves only so many values and envelopes.
    #[cold]
    fn forget_behind(&mut self, captured: usize, envelopes: usize) {
        self.captured.truncate(captured);
        self.envelopes.truncate(envelopes);
        for first in &mut self.first {
            if (*first & !IS_REPEATED) as usize > captured {
                *first = 0;
            }
        }
    }

    /// Reads the object that is the whole of `text`.
    fn whole_object(&mut self, text: &'a str, scope: Scope) -> Option<()> {
        let behind = self.object(text, 0, ROOT, scope)?;
        (json::token(text.as_bytes(), behind.get()) == text.len()).then_some(())
    }

    /// Reads the object ahead, whose members stand below `node`.
    fn object(&mut self, text: &'a str, at: usize, node: NodeId, scope: Scope) -> Option<Behind> {
        let bytes = text.as_bytes();
        let at = json::expect(bytes, at, b'{')?.get();
        if let Some(behind) = json::expect(bytes, at, b'}') {
            return Some(behind);
        }
        let mut quote = json::expect(bytes, at, b'"')?.get();
        let tree = self.tree;
        loop {
            let known = tree.descend_ahead(node, bytes.get(quote..)?);
            let (below, behind) = match known {
                Some((below, len)) => (Some(below), quote + len + 1),
                None => {
                    let end = json::string(bytes, quote)?;
                    // A plain key that leads somewhere would have been found.
                    let below = if end.is_plain() { None } else { self.escaped_key(text, quote, end.behind(), node) };
                    (below, end.behind().get())
                }
            };
            let behind = match below {
                Some(below) => self.member(text, behind, below, scope)?,
                None => json::skip(bytes, json::expect(bytes, behind, b':')?.get())?,
            };
            // Two bytes at once, as they stand in nearly every record.
            quote = if stands_at(bytes, behind.get(), b",\"") {
                behind.get() + 2
            } else {
                match json::next(bytes, behind.get(), b'}')? {
                    Next::At(next) => json::expect(bytes, next, b'"')?.get(),
                    Next::End(behind) => return Some(behind),
                }
            };
        }
    }

    /// Reads the colon ahead and the value, which stands at `node`.
    #[inline]
    fn member(&mut self, text: &'a str, at: usize, node: &Node, scope: Scope) -> Option<Behind> {
        let bytes = text.as_bytes();
        if let Node { slot: Some(slot), envelope: None, .. } = *node
            && stands_at(bytes, at, b":\"")
        {
            let end = json::string(bytes, at + 2)?;
            let behind = end.behind();
            // Both ends stand beside ASCII, so there is no character that they could cut; as in `value`.
            let text =
                if end.is_plain() { text.get(at + 2..behind.get() - 1)? } else { text.get(at + 1..behind.get())? };
            self.capture(Captured { text, is_plain: end.is_plain(), scope, slot })?;
            return Some(behind);
        }
        self.value(text, json::expect(bytes, at, b':')?.get(), node, scope)
    }

    /// Keeps a value.
    #[inline]
    fn capture(&mut self, value: Captured<'a>) -> Option<()> {
        let first = self.first.get_mut(usize::from(value.slot.0))?;
        self.captured.push(value);
        *first = if *first == 0 { self.captured.len() as u32 } else { *first | IS_REPEATED };
        Some(())
    }

    /// Where a key leads to that is written with escapes, and stands behind `quote`.
    #[cold]
    fn escaped_key(&self, text: &str, quote: usize, behind: Behind, node: NodeId) -> Option<&'p Node> {
        let name = json::decode(text.get(quote - 1..behind.get())?)?;
        self.tree.descend(node, name.as_bytes())
    }

    /// Reads the value ahead, which stands at `node`.
    #[inline]
    fn value(&mut self, text: &'a str, at: usize, node: &Node, scope: Scope) -> Option<Behind> {
        let bytes = text.as_bytes();
        let Node { number, slot, envelope, has_children, .. } = *node;
        let (first, at) = json::first(bytes, at)?;
        let kind = Kind::of(first);
        if slot.is_some() || envelope.is_some() {
            let (behind, is_plain) = match kind {
                Kind::Text => json::string(bytes, at + 1).map(|end| (end.behind(), end.is_plain()))?,
                _ => (json::skip(bytes, at)?, false),
            };
            if let Some(slot) = slot {
                let quote = usize::from(is_plain);
                let text = text.get(at + quote..behind.get() - quote)?;
                self.capture(Captured { text, is_plain, scope, slot })?;
            }
            if scope < MAX_SCOPE {
                match (envelope, kind) {
                    (Some(_), Kind::Object) | (Some(Envelope::ObjectOrText), Kind::Text) => {
                        self.envelopes.push((text.get(at..behind.get())?, scope + 1));
                    }
                    _ => {}
                }
            }
            if !has_children || !matches!(kind, Kind::Object | Kind::Array) {
                return Some(behind);
            }
        }
        // The only call, so that it becomes part of `object`: the host's stack has few bytes for each level.
        self.below(text, at, kind, number, scope)
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

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;

    fn found(paths: &Paths, slot: Slot, record: &str) -> Vec<String> {
        let texts = Texts::default();
        let values = paths.read(record, &texts).expect("JSON");
        values.at(slot, 0).map(|value| value.text.to_string()).collect()
    }

    #[test]
    fn a_level_may_have_any_name() {
        for name in
            ["", "a", "is", "sevenes", "eightlet", "ninelette", "sixteen-letters-", "more-than-sixteen-letters", "é"]
        {
            let mut paths = Paths::new(None);
            // Others that begin alike, or stand in the same bucket.
            for other in ["b", "eightlet.b", "ninelettes", "sixteen-letters-.b", "more-than-eighteen-letters"] {
                paths.slot(other);
            }
            let slot = paths.slot(&format!("x.{name}.y"));
            for record in [
                format!(r#"{{"x":{{"{name}":{{"y":"1"}}}}}}"#),
                format!(r#"{{"x.{name}.y":"1"}}"#),
                format!(r#"{{"x.{name}":{{"y":"1"}}}}"#),
                format!(r#"{{"x":[{{"z":0}},{{"{name}.y" : "1"}}]}}"#),
                format!(r#"{{"\u0078":{{"{name}":{{"\u0079":"1"}}}}}}"#),
            ] {
                assert_eq!(found(&paths, slot, &record), ["1"], "{record}");
                let other = record.replace('y', "yy").replace("0079", "0078");
                assert_eq!(found(&paths, slot, &other), [""; 0], "{other}");
            }
        }
    }

    #[test]
    fn repeated_values_come_in_their_order() {
        let mut paths = Paths::new(None);
        let [a, b] = ["a", "b"].map(|path| paths.slot(path));
        let record = r#"{"a":"1","b":2,"a":"\u0033","detail":{"a":"4"},"a":["5"]}"#;
        assert_eq!(found(&paths, a, record), ["1", r#""\u0033""#, r#"["5"]"#]);
        assert_eq!(found(&paths, b, record), ["2"]);
        let texts = Texts::default();
        let values = paths.read(record, &texts).expect("JSON");
        assert!(values.only(a, 0).is_none());
        assert_eq!(values.only(b, 0).map(|value| value.text), Some("2"));
        assert_eq!(values.at(a, 1).map(|value| value.text).collect::<Vec<_>>(), ["4"]);
        assert_eq!(values.deepest, Some(1));
    }

    #[test]
    fn text_that_turns_out_to_be_no_json_leaves_nothing_behind() {
        let mut paths = Paths::new(Some("log"));
        let [a, b] = ["a", "b"].map(|path| paths.slot(path));
        let texts = Texts::default();
        let record = r#"{"a":"1","log":"{\"a\":\"2\",\"b\":\"3\",","log":"{\"b\":\"4\"}"}"#;
        let values = paths.read(record, &texts).expect("JSON");
        assert_eq!(values.at(a, 0).map(|value| value.text).collect::<Vec<_>>(), ["1"]);
        assert_eq!(values.at(a, 1).count(), 0);
        assert_eq!(values.only(b, 1).map(|value| value.text), Some("4"));
        assert_eq!(values.deepest, Some(1));
    }
}
