//! The events that a record holds: itself, or those in its envelopes, which are looked into again.
//!
//! In: a record's tree. Out: its events in the order in which they stand there. Written from the formats' documentation anew,
//! with a table of its own. Read by recursion: not for hostile input. Not here: what a field is.

use firstseen_engine::rule::{Dialect, Settings};

use super::event::{Event, dialect_of};
use super::json::{Json, Kind};

/// How many envelopes may stand inside each other.
const DEEPEST: usize = 6;

/// The paths of envelopes; behind `base64:`, texts are that.
const PATHS: [&str; 17] = [
    "Records",
    "records",
    "logEvents",
    "Events",
    "CloudTrailEvent",
    "detail",
    "Message",
    "Sns.Message",
    "Messages",
    "Body",
    "body",
    "event",
    "message",
    "log",
    "base64:data",
    "kinesis",
    "base64:Data",
];

/// An envelope that is looked for: what is left of its path, whether it is base64, and whether the operator named it.
#[derive(Clone)]
struct Sought {
    path: String,
    is_base64: bool,
    is_event_root: bool,
}

/// An object out of an envelope.
struct Inner {
    object: Json,
    is_listed: bool,
    is_event_root: bool,
}

/// The events of a record.
pub(crate) fn events(root: &Json, settings: &Settings) -> Vec<Event> {
    if !matches!(root.kind, Kind::Object(_)) {
        return Vec::new();
    }
    let search = Search {
        settings,
        is_raw: settings.dialect != Some(Dialect::Ecs) && !root.values_at("eventVersion").is_empty(),
    };
    let mut events = search.events(root, &[], false);
    let count = events.len();
    for (number, event) in events.iter_mut().enumerate() {
        event.number = (count > 1 || event.is_listed).then_some(number);
        if count > 1 {
            // What is around several events says nothing of one of them.
            event.around.clear();
        }
    }
    events
}

struct Search<'s> {
    settings: &'s Settings,
    /// The record is as CloudTrail writes it.
    is_raw: bool,
}

impl Search<'_> {
    /// The events inside of this object; itself, if there are none. `around` has what is around it, nearest first.
    fn events(&self, object: &Json, around: &[Json], is_listed: bool) -> Vec<Event> {
        let mut found = Vec::new();
        if around.len() < DEEPEST {
            let mut outer = vec![object.clone()];
            outer.extend_from_slice(around);
            for inner in self.inside(object, &self.sought()) {
                if around.is_empty() && self.is_raw && !inner.is_event_root {
                    continue;
                }
                found.extend(self.events(&inner.object, &outer, is_listed || inner.is_listed));
            }
        }
        if found.is_empty()
            && let Some(dialect) = dialect_of(object, self.settings.dialect)
            && !(self.is_raw && dialect == Dialect::Ecs)
        {
            found.push(Event {
                scope: object.clone(),
                around: around.to_vec(),
                dialect,
                as_organization_key: self.settings.as_organization_key.clone(),
                is_listed,
                number: None,
            });
        }
        found
    }

    fn sought(&self) -> Vec<Sought> {
        let mut sought = Vec::new();
        for path in PATHS {
            let (path, is_base64) = path.strip_prefix("base64:").map_or((path, false), |path| (path, true));
            let root = self.settings.event_root.as_deref().unwrap_or("");
            // The operator's path leads there, or through it.
            if root != path && !root.starts_with(&format!("{path}.")) {
                sought.push(Sought { path: path.to_owned(), is_base64, is_event_root: false });
            }
        }
        if let Some(path) = &self.settings.event_root {
            sought.push(Sought { path: path.clone(), is_base64: false, is_event_root: true });
        }
        sought
    }

    /// The objects in the envelopes of an object, in its order.
    fn inside(&self, object: &Json, sought: &[Sought]) -> Vec<Inner> {
        let mut found = Vec::new();
        for (key, value) in object.members() {
            let mut deeper = Vec::new();
            for one in sought {
                if one.path == *key {
                    opened(value, one.is_base64, false, &mut |object, is_listed| {
                        found.push(Inner { object, is_listed, is_event_root: one.is_event_root });
                    });
                } else if let Some(rest) = one.path.strip_prefix(key.as_str()).and_then(|rest| rest.strip_prefix('.')) {
                    deeper.push(Sought { path: rest.to_owned(), ..one.clone() });
                }
            }
            if !deeper.is_empty() {
                for object in value.objects() {
                    found.extend(self.inside(&object, &deeper));
                }
            }
        }
        found
    }
}

/// The objects that a value in an envelope holds, and whether each may be one of several.
fn opened(value: &Json, is_base64: bool, is_listed: bool, give: &mut dyn FnMut(Json, bool)) {
    match &value.kind {
        Kind::Object(_) => give(value.clone(), is_listed),
        Kind::Array(items) => {
            for item in items.iter().filter(|item| matches!(item.kind, Kind::Object(_) | Kind::Text(_))) {
                opened(item, is_base64, true, give);
            }
        }
        Kind::Text(text) if is_base64 => {
            if let Some(text) = from_base64(text) {
                texts(&text, is_listed, give);
            }
        }
        Kind::Text(text) => texts(text, is_listed, give),
        _ => {}
    }
}

/// The objects that a text holds one behind the other, or the one array or text in JSON.
fn texts(text: &str, mut is_listed: bool, give: &mut dyn FnMut(Json, bool)) {
    let text = text.trim_matches([' ', '\t', '\r', '\n', '\u{c}']);
    if let Some(whole) = Json::read(text)
        && matches!(whole.kind, Kind::Array(_) | Kind::Text(_))
    {
        return opened(&whole, false, is_listed, give);
    }
    if text.starts_with('{') {
        let raw = serde_json::Deserializer::from_str(text).into_iter::<Box<serde_json::value::RawValue>>();
        for object in raw.map_while(Result::ok).map_while(|raw| Json::from_raw(&raw)) {
            if !matches!(object.kind, Kind::Object(_)) {
                break;
            }
            give(object, is_listed);
            is_listed = true;
        }
    }
}

fn from_base64(text: &str) -> Option<String> {
    let digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = String::new();
    for digit in text.trim_end_matches('=').chars() {
        let digit = match digit {
            '-' => '+',
            '_' => '/',
            other => other,
        };
        bits.push_str(&format!("{:06b}", digits.find(digit)?));
    }
    let bytes: Vec<u8> = bits
        .as_bytes()
        .chunks_exact(8)
        .map(|byte| u8::from_str_radix(std::str::from_utf8(byte).expect("digits"), 2).expect("a byte"))
        .collect();
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
