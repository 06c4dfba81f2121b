//! Reads a record: one pass over its JSON, and one over each text in it that may hold events.
//!
//! In: which paths matter ([`Paths`]) and a record. Out: [`Scopes`]: the objects that may be an event each, with the values
//! that stand in them at such paths, borrowed. The record itself is one; each object in an envelope is one more, whose values
//! are never mixed with those of another. A path's levels may be nested objects, one flat key with dots, or any mix, since
//! upstream filters write all three; an array of objects counts as each of its objects, and an object may be written as JSON
//! text. Bounds: memory is a few words per value and object found, and the decoded texts; recursion is as deep as the longest
//! path has levels ([`super::fields::MAX_LEVELS`]) and a few more, whatever the record nests: texts are read one after another,
//! and so are objects in envelopes inside envelopes. Not here: what the values mean, and which scopes are events.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::ops::Range;

use super::envelope::{Encoding, MAX_DEPTH, from_base64};
use super::json::{self, Behind, Kind, Next};
use super::paths::{Node, NodeId, Opens, Paths, ROOT, Slot, Tree};
use super::texts::Texts;
use super::values::Captured;

/// A scope, by its number: 0 is the record itself, and the objects in envelopes follow, each behind what is around it.
pub(crate) type ScopeId = usize;

/// An object in an envelope, which may be an event.
#[derive(Debug)]
pub(crate) struct Scope<'a> {
    /// The scope that its envelope stands in.
    pub(crate) around: ScopeId,
    /// Its text; of several objects in one text, that from its beginning on.
    pub(crate) text: &'a str,
    /// Where in the record it stands, or the outermost text that it stands in.
    pub(crate) position: usize,
    /// How many envelopes are around it.
    depth: u8,
    /// Whether it, or what is around it, may be one of several.
    pub(crate) is_listed: bool,
    /// Whether the outermost envelope around it is the operator's.
    pub(crate) is_in_event_root: bool,
    /// Its values among all, once it has been read.
    values: Range<usize>,
}

/// The scopes of a record, and the values in each.
#[derive(Debug)]
pub(crate) struct Scopes<'a> {
    /// Those in envelopes.
    inner: Vec<Scope<'a>>,
    /// The record's own values among all.
    record: Range<usize>,
    captured: Vec<Captured<'a>>,
}

impl<'a> Scopes<'a> {
    /// Reads a record; `texts` keep what is decoded of it. `None` if the record is not one JSON object.
    pub(crate) fn read(paths: &Paths, record: &'a str, texts: &'a Texts) -> Option<Scopes<'a>> {
        let mut reading = Reading {
            tree: paths.tree(),
            open: Vec::with_capacity(32),
            closed: Vec::new(),
            inner: Vec::new(),
            envelopes: Vec::new(),
            objects: Vec::new(),
            room: texts,
            base: 0,
            is_decoded: false,
            inline_scopes: 0,
        };
        let behind = reading.object(record, 0, ROOT, 0)?;
        if json::token(record.as_bytes(), behind.get()) != record.len() {
            return None;
        }
        let own = reading.put_together(0, 0);
        // The first in the record is the next to be read.
        reading.envelopes.reverse();
        while let Some(envelope) = reading.envelopes.pop() {
            let read = reading.envelopes.len();
            reading.envelope(envelope);
            if let Some(inner) = reading.envelopes.get_mut(read..) {
                inner.reverse();
            }
        }
        Some(Scopes { inner: reading.inner, record: own, captured: reading.closed })
    }

    /// How many there are, the record itself included.
    pub(crate) fn len(&self) -> usize {
        1 + self.inner.len()
    }

    /// A scope in an envelope; `None` for the record itself.
    pub(crate) fn inner(&self, scope: ScopeId) -> Option<&Scope<'a>> {
        self.inner.get(scope.checked_sub(1)?)
    }

    /// The values that were found in a scope.
    pub(crate) fn captured(&self, scope: ScopeId) -> &[Captured<'a>] {
        let values = self.inner(scope).map_or(&self.record, |scope| &scope.values);
        self.captured.get(values.clone()).unwrap_or_default()
    }

    /// What was found in a scope at a slot; for what is rarely asked for.
    pub(crate) fn at(&self, scope: ScopeId, slot: Slot) -> impl Iterator<Item = &Captured<'a>> + Clone {
        self.captured(scope).iter().filter(move |value| value.slot == slot)
    }
}

/// What a scope stands in: two numbers, so that a function in WebAssembly takes it without going through memory.
#[derive(Debug, Clone, Copy)]
struct Around {
    scope: ScopeId,
    how: How,
}

/// Bits that say how it stands there; no bit, if it does not stand in an envelope.
type How = usize;

const IN_ENVELOPE: How = 1;
const IN_BASE64: How = 2;
const IN_EVENT_ROOT: How = 4;
const IN_LIST: How = 8;

fn how(opens: Option<Opens>) -> How {
    match opens {
        None => 0,
        Some(Opens { encoding, is_event_root }) => {
            let base64 = if encoding == Encoding::Base64 { IN_BASE64 } else { 0 };
            IN_ENVELOPE | base64 | if is_event_root { IN_EVENT_ROOT } else { 0 }
        }
    }
}

impl Around {
    fn is_envelope(self) -> bool {
        self.how & IN_ENVELOPE != 0
    }
}

/// The JSON text of a value in an envelope, to be read when the scope around it has been.
#[derive(Debug, Clone, Copy)]
struct Later<'a> {
    text: &'a str,
    around: Around,
    /// Where in the record it stands, or the text that it was decoded with.
    position: usize,
    is_decoded: bool,
}

/// JSON text that may hold an object of a scope, whose members stand below a node.
#[derive(Debug, Clone, Copy)]
struct ObjectText<'a> {
    text: &'a str,
    node: NodeId,
    scope: ScopeId,
}

/// How much had been read at some point.
struct Mark {
    open: usize,
    closed: usize,
    scopes: usize,
    envelopes: usize,
    objects: usize,
}

/// How many scopes are read inside each other where they stand, which spares a second look at their texts. Each takes the
/// stack deeper: with this many, the longest paths fit into the 8 KB that Fluent Bit's interpreter has unless told otherwise.
const MAX_INLINE: u8 = 1;

struct Reading<'p, 'a> {
    tree: Tree<'p>,
    /// The values of the scopes that are open, of the innermost last.
    open: Vec<Captured<'a>>,
    /// The values of the others, scope by scope.
    closed: Vec<Captured<'a>>,
    inner: Vec<Scope<'a>>,
    /// What is to be read later.
    envelopes: Vec<Later<'a>>,
    objects: Vec<ObjectText<'a>>,
    /// For the next decoded text.
    room: &'a Texts,
    /// Where the text that is being read stands in the record, and whether it is not a part of it, but was decoded.
    base: usize,
    is_decoded: bool,
    inline_scopes: u8,
}

impl<'p, 'a> Reading<'p, 'a> {
    /// Reads a value in an envelope. What is not JSON is just text that a log line holds.
    fn envelope(&mut self, Later { text, around, position, is_decoded }: Later<'a>) {
        (self.base, self.is_decoded) = (position, is_decoded || text.starts_with('"'));
        let Some(text) = self.decoded(text, around.how & IN_BASE64 != 0) else { return };
        match Kind::of(text.as_bytes().first().copied().unwrap_or(0)) {
            Kind::Object => self.objects_in_row(text, around),
            Kind::Array => {
                let mark = self.mark();
                if self.below_text(text, Kind::Array, ROOT, around).is_none() {
                    self.forget_behind(&mark);
                }
            }
            // JSON text in JSON text.
            Kind::Text if json::is_whole(text) => {
                self.envelopes.push(Later { text, around, position, is_decoded: true });
            }
            Kind::Text | Kind::Other => {}
        }
    }

    /// Reads the objects that a text holds one behind the other.
    fn objects_in_row(&mut self, text: &'a str, mut around: Around) {
        let mut at = 0;
        while json::kind(text.as_bytes(), at) == Kind::Object {
            let mark = self.mark();
            let start = json::token(text.as_bytes(), at);
            let Some(behind) = self.scope(text, start, around) else { return self.forget_behind(&mark) };
            around.how |= IN_LIST;
            at = behind.get();
        }
    }

    /// The text of a JSON value, or what text spells if it is text, without white space around it.
    fn decoded(&mut self, json: &'a str, is_base64: bool) -> Option<&'a str> {
        if !json.starts_with('"') {
            return Some(json);
        }
        let decoded = match json::decode(json)? {
            text if is_base64 => from_base64(&text)?,
            Cow::Borrowed(text) => return Some(text.trim_ascii()),
            Cow::Owned(text) => text,
        };
        let (kept, room) = self.room.keep(decoded);
        self.room = room;
        Some(kept.trim_ascii())
    }

    /// Where in the record it is what stands at a place of the text that is being read.
    fn position(&self, at: usize) -> usize {
        if self.is_decoded { self.base } else { self.base + at }
    }

    fn mark(&self) -> Mark {
        Mark {
            open: self.open.len(),
            closed: self.closed.len(),
            scopes: self.inner.len(),
            envelopes: self.envelopes.len(),
            objects: self.objects.len(),
        }
    }

    /// Forgets what was read since then.
    #[cold]
    fn forget_behind(&mut self, mark: &Mark) {
        self.open.truncate(mark.open);
        self.closed.truncate(mark.closed);
        self.inner.truncate(mark.scopes);
        self.envelopes.truncate(mark.envelopes);
        self.objects.truncate(mark.objects);
    }

    /// Whether what stands in a scope may be an envelope.
    fn may_hold(&self, scope: ScopeId) -> bool {
        let inner = scope.checked_sub(1).and_then(|at| self.inner.get(at));
        inner.is_none_or(|scope| scope.depth < MAX_DEPTH)
    }

    /// Reads the object ahead as a scope of its own.
    #[inline(never)]
    fn scope(&mut self, text: &'a str, at: usize, around: Around) -> Option<Behind> {
        let (open, objects) = (self.open.len(), self.objects.len());
        let scope = self.begin(text, at, around)?;
        let behind = self.object(text, at, ROOT, scope)?;
        let values = self.put_together(open, objects);
        self.end(scope, behind.get() - at, values);
        Some(behind)
    }

    /// Begins a scope.
    #[inline(never)]
    fn begin(&mut self, text: &'a str, at: usize, Around { scope, how }: Around) -> Option<ScopeId> {
        let outer = scope.checked_sub(1).and_then(|at| self.inner.get(at));
        let (depth, is_listed, is_in_event_root) = match outer {
            Some(outer) => (outer.depth + 1, outer.is_listed, outer.is_in_event_root),
            None => (1, false, how & IN_EVENT_ROOT != 0),
        };
        self.inner.push(Scope {
            around: scope,
            text: text.get(at..)?,
            position: self.position(at),
            depth,
            is_listed: is_listed || how & IN_LIST != 0,
            is_in_event_root,
            values: 0..0,
        });
        Some(self.inner.len())
    }

    /// Ends a scope. One without values is forgotten, unless others are in it.
    #[inline(never)]
    fn end(&mut self, scope: ScopeId, length: usize, values: Range<usize>) {
        let is_last = scope == self.inner.len();
        let is_named = self.envelopes.last().is_some_and(|later| later.around.scope >= scope);
        if let Some(scope) = scope.checked_sub(1).and_then(|at| self.inner.get_mut(at)) {
            scope.values = values;
            // The text began with it; where others follow it, it is cut.
            scope.text = scope.text.get(..length).unwrap_or(scope.text);
            if scope.values.is_empty() && is_last && !is_named {
                self.inner.pop();
            }
        }
    }

    /// Reads the texts of a scope that are to be read as objects of it, and puts its values together, which are the open ones from
    /// here on.
    #[inline(never)]
    fn put_together(&mut self, open: usize, objects: usize) -> Range<usize> {
        let mut next = objects;
        while let Some(object) = self.objects.get(next).copied() {
            next += 1;
            self.object_text(object);
        }
        self.objects.truncate(objects);
        let from = self.closed.len();
        if open == 0 && from == 0 {
            core::mem::swap(&mut self.open, &mut self.closed);
        } else {
            self.closed.extend_from_slice(self.open.get(open..).unwrap_or_default());
            self.open.truncate(open);
        }
        from..self.closed.len()
    }

    /// Reads text as the object that it should be.
    fn object_text(&mut self, ObjectText { text, node, scope }: ObjectText<'a>) {
        let Some(text) = self.decoded(text, false) else { return };
        let mark = self.mark();
        let kind = Kind::of(text.as_bytes().first().copied().unwrap_or(0));
        let behind = self.below_text(text, kind, node, Around { scope, how: 0 });
        if behind.is_none_or(|behind| json::token(text.as_bytes(), behind.get()) != text.len()) {
            self.forget_behind(&mark);
        }
    }

    /// Reads the object ahead, whose members stand below `node`.
    fn object(&mut self, text: &'a str, at: usize, node: NodeId, scope: ScopeId) -> Option<Behind> {
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
    fn member(&mut self, text: &'a str, at: usize, node: &Node, scope: ScopeId) -> Option<Behind> {
        let bytes = text.as_bytes();
        if let Node { slot: Some(slot), opens: None, has_children: false, .. } = *node
            && stands_at(bytes, at, b":\"")
        {
            let end = json::string(bytes, at + 2)?;
            let behind = end.behind();
            // Both ends stand beside ASCII, so there is no character that they could cut; as in `value`.
            let text =
                if end.is_plain() { text.get(at + 2..behind.get() - 1)? } else { text.get(at + 1..behind.get())? };
            self.open.push(Captured { text, is_plain: end.is_plain(), slot });
            return Some(behind);
        }
        self.value(text, json::expect(bytes, at, b':')?.get(), node, scope)
    }

    /// Where a key leads to that is written with escapes, and stands behind `quote`.
    #[cold]
    fn escaped_key(&self, text: &str, quote: usize, behind: Behind, node: NodeId) -> Option<&'p Node> {
        let name = json::decode(text.get(quote - 1..behind.get())?)?;
        self.tree.descend(node, name.as_bytes())
    }

    /// Reads the value ahead, which stands at `node`.
    #[inline]
    fn value(&mut self, text: &'a str, at: usize, node: &Node, scope: ScopeId) -> Option<Behind> {
        let bytes = text.as_bytes();
        let Node { number, slot, opens, has_children, parent, .. } = *node;
        let (first, at) = json::first(bytes, at)?;
        let kind = Kind::of(first);
        let is_nested = matches!(kind, Kind::Object | Kind::Array);
        let around = Around { scope, how: how(opens) };
        let is_inline = opens.is_some()
            && !has_children
            && slot.is_none()
            && parent == ROOT
            && is_nested
            && self.inline_scopes < MAX_INLINE
            && self.may_hold(scope);
        if !is_inline && (slot.is_some() || opens.is_some() || kind == Kind::Text) {
            let (behind, is_plain) = match kind {
                Kind::Text => json::string(bytes, at + 1).map(|end| (end.behind(), end.is_plain()))?,
                _ => (json::skip(bytes, at)?, false),
            };
            if let Some(slot) = slot {
                let quote = usize::from(is_plain);
                let text = text.get(at + quote..behind.get() - quote)?;
                self.open.push(Captured { text, is_plain, slot });
            }
            if opens.is_some() || (has_children && kind == Kind::Text) {
                self.read_later(text.get(at..behind.get())?, at, node, around);
            }
            if !has_children || !is_nested {
                return Some(behind);
            }
        }
        let (node, how) = if is_inline { (ROOT, around.how) } else { (number, 0) };
        self.inline_scopes += u8::from(is_inline);
        // The only call, so that it becomes part of `object`: the host's stack has few bytes for each level.
        let behind = self.below(text, at, kind, node, Around { scope, how });
        self.inline_scopes -= u8::from(is_inline);
        behind
    }

    /// Takes down what is to be read when the rest of its scope has been.
    #[cold]
    fn read_later(&mut self, text: &'a str, at: usize, node: &Node, around: Around) {
        if text.starts_with('"') && !may_begin_json(text, around.how) {
            return;
        }
        if node.has_children && text.starts_with('"') {
            self.objects.push(ObjectText { text, node: node.number, scope: around.scope });
        }
        if around.is_envelope() && self.may_hold(around.scope) {
            let position = self.position(at);
            self.envelopes.push(Later { text, around, position, is_decoded: self.is_decoded });
        }
    }

    /// Reads what stands below `node` in the value ahead, or in the envelope that it is: in an array, in each of its objects. Arrays
    /// directly inside arrays hold no fields; not following them keeps the recursion short. A part of `object`, for the same
    /// reason: the host's stack has few bytes for each level.
    #[inline(always)]
    fn below(&mut self, text: &'a str, at: usize, kind: Kind, node: NodeId, mut around: Around) -> Option<Behind> {
        let bytes = text.as_bytes();
        let mut at = match kind {
            Kind::Object => at,
            Kind::Array => {
                around.how |= IN_LIST;
                let at = json::expect(bytes, at, b'[')?.get();
                if let Some(behind) = json::expect(bytes, at, b']') {
                    return Some(behind);
                }
                json::token(bytes, at)
            }
            Kind::Text | Kind::Other => return json::skip(bytes, at),
        };
        loop {
            let behind = match json::kind(bytes, at) {
                Kind::Object => self.element(text, at, node, around)?,
                element => {
                    let behind = json::skip(bytes, at)?;
                    if element == Kind::Text && around.is_envelope() {
                        self.listed_text(text.get(at..behind.get())?, at, around);
                    }
                    behind
                }
            };
            if kind == Kind::Object {
                return Some(behind);
            }
            match json::next(bytes, behind.get(), b']')? {
                Next::At(next) => at = json::token(bytes, next),
                Next::End(behind) => return Some(behind),
            }
        }
    }

    /// What [`Reading::below`] does, for what is read from the beginning of a text.
    #[inline(never)]
    fn below_text(&mut self, text: &'a str, kind: Kind, node: NodeId, around: Around) -> Option<Behind> {
        self.below(text, 0, kind, node, around)
    }

    /// Reads the object ahead: members below `node`, or a scope of its own if it is in an envelope.
    #[inline(always)]
    fn element(&mut self, text: &'a str, at: usize, node: NodeId, around: Around) -> Option<Behind> {
        if around.is_envelope() { self.scope(text, at, around) } else { self.object(text, at, node, around.scope) }
    }

    /// Takes down a text in a list that is an envelope.
    #[cold]
    #[inline(never)]
    fn listed_text(&mut self, text: &'a str, at: usize, around: Around) {
        let (position, is_decoded) = (self.position(at), self.is_decoded);
        self.envelopes.push(Later { text, around, position, is_decoded });
    }
}

/// Whether text may hold JSON, by its first letter; most text that could is a log line or a name.
fn may_begin_json(text: &str, how: How) -> bool {
    how & IN_BASE64 != 0 || matches!(text.as_bytes().get(1), Some(b'{' | b'[' | b'\\' | b' ' | b'\t' | b'\r' | b'\n'))
}

/// Whether these two bytes stand there.
#[inline(always)]
fn stands_at(text: &[u8], at: usize, pair: &[u8; 2]) -> bool {
    text.get(at..).and_then(<[u8]>::first_chunk) == Some(pair)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::{String, ToString};
    use alloc::vec;

    fn found(paths: &Paths, slot: Slot, record: &str) -> Vec<Vec<String>> {
        let texts = Texts::default();
        let scopes = Scopes::read(paths, record, &texts).expect("JSON");
        let texts = |scope| scopes.at(scope, slot).map(|value| value.text.to_string()).collect();
        (0..scopes.len()).map(texts).collect()
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
                format!(r#"{{"x":"{{\"{name}\":{{\"y\":\"1\"}}}}"}}"#),
                format!(r#"{{"x":{{"{name}":" {{\"y\":\"1\"}}\n"}}}}"#),
                format!(r#"{{"x":"[{{\"{name}\":\"{{\\\"y\\\":\\\"1\\\"}}\"}}]"}}"#),
            ] {
                assert_eq!(found(&paths, slot, &record), [["1"]], "{record}");
                let other = record.replace('y', "yy").replace("0079", "0078");
                assert_eq!(found(&paths, slot, &other), [[""; 0]], "{other}");
            }
        }
    }

    #[test]
    fn repeated_values_come_in_their_order() {
        let mut paths = Paths::new(None);
        let [a, b] = ["a", "b"].map(|path| paths.slot(path));
        let record = r#"{"a":"1","b":2,"a":"\u0033","detail":{"a":"4"},"a":["5"]}"#;
        assert_eq!(found(&paths, a, record), [vec!["1", r#""\u0033""#, r#"["5"]"#], vec!["4"]]);
        assert_eq!(found(&paths, b, record), [vec!["2"], vec![]]);
    }

    #[test]
    fn each_object_in_an_envelope_is_a_scope_of_its_own() {
        let mut paths = Paths::new(Some("x.y"));
        let [a, b] = ["a", "b"].map(|path| paths.slot(path));
        for (record, of_a, of_b) in [
            (r#"{"Records":[{"a":1},{"a":2,"b":3},4,[{"a":5}],{}]}"#, vec!["1", "2"], vec!["3"]),
            (r#"{"a":0,"Records":[{"a":1}],"b":9}"#, vec!["0", "1"], vec!["9"]),
            (r#"{"Records":[{"detail":{"a":1}},{"Records":[{"a":2},{"a":3}]}]}"#, vec!["1", "2", "3"], vec![]),
            (r#"{"Records":{"a":1},"Records":"{\"a\":2} {\"a\":3}\n"}"#, vec!["1", "2", "3"], vec![]),
            (
                r#"{"logEvents":[{"message":"{\"a\":1}"},{"message":"no"},{"message":"{\"b\":2}"}]}"#,
                vec!["1"],
                vec!["2"],
            ),
            (
                r#"{"x":[{"y":{"a":1}},{"y":"{\"a\":2}"},{"y":["{\"a\":3}",{"a":4}]}]}"#,
                vec!["1", "2", "3", "4"],
                vec![],
            ),
            (r#"{"x":"[{\"y\":{\"a\":1}},{\"y\":{\"a\":2}}]"}"#, vec!["1", "2"], vec![]),
            (r#"{"Body":"{\"Message\":\"{\\\"detail\\\":{\\\"a\\\":1}}\"}"}"#, vec!["1"], vec![]),
            (r#"{"message":"\"{\\\"a\\\":1}\""}"#, vec!["1"], vec![]),
            (
                r#"{"records":[{"data":"eyJhIjoxfXsiYSI6Mn0="},{"data":"not base64"},{"data":"eyJiIjoz"}]}"#,
                vec!["1", "2"],
                vec![],
            ),
            (r#"{"Records":[{"kinesis":{"data":"eyJhIjoxfQ"}}]}"#, vec!["1"], vec![]),
            (r#"{"Records":[{"a":1},{"a":2]}"#, vec![], vec![]),
            (r#"{"log":"{\"Records\":[{\"a\":1},{\"a\":2]}"}"#, vec![], vec![]),
            (r#"{"log":"{\"a\":1} {\"a\":2"}"#, vec!["1"], vec![]),
        ] {
            let texts = Texts::default();
            let Some(scopes) = Scopes::read(&paths, record, &texts) else {
                assert!(of_a.is_empty(), "{record}");
                continue;
            };
            let mut all: Vec<usize> = (0..scopes.len()).collect();
            all.sort_by_key(|scope| scopes.inner(*scope).map_or(0, |scope| scope.position));
            let (scopes, all) = (&scopes, &all);
            let of = |slot| all.iter().copied().flat_map(move |scope| scopes.at(scope, slot).map(|value| value.text));
            assert_eq!((of(a).collect::<Vec<_>>(), of(b).collect::<Vec<_>>()), (of_a, of_b), "{record}");
        }
    }

    #[test]
    fn a_scope_has_its_own_text() {
        let mut paths = Paths::new(None);
        paths.slot("a");
        let record = r#"{"Records":[ {"a":1} , {"a":2}],"log":"{\"a\":3}{\"a\":4}"}"#;
        let texts = Texts::default();
        let scopes = Scopes::read(&paths, record, &texts).expect("JSON");
        let found: Vec<&str> = scopes.inner.iter().map(|scope| scope.text).collect();
        assert_eq!(found, [r#"{"a":1}"#, r#"{"a":2}"#, r#"{"a":3}"#, r#"{"a":4}"#]);
    }

    #[test]
    fn text_that_turns_out_to_be_no_json_leaves_nothing_behind() {
        let mut paths = Paths::new(Some("log"));
        let [a, b] = ["a", "b"].map(|path| paths.slot(path));
        let record = r#"{"a":"1","log":"{\"a\":\"2\",\"b\":\"3\",","log":"{\"b\":\"4\"}"}"#;
        assert_eq!(found(&paths, a, record), [vec!["1"], vec![]]);
        assert_eq!(found(&paths, b, record), [vec![], vec!["4"]]);
    }

    /// Nothing is kept for objects without values, and reading takes no more of the stack for many levels.
    #[test]
    fn what_is_nested_or_repeated_costs_what_it_is_long() {
        let mut paths = Paths::new(None);
        let slot = paths.slot("a");
        let texts = Texts::default();
        let many = format!("{{\"Records\":[{}{{\"a\":1}}]}}", "{},{\"b\":[]},".repeat(100_000));
        let scopes = Scopes::read(&paths, &many, &texts).expect("JSON");
        assert_eq!(scopes.len(), 2);
        for level in ["detail", "Records", "event"] {
            let begin = format!("{{\"{level}\":");
            let deep = format!("{}{{\"a\":1}}{}", begin.repeat(20_000), "}".repeat(20_000));
            let scopes = Scopes::read(&paths, &deep, &texts).expect("JSON");
            assert!(scopes.len() <= usize::from(MAX_DEPTH) + 1);
            assert_eq!((0..scopes.len()).map(|scope| scopes.at(scope, slot).count()).sum::<usize>(), 0);
        }
    }
}
