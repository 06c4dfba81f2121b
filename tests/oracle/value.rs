//! Values of fields, and how one compares with what a query names.
//!
//! In: one value and one comparison. Out: whether it passes. Not here: which values a field has.

use std::net::IpAddr;

use firstseen_engine::rule::{Comparison, Test};

use super::time::read_time;

/// One value of a field.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Value {
    pub(crate) kind: ValueKind,
    /// The text itself, or the number or boolean as it was written.
    pub(crate) text: String,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum ValueKind {
    Text,
    Number,
    Boolean,
}

impl Value {
    pub(crate) fn text(text: &str) -> Value {
        Value { kind: ValueKind::Text, text: text.to_owned() }
    }

    pub(crate) fn passes(&self, comparison: &Comparison) -> bool {
        let fold = |text: &str| {
            if comparison.ignore_case { text.to_ascii_lowercase() } else { text.to_owned() }
        };
        match &comparison.test {
            Test::Exists => true,
            Test::Equals(literal) => match (self.kind, literal.parse::<f64>()) {
                (ValueKind::Number, Ok(literal)) => self.text.parse::<f64>() == Ok(literal),
                _ => fold(&self.text) == fold(literal),
            },
            Test::Wildcard(parts) => {
                let parts: Vec<String> = parts.iter().map(|part| fold(part)).collect();
                fits(&fold(&self.text), &parts)
            }
            Test::Range(op, bound) => {
                let order = match (self.text.parse::<f64>(), bound.parse::<f64>()) {
                    (Ok(value), Ok(bound)) => value.partial_cmp(&bound),
                    _ => match (read_time(&self.text), read_time(bound)) {
                        (Some(value), Some(bound)) => Some(value.cmp(&bound)),
                        _ => Some(self.text.as_bytes().cmp(bound.as_bytes())),
                    },
                };
                order.is_some_and(|order| op.accepts(order))
            }
            Test::Cidr(network) => in_network(&self.text, network),
        }
    }
}

/// Whether the text is the first part, the last part, and the others in between with anything around them.
pub(crate) fn fits(text: &str, parts: &[String]) -> bool {
    let [first, rest @ ..] = parts else {
        return false;
    };
    let Some(text) = text.strip_prefix(first.as_str()) else {
        return false;
    };
    if rest.is_empty() {
        return text.is_empty();
    }
    text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| fits(&text[at..], rest))
}

pub(crate) fn in_network(text: &str, network: &str) -> bool {
    let Some((base, bits)) = network.split_once('/') else {
        return false;
    };
    let bits_of = |text: &str| {
        text.parse::<IpAddr>().ok().map(|address| match address {
            IpAddr::V4(v4) => format!("{:032b}", u32::from(v4)),
            IpAddr::V6(v6) => format!("{:0128b}", u128::from(v6)),
        })
    };
    let (Some(address), Some(base), Ok(bits)) = (bits_of(text), bits_of(base), bits.parse::<usize>()) else {
        return false;
    };
    address.len() == base.len() && address.get(..bits) == base.get(..bits)
}
