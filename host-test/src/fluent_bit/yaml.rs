//! The format in YAML: `env`, `includes`, `service`, `parsers`, and of `pipeline` all but processors of metrics and traces.
//!
//! Bounds: [`MAX_NESTING`]. Not here: all other keys; aliases, which Fluent Bit does not take.

use std::fs;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, bail};
use yaml_rust2::parser::{Event, Parser};
use yaml_rust2::scanner::TScalarStyle;

use super::{Kind, Place, Property, Reader, Stage};

/// How deep lists and maps may nest; Fluent Bit's own need 8 levels.
const MAX_NESTING: usize = 64;

/// A value, and the line that it begins in.
#[derive(Debug)]
struct Node {
    line: usize,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Debug)]
struct Entry {
    key: String,
    line: usize,
    node: Node,
}

impl Reader {
    pub(super) fn read_yaml(&mut self, file: &Rc<Path>, text: &str) -> anyhow::Result<()> {
        for document in documents(file, text)? {
            for Entry { key, line, node } in entries(file, &document, "the configuration")? {
                match key.to_lowercase().as_str() {
                    "env" => self.read_env(file, node)?,
                    "includes" => {
                        for item in items(file, node, key)? {
                            let Value::Text(name) = &item.value else {
                                bail!("{}: an include is a file's name; write one", place(file, item.line));
                            };
                            self.include(&place(file, item.line), name)?;
                        }
                    }
                    "pipeline" => {
                        let parts = entries(file, node, key).with_context(|| place(file, *line).to_string())?;
                        for part in parts {
                            self.read_part(file, part)?;
                        }
                    }
                    "service" => {
                        let keys = entries(file, node, key)?;
                        self.add(place(file, *line), Kind::Service, properties(file, keys));
                    }
                    "parsers" => {
                        for parser in items(file, node, key)? {
                            let keys = entries(file, parser, "an entry of parsers")?;
                            self.add(place(file, parser.line), Kind::Parser, properties(file, keys));
                        }
                    }
                    "customs" | "stream_processor" => self.add(place(file, *line), Kind::OtherSource, Vec::new()),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// A map of names and values, or a list of maps with `name` and `value` or `uri`.
    fn read_env(&mut self, file: &Rc<Path>, node: &Node) -> anyhow::Result<()> {
        match &node.value {
            Value::Map(entries) => {
                for Entry { key, node, .. } in entries {
                    if let Value::Text(value) = &node.value {
                        self.variables.insert(key.clone(), value.clone());
                    }
                }
            }
            Value::List(list) => {
                for item in list {
                    let entries = entries(file, item, "an entry of env")?;
                    let find = |name: &str| {
                        let entry = entries.iter().find(|entry| entry.key.eq_ignore_ascii_case(name))?;
                        match &entry.node.value {
                            Value::Text(text) => Some(text.clone()),
                            _ => None,
                        }
                    };
                    // A file that is not there leaves the variable unset, which is told where it is used.
                    let from_file = || fs::read_to_string(find("uri")?.trim_start_matches("file://")).ok();
                    let value = find("value").or_else(|| Some(from_file()?.trim_end().to_owned()));
                    if let (Some(name), Some(value)) = (find("name"), value) {
                        self.variables.insert(name, value);
                    }
                }
            }
            Value::Text(_) => {}
        }
        Ok(())
    }

    /// `inputs`, `filters` or `outputs`.
    fn read_part(&mut self, file: &Rc<Path>, part: &Entry) -> anyhow::Result<()> {
        let name = part.key.to_lowercase();
        if !["inputs", "filters", "outputs"].contains(&name.as_str()) {
            return Ok(());
        }
        for (plugin_name, plugin) in plugins(file, &part.node, &name)? {
            let of_list = format!("an entry of {name}");
            let keys = entries(file, plugin, &of_list)?;
            let place = place(file, plugin.line);
            let mut own = properties(file, keys);
            if let Some(value) = plugin_name {
                own.push(Property { key: "name".to_owned(), value: value.to_owned(), place: place.clone() });
            }
            let (kind, stage) = match name.as_str() {
                "filters" => (Kind::Step(Stage::Filter), Stage::Filter),
                "inputs" => (Kind::Input, Stage::Input(self.inputs)),
                _ => (Kind::Output, Stage::Output(self.outputs)),
            };
            self.add(place, kind, own);
            if stage == Stage::Filter {
                continue;
            }
            let Some(processors) = keys.iter().find(|entry| entry.key.eq_ignore_ascii_case("processors")) else {
                continue;
            };
            for Entry { key, node, .. } in entries(file, &processors.node, "processors")? {
                if !key.eq_ignore_ascii_case("logs") {
                    continue;
                }
                for processor in items(file, node, "logs")? {
                    let keys = entries(file, processor, "an entry of logs")?;
                    self.add(self::place(file, processor.line), Kind::Step(stage), properties(file, keys));
                }
            }
        }
        Ok(())
    }
}

fn place(file: &Rc<Path>, line: usize) -> Place {
    Place { file: Rc::clone(file), line }
}

/// The keys with their texts; a list of texts stands for several keys.
fn properties(file: &Rc<Path>, keys: &[Entry]) -> Vec<Property> {
    let mut properties = Vec::new();
    for Entry { key, line, node } in keys {
        let values = match &node.value {
            Value::List(list) => list.as_slice(),
            _ => std::slice::from_ref(node),
        };
        for value in values {
            // Of a map it counts that it is there.
            let text = if let Value::Text(text) = &value.value { text.trim() } else { "" };
            let key = snake_case(key);
            properties.push(Property { key, value: text.to_owned(), place: place(file, *line) });
        }
    }
    properties
}

/// A key as filters know it: `wasmPath` is `wasm_path`.
fn snake_case(key: &str) -> String {
    if key.contains('_') || !key.starts_with(|first: char| first.is_ascii_lowercase()) {
        return key.to_lowercase();
    }
    let mut out = String::new();
    for char in key.chars() {
        if char.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(char.to_ascii_lowercase());
    }
    out
}

/// The items of a list; none if nothing stands there.
fn items<'a>(file: &Rc<Path>, node: &'a Node, name: &str) -> anyhow::Result<&'a [Node]> {
    match &node.value {
        Value::List(list) => Ok(list),
        Value::Text(text) if is_nothing(text) => Ok(&[]),
        _ => bail!("{}: {name} is no list; begin each entry with -", place(file, node.line)),
    }
}

/// The plugins of a list, or of a map from names to their keys, which old versions took.
fn plugins<'a>(file: &Rc<Path>, node: &'a Node, name: &str) -> anyhow::Result<Vec<(Option<&'a str>, &'a Node)>> {
    match &node.value {
        Value::Map(entries) if entries.iter().all(|entry| matches!(entry.node.value, Value::Map(_))) => {
            Ok(entries.iter().map(|entry| (Some(entry.key.as_str()), &entry.node)).collect())
        }
        _ => Ok(items(file, node, name)?.iter().map(|item| (None, item)).collect()),
    }
}

/// The entries of a map; none if nothing stands there.
fn entries<'a>(file: &Rc<Path>, node: &'a Node, name: &str) -> anyhow::Result<&'a [Entry]> {
    match &node.value {
        Value::Map(entries) => Ok(entries),
        Value::Text(text) if is_nothing(text) => Ok(&[]),
        _ => bail!("{}: {name} has no keys; write them as KEY: VALUE", place(file, node.line)),
    }
}

fn is_nothing(text: &str) -> bool {
    matches!(text, "" | "null")
}

/// A list or a map that is still being read.
enum Open {
    List(Vec<Node>),
    /// With the key, and its line, whose value comes next.
    Map(Vec<Entry>, Option<(String, usize)>),
}

/// The documents of a YAML text.
fn documents(file: &Rc<Path>, text: &str) -> anyhow::Result<Vec<Node>> {
    let mut parser = Parser::new_from_str(text);
    let mut documents = Vec::new();
    let mut open: Vec<(usize, Open)> = Vec::new();
    loop {
        let (event, mark) = parser.next_token().map_err(|error| {
            let place = place(file, error.marker().line());
            anyhow::anyhow!("{place}: this is no YAML: {}; mend it", error.info())
        })?;
        let line = mark.line();
        let node = match event {
            Event::StreamEnd => return Ok(documents),
            Event::Nothing | Event::StreamStart | Event::DocumentStart | Event::DocumentEnd => continue,
            Event::Alias(_) => {
                bail!("{}: an alias, which Fluent Bit does not take; write the value out", place(file, line))
            }
            Event::SequenceStart(..) | Event::MappingStart(..) if open.len() == MAX_NESTING => {
                bail!("{}: this nests deeper than {MAX_NESTING} levels; mend it", place(file, line))
            }
            Event::SequenceStart(..) => {
                open.push((line, Open::List(Vec::new())));
                continue;
            }
            Event::MappingStart(..) => {
                open.push((line, Open::Map(Vec::new(), None)));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some((line, Open::List(list))) => Node { line, value: Value::List(list) },
                Some((line, Open::Map(entries, _))) => Node { line, value: Value::Map(entries) },
                // The parser pairs beginnings and ends.
                None => continue,
            },
            // What the parser makes of a key without a value.
            Event::Scalar(text, TScalarStyle::Plain, ..) if text == "~" => {
                Node { line, value: Value::Text(String::new()) }
            }
            Event::Scalar(text, ..) => Node { line, value: Value::Text(text) },
        };
        match open.last_mut() {
            None => documents.push(node),
            Some((_, Open::List(list))) => list.push(node),
            Some((_, Open::Map(entries, key))) => match (key.take(), node) {
                (Some((key, line)), node) => entries.push(Entry { key, line, node }),
                (None, Node { line, value: Value::Text(text) }) => *key = Some((text, line)),
                (None, Node { line, .. }) => {
                    bail!("{}: a list or a map is no key; write a name", place(file, line))
                }
            },
        }
    }
}
