//! The record as a tree that keeps repeated keys.
//!
//! In: JSON text. Out: its values, each with its own text. Read by recursion: not for hostile input. Not here: what a key
//! means.

use serde_json::value::RawValue;

use super::value::{Value, ValueKind};

/// A JSON value with its text, and with every key as often as it stands there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Json {
    pub(crate) raw: String,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Null,
    Boolean,
    Number,
    Text(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    pub(crate) fn read(text: &str) -> Option<Json> {
        let raw: Box<RawValue> = serde_json::from_str(text).ok()?;
        Json::from_raw(&raw)
    }

    pub(crate) fn from_raw(raw: &RawValue) -> Option<Json> {
        let text = raw.get();
        let kind = match text.as_bytes().first()? {
            b'n' => Kind::Null,
            b't' | b'f' => Kind::Boolean,
            b'"' => Kind::Text(serde_json::from_str(text).ok()?),
            b'[' => {
                let items: Vec<Box<RawValue>> = serde_json::from_str(text).ok()?;
                Kind::Array(items.iter().map(|item| Json::from_raw(item)).collect::<Option<_>>()?)
            }
            b'{' => {
                let members: Members = serde_json::from_str(text).ok()?;
                Kind::Object(
                    members
                        .0
                        .iter()
                        .map(|(key, value)| Some((key.clone(), Json::from_raw(value)?)))
                        .collect::<Option<_>>()?,
                )
            }
            _ => Kind::Number,
        };
        Some(Json { raw: text.to_owned(), kind })
    }

    pub(crate) fn members(&self) -> &[(String, Json)] {
        match &self.kind {
            Kind::Object(members) => members,
            _ => &[],
        }
    }

    /// null, "", {} and [].
    pub(crate) fn is_nothing(&self) -> bool {
        match &self.kind {
            Kind::Null => true,
            Kind::Text(text) => text.is_empty(),
            Kind::Array(items) => items.is_empty(),
            Kind::Object(members) => members.is_empty(),
            _ => false,
        }
    }

    /// Everything that stands at a dotted path, its levels nested, joined by dots in one key, or a mix. What is in an object that is
    /// written as JSON text comes behind the rest.
    pub(crate) fn at(&self, path: &str) -> Vec<Json> {
        let mut found = Vec::new();
        let mut texts = vec![(self.clone(), path.to_owned())];
        let mut next = 0;
        while let Some((text, path)) = texts.get(next).cloned() {
            for object in text.objects() {
                object.walk(&path, &mut found, &mut texts);
            }
            next += 1;
        }
        found
    }

    fn walk(&self, path: &str, found: &mut Vec<Json>, texts: &mut Vec<(Json, String)>) {
        for (key, value) in self.members() {
            if key == path {
                found.push(value.clone());
            } else if let Some(rest) = path.strip_prefix(key.as_str()).and_then(|rest| rest.strip_prefix('.')) {
                match value.kind {
                    Kind::Text(_) => texts.push((value.clone(), rest.to_owned())),
                    _ => value.objects().iter().for_each(|object| object.walk(rest, found, texts)),
                }
            }
        }
    }

    /// The object that this is, or the objects in this array, or in the JSON text that this is.
    pub(crate) fn objects(&self) -> Vec<Json> {
        match &self.kind {
            Kind::Object(_) => vec![self.clone()],
            Kind::Array(items) => items.iter().filter(|item| matches!(item.kind, Kind::Object(_))).cloned().collect(),
            Kind::Text(text) => match Json::read(text) {
                Some(json) if matches!(json.kind, Kind::Object(_) | Kind::Array(_)) => json.objects(),
                _ => Vec::new(),
            },
            _ => Vec::new(),
        }
    }

    /// The scalar values at a dotted path; arrays are sets, and objects are no values.
    pub(crate) fn values_at(&self, path: &str) -> Vec<Value> {
        self.at(path).iter().flat_map(Json::scalars).collect()
    }

    pub(crate) fn scalars(&self) -> Vec<Value> {
        if self.is_nothing() {
            return Vec::new();
        }
        match &self.kind {
            Kind::Text(text) => vec![Value::text(text)],
            Kind::Number => vec![Value { kind: ValueKind::Number, text: self.raw.clone() }],
            Kind::Boolean => vec![Value { kind: ValueKind::Boolean, text: self.raw.clone() }],
            Kind::Array(items) => items.iter().flat_map(Json::scalars).collect(),
            _ => Vec::new(),
        }
    }

    pub(crate) fn arrays_at(&self, path: &str) -> Option<Vec<Json>> {
        self.at(path).into_iter().find_map(|json| match json.kind {
            Kind::Array(items) => Some(items),
            _ => None,
        })
    }
}

/// JSON text without the white space between its tokens.
pub(crate) fn compact(raw: &str) -> String {
    let mut out = String::new();
    let mut in_text = false;
    let mut escaped = false;
    for character in raw.chars() {
        if in_text {
            in_text = escaped || character != '"';
            escaped = !escaped && character == '\\';
        } else if character == '"' {
            in_text = true;
        } else if character.is_ascii_whitespace() {
            continue;
        }
        out.push(character);
    }
    out
}

/// The members of an object in order, repeated keys included.
pub(crate) struct Members(pub(crate) Vec<(String, Box<RawValue>)>);

impl<'de> serde::Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Members, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}
