//! Whose the files of a configuration directory are.
//!
//! In: files that this program makes there, often as root, for a filter that runs as somebody else. Out: files that belong to whom they
//! belonged before, or to the directory's owner; and whether others may write a directory. Not here: modes of single files.

use std::fs::{File, Metadata};
use std::io;
use std::path::Path;

/// Gives a file that is to stand at `place`, in `directory`, to the owner of the file that is there, or else of the directory.
///
/// # Errors
/// That owner would lose the file, since this user may not give it to them.
#[cfg(unix)]
pub fn give_to_owner(file: &File, place: &Path, directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, fchown};
    let owner = |metadata: &Metadata| (metadata.uid(), metadata.gid());
    let before = place.symlink_metadata().ok();
    let wanted = match &before {
        Some(before) => owner(before),
        None => owner(&directory.metadata()?),
    };
    let found = owner(&file.metadata()?);
    if found == wanted {
        return Ok(());
    }
    match fchown(file, Some(wanted.0), Some(wanted.1)) {
        // Another group of the same user loses nothing, and a new file is for whoever made it.
        Err(_) if before.is_none() || found.0 == wanted.0 => Ok(()),
        given => given,
    }
}

/// Files have no such owners elsewhere.
#[cfg(not(unix))]
pub fn give_to_owner(_file: &File, _place: &Path, _directory: &Path) -> io::Result<()> {
    Ok(())
}

/// Whether every user of the machine may put files into a directory.
#[cfg(unix)]
pub fn is_writable_by_all(directory: &Path) -> bool {
    const OTHERS_MAY_WRITE: u32 = 0o002;
    directory.metadata().is_ok_and(|found| std::os::unix::fs::MetadataExt::mode(&found) & OTHERS_MAY_WRITE != 0)
}

/// Nobody tells elsewhere.
#[cfg(not(unix))]
pub fn is_writable_by_all(_directory: &Path) -> bool {
    false
}
