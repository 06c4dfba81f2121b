//! `firstseen compile` and `firstseen rules check`: rules and settings to a pack, or every reason why not.
//!
//! In: configuration directories, folders of rules, files. Out: a pack, the list of its rules, each refusal and warning in
//! a line. Bounds: [`MAX_UNREAD`] and [`MAX_WARNINGS`] lines of warnings. Not here: the compiler, which is the engine's; reading the
//! directory; the languages that `--print` speaks.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use firstseen::candidates::{Candidates, fluent_bit, vrl};
use firstseen::configuration::{self, SETTINGS, Sources, Tree, Unread};
use firstseen_engine::rule::compile::{Compiled, Replaced};
use firstseen_engine::rule::diagnostic::Diagnostic;
use firstseen_engine::rule::{Pack, Rule};

use crate::args::{self, Format, Language};
use crate::commands::standard_output::StandardOutput;
use crate::commands::{self, counted, counted_as, exit_code, printable};
use crate::warning;

/// How many files and folders that are not read are named one by one.
const MAX_UNREAD: usize = 20;

/// How many warnings of what rules and settings say are written one by one.
const MAX_WARNINGS: usize = 100;

/// What is wrong with a configuration directory that compiles to an empty pack.
const NO_RULE_ON: &str = "0 rules: every built-in rule is switched off, and the folder rules holds no other that is on";

/// Compiles a configuration directory and writes its pack, or prints what tells its candidates.
pub(crate) fn run(args: &args::Compile) -> anyhow::Result<ExitCode> {
    if args.format.is_some() && args.print != Some(Language::FluentBit) {
        bail!("--format is for --print fluent-bit: leave it out");
    }
    let sources = Sources::read(&args.dir)?;
    commands::warn_of_open_directory(&args.dir);
    warn_of_unread(&sources.unread);
    let compiled = match sources.compile() {
        Ok(compiled) => compiled,
        Err(refused) => {
            report(&refused);
            let refusals = counted(refused.len(), "refusal");
            match args.print {
                Some(_) => bail!("nothing printed: {refusals}"),
                None => bail!("{} not written: {refusals}", args.dir.join(configuration::PACK).display()),
            }
        }
    };
    let Compiled { pack, warnings, .. } = &compiled;
    warn_of_rules(warnings);
    if pack.rules.is_empty() {
        bail!("{}: {NO_RULE_ON}; no pack is written", args.dir.display());
    }
    if let Some(language) = args.print {
        return print(language, args.format, pack);
    }
    let path = configuration::write_pack(&args.dir, pack)?;
    let mut out = StandardOutput::new();
    writeln!(out, "{}: {}", path.display(), counted(pack.rules.len(), "rule"))?;
    list(&mut out, &compiled)?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn print(language: Language, format: Option<Format>, pack: &Pack) -> anyhow::Result<ExitCode> {
    let candidates = Candidates::of(pack);
    let text = match language {
        Language::Vrl => vrl::condition(&candidates),
        Language::FluentBit => {
            let format = match format {
                None | Some(Format::Classic) => fluent_bit::Format::Classic,
                Some(Format::Yaml) => fluent_bit::Format::Yaml,
            };
            fluent_bit::rewrite_tag(&candidates, format)?
        }
    };
    let mut out = StandardOutput::new();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Compiles files and directories, each by itself, and writes nothing. A path that cannot be read does not keep the next
/// one from being checked.
pub(crate) fn check(args: &args::Check) -> anyhow::Result<ExitCode> {
    let mut out = StandardOutput::new();
    let mut code = 0;
    let mut written = Ok(());
    for path in &args.paths {
        let subjects = match Subject::all_of(path) {
            Ok(subjects) => subjects,
            Err(error) => {
                warning::tell(&error);
                code = 2;
                continue;
            }
        };
        for subject in subjects {
            match subject.check() {
                // What refuses the next path is worth knowing also where nobody reads what was not refused.
                Ok(compiled) if written.is_ok() => written = tell(&mut out, &subject.path, &compiled),
                Ok(_) => {}
                Err(Failure::Refused(refused)) => {
                    report(&refused);
                    code = code.max(1);
                }
                Err(Failure::NoRule(sentence)) => {
                    report(&[sentence]);
                    code = code.max(1);
                }
                Err(Failure::Unreadable(error)) => {
                    warning::tell(&error);
                    code = 2;
                }
            }
        }
    }
    exit_code(code, written)
}

fn tell(out: &mut StandardOutput, path: &Path, compiled: &Compiled) -> anyhow::Result<()> {
    writeln!(out, "{}: {}, none refused", path.display(), counted(compiled.pack.rules.len(), "rule"))?;
    list(out, compiled)?;
    Ok(out.flush()?)
}

/// What is compiled together.
struct Subject {
    path: PathBuf,
    kind: Kind,
}

enum Kind {
    /// A configuration directory, with the built-in rules.
    Configuration,
    /// A file with a rule.
    File,
    /// The rules in a folder and below it.
    Folder(Tree),
}

/// Why there is nothing to tell of a subject.
enum Failure {
    Unreadable(anyhow::Error),
    Refused(Vec<Diagnostic>),
    /// The message for a path that holds no rules.
    NoRule(String),
}

impl Subject {
    /// What a path holds: itself, or if it is a folder of configuration directories, each of these besides.
    fn all_of(path: &Path) -> anyhow::Result<Vec<Subject>> {
        let configuration = |path: PathBuf| Subject { path, kind: Kind::Configuration };
        if !path.is_dir() {
            // Settings name the built-in rules and those of their directory.
            let is_settings = path.file_name().is_some_and(|name| name == SETTINGS);
            let kind = if is_settings { Kind::Configuration } else { Kind::File };
            return Ok(vec![Subject { path: path.to_path_buf(), kind }]);
        }
        if configuration::is_configuration_itself(path)? {
            return Ok(vec![configuration(path.to_path_buf())]);
        }
        let mut tree = Tree::read(path)?;
        let configurations = std::mem::take(&mut tree.configurations);
        let mut subjects = Vec::new();
        if !tree.rules.is_empty() || configurations.is_empty() {
            subjects.push(Subject { path: path.to_path_buf(), kind: Kind::Folder(tree) });
        } else {
            warn_of_unread(&tree.unread);
        }
        subjects.extend(configurations.into_iter().map(configuration));
        Ok(subjects)
    }

    /// Compiles it, and warns of what is not read and of what is probably not meant.
    fn check(&self) -> Result<Compiled, Failure> {
        let path = &self.path;
        let (sources, is_configuration) = match &self.kind {
            Kind::Configuration => {
                let directory = if path.is_dir() { Some(&**path) } else { path.parent() };
                let directory = directory.filter(|directory| !directory.as_os_str().is_empty());
                (Sources::read(directory.unwrap_or(Path::new("."))), true)
            }
            Kind::File => {
                let rule = configuration::read_text(path);
                (rule.map(|rule| Sources { rules: vec![rule], ..Sources::default() }), false)
            }
            Kind::Folder(tree) => {
                let rules = configuration::read_texts(&tree.rules);
                (rules.map(|rules| among(rules, tree.unread.clone())), false)
            }
        };
        let sources = sources.map_err(Failure::Unreadable)?;
        warn_of_unread(&sources.unread);
        let compiled = if is_configuration { sources.compile() } else { sources.compile_with(&[]) };
        let compiled = compiled.map_err(Failure::Refused)?;
        warn_of_rules(&compiled.warnings);
        if compiled.pack.rules.is_empty() {
            return Err(Failure::NoRule(self.no_rule()));
        }
        Ok(compiled)
    }

    fn no_rule(&self) -> String {
        let path = self.path.display();
        match &self.kind {
            Kind::Folder(tree) => {
                let folders = counted(tree.folders, "folder");
                format!("{path}: 0 rules: no .toml file with a rule was found in {folders}; name a folder with rules")
            }
            Kind::Configuration | Kind::File => format!("{path}: {NO_RULE_ON}"),
        }
    }
}

/// The rules among the TOML files of a tree, which may be a checkout with files of other kinds.
fn among(files: Vec<(String, String)>, mut unread: Vec<Unread>) -> Sources {
    let (rules, others): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|(_, text)| text.contains("[rule]") || text.contains("rule_id"));
    unread.extend(others.iter().map(|(path, _)| Unread::without_a_rule(Path::new(path))));
    Sources { rules, unread, ..Sources::default() }
}

/// A line for each thing that is not read.
pub(crate) fn warn_of_unread(unread: &[Unread]) {
    warn(unread, MAX_UNREAD, "more file or folder that is not read", "more files and folders that are not read");
}

/// Up to so many warnings in a line each, and how many more of `one` or `many` there are.
fn warn(warnings: &[impl Display], most: usize, one: &str, many: &str) {
    for warning in warnings.iter().take(most) {
        tracing::warn!("{}", printable(&warning.to_string()));
    }
    if let Some(more @ 1..) = warnings.len().checked_sub(most) {
        tracing::warn!("and {}", counted_as(more, one, many));
    }
}

fn warn_of_rules(warnings: &[Diagnostic]) {
    warn(warnings, MAX_WARNINGS, "more warning", "more warnings");
}

fn report(refused: &[impl Display]) {
    let mut err = io::stderr().lock();
    for diagnostic in refused {
        // Nowhere to say it if standard error is closed; the exit code says that there is something.
        let _ = writeln!(err, "{diagnostic}");
    }
}

/// One line a rule: type, window, severity, name; and one for each built-in rule whose place another takes.
fn list(out: &mut impl Write, compiled: &Compiled) -> io::Result<()> {
    for rule in &compiled.pack.rules {
        let (kind, window) = kind_and_window(rule);
        let severity = format!("{:?}", rule.severity).to_lowercase();
        let building_block = if rule.building_block { ", a building block" } else { "" };
        writeln!(out, "  {kind:<9}  {window:<5}  {severity:<8}  {}  ({}){building_block}", rule.name, rule.id)?;
    }
    for Replaced { id, builtin_name, own_file } in &compiled.replaced {
        writeln!(out, "  {own_file} takes the place of the built-in rule {builtin_name:?} ({id})")?;
    }
    Ok(())
}

fn kind_and_window(rule: &Rule) -> (&'static str, &str) {
    match &rule.new_terms {
        Some(new_terms) => ("new_terms", &new_terms.window),
        None => ("query", "-"),
    }
}
