//! `firstseen check`: what would go wrong with firstseen's filters in a Fluent Bit that is started with these files.
//!
//! In: configurations, and what they name: modules, directories, packs, databases. Out: one line on standard output for each
//! finding, `FILE:LINE: what is wrong; what to do`; exit code 1 if there is one, 2 if a file cannot be read or understood.
//! Bounds: it decides by names and places; where nobody can tell (a Lua filter before ours may write any key), nothing is
//! found. Not here: reading configurations; filters that are somebody else's modules; starting anything.

/// What another user may read and write.
mod access;
/// Filters that keep events from firstseen.
mod candidates;
/// Databases of `geoip2` filters.
mod database;
/// What is lost between the history and an output.
mod delivery;
/// Configuration directories and packs.
mod directory;
/// Which way records take.
mod flow;
/// What Fluent Bit as a host does not do for a filter.
mod host;
/// The AS organisation for rules that ask for it.
mod lookup;
/// The module and its functions.
mod module;
/// Filters that no record reaches, and records that reach no output.
mod reach;
/// What becomes of events before they come to the filter.
mod records;

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Display};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use firstseen::fluent_bit::{Configuration, Place, Tags};

use self::access::User;
use self::module::ModuleFile;
use crate::args;
use crate::commands::standard_output::StandardOutput;
use crate::commands::{exit_code, printable};
use crate::warning;

/// The functions of the module that a filter may name.
const FUNCTIONS: [&str; 2] = ["firstseen", "firstseen_alerts"];

/// Checks the files.
pub(crate) fn run(args: &args::CheckFilters) -> anyhow::Result<ExitCode> {
    let user = args.user.as_deref().map(User::of_name).transpose()?;
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
    let mut check = Check { user, ..Check::default() };
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
#[derive(Debug, PartialEq, Eq)]
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

/// What was found so far, in all configurations.
#[derive(Debug, Default)]
struct Check {
    findings: Vec<Finding>,
    /// Who runs Fluent Bit, if it was said.
    user: Option<User>,
    /// Whether there is a filter that runs firstseen, or may be meant to.
    found_filter: bool,
    /// By the value of `wasm_path`.
    modules: HashMap<String, ModuleFile>,
    /// The directories without links in their paths, and the filter that has each.
    directories: HashMap<PathBuf, Place>,
    /// What the user cannot read or write and was told of.
    denied: HashSet<String>,
}

impl Check {
    fn find(&mut self, place: &Place, what: impl Into<String>, to_do: impl Into<String>) {
        let finding = Finding { place: place.to_string(), what: what.into(), to_do: to_do.into() };
        // Two filters may be behind one fault.
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    fn configuration(&mut self, configuration: &Configuration) {
        for (place, name) in &configuration.unset {
            tracing::warn!("{place}: ${{{name}}} is not set here; set it as Fluent Bit will have it");
        }
        let filters: Vec<usize> = (0..configuration.steps.len())
            .filter(|at| {
                let step = &configuration.steps[*at];
                step.plugin.eq_ignore_ascii_case("wasm") && self.is_ours(step)
            })
            .collect();
        self.found_filter |= !filters.is_empty();
        for at in &filters {
            self.filter(configuration, *at);
        }
        if !filters.is_empty() {
            self.check_service(configuration);
            self.check_delivery(configuration, &filters);
            self.check_outputs(configuration, &filters);
        }
    }

    fn filter(&mut self, configuration: &Configuration, at: usize) {
        let step = &configuration.steps[at];
        self.check_module(step);
        self.check_function(step);
        self.check_format(step);
        let pack = self.check_directory(step);
        self.check_workers(configuration, step);
        if step.tags == Tags::None {
            self.find(&step.place, "the filter has no Match, so it sees no record", "add one with the events' tag");
            return;
        }
        if !self.check_reach(configuration, step) {
            return;
        }
        if let Some(pack) = pack {
            self.check_lookup(configuration, at, &pack);
            self.check_records(configuration, at, &pack);
            self.check_candidates(configuration, at, &pack);
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
