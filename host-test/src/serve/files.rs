//! The files of tokens, certificates and keys.
//!
//! In: paths. Out: bytes, and a log line about a file that others may read or change. Bounds: a regular file of at most
//! [`MOST`] bytes; a pipe is not waited for. Not here: what is in them.

use std::path::Path;

use anyhow::Context;

use crate::configuration;

/// How long a file may be: a bundle of all certificates that the world trusts has a quarter of that.
const MOST: u64 = 1 << 20;

/// What others may do with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privacy {
    /// Nobody else may read it.
    Secret,
    /// Everybody may read it.
    Public,
}

/// Reads a file, and says so in the log if others may do more with it than they should.
///
/// # Errors
/// It cannot be read, is not a regular file, or is too long.
pub fn read(file: &Path, privacy: Privacy) -> anyhow::Result<Vec<u8>> {
    let bytes = configuration::read_file(file, MOST).with_context(|| format!("cannot read {}", file.display()))?;
    if let Some(warning) = exposure(file, privacy) {
        tracing::warn!("{warning}");
    }
    Ok(bytes)
}

/// What others may do with the file that they should not, and what to do.
#[cfg(unix)]
fn exposure(file: &Path, privacy: Privacy) -> Option<String> {
    use std::os::unix::fs::MetadataExt;

    let mode = file.metadata().ok()?.mode();
    let can = match (mode & 0o022 != 0, privacy == Privacy::Secret && mode & 0o004 != 0) {
        (true, true) => "read and change",
        (true, false) => "change",
        (false, true) => "read",
        (false, false) => return None,
    };
    let name = file.display();
    let right = if privacy == Privacy::Secret { "600" } else { "644" };
    Some(format!("other users can {can} {name} (mode {:03o}): run \"chmod {right} {name}\"", mode & 0o777))
}

#[cfg(not(unix))]
fn exposure(_: &Path, _: Privacy) -> Option<String> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_that_others_may_read_or_change_are_told_from_others() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("token");
        std::fs::write(&file, "0123456789abcdef").expect("it is written");
        for (mode, secret, public) in [
            (0o600, None, None),
            (0o440, None, None),
            (0o644, Some("read"), None),
            (0o660, Some("change"), Some("change")),
            (0o602, Some("change"), Some("change")),
            (0o666, Some("read and change"), Some("change")),
        ] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("it is set");
            for (privacy, expected) in [(Privacy::Secret, secret), (Privacy::Public, public)] {
                let found = exposure(&file, privacy);
                let says = |can| found.as_ref().is_some_and(|text| text.contains(&format!("users can {can} ")));
                assert!(expected.map_or(found.is_none(), says), "{mode:o} {privacy:?}: {found:?}");
            }
        }
    }
}
