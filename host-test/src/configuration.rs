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
    /// The directory or one of its files cannot be read, or a file is not UTF-8.
    pub fn read(directory: &Path) -> anyhow::Result<Sources> {
        check_directory(directory)?;
        let settings = directory.join(SETTINGS);
        let settings = match settings.try_exists() {
            Ok(false) => None,
            _ => Some(read_text(&settings)?),
        };
        let rules = directory.join(RULES);
        let rules = match rules.try_exists() {
            Ok(false) => Vec::new(),
            _ => read_rules(&rules)?,
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
    let cannot = || format!("cannot read the directory {}", directory.display());
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(directory).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    files.iter().map(|file| read_text(file)).collect()
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

/// The settings that the module runs by in this directory: those of its pack, or the defaults.
///
/// # Errors
/// The pack cannot be read, is damaged, or is of another version.
pub fn settings(directory: Option<&Path>) -> anyhow::Result<Settings> {
    let Some(directory) = directory else {
        return Ok(Settings::default());
    };
    let path = directory.join(PACK);
    match fs::read(&path) {
        Ok(bytes) => {
            let pack = pack::decode(&bytes).with_context(|| path.display().to_string())?;
            Ok(pack.settings)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Settings::default()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
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
