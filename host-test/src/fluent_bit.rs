//! Fluent Bit's configuration: how records get from inputs through filters to outputs.
//!
//! In: a file in the classic format or, by its ending `.yaml` or `.yml`, in YAML, and the files that it includes. Out: one
//! [`Configuration`] for either format: its inputs, filters, processors of logs, outputs, parsers and service, with their properties,
//! variables put in. Like Fluent Bit, it looks for relative paths of the classic format's `@INCLUDE` in the current directory, then in
//! that of the first file; for those of YAML's `includes` in the directory of the including file.
//! Bounds: [`MAX_FILES`] files, each read once. Not here: what the properties mean to a plugin, the sections that change no way of
//! records (plugins, custom ones), and whether Fluent Bit would take the rest.

mod classic;
mod tags;
mod yaml;

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, bail};

pub use self::tags::Tags;
use crate::configuration::read_text;

/// How many files one configuration may be made of, which is Fluent Bit's own limit.
const MAX_FILES: usize = 1000;

/// What one Fluent Bit process is told.
#[derive(Debug)]
pub struct Configuration {
    /// The file, as it was named.
    pub file: PathBuf,
    /// All files that were read, the first one included, without links in their paths. Those of parsers are not among them.
    pub files: Vec<PathBuf>,
    /// The keys of the service, of all its sections.
    pub service: Section,
    /// Inputs, in the order of the files.
    pub inputs: Vec<Tagged>,
    /// Filters and processors of logs, in the order of the files.
    pub steps: Vec<Step>,
    /// Outputs, in the order of the files.
    pub outputs: Vec<Tagged>,
    /// Parsers, those of parsers files included.
    pub parsers: Vec<Section>,
    /// Whether all parsers files could be read.
    pub has_all_parsers: bool,
    /// Whether records may come from elsewhere than the inputs and filters, as from stream tasks.
    pub has_other_sources: bool,
    /// Variables that a filter or processor names and nothing sets: Fluent Bit puts nothing in their place.
    pub unset: Vec<(Place, String)>,
}

/// Keys and values that belong together.
#[derive(Debug, Default)]
pub struct Section {
    /// Where it begins.
    pub place: Place,
    /// The plugin's name, in lower case; of a parser, its name as it is.
    pub plugin: String,
    /// Its properties other than the name, in their order; a key may stand several times.
    pub properties: Vec<Property>,
}

/// An input with the tags that it gives, or an output with those that it takes.
#[derive(Debug)]
pub struct Tagged {
    /// Its keys.
    pub section: Section,
    /// Its tags.
    pub tags: Tags,
}

/// A filter or a processor.
#[derive(Debug)]
pub struct Step {
    /// Its keys.
    pub section: Section,
    /// When records come to it.
    pub stage: Stage,
    /// Which records come to it.
    pub tags: Tags,
}

/// A key and its value.
#[derive(Debug, Clone)]
pub struct Property {
    /// In lower case, words parted by `_`.
    pub key: String,
    /// As the plugin gets it.
    pub value: String,
    /// Where the key stands.
    pub place: Place,
}

/// When records come to a step; the number is that of the input or output that it is a processor of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// A processor of an input: before all filters.
    Input(usize),
    /// A filter.
    Filter,
    /// A processor of an output: after all filters.
    Output(usize),
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: Rc<Path>,
    /// The line, from 1 on.
    pub line: usize,
}

impl Default for Place {
    fn default() -> Place {
        Place { file: Rc::from(Path::new("")), line: 0 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

impl Deref for Step {
    type Target = Section;

    fn deref(&self) -> &Section {
        &self.section
    }
}

impl Deref for Tagged {
    type Target = Section;

    fn deref(&self) -> &Section {
        &self.section
    }
}

impl Section {
    /// The property of this key; the last one, if it stands several times.
    pub fn property(&self, key: &str) -> Option<&Property> {
        self.properties.iter().rev().find(|property| property.key == key)
    }

    /// The value of this key; the last one, if it stands several times.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.property(key).map(|property| property.value.as_str())
    }

    /// Whether this key has a value that nobody can tell, for a variable in it is not set here.
    pub fn is_unknown(&self, key: &str) -> bool {
        self.value(key).is_some_and(|value| value.contains("${"))
    }

    /// Where this key stands, or the section if it does not.
    pub fn place_of(&self, key: &str) -> &Place {
        self.property(key).map_or(&self.place, |property| &property.place)
    }

    /// Whether this key is switched on.
    pub fn is_on(&self, key: &str) -> bool {
        self.value(key).is_some_and(|value| ["true", "on", "yes"].iter().any(|on| value.eq_ignore_ascii_case(on)))
    }

    /// All values of this key.
    pub fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.properties.iter().filter(move |property| property.key == key).map(|property| property.value.as_str())
    }
}

impl Configuration {
    /// Reads a configuration with all that it includes.
    ///
    /// # Errors
    /// One of the files cannot be read or understood, or is included twice.
    pub fn read(file: &Path) -> anyhow::Result<Configuration> {
        let format = match file.extension() {
            Some(ending) if ending == "yaml" || ending == "yml" => Format::Yaml,
            _ => Format::Classic,
        };
        let mut reader = Reader { format, ..Reader::default() };
        reader.read_file(file)?;
        Ok(reader.finish(file, |name| std::env::var(name).ok()))
    }

    /// The parser of this name.
    pub fn parser(&self, name: &str) -> Option<&Section> {
        self.parsers.iter().rev().find(|parser| parser.plugin == name)
    }

    /// Whether a record of some tag comes to the step `earlier` and then, under the same tag, to the step `later`.
    pub fn comes_before(&self, earlier: usize, later: usize) -> bool {
        let (before, after) = (&self.steps[earlier], &self.steps[later]);
        let in_order = match (before.stage, after.stage) {
            (Stage::Filter, Stage::Filter) => earlier < later,
            (Stage::Input(_), Stage::Input(_)) | (Stage::Output(_), Stage::Output(_)) => {
                return before.stage == after.stage && earlier < later;
            }
            _ => before.stage < after.stage,
        };
        in_order && before.tags.overlap(&after.tags)
    }
}

/// The two languages of configurations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Format {
    #[default]
    Classic,
    Yaml,
}

/// What was read so far; variables are not yet put in.
#[derive(Debug, Default)]
struct Reader {
    format: Format,
    /// All files, without links in their paths.
    files: Vec<PathBuf>,
    /// `@SET` and `env`; the last one of a name counts.
    variables: HashMap<String, String>,
    sections: Vec<RawSection>,
    /// How many inputs and outputs there are so far.
    inputs: usize,
    outputs: usize,
}

/// A section whose name is still among its properties.
#[derive(Debug)]
struct RawSection {
    place: Place,
    kind: Kind,
    properties: Vec<Property>,
}

/// What a section is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Service,
    Input,
    Step(Stage),
    Output,
    Parser,
    /// Records may come from it.
    OtherSource,
}

impl Reader {
    fn read_file(&mut self, file: &Path) -> anyhow::Result<()> {
        let real = fs::canonicalize(file).with_context(|| format!("cannot read {}", file.display()))?;
        if self.files.contains(&real) {
            bail!("{} is read twice, which Fluent Bit refuses; include it once", file.display());
        }
        if self.files.len() == MAX_FILES {
            bail!("{} is one file too many; Fluent Bit reads {MAX_FILES}", file.display());
        }
        self.files.push(real);
        let (_, text) = read_text(file)?;
        match self.format {
            Format::Classic => self.read_classic(&Rc::from(file), &text),
            Format::Yaml => self.read_yaml(&Rc::from(file), &text),
        }
    }

    /// Reads the file of this name, or those that it matches if there is a `*` in it.
    fn include(&mut self, from: &Place, name: &str) -> anyhow::Result<()> {
        let directory = match self.format {
            Format::Classic => self.files.first().and_then(|first| first.parent()),
            Format::Yaml => from.file.parent(),
        };
        let beside = directory.unwrap_or(Path::new("")).join(name);
        let files = if name.contains('*') {
            matching_files(&beside).with_context(|| format!("{from}: cannot include {name}"))?
        } else if self.format == Format::Classic && Path::new(name).exists() {
            vec![PathBuf::from(name)]
        } else {
            vec![beside]
        };
        if files.is_empty() {
            bail!("{from}: no file matches {name}, and Fluent Bit would not start; take the line out or mend the name");
        }
        for file in files {
            self.read_file(&file).with_context(|| from.to_string())?;
        }
        Ok(())
    }

    fn add(&mut self, place: Place, kind: Kind, properties: Vec<Property>) {
        self.inputs += usize::from(kind == Kind::Input);
        self.outputs += usize::from(kind == Kind::Output);
        self.sections.push(RawSection { place, kind, properties });
    }

    /// Puts the variables in: those of the files, then those of the environment.
    fn finish(self, file: &Path, environment: impl Fn(&str) -> Option<String>) -> Configuration {
        let Reader { files, variables, sections, .. } = self;
        let variable = |name: &str| variables.get(name).cloned().or_else(|| environment(name));
        let mut configuration = Configuration {
            file: file.to_path_buf(),
            files,
            service: Section::default(),
            inputs: Vec::new(),
            steps: Vec::new(),
            outputs: Vec::new(),
            parsers: Vec::new(),
            has_all_parsers: true,
            has_other_sources: false,
            unset: Vec::new(),
        };
        let mut steps = Vec::new();
        for RawSection { place, kind, properties } in sections {
            let is_step = matches!(kind, Kind::Step(_));
            let unset = is_step.then_some(&mut configuration.unset);
            let mut section = Section::new(place, properties, &variable, unset);
            if kind != Kind::Parser {
                section.plugin = section.plugin.to_lowercase();
            }
            match kind {
                Kind::Service => configuration.service.properties.extend(section.properties),
                Kind::Input => {
                    let tags = Tags::of_input(&section);
                    configuration.inputs.push(Tagged { section, tags });
                }
                Kind::Output => {
                    let tags = Tags::of_match(&section.properties).unwrap_or(Tags::Any);
                    configuration.outputs.push(Tagged { section, tags });
                }
                Kind::Step(stage) => steps.push((stage, section)),
                Kind::Parser => configuration.parsers.push(section),
                Kind::OtherSource => configuration.has_other_sources = true,
            }
        }
        configuration.has_other_sources |= configuration.service.property("streams_file").is_some();
        for (stage, section) in steps {
            let tags = match stage {
                Stage::Filter => Tags::of_match(&section.properties).unwrap_or(Tags::None),
                Stage::Input(owner) => configuration.inputs[owner].tags.clone(),
                Stage::Output(owner) => configuration.outputs[owner].tags.clone(),
            };
            configuration.steps.push(Step { section, stage, tags });
        }
        configuration.steps.retain(is_active);
        configuration.read_parsers_files(&variable);
        configuration
    }
}

impl Section {
    /// A variable that is not set leaves nothing, and is noted in `unset`. Without that the value stays as it is: it may be a secret
    /// that only Fluent Bit has, and nobody can tell what it is.
    fn new(
        place: Place,
        mut properties: Vec<Property>,
        variable: &impl Fn(&str) -> Option<String>,
        mut unset: Option<&mut Vec<(Place, String)>>,
    ) -> Section {
        for Property { value, place, .. } in &mut properties {
            let mut names = Vec::new();
            let with_variables = with_variables_in(value, variable, &mut |name| names.push(name.to_owned()));
            match &mut unset {
                None if !names.is_empty() => continue,
                None => {}
                Some(unset) => unset.extend(names.into_iter().map(|name| (place.clone(), name))),
            }
            *value = with_variables;
        }
        let name = properties.iter().rev().find(|property| property.key == "name");
        let plugin = name.map(|name| name.value.clone()).unwrap_or_default();
        properties.retain(|property| property.key != "name");
        Section { place, plugin, properties }
    }
}

impl Configuration {
    /// Reads the parsers of the files that the service names. One that cannot be read is noted: it may be there where Fluent Bit runs.
    fn read_parsers_files(&mut self, variable: &impl Fn(&str) -> Option<String>) {
        let directory = self.files.first().and_then(|first| first.parent()).unwrap_or(Path::new("")).to_path_buf();
        let names: Vec<PathBuf> = self.service.values("parsers_file").map(PathBuf::from).collect();
        for name in names {
            let path = if name.exists() { name } else { directory.join(name) };
            let format = match path.extension() {
                Some(ending) if ending == "yaml" || ending == "yml" => Format::Yaml,
                _ => Format::Classic,
            };
            let mut reader = Reader { format, ..Reader::default() };
            self.has_all_parsers &= reader.read_file(&path).is_ok();
            for RawSection { place, kind, properties } in reader.sections {
                if kind == Kind::Parser {
                    self.parsers.push(Section::new(place, properties, variable, None));
                }
            }
        }
    }
}

/// Whether a step is not switched off.
fn is_active(step: &Step) -> bool {
    let off = |property: &Property| ["false", "off", "no"].iter().any(|no| property.value.eq_ignore_ascii_case(no));
    !step.property("active").is_some_and(off)
}

/// The text with the values of `${NAME}` and `${NAME:-DEFAULT}` in their places; one that is not set is told to `unset`.
fn with_variables_in(text: &str, variable: &impl Fn(&str) -> Option<String>, unset: &mut impl FnMut(&str)) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("${") {
        let Some((name, behind)) = behind.split_once('}') else {
            break;
        };
        out.push_str(before);
        rest = behind;
        let (name, default) = match name.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (name, None),
        };
        match (variable(name).filter(|value| !value.is_empty()), default) {
            (Some(value), _) => out.push_str(&value),
            (None, Some(default)) => out.push_str(default),
            (None, None) => unset(name),
        }
    }
    out.push_str(rest);
    out
}

/// The files that a path with `*` and `?` in it matches, in the order of their names; as in a shell, neither stands for a
/// leading dot.
fn matching_files(pattern: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        let name = component.as_os_str().to_string_lossy();
        if !name.contains(['*', '?']) {
            found.iter_mut().for_each(|path| path.push(component));
            continue;
        }
        let mut deeper = Vec::new();
        for directory in found {
            let listed = if directory.as_os_str().is_empty() { Path::new(".") } else { &directory };
            if !listed.is_dir() {
                continue;
            }
            for entry in fs::read_dir(listed)? {
                let entry = entry?.file_name();
                let text = entry.to_string_lossy();
                if tags::name_matches(&name, &text) && (name.starts_with('.') || !text.starts_with('.')) {
                    deeper.push(directory.join(&entry));
                }
            }
        }
        deeper.sort();
        found = deeper;
    }
    found.retain(|path| path.is_file());
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the first of these files.
    fn read(files: &[(&str, &str)]) -> anyhow::Result<Configuration> {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Configuration::read(&directory.path().join(files[0].0))
    }

    /// Each step as `line plugin key=value`.
    fn steps(configuration: &Configuration) -> Vec<String> {
        let step = |step: &Step| {
            let mut text = format!("{} {}", step.place.line, step.plugin);
            for property in &step.properties {
                text += &format!(" {}={}", property.key, property.value);
            }
            text
        };
        configuration.steps.iter().map(step).collect()
    }

    #[test]
    fn both_formats_say_the_same() {
        let classic = "# comment\n[SERVICE]\n  Flush 1\n\n[Filter]\n    NAME  Wasm\n    # comment\n    Match aws.*\n    \
                       Function_Name   firstseen  \n[OUTPUT]\n    Name null\n    Match *\n[FILTER]\n    Name lua\n    Match_Regex ^a\n";
        let yaml = "service:\n  flush: 1\npipeline:\n  filters:\n    - NAME: Wasm\n      match: aws.*\n      functionName: firstseen\n    \
                    - name: lua\n      match_regex: ^a\n  outputs:\n    - name: null\n      match: '*'\n";
        let (classic, yaml) = (read(&[("a.conf", classic)]).unwrap(), read(&[("a.yml", yaml)]).unwrap());
        assert_eq!(steps(&classic), ["5 wasm match=aws.* function_name=firstseen", "13 lua match_regex=^a"]);
        assert_eq!(steps(&yaml), ["5 wasm match=aws.* function_name=firstseen", "8 lua match_regex=^a"]);
        assert_eq!(classic.steps[0].property("function_name").unwrap().place.line, 9);
        assert_eq!(yaml.steps[0].property("function_name").unwrap().place.line, 7);
        for configuration in [classic, yaml] {
            assert!(configuration.comes_before(0, 1) && !configuration.comes_before(1, 0));
            assert_eq!(configuration.steps[0].tags, Tags::Pattern("aws.*".to_owned()));
        }
    }

    #[test]
    fn processors_belong_to_their_input_and_output() {
        let text = "pipeline:\n  inputs:\n    - name: http\n      tag: a\n      processors:\n        logs:\n          - name: geoip2\n            \
                    record:\n              - x y z\n              - k l m\n          - name: wasm\n        metrics:\n          - name: labels\n    \
                    - name: tail\n      processors:\n        logs:\n          - name: wasm\n  \
                    filters:\n    - name: grep\n      match: b\n  outputs:\n    - name: null\n      match: a\n      processors:\n        logs:\n          - name: wasm\n";
        let read = read(&[("a.yaml", text)]).unwrap();
        assert_eq!(
            steps(&read),
            ["7 geoip2 record=x y z record=k l m", "11 wasm", "17 wasm", "19 grep match=b", "26 wasm"]
        );
        let before = |later: usize| (0..5).filter(|earlier| read.comes_before(*earlier, later)).collect::<Vec<_>>();
        // The first input may take a tag from the path of a request. The second has none: it gives tail.0.
        assert_eq!([before(0), before(1), before(2), before(3)], [vec![], vec![0], vec![], vec![0, 1]]);
        assert_eq!(before(4), [0, 1]);
    }

    #[test]
    fn variables_come_from_the_files_then_from_the_environment() {
        let configuration = read(&[
            ("a.conf", "[FILTER]\n  Name ${KIND}\n  Match ${UNSET_HERE}x${OTHER:-y}${KIND\n@INCLUDE b.conf\n"),
            ("b.conf", "@SET KIND=wasm\n"),
        ]);
        let configuration = configuration.unwrap();
        assert_eq!(steps(&configuration), ["1 wasm match=xy${KIND"]);
        let [(place, name)] = &configuration.unset[..] else { panic!("{:?}", configuration.unset) };
        assert_eq!((place.line, name.as_str()), (3, "UNSET_HERE"));
        for env in ["  KIND: wasm\n", "  - name: KIND\n    value: wasm\n"] {
            let text = format!("env:\n{env}pipeline:\n  filters:\n    - name: ${{KIND}}\n      match: ${{HOME}}\n");
            let configuration = read(&[("a.yaml", &text)]).unwrap();
            let step = format!("wasm match={}", std::env::var("HOME").unwrap_or_default());
            assert!(steps(&configuration)[0].ends_with(&step), "{:?}", steps(&configuration));
        }
    }

    #[test]
    fn included_files_stand_where_they_are_included() {
        let filter = |name: &str| format!("[FILTER]\n  Name {name}\n  Match *\n");
        let first = format!("@INCLUDE parts/c.conf\n{}@include parts/*-x.conf\n{}", filter("b"), filter("e"));
        let files = [
            ("a.conf", first.as_str()),
            ("parts/c.conf", &format!("{}@INCLUDE parts/d.conf\n", filter("a"))),
            ("parts/d.conf", &filter("a2")),
            ("parts/2-x.conf", &filter("d")),
            ("parts/1-x.conf", &filter("c")),
            ("parts/.0-x.conf", &filter("hidden")),
        ];
        let configuration = read(&files).unwrap();
        let names: Vec<_> = configuration.steps.iter().map(|step| step.plugin.as_str()).collect();
        assert_eq!(names, ["a", "a2", "b", "c", "d", "e"]);
        assert_eq!(configuration.files.len(), 5);
        assert!(configuration.steps[3].place.file.ends_with("parts/1-x.conf"));

        let filter = |name: &str| format!("pipeline:\n  filters:\n    - name: {name}\n      match: '*'\n");
        let files = [
            ("a.yaml", format!("includes:\n  - parts/b.yaml\n  - parts/*-x.yaml\n{}", filter("last"))),
            ("parts/b.yaml", format!("includes:\n  - c.yaml\n{}", filter("b"))),
            ("parts/c.yaml", filter("a")),
            ("parts/1-x.yaml", filter("c")),
        ];
        let files: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let configuration = read(&files).unwrap();
        let names: Vec<_> = configuration.steps.iter().map(|step| step.plugin.as_str()).collect();
        assert_eq!(names, ["a", "b", "c", "last"]);
    }

    #[test]
    fn what_cannot_be_understood_is_told_with_its_line() {
        let deep = format!("pipeline:\n  {}", "[".repeat(100));
        for (name, text, line, reason) in [
            ("a.conf", "[FILTER]\n  Name wasm\n[FILTER\n", 3, "no ] ends the section's name"),
            ("a.conf", "[FILTER]\n  Name\n", 2, "Name has no value"),
            ("a.conf", "Name wasm\n", 1, "Name stands in no section"),
            ("a.conf", "[FILTER]\n  Name wasm\n@INCLUDE missing.conf\n", 3, "cannot read "),
            ("a.conf", "\n@INCLUDE missing-*.conf\n", 2, "no file matches missing-*.conf"),
            ("a.conf", "@INCLUDE a.conf\n", 1, "is read twice"),
            ("a.yaml", "pipeline:\n  filters:\n  - name: \"wasm\n", 3, "is no YAML"),
            ("a.yaml", "pipeline:\n  filters:\n    name: wasm\n", 3, "filters is no list"),
            ("a.yaml", "pipeline:\n  filters:\n    - wasm\n", 3, "an entry of filters has no keys"),
            ("a.yaml", "includes:\n  - missing.yaml\n", 2, "cannot read "),
            ("a.yaml", "a: &a b\npipeline: *a\n", 2, "an alias"),
            ("a.yaml", "- a\n", 1, "the configuration has no keys"),
            ("a.yaml", &deep, 2, "nests deeper than"),
        ] {
            let error = format!("{:#}", read(&[(name, text)]).unwrap_err());
            assert!(error.contains(&format!("/{name}:{line}: ")) && error.contains(reason), "{error}");
        }
    }

    #[test]
    fn a_step_that_is_switched_off_is_none() {
        let text = "[FILTER]\n  Name a\n  Match *\n  Active off\n[FILTER]\n  Name b\n  Match *\n  active TRUE\n";
        assert_eq!(steps(&read(&[("a.conf", text)]).unwrap()), ["5 b match=* active=TRUE"]);
    }
}
