//! The configuration directory: `firstseen.toml`, `rules/**/*.toml`, and the pack that is made of them.
//!
//! In: a directory. Out: its files' texts for the compiler, what stands in `rules` and is not read, its pack written in one
//! step, its settings. Bounds: [`MAX_PACK`] and [`MAX_SOURCE`] for a file, [`MAX_DEPTH`] and [`MAX_ENTRIES`] for a tree of
//! rules; only regular files are opened, since a pipe would be waited for. Not here: what rules and settings mean.

use std::collections::HashSet;
use std::fmt::{self, Display};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use firstseen_engine::rule::compile::Compiled;
use firstseen_engine::rule::diagnostic::Diagnostic;
use firstseen_engine::rule::{Pack, Settings, builtin, compile, pack};
use firstseen_engine::storage::STATE_FILE;

use crate::ownership;

/// The file name of the pack.
pub const PACK: &str = "firstseen.pack";

/// The pack that started last, which the module keeps.
pub const LAST_PACK: &str = "firstseen.pack.last";

/// The file name of the settings.
pub const SETTINGS: &str = "firstseen.toml";

/// The directory of the operator's own rules.
pub const RULES: &str = "rules";

/// The most that a pack may hold, in bytes; the module has the same bound.
pub const MAX_PACK: u64 = 16 << 20;

/// The most that a rule's file or the settings may hold, in bytes. The longest rule of Elastic's takes 40 KB.
pub const MAX_SOURCE: u64 = 4 << 20;

/// How deep folders of rules may nest.
pub const MAX_DEPTH: usize = 16;

/// How many files and folders are looked at in a tree of rules. Elastic's has 2,400.
pub const MAX_ENTRIES: usize = 50_000;

/// The texts that a pack is made of, each with its path as the label.
#[derive(Debug, Default)]
pub struct Sources {
    /// `firstseen.toml`, if there is one.
    pub settings: Option<(String, String)>,
    /// The operator's own rules, in the order of their paths.
    pub rules: Vec<(String, String)>,
    /// What stands where rules are read and is not read.
    pub unread: Vec<Unread>,
}

/// A file or folder that is not read, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// Where it is.
    pub path: PathBuf,
    /// Why it is not read.
    pub reason: &'static str,
    /// What to do.
    pub to_do: &'static str,
}

impl Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not read: {}; {}", self.path.display(), self.reason, self.to_do)
    }
}

impl Unread {
    /// Of a TOML file, found in a tree, that has nothing of a rule in it.
    pub fn without_a_rule(path: &Path) -> Unread {
        let reason = "it holds no rule: it has neither a table [rule] nor a rule_id";
        Unread::new(path, reason, "add them if it is meant as one")
    }

    fn new(path: &Path, reason: &'static str, to_do: &'static str) -> Unread {
        Unread { path: path.to_path_buf(), reason, to_do }
    }

    /// Of a file whose name says that it is no TOML.
    fn of_another_kind(path: &Path) -> Unread {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let (reason, to_do) = match extension.to_ascii_lowercase().as_str() {
            "ndjson" | "json" | "jsonl" => (
                "rules are TOML files, not JSON as Kibana exports it",
                "write each of its rules as a .toml file in the schema of Elastic's rule files",
            ),
            "yml" | "yaml" => (
                "rules are TOML files, not YAML as Sigma's are",
                "write the rule as a .toml file in the schema of Elastic's rule files",
            ),
            _ => ("rules are files that end in .toml", "rename it if it is a rule, or move it elsewhere"),
        };
        Unread::new(path, reason, to_do)
    }
}

/// What a tree of folders holds.
#[derive(Debug, Default)]
pub struct Tree {
    /// The TOML files, in the order of their paths.
    pub rules: Vec<PathBuf>,
    /// Folders with settings in them: each is a configuration directory of its own. Only if they were looked for.
    pub configurations: Vec<PathBuf>,
    /// What is not read.
    pub unread: Vec<Unread>,
    /// How many folders were looked at.
    pub folders: usize,
}

/// Whether folders with settings in them are configuration directories, or settings are files like others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nested {
    Configurations,
    Rules,
}

impl Tree {
    /// Reads the names below a directory, whose folders with settings are configuration directories of their own.
    ///
    /// # Errors
    /// The directory or a folder in it cannot be read, or holds more than [`MAX_ENTRIES`].
    pub fn read(directory: &Path) -> anyhow::Result<Tree> {
        Tree::of(directory, Nested::Configurations)
    }

    fn of(directory: &Path, nested: Nested) -> anyhow::Result<Tree> {
        let mut tree = Tree::default();
        let mut seen = HashSet::new();
        let mut entries = 0;
        tree.folder(directory, nested, 0, &mut seen, &mut entries)?;
        tree.rules.sort();
        Ok(tree)
    }

    /// Hidden entries, which editors and version control leave, are passed over.
    fn folder(
        &mut self,
        folder: &Path,
        nested: Nested,
        depth: usize,
        seen: &mut HashSet<PathBuf>,
        entries: &mut usize,
    ) -> anyhow::Result<()> {
        let cannot = || format!("cannot read the directory {}", folder.display());
        seen.insert(fs::canonicalize(folder).with_context(cannot)?);
        self.folders += 1;
        for path in visible_entries(folder)? {
            *entries += 1;
            if *entries > MAX_ENTRIES {
                bail!(
                    "{} holds more than {MAX_ENTRIES} files and folders: name a directory of rules",
                    folder.display()
                );
            }
            let is_toml = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml"));
            match fs::metadata(&path) {
                Ok(found) if found.is_dir() => {
                    let is_seen = fs::canonicalize(&path).is_ok_and(|real| seen.contains(&real));
                    if is_seen {
                        let reason = "links make it the same folder as another one, which is read";
                        self.unread.push(Unread::new(&path, reason, "remove the link"));
                    } else if nested == Nested::Configurations && path.join(SETTINGS).is_file() {
                        self.configurations.push(path);
                    } else if depth + 1 == MAX_DEPTH {
                        let reason = "folders of rules are read 16 deep";
                        self.unread.push(Unread::new(&path, reason, "move it further up"));
                    } else {
                        self.folder(&path, nested, depth + 1, seen, entries)?;
                    }
                }
                // What is wrong with one that cannot be read is said when it is read.
                _ if is_toml => self.rules.push(path),
                Ok(found) if found.is_file() => self.unread.push(Unread::of_another_kind(&path)),
                Ok(_) => self.unread.push(Unread::new(&path, "it is not a regular file", "remove it")),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    self.unread.push(Unread::new(&path, "it is a link to nothing", "correct or remove the link"));
                }
                Err(_) => self.unread.push(Unread::new(&path, "it cannot be examined", "check its permissions")),
            }
        }
        Ok(())
    }
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
        let mut unread = unread_beside_rules(directory)?;
        let settings = match is_there(&settings)? {
            true => Some(read_text(&settings)?),
            false => None,
        };
        let rules = match is_there(&rules)? {
            true => {
                let tree = Tree::of(&rules, Nested::Rules)?;
                unread.extend(tree.unread);
                read_texts(&tree.rules)?
            }
            false => Vec::new(),
        };
        Ok(Sources { settings, rules, unread })
    }

    /// Compiles the built-in rules, the own ones and the settings.
    ///
    /// # Errors
    /// Every refusal.
    pub fn compile(&self) -> Result<Compiled, Vec<Diagnostic>> {
        self.compile_with(&builtin::FILES)
    }

    /// Compiles the own rules and the settings with these built-in rules.
    ///
    /// # Errors
    /// Every refusal.
    pub fn compile_with(&self, builtin: &[compile::File<'_>]) -> Result<Compiled, Vec<Diagnostic>> {
        fn borrowed((label, text): &(String, String)) -> compile::File<'_> {
            (label, text)
        }
        let rules: Vec<_> = self.rules.iter().map(borrowed).collect();
        compile::compile_with_warnings(self.settings.as_ref().map(borrowed), builtin, &rules)
    }
}

/// What stands in a configuration directory, is not read, and is probably meant as a rule or a folder of rules.
fn unread_beside_rules(directory: &Path) -> anyhow::Result<Vec<Unread>> {
    const TO_DO: &str = "move it into the folder rules if it holds rules";
    let mut unread = Vec::new();
    for path in visible_entries(directory)? {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if path.is_dir() {
            let holds_rules = path.file_name().is_some_and(|name| name != RULES)
                && toml_files(&path).is_ok_and(|files| !files.is_empty());
            if holds_rules {
                unread.push(Unread::new(&path, "rules are read from the folder rules", TO_DO));
            }
        } else if ["yml", "yaml"].iter().any(|other| extension.eq_ignore_ascii_case(other)) {
            unread.push(Unread::new(
                &path,
                "settings are read from firstseen.toml, rules from the folder rules",
                TO_DO,
            ));
        } else if ["ndjson", "json", "jsonl"].iter().any(|other| extension.eq_ignore_ascii_case(other))
            && looks_like_rules(&path)
        {
            unread.push(Unread::of_another_kind(&path));
        }
    }
    Ok(unread)
}

/// Whether a file of JSON holds rules, as Kibana exports them, rather than events or a history.
fn looks_like_rules(path: &Path) -> bool {
    const BEGINNING: u64 = 64 << 10;
    let mut beginning = Vec::new();
    let is_read = fs::metadata(path).is_ok_and(|found| found.is_file())
        && File::open(path).is_ok_and(|file| file.take(BEGINNING).read_to_end(&mut beginning).is_ok());
    let has = |key: &str| memchr::memmem::find(&beginning, key.as_bytes()).is_some();
    is_read && has("\"rule_id\"") && has("\"query\"") && has("\"risk_score\"")
}

/// The files' paths and texts.
///
/// # Errors
/// One of the files cannot be read or is not UTF-8.
pub fn read_texts(files: &[PathBuf]) -> anyhow::Result<Vec<(String, String)>> {
    files.iter().map(|file| read_text(file)).collect()
}

/// Whether this is a configuration directory: one with settings, or with a directory of rules.
///
/// # Errors
/// One of them is a link to nothing.
pub fn is_configuration(directory: &Path) -> anyhow::Result<bool> {
    Ok(is_there(&directory.join(SETTINGS))? || is_there(&directory.join(RULES))?)
}

/// Whether a folder that is to be checked is a configuration directory, rather than one that only has a folder of the name
/// `rules`: a checkout with TOML files of its own beside it, or a folder in which `rules` is the configuration directory.
///
/// # Errors
/// Those of [`is_configuration`].
pub fn is_configuration_itself(directory: &Path) -> anyhow::Result<bool> {
    if is_there(&directory.join(SETTINGS))? {
        return Ok(true);
    }
    let rules = directory.join(RULES);
    Ok(is_there(&rules)? && !rules.join(SETTINGS).is_file() && toml_files(directory)?.is_empty())
}

/// What stands in a configuration directory and is not read.
///
/// # Errors
/// A directory cannot be read.
pub fn unread(directory: &Path) -> anyhow::Result<Vec<Unread>> {
    let mut unread = unread_beside_rules(directory)?;
    let rules = directory.join(RULES);
    if is_there(&rules)? {
        unread.extend(Tree::of(&rules, Nested::Rules)?.unread);
    }
    Ok(unread)
}

/// A source of the directory's pack that was changed after the pack was made, if there is one.
///
/// # Errors
/// The directory, one of its entries or the pack cannot be read, or there are sources but no pack.
pub fn newer_than_pack(directory: &Path) -> anyhow::Result<Option<PathBuf>> {
    check_directory(directory)?;
    let (settings, rules) = (directory.join(SETTINGS), directory.join(RULES));
    let mut sources = if is_there(&rules)? { Tree::of(&rules, Nested::Rules)?.rules } else { Vec::new() };
    if is_there(&settings)? {
        sources.push(settings);
    }
    let changed = |file: &Path| {
        fs::metadata(file)
            .and_then(|metadata| metadata.modified())
            .with_context(|| format!("cannot read {}", file.display()))
    };
    if read_pack(directory)?.is_none() {
        if !sources.is_empty() {
            let directory = directory.display();
            bail!("{directory} has settings or rules but no {PACK}; run `firstseen compile {directory}` first");
        }
        return Ok(None);
    }
    let made = changed(&directory.join(PACK))?;
    for source in sources {
        if changed(&source)? > made {
            return Ok(Some(source));
        }
    }
    Ok(None)
}

/// The bytes of a directory's pack; nothing if there is no such file.
///
/// # Errors
/// It is there and cannot be read, is not a regular file, or is larger than [`MAX_PACK`].
pub fn read_pack(directory: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    let path = directory.join(PACK);
    if !is_there(&path)? {
        return Ok(None);
    }
    match read_file(&path, MAX_PACK) {
        Ok(bytes) => Ok(Some(bytes)),
        // It was removed a moment ago.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Reads a regular file of at most so many bytes.
pub(crate) fn read_file(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let found = fs::metadata(path)?;
    if found.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    if !found.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it is larger than {} MiB", most >> 20)));
    }
    Ok(bytes)
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

/// What a directory holds, in the order of names; the hidden entries, which editors and version control leave, are not among it.
fn visible_entries(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let cannot = || format!("cannot read the directory {}", directory.display());
    let mut entries: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(directory).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            entries.push(entry.path());
        }
    }
    entries.sort();
    Ok(entries)
}

/// The TOML files of a directory itself, in the order of their names.
fn toml_files(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let is_toml = |path: &PathBuf| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml"));
    Ok(visible_entries(directory)?.into_iter().filter(is_toml).collect())
}

/// A file's path and text.
///
/// # Errors
/// The file cannot be read or is not UTF-8.
pub fn read_text(file: &Path) -> anyhow::Result<(String, String)> {
    let bytes = read_file(file, MAX_SOURCE).with_context(|| format!("cannot read {}", file.display()))?;
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
            ownership::give_to_owner(&file, &path, directory)?;
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
    let Some(bytes) = read_pack(from)? else { return Ok(()) };
    let path = to.join(PACK);
    fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// The pack that the module runs in this directory: its own, or the built-in rules and the default settings.
///
/// # Errors
/// The pack cannot be read, is damaged, or is of another version.
pub fn pack(directory: Option<&Path>) -> anyhow::Result<Pack> {
    if let Some(directory) = directory
        && let Some(bytes) = read_pack(directory)?
    {
        return pack::decode(&bytes).with_context(|| directory.join(PACK).display().to_string());
    }
    compile::builtin(&builtin::FILES).map_err(|refusals| {
        let lines: Vec<String> = refusals.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("the built-in rules do not compile: {}", lines.join("; "))
    })
}

/// The pack that the module runs when it starts in this directory: that of [`pack()`], or, if that cannot be used and there is a
/// history, the last one that could.
///
/// # Errors
/// Those of [`pack()`], if there is no such pack or no history.
pub fn starting_pack(directory: Option<&Path>) -> anyhow::Result<Pack> {
    let found = pack(directory);
    if let (Err(_), Some(directory)) = (&found, directory)
        && directory.join(STATE_FILE).exists()
        && let Ok(bytes) = read_file(&directory.join(LAST_PACK), MAX_PACK)
        && let Ok(last) = pack::decode(&bytes)
    {
        return Ok(last);
    }
    found
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
