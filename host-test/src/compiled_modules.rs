//! Where compiled modules are kept, so that only the first start compiles: that takes longer than all else of a start.
//!
//! In: the environment. Out: a directory of this user's own, made if it is not there. Bounds: what is in it is wasmtime's, which
//! keeps what is compiled by the bytes it was compiled from, and deletes what was not used for longest when it comes to 512 MiB.
//! What stands there is run as it is, so it is a directory that only this user can enter, inside one that only this user may write
//! to; another is not taken. Not here: compiling.
//!
//! The directory is what `FIRSTSEEN_CACHE_DIR` names; else what `CACHE_DIRECTORY` names, which systemd sets for
//! `CacheDirectory=`; else `firstseen` in `XDG_CACHE_HOME`, or in `.cache` of `HOME`. An empty `FIRSTSEEN_CACHE_DIR` says that nothing
//! is to be kept. Where there is no such directory, or it cannot be written to, every start compiles: that is never an error.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Says where compiled modules are kept; `None` for nowhere.
pub fn directory() -> Option<PathBuf> {
    inside(&named(|name| std::env::var_os(name))?)
}

/// The directory inside this one, both made if they are not there; `None` if they cannot be made, or are not this user's alone.
fn inside(directory: &Path) -> Option<PathBuf> {
    let compiled = directory.join("compiled");
    let is_own = make(&compiled).is_ok() && is_own(directory, OTHERS_WRITE) && is_own(&compiled, OTHERS_ENTER);
    is_own.then_some(compiled)
}

/// That the group or others may write to a directory.
const OTHERS_WRITE: u32 = 0o022;

/// That they may do anything with it.
const OTHERS_ENTER: u32 = 0o077;

/// The directory that these variables name; those that are not firstseen's own name one only with an absolute path.
fn named(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if let Some(directory) = variable("FIRSTSEEN_CACHE_DIR") {
        // An empty path is no path.
        return std::path::absolute(directory).ok();
    }
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    // Of several that systemd made, the first.
    let of_systemd = || std::env::split_paths(&variable("CACHE_DIRECTORY")?).next().filter(|path| path.is_absolute());
    of_systemd()
        .or_else(|| Some(absolute("XDG_CACHE_HOME")?.join("firstseen")))
        .or_else(|| Some(absolute("HOME")?.join(".cache").join("firstseen")))
}

#[cfg(unix)]
fn make(directory: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

#[cfg(not(unix))]
fn make(directory: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)
}

/// Whether it is owned by whom this process makes files as, and none of these modes is set.
#[cfg(unix)]
fn is_own(directory: &Path, others: u32) -> bool {
    use std::os::unix::fs::MetadataExt;
    let Ok(metadata) = std::fs::metadata(directory) else { return false };
    // Whom this process is, told by a file that it makes.
    let mine = tempfile::tempfile_in(directory).and_then(|file| file.metadata()).map(|file| file.uid());
    metadata.is_dir() && metadata.mode() & others == 0 && mine.is_ok_and(|mine| mine == metadata.uid())
}

#[cfg(not(unix))]
fn is_own(directory: &Path, _: u32) -> bool {
    // On Windows a user's own directories are theirs alone unless somebody says otherwise.
    directory.is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named_by(variables: &[(&str, &str)]) -> Option<PathBuf> {
        named(|name| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn the_first_variable_that_names_a_directory_counts() {
        let all = [("HOME", "/h"), ("XDG_CACHE_HOME", "/x"), ("CACHE_DIRECTORY", "/s"), ("FIRSTSEEN_CACHE_DIR", "/f")];
        for (count, expected) in [(4, "/f"), (3, "/s"), (2, "/x/firstseen"), (1, "/h/.cache/firstseen")] {
            assert_eq!(named_by(&all[..count]), Some(expected.into()));
        }
        assert_eq!(named_by(&[]), None);
        assert_eq!(named_by(&[("HOME", ""), ("XDG_CACHE_HOME", "relative")]), None);
        assert_eq!(named_by(&[("HOME", "/h"), ("FIRSTSEEN_CACHE_DIR", "")]), None);
        let here = std::env::current_dir().expect("a directory");
        assert_eq!(named_by(&[("HOME", "/h"), ("FIRSTSEEN_CACHE_DIR", "x")]), Some(here.join("x")));
        assert_eq!(named_by(&[("CACHE_DIRECTORY", "/s:/t"), ("HOME", "/h")]), Some("/s".into()));
    }

    #[cfg(unix)]
    #[test]
    fn a_directory_that_others_may_write_to_is_not_taken() {
        use std::os::unix::fs::PermissionsExt;
        let parent = tempfile::tempdir().expect("a directory");
        let directory = parent.path().join("a").join("b");
        let set = |path: &Path, mode| {
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("its mode is set");
        };
        let compiled = inside(&directory).expect("it is made");
        for (mode, is_taken) in [(0o755, true), (0o775, false), (0o757, false), (0o700, true)] {
            set(&directory, mode);
            assert_eq!(inside(&directory).is_some(), is_taken, "{mode:o}");
        }
        for (mode, is_taken) in [(0o750, false), (0o711, false), (0o700, true)] {
            set(&compiled, mode);
            assert_eq!(inside(&directory).is_some(), is_taken, "{mode:o}");
        }
        std::fs::write(parent.path().join("file"), "").expect("a file");
        assert_eq!(inside(&parent.path().join("file")), None);
    }
}
