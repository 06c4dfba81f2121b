//! The configuration directory: `firstseen.toml`, `rules/*.toml`, and the pack that is made of them.
//!
//! In: a directory. Out: its files' texts for the compiler, its pack written in one step, its settings. Not here: what
//! rules and settings mean.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use firstseen_engine::rule::diagnostic::Diagnostic;
use firstseen_engine::rule::{Pack, Settings, builtin, compile, pack};

/// The file name of the pack.
pub const PACK: &str = "firstseen.pack";

/// The file name of the settings.
pub const SETTINGS: &str = "firstseen.toml";

/// The directory of the operator's own rules.
pub const RULES: &str = "rules";

/// The texts that a pack is made of, each with its path as the label.
#[derive(Debug, Default)]
pub struct Sources {
    /// `firstseen.toml`, if there is one.
    pub settings: Option<(String, String)>,
    /// The operator's own rules, in the order of their names.
    pub rules: Vec<(String, String)>,
}

impl Sources {
    /// Reads a configuration directory.
    ///
    /// # Errors
    /// The directory or one of its files cannot be read, a file is not UTF-8, or a TOML file stands where none is read.
    pub fn read(directory: &Path) -> anyhow::Result<Sources> {
        check_directory(directory)?;
        let settings = directory.join(SETTINGS);
        let rules = directory.join(RULES);
        if let Some(stray) = toml_files(directory)?.into_iter().find(|file| *file != settings) {
            let (stray, settings, rules) = (stray.display(), settings.display(), rules.display());
            bail!("{stray} would not be read: move it to {rules} if it is a rule; settings stand in {settings}");
        }
        let settings = match is_there(&settings)? {
            true => Some(read_text(&settings)?),
            false => None,
        };
        let rules = match is_there(&rules)? {
            true => read_rules(&rules)?,
            false => Vec::new(),
        };
        Ok(Sources { settings, rules })
    }

    /// Compiles the built-in rules, the own ones and the settings.
    ///
    /// # Errors
    /// Every refusal.
    pub fn compile(&self) -> Result<Pack, Vec<Diagnostic>> {
        self.compile_with(&builtin::FILES)
    }

    /// Compiles the own rules and the settings with these built-in rules.
    ///
    /// # Errors
    /// Every refusal.
    pub fn compile_with(&self, builtin: &[compile::File<'_>]) -> Result<Pack, Vec<Diagnostic>> {
        fn borrowed((label, text): &(String, String)) -> compile::File<'_> {
            (label, text)
        }
        let rules: Vec<_> = self.rules.iter().map(borrowed).collect();
        compile::compile(self.settings.as_ref().map(borrowed), builtin, &rules)
    }
}

/// The rule files of a directory, in the order of their names.
///
/// # Errors
/// The directory or one of its files cannot be read, or a file is not UTF-8.
pub fn read_rules(directory: &Path) -> anyhow::Result<Vec<(String, String)>> {
    toml_files(directory)?.iter().map(|file| read_text(file)).collect()
}

/// Whether this is a configuration directory: one with settings, or with a directory of rules.
///
/// # Errors
/// One of them is a link to nothing.
pub fn is_configuration(directory: &Path) -> anyhow::Result<bool> {
    Ok(is_there(&directory.join(SETTINGS))? || is_there(&directory.join(RULES))?)
}

/// A source of the directory's pack that was changed after the pack was made, if there is one.
///
/// # Errors
/// The directory or one of its entries cannot be read, or there are sources but no pack.
pub fn newer_than_pack(directory: &Path) -> anyhow::Result<Option<PathBuf>> {
    check_directory(directory)?;
    let (settings, rules) = (directory.join(SETTINGS), directory.join(RULES));
    let mut sources = if is_there(&rules)? { toml_files(&rules)? } else { Vec::new() };
    if is_there(&settings)? {
        sources.push(settings);
    }
    let changed = |file: &Path| {
        fs::metadata(file)
            .and_then(|metadata| metadata.modified())
            .with_context(|| format!("cannot read {}", file.display()))
    };
    let pack = directory.join(PACK);
    if !is_there(&pack)? {
        if !sources.is_empty() {
            let directory = directory.display();
            bail!("{directory} has settings or rules but no {PACK}; run `firstseen compile {directory}` first");
        }
        return Ok(None);
    }
    let made = changed(&pack)?;
    for source in sources {
        if changed(&source)? > made {
            return Ok(Some(source));
        }
    }
    Ok(None)
}

/// Whether there is such a file or directory.
///
/// # Errors
/// It is a link to nothing.
fn is_there(path: &Path) -> anyhow::Result<bool> {
    match (fs::symlink_metadata(path), fs::metadata(path)) {
        (Err(error), _) if error.kind() == ErrorKind::NotFound => Ok(false),
        (Ok(_), Err(error)) if error.kind() == ErrorKind::NotFound => {
            bail!("{} is a link to nothing: mend it or remove it", path.display())
        }
        // Reading it says what else may be wrong.
        _ => Ok(true),
    }
}

/// The TOML files of a directory, in the order of their names; the hidden ones, which editors leave, are not among them.
fn toml_files(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let cannot = || format!("cannot read the directory {}", directory.display());
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(directory).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml")) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// A file's path and text.
///
/// # Errors
/// The file cannot be read or is not UTF-8.
pub fn read_text(file: &Path) -> anyhow::Result<(String, String)> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        anyhow::anyhow!("{} is not UTF-8: byte {} is no part of a character", file.display(), at + 1)
    })?;
    Ok((file.display().to_string(), text))
}

/// Writes the pack of a directory: at any moment the old one or the new one is there, whole.
///
/// # Errors
/// The directory cannot be written.
pub fn write_pack(directory: &Path, made: &Pack) -> anyhow::Result<PathBuf> {
    let path = directory.join(PACK);
    let temporary = directory.join(format!(".{PACK}.{}", std::process::id()));
    let written = File::create(&temporary)
        .and_then(|mut file| {
            file.write_all(&pack::encode(made))?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, &path));
    if written.is_err() {
        // What failed is the error to report; the temporary file may not even exist.
        let _ = fs::remove_file(&temporary);
    }
    written.with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Copies the pack of a directory, if it has one, to another directory.
///
/// # Errors
/// It cannot be read or written.
pub fn copy_pack(from: &Path, to: &Path) -> anyhow::Result<()> {
    let path = from.join(PACK);
    match fs::copy(&path, to.join(PACK)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot copy {} to {}", path.display(), to.display())),
    }
}

/// The pack that the module runs in this directory: its own, or the built-in rules and the default settings.
///
/// # Errors
/// The pack cannot be read, is damaged, or is of another version.
pub fn pack(directory: Option<&Path>) -> anyhow::Result<Pack> {
    if let Some(directory) = directory {
        let path = directory.join(PACK);
        match fs::read(&path) {
            Ok(bytes) => return pack::decode(&bytes).with_context(|| path.display().to_string()),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }
    compile::builtin(&builtin::FILES).map_err(|refusals| {
        let lines: Vec<String> = refusals.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("the built-in rules do not compile: {}", lines.join("; "))
    })
}

/// The settings that the module runs by in this directory: those of its pack, or the defaults.
///
/// # Errors
/// Those of [`pack()`].
pub fn settings(directory: Option<&Path>) -> anyhow::Result<Settings> {
    Ok(pack(directory)?.settings)
}

/// # Errors
/// There is no such directory.
pub fn check_directory(directory: &Path) -> anyhow::Result<()> {
    match fs::metadata(directory) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => bail!("{} is not a directory", directory.display()),
        Err(error) => Err(error).with_context(|| format!("cannot read the directory {}", directory.display())),
    }
}
