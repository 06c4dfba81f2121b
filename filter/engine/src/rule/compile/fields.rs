//! The fields that the rules of one pack name.
//!
//! In: names. Out: references into the pack's list, each name once, or the name that was probably meant.
//! Bounds: [`MAX_FIELDS`] fields. Not here: where an event holds a field.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::super::diagnostic::{Mismatch, nearest};
use super::super::settings_file::SettingsFile;
use super::super::toml_source::{Source, Text};
use super::super::{Dialect, FieldRef, MAX_FIELDS};
use crate::event;

pub(super) struct Fields {
    dialect: Option<Dialect>,
    names: Vec<String>,
}

impl Fields {
    pub(super) fn new(settings: &SettingsFile) -> Fields {
        // With a dialect that could not be read, no field is called unknown: one refusal is enough.
        let dialect = if settings.dialect_unread { Some(Dialect::Ecs) } else { settings.settings.dialect };
        Fields { dialect, names: Vec::new() }
    }

    pub(super) fn reference(&mut self, name: &str) -> Result<FieldRef, Mismatch> {
        if !event::fields::is_known(name, self.dialect) {
            return Err(self.unknown(name));
        }
        let at = match self.names.iter().position(|known| known == name) {
            Some(at) => at,
            None => {
                self.names.push(name.into());
                self.names.len() - 1
            }
        };
        match u16::try_from(at) {
            Ok(reference) if at < MAX_FIELDS => Ok(FieldRef(reference)),
            _ => Err(Mismatch::new(format!("field number {}, {name:?}", at + 1), format!("at most {MAX_FIELDS}"))),
        }
    }

    /// The same for a field that stands in a rule's file as the value of `what`.
    pub(super) fn of(&mut self, source: &Source<'_>, what: &str, name: &Text) -> Option<FieldRef> {
        self.reference(&name.value).map_err(|mismatch| source.refuse_mismatch(name.span.start, what, mismatch)).ok()
    }

    fn unknown(&self, name: &str) -> Mismatch {
        let root = name.split('.').next().unwrap_or_default();
        let is_known_in_ecs = event::fields::is_known(name, Some(Dialect::Ecs));
        let looks_like_ecs = is_known_in_ecs && name.contains('.') && !root.contains(char::is_uppercase);
        let mut expected = match nearest(name, event::fields::names()) {
            Some(nearest) => format!("{nearest:?}, the nearest known field"),
            None => String::from("the ECS name of a CloudTrail field, such as \"event.action\""),
        };
        if looks_like_ecs {
            expected.push_str(" (with dialect = \"ecs\" in firstseen.toml, any dotted field)");
        }
        Mismatch::new(format!("the unknown field {name:?}"), expected)
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// Forgets the fields that came after the first `len`.
    pub(super) fn truncate(&mut self, len: usize) {
        self.names.truncate(len);
    }

    /// The names that references point at.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    pub(super) fn into_names(self) -> Vec<String> {
        self.names
    }
}
