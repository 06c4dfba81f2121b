//! `firstseen check`: what would go wrong with firstseen's filters in a Fluent Bit that is started with these files.
//!
//! In: configurations, and what their filters name: modules, directories, packs. Out: one line on standard output for each
//! finding, `FILE:LINE: what is wrong; what to do`; exit code 1 if there is one, 2 if a file cannot be read or understood.
//! Bounds: it decides by names and places; where nobody can tell (a Lua filter before ours may write any key), nothing is
//! found. Not here: reading configurations; filters that are somebody else's modules; starting anything.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Display};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use firstseen::configuration;
use firstseen::fluent_bit_configuration::{Configuration, Place, Stage, Step, Tags};
use firstseen_engine::rule::{Pack, Predicate, Rule};
use memchr::memmem;
use wasmparser::{Parser, Payload};

use crate::args;
use crate::commands::compile;
use crate::commands::standard_output::StandardOutput;
use crate::commands::{exit_code, printable};
use crate::warning;

/// The functions of the module that a filter may name.
const FUNCTIONS: [&str; 2] = ["firstseen", "firstseen_alerts"];

/// What else Fluent Bit calls or reads in the module.
const EXPORTS: [&str; 3] = ["malloc", "free", "memory"];

/// The field that has no place in CloudTrail: a lookup before the filter writes it.
const ORGANIZATION: &str = "source.as.organization.name";

/// The filters that write keys which stand in their properties; `geoip2`, which names them in `Record`, is apart.
const WRITERS: [&str; 5] = ["modify", "record_modifier", "nest", "content_modifier", "sql"];

/// Checks the files.
pub(crate) fn run(args: &args::CheckFilters) -> anyhow::Result<ExitCode> {
    let mut code = 0;
    let mut configurations = Vec::new();
    for file in &args.files {
        match Configuration::read(file) {
            Ok(configuration) => configurations.push(configuration),
            Err(error) => {
                warning::tell(&error);
                code = 2;
            }
        }
    }
    let mut check = Check::default();
    for configuration in whole(&configurations) {
        check.configuration(configuration);
    }
    if !check.found_filter && code == 0 {
        check.findings.push(no_filter(&args.files));
    }
    if !check.findings.is_empty() {
        code = code.max(1);
    }
    exit_code(code, write(&check.findings))
}

fn write(findings: &[Finding]) -> anyhow::Result<()> {
    let mut out = StandardOutput::new();
    for finding in findings {
        writeln!(out, "{}", printable(&finding.to_string()))?;
    }
    Ok(out.flush()?)
}

/// The configurations that are not part of another one, each once.
fn whole(configurations: &[Configuration]) -> impl Iterator<Item = &Configuration> {
    configurations
        .iter()
        .enumerate()
        .filter(|(at, configuration)| {
            let first = configuration.files.first();
            !configurations.iter().enumerate().any(|(other_at, other)| {
                let same = other.files.first() == first;
                (same && other_at < *at) || (!same && first.is_some_and(|first| other.files.contains(first)))
            })
        })
        .map(|(_, configuration)| configuration)
}

/// A thing that would go wrong.
#[derive(Debug)]
struct Finding {
    place: String,
    what: String,
    to_do: String,
}

impl Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.place, self.what, self.to_do)
    }
}

fn no_filter(files: &[PathBuf]) -> Finding {
    let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    Finding {
        place: files.join(", "),
        what: "no filter runs firstseen's module, so nothing is detected".to_owned(),
        to_do: "add a wasm filter with WASM_Path and Function_Name firstseen".to_owned(),
    }
}

/// What stands in the file of a `wasm_path`.
#[derive(Debug, Clone)]
enum ModuleFile {
    /// Nothing that can be read, and why.
    Unreadable(String),
    /// No WebAssembly, and why.
    NotWebAssembly(String),
    /// A module, and the names of its exports.
    Module(Vec<String>),
    /// A module compiled ahead of time, whose exports are not read, and whether it has the name of one of ours in it.
    Compiled(bool),
}

impl ModuleFile {
    fn read(path: &Path) -> ModuleFile {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) => return ModuleFile::Unreadable(error.to_string()),
        };
        // The header of what flb-wamrc makes.
        if bytes.starts_with(b"\0aot") {
            return ModuleFile::Compiled(memmem::find(&bytes, FUNCTIONS[1].as_bytes()).is_some());
        }
        if !bytes.starts_with(b"\0asm") {
            return ModuleFile::NotWebAssembly("it does not begin with \\0asm".to_owned());
        }
        let mut exports = Vec::new();
        for payload in Parser::new(0).parse_all(&bytes) {
            let names = payload.and_then(|payload| match payload {
                Payload::ExportSection(section) => {
                    section.into_iter().map(|export| Ok(export?.name.to_owned())).collect()
                }
                _ => Ok(Vec::new()),
            });
            match names {
                Ok(names) => exports.extend(names),
                Err(error) => return ModuleFile::NotWebAssembly(error.message().to_owned()),
            }
        }
        ModuleFile::Module(exports)
    }

    /// Whether this is firstseen's, however little of it is there.
    fn is_ours(&self) -> bool {
        match self {
            ModuleFile::Module(exports) => exports.iter().any(|export| FUNCTIONS.contains(&export.as_str())),
            ModuleFile::Compiled(named) => *named,
            ModuleFile::Unreadable(_) | ModuleFile::NotWebAssembly(_) => false,
        }
    }
}

/// What was found so far, in all configurations.
#[derive(Debug, Default)]
struct Check {
    findings: Vec<Finding>,
    /// Whether there is a filter that runs firstseen, or may be meant to.
    found_filter: bool,
    /// By the value of `wasm_path`.
    modules: HashMap<String, ModuleFile>,
    /// The directories without links in their paths, and the filter that has each.
    directories: HashMap<PathBuf, Place>,
}

impl Check {
    fn find(&mut self, place: &Place, what: impl Into<String>, to_do: impl Into<String>) {
        self.findings.push(Finding { place: place.to_string(), what: what.into(), to_do: to_do.into() });
    }

    fn configuration(&mut self, configuration: &Configuration) {
        for (place, name) in &configuration.unset {
            tracing::warn!("{place}: ${{{name}}} is not set here; set it as Fluent Bit will have it");
        }
        for (at, step) in configuration.steps.iter().enumerate() {
            if step.plugin == "wasm" && self.is_ours(step) {
                self.found_filter = true;
                self.filter(configuration, at, step);
            }
        }
    }

    fn module(&mut self, step: &Step) -> Option<&ModuleFile> {
        let path = &step.property("wasm_path")?.value;
        Some(self.modules.entry(path.clone()).or_insert_with(|| ModuleFile::read(Path::new(path))))
    }

    /// Whether a wasm filter is firstseen's, or is meant to be. One that cannot be read may be.
    fn is_ours(&mut self, step: &Step) -> bool {
        let named = step.property("function_name").is_some_and(|name| FUNCTIONS.contains(&name.value.as_str()));
        let module = self.module(step);
        named || module.is_some_and(|module| module.is_ours() || matches!(module, ModuleFile::Unreadable(_)))
    }

    fn filter(&mut self, configuration: &Configuration, at: usize, step: &Step) {
        self.check_module(step);
        self.check_function(step);
        if let Some(format) = step.property("event_format")
            && !format.value.eq_ignore_ascii_case("json")
        {
            let what = match format.value.eq_ignore_ascii_case("msgpack") {
                true => "with Event_Format msgpack Fluent Bit itself loses records".to_owned(),
                false => format!("Event_Format {} is none that Fluent Bit knows", format.value),
            };
            self.find(&format.place, what, "set it to json");
        }
        let pack = self.check_directory(step);
        if step.tags == Tags::None {
            self.find(&step.place, "the filter has no Match, so it sees no record", "add one with the events' tag");
            return;
        }
        if let Some(pack) = pack {
            self.check_lookup(configuration, at, &pack);
        }
    }

    fn check_module(&mut self, step: &Step) {
        const TAKE: &str = "name the module that came with this program";
        let Some(path) = step.property("wasm_path") else {
            self.find(&step.place, "the filter has no WASM_Path", TAKE);
            return;
        };
        let file = &path.value;
        let what = match self.module(step) {
            Some(ModuleFile::Unreadable(reason)) => format!("WASM_Path {file} cannot be read ({reason})"),
            Some(ModuleFile::NotWebAssembly(reason)) => format!("WASM_Path {file} is no WebAssembly module ({reason})"),
            Some(ModuleFile::Module(exports)) => {
                let missing =
                    FUNCTIONS.iter().chain(&EXPORTS).find(|name| !exports.iter().any(|export| export == *name));
                match missing {
                    Some(name) => format!("WASM_Path {file} is not firstseen's module: it exports no {name}"),
                    None => return,
                }
            }
            Some(ModuleFile::Compiled(true)) | None => return,
            Some(ModuleFile::Compiled(false)) => {
                format!("WASM_Path {file} is not firstseen's module: the name {} is not in it", FUNCTIONS[1])
            }
        };
        self.find(&path.place, what, TAKE);
    }

    fn check_function(&mut self, step: &Step) {
        let [all, alerts] = FUNCTIONS;
        let to_do = format!("set it to {all}, or to {alerts} to pass only events with alerts");
        match step.property("function_name") {
            None => self.find(&step.place, "the filter has no Function_Name", to_do),
            // What an unreadable file exports is not known.
            Some(name)
                if !FUNCTIONS.contains(&name.value.as_str()) && self.module(step).is_some_and(ModuleFile::is_ours) =>
            {
                let what = format!("the module has no function {}", name.value);
                self.find(&name.place, what, to_do);
            }
            Some(_) => {}
        }
    }

    /// Checks the configuration directory and what stands in it; the pack that the module will run, if it can.
    fn check_directory(&mut self, step: &Step) -> Option<Pack> {
        let paths = step.property("accessible_paths");
        let place = paths.map_or(&step.place, |paths| &paths.place);
        let first = paths.and_then(|paths| paths.value.split(',').map(str::trim).find(|path| !path.is_empty()));
        let directory = Path::new(first.unwrap_or("."));
        let shown = match first {
            Some(first) => format!("the directory {first}"),
            None => "Fluent Bit's working directory, which is the filter's without Accessible_Paths,".to_owned(),
        };
        let real = match fs::canonicalize(directory) {
            Ok(real) if real.is_dir() => real,
            Ok(_) => {
                self.find(
                    place,
                    format!("{} is no directory", directory.display()),
                    "name a directory for this filter",
                );
                return None;
            }
            Err(error) => {
                self.find(place, format!("{shown} cannot be read ({error})"), "make it, for this filter alone");
                return None;
            }
        };
        match self.directories.get(&real) {
            Some(other) => {
                let what = format!("{shown} is also that of the filter at {other}, and both would write one history");
                self.find(place, what, "give each filter a directory of its own in Accessible_Paths");
            }
            None => {
                self.directories.insert(real, place.clone());
            }
        }
        self.check_pack(place, directory)
    }

    fn check_pack(&mut self, place: &Place, directory: &Path) -> Option<Pack> {
        let file = directory.join(configuration::PACK);
        if let Ok(unread) = configuration::unread(directory) {
            compile::warn_of_unread(&unread);
        }
        match configuration::is_configuration(directory) {
            // The module asks for the names alone: a directory of rules without a rule is one, too.
            Ok(true) if fs::symlink_metadata(&file).is_err() => {
                let shown = directory.display();
                let what = format!(
                    "{shown} has settings or rules but no {}, and the filter would not start",
                    configuration::PACK
                );
                self.find(place, what, format!("run `firstseen compile {shown}`"));
                return None;
            }
            Ok(_) => {}
            Err(error) => {
                self.findings.push(Finding::of_error(place, &error));
                return None;
            }
        }
        match configuration::pack(Some(directory)) {
            Ok(pack) => {
                // Not wrong by itself: files that were copied are newer as well.
                if let Ok(Some(newer)) = configuration::newer_than_pack(directory) {
                    let (file, newer, directory) = (file.display(), newer.display(), directory.display());
                    tracing::warn!(
                        "{file} is older than {newer}; run `firstseen compile {directory}` to have the changes"
                    );
                }
                Some(pack)
            }
            Err(error) => {
                self.findings.push(Finding::of_error(place, &error));
                None
            }
        }
    }

    /// Checks that the AS organisation comes from somewhere, if a rule asks for it.
    fn check_lookup(&mut self, configuration: &Configuration, at: usize, pack: &Pack) {
        let asking: Vec<&str> =
            pack.rules.iter().filter(|rule| asks_for_organization(pack, rule)).map(|rule| rule.name.as_str()).collect();
        let Some(rule) = asking.first() else {
            return;
        };
        let keys: Vec<&str> =
            [Some(ORGANIZATION), pack.settings.as_organization_key.as_deref()].into_iter().flatten().collect();
        let writers: Vec<usize> =
            (0..configuration.steps.len()).filter(|at| self.may_write(&configuration.steps[*at], &keys)).collect();
        if is_written(configuration, &writers, at, &mut HashSet::new()) {
            return;
        }
        let rules = match asking.len() - 1 {
            0 => format!("the rule \"{rule}\" asks"),
            1 => format!("the rule \"{rule}\" and 1 more ask"),
            more => format!("the rule \"{rule}\" and {more} more ask"),
        };
        let what = format!("{rules} for {ORGANIZATION}, which nothing writes before this filter");
        let to_do = format!(
            "put a geoip2 filter of the same Match before it, with `Record {} sourceIPAddress %{{autonomous_system_organization}}`",
            keys[keys.len() - 1]
        );
        self.find(&configuration.steps[at].place, what, to_do);
    }

    /// Whether a step writes one of the keys, or may do so.
    fn may_write(&mut self, step: &Step, keys: &[&str]) -> bool {
        match step.plugin.as_str() {
            "geoip2" => step
                .values("record")
                .any(|record| record.split_whitespace().next().is_some_and(|key| keys.contains(&key))),
            "lua" => true,
            "wasm" => !self.is_ours(step),
            plugin if WRITERS.contains(&plugin) => step.properties.iter().any(|property| {
                let value = property.value.as_str();
                // `nest` makes the key out of its levels.
                let is_level = |key: &&str| key.strip_prefix(value).is_some_and(|rest| rest.starts_with('.'));
                keys.iter().any(|key| value.contains(key)) || (plugin == "nest" && keys.iter().any(is_level))
            }),
            _ => false,
        }
    }
}

impl Finding {
    /// What an error says, which tells what to do as well.
    fn of_error(place: &Place, error: &anyhow::Error) -> Finding {
        let text = format!("{error:#}");
        let (what, to_do) = text.rsplit_once("; ").unwrap_or((&text, "mend it or remove it"));
        Finding { place: place.to_string(), what: what.to_owned(), to_do: to_do.to_owned() }
    }
}

/// Whether one of the steps `writers` comes before the step `at`, under its own tags or under those that `rewrite_tag` gave
/// others.
fn is_written(configuration: &Configuration, writers: &[usize], at: usize, seen: &mut HashSet<usize>) -> bool {
    if writers.iter().any(|writer| configuration.comes_before(*writer, at)) {
        return true;
    }
    let step = &configuration.steps[at];
    if matches!(step.stage, Stage::Input(_)) {
        return false;
    }
    // What is sent on under another tag goes through all filters, also those before the one that sent it.
    (0..configuration.steps.len()).any(|rewriter| {
        let from = &configuration.steps[rewriter];
        from.plugin == "rewrite_tag"
            && from.values("rule").any(|rule| new_tags(rule).overlap(&step.tags))
            && seen.insert(rewriter)
            && is_written(configuration, writers, rewriter, seen)
    })
}

/// The tags that a rule of `rewrite_tag` gives: `KEY REGEX TAG KEEP`. Quotation marks hold words with blanks together.
fn new_tags(rule: &str) -> Tags {
    let mut words = Vec::new();
    let mut rest = rule.trim_start();
    while !rest.is_empty() {
        let end = match rest.strip_prefix('"').and_then(|quoted| quoted.find('"')) {
            Some(quote) => quote + 2,
            None => rest.find(char::is_whitespace).unwrap_or(rest.len()),
        };
        let (word, behind) = rest.split_at(end);
        words.push(word.trim_matches('"'));
        rest = behind.trim_start();
    }
    words.get(2).map_or(Tags::None, |template| Tags::of_template(template))
}

/// Whether a rule names the AS organisation in its query or among its new terms.
fn asks_for_organization(pack: &Pack, rule: &Rule) -> bool {
    let named = |field: usize| pack.fields.get(field).is_some_and(|name| name == ORGANIZATION);
    let new_terms = rule.new_terms.iter().flat_map(|new_terms| &new_terms.fields);
    names_field(&rule.query, &named) || new_terms.into_iter().any(|field| named(usize::from(field.0)))
}

fn names_field(predicate: &Predicate, named: &impl Fn(usize) -> bool) -> bool {
    match predicate {
        Predicate::All(parts) | Predicate::Any(parts) => parts.iter().any(|part| names_field(part, named)),
        Predicate::Not(part) => names_field(part, named),
        Predicate::Is(comparison) => named(usize::from(comparison.field.0)),
    }
}
