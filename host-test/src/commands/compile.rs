//! `firstseen compile` and `firstseen rules check`: rules and settings to a pack, or every reason why not.
//!
//! Not here: the compiler, which is the engine's; reading the directory; the languages that `--print` speaks.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use firstseen::candidates::{Candidates, fluent_bit, vrl};
use firstseen::configuration::{self, Sources};
use firstseen_engine::rule::diagnostic::Diagnostic;
use firstseen_engine::rule::{Pack, Rule};

use crate::args::{self, Language};
use crate::commands::standard_output::StandardOutput;
use crate::commands::{counted, exit_code};
use crate::warning;

/// Compiles a configuration directory and writes its pack, or prints what tells its candidates.
pub(crate) fn run(args: &args::Compile) -> anyhow::Result<ExitCode> {
    let sources = Sources::read(&args.dir)?;
    let pack = match sources.compile() {
        Ok(pack) => pack,
        Err(refused) => {
            report(&refused);
            let refusals = counted(refused.len(), "refusal");
            match args.print {
                Some(_) => bail!("nothing printed: {refusals}"),
                None => bail!("{} not written: {refusals}", args.dir.join(configuration::PACK).display()),
            }
        }
    };
    if let Some(language) = args.print {
        return print(language, &pack);
    }
    let path = configuration::write_pack(&args.dir, &pack)?;
    let mut out = StandardOutput::new();
    writeln!(out, "{}: {}", path.display(), counted(pack.rules.len(), "rule"))?;
    list(&mut out, &pack)?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn print(language: Language, pack: &Pack) -> anyhow::Result<ExitCode> {
    let candidates = Candidates::of(pack);
    let text = match language {
        Language::Vrl => vrl::condition(&candidates),
        Language::FluentBit => fluent_bit::rewrite_tag(&candidates)?,
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
        match compile(path) {
            // What refuses the next path is worth knowing also where nobody reads what was not refused.
            Ok(Ok(pack)) if written.is_ok() => written = tell(&mut out, path, &pack),
            Ok(Ok(_)) => {}
            Ok(Err(refused)) => {
                report(&refused);
                code = code.max(1);
            }
            Err(error) => {
                warning::tell(&error);
                code = 2;
            }
        }
    }
    exit_code(code, written)
}

fn tell(out: &mut StandardOutput, path: &Path, pack: &Pack) -> anyhow::Result<()> {
    writeln!(out, "{}: {}, none refused", path.display(), counted(pack.rules.len(), "rule"))?;
    list(out, pack)?;
    Ok(out.flush()?)
}

/// A configuration directory with the built-in rules, any other directory or file without.
fn compile(path: &Path) -> anyhow::Result<Result<Pack, Vec<Diagnostic>>> {
    if !path.is_dir() {
        let sources = match path.file_name() {
            Some(name) if name == configuration::SETTINGS => {
                // Settings name the built-in rules and those of their directory.
                let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                return Ok(Sources::read(directory.unwrap_or(Path::new(".")))?.compile());
            }
            _ => Sources { settings: None, rules: vec![configuration::read_text(path)?] },
        };
        return Ok(sources.compile_with(&[]));
    }
    if configuration::is_configuration(path)? {
        return Ok(Sources::read(path)?.compile());
    }
    let sources = Sources { settings: None, rules: configuration::read_rules(path)? };
    Ok(sources.compile_with(&[]))
}

fn report(refused: &[Diagnostic]) {
    let mut err = io::stderr().lock();
    for diagnostic in refused {
        // Nowhere to say it if standard error is closed; the exit code says that there is something.
        let _ = writeln!(err, "{diagnostic}");
    }
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
