//! The classic format: `[SECTION]`, then indented lines of a key, blanks and a value; `@INCLUDE` and `@SET` between them.
//!
//! This format knows no processors. Not here: the rules of indentation, on which Fluent Bit insists.

use std::path::Path;
use std::rc::Rc;

use anyhow::bail;

use super::{Kind, Place, Property, Reader, Stage};

/// Where lines of keys belong.
#[derive(Debug, Clone, Copy)]
enum Section {
    /// Before the first section.
    None,
    /// The section with this number.
    Kept(usize),
    /// One that is not kept.
    Other,
}

fn kind_of(name: &str) -> Option<Kind> {
    Some(match name.to_lowercase().as_str() {
        "service" => Kind::Service,
        "input" => Kind::Input,
        "filter" => Kind::Step(Stage::Filter),
        "output" => Kind::Output,
        "parser" => Kind::Parser,
        "custom" | "stream_task" => Kind::OtherSource,
        _ => return None,
    })
}

impl Reader {
    pub(super) fn read_classic(&mut self, file: &Rc<Path>, text: &str) -> anyhow::Result<()> {
        let mut section = Section::None;
        // How far the name of the group is indented that the lines belong to, which then are no keys of the section.
        let mut group: Option<usize> = None;
        for (number, line) in (1..).zip(text.lines()) {
            let place = Place { file: Rc::clone(file), line: number };
            let content = line.trim();
            let indentation = line.len() - line.trim_start().len();
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            if indentation == 0 && content.starts_with('@') {
                self.read_instruction(&place, content)?;
                continue;
            }
            if let Some(rest) = content.strip_prefix('[') {
                let Some((name, _)) = rest.split_once(']') else {
                    bail!("{place}: no ] ends the section's name; put one behind it");
                };
                if indentation > 0 {
                    group = Some(indentation);
                    continue;
                }
                group = None;
                section = Section::Other;
                if let Some(kind) = kind_of(name.trim()) {
                    section = Section::Kept(self.sections.len());
                    self.add(place, kind, Vec::new());
                }
                continue;
            }
            let Some((key, value)) = content.split_once([' ', '\t']) else {
                bail!("{place}: {content} has no value; put one behind it");
            };
            if group.is_some_and(|name| indentation > name) {
                continue;
            }
            group = None;
            match section {
                Section::None => bail!("{place}: {key} stands in no section; put it behind a line like [FILTER]"),
                Section::Other => {}
                Section::Kept(at) => {
                    let (key, value) = (key.to_lowercase(), value.trim().to_owned());
                    self.sections[at].properties.push(Property { key, value, place });
                }
            }
        }
        Ok(())
    }

    /// A line that begins with `@`.
    fn read_instruction(&mut self, place: &Place, line: &str) -> anyhow::Result<()> {
        let (word, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        if word.eq_ignore_ascii_case("@include") {
            return self.include(place, rest.trim());
        }
        if word.eq_ignore_ascii_case("@set") {
            let Some((name, value)) = rest.split_once('=') else {
                bail!("{place}: @SET without =; write @SET NAME=VALUE");
            };
            self.variables.insert(name.trim().to_owned(), value.trim().to_owned());
        }
        Ok(())
    }
}
