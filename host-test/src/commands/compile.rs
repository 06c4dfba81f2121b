//! `firstseen compile` and `firstseen rules check`: rules and settings to a pack, or every reason why not.
//!
//! Not here: the compiler, which is the engine's; reading the directory.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use firstseen::configuration::{self, Sources};
use firstseen_engine::rule::diagnostic::Diagnostic;
use firstseen_engine::rule::{Pack, Rule};

use crate::args;
use crate::commands::counted;

/// Compiles a configuration directory and writes its pack.
pub(crate) fn run(args: &args::Compile) -> anyhow::Result<ExitCode> {
    let sources = Sources::read(&args.dir)?;
    let pack = match sources.compile() {
        Ok(pack) => pack,
        Err(refused) => {
            report(&refused)?;
            let pack = args.dir.join(configuration::PACK);
            bail!("{} not written: {}", pack.display(), counted(refused.len(), "refusal"));
        }
    };
    let path = configuration::write_pack(&args.dir, &pack)?;
    let mut out = io::stdout().lock();
    writeln!(out, "{}: {}", path.display(), counted(pack.rules.len(), "rule"))?;
    list(&mut out, &pack)?;
    Ok(ExitCode::SUCCESS)
}

/// Compiles files and directories, each by itself, and writes nothing.
pub(crate) fn check(args: &args::Check) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for path in &args.paths {
        let compiled = compile(path)?;
        match compiled {
            Ok(pack) => {
                let mut out = io::stdout().lock();
                writeln!(out, "{}: {}, none refused", path.display(), counted(pack.rules.len(), "rule"))?;
                list(&mut out, &pack)?;
            }
            Err(refused) => {
                report(&refused)?;
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

/// A configuration directory with the built-in rules, any other directory or file without.
fn compile(path: &Path) -> anyhow::Result<Result<Pack, Vec<Diagnostic>>> {
    if !path.is_dir() {
        let sources = match path.file_name() {
            Some(name) if name == configuration::SETTINGS => {
                // Settings name the built-in rules.
                let sources = Sources { settings: Some(configuration::read_text(path)?), rules: Vec::new() };
                return Ok(sources.compile());
            }
            _ => Sources { settings: None, rules: vec![configuration::read_text(path)?] },
        };
        return Ok(sources.compile_with(&[]));
    }
    if path.join(configuration::SETTINGS).exists() || path.join(configuration::RULES).exists() {
        return Ok(Sources::read(path)?.compile());
    }
    let sources = Sources { settings: None, rules: configuration::read_rules(path)? };
    Ok(sources.compile_with(&[]))
}

fn report(refused: &[Diagnostic]) -> io::Result<()> {
    let mut err = io::stderr().lock();
    for diagnostic in refused {
        writeln!(err, "{diagnostic}")?;
    }
    Ok(())
}

/// One line a rule: type, window, severity, name.
fn list(out: &mut impl Write, pack: &Pack) -> io::Result<()> {
    for rule in &pack.rules {
        let (kind, window) = kind_and_window(rule);
        let severity = format!("{:?}", rule.severity).to_lowercase();
        writeln!(out, "  {kind:<9}  {window:<5}  {severity:<8}  {}  ({})", rule.name, rule.id)?;
    }
    Ok(())
}

fn kind_and_window(rule: &Rule) -> (&'static str, &str) {
    match &rule.new_terms {
        Some(new_terms) => ("new_terms", &new_terms.window),
        None => ("query", "-"),
    }
}
