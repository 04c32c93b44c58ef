//! New files for certificates and keys, with their modes from the first byte.
//!
//! Refuses to overwrite: somebody's CA key may be what stands there.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::PkiError;

/// Mode of a directory that is made.
const DIRECTORY_MODE: u32 = 0o700;

/// Mode of a private key.
pub(super) const KEY_MODE: u32 = 0o600;

/// Mode of a certificate, before the umask.
pub(super) const CERTIFICATE_MODE: u32 = 0o644;

/// One file to be written.
pub(super) struct NewFile<'a> {
    /// Its name in the directory.
    pub(super) name: &'static str,
    /// Its mode.
    pub(super) mode: u32,
    /// What it holds.
    pub(super) contents: &'a str,
}

/// Writes all files into the directory, which is made (0700) if it is not there. If one
/// fails, those that this call made are removed again, so that it can be repeated.
///
/// # Errors
/// [`PkiError::Exists`] before anything is written, if any of them is there already;
/// [`PkiError::Write`] as the disk fails.
pub(super) fn write_new(directory: &Path, files: &[NewFile<'_>]) -> Result<(), PkiError> {
    let there: Vec<_> = files
        .iter()
        .filter(|file| directory.join(file.name).symlink_metadata().is_ok())
        .map(|file| file.name)
        .collect();
    if !there.is_empty() {
        return Err(PkiError::Exists {
            directory: directory.to_owned(),
            files: there.join(", "),
        });
    }
    let made = DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(directory);
    made.map_err(|source| PkiError::Write {
        path: directory.to_owned(),
        source,
    })?;
    let mut written: Vec<PathBuf> = Vec::with_capacity(files.len());
    for file in files {
        let path = directory.join(file.name);
        if let Err(source) = write_one(&path, file, &mut written) {
            for path in &written {
                // What cannot be removed is refused by name at the next try.
                let _ = std::fs::remove_file(path);
            }
            return Err(PkiError::Write { path, source });
        }
    }
    Ok(())
}

/// Creates and fills one file; `written` learns of it as soon as it is there.
fn write_one(path: &Path, file: &NewFile<'_>, written: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut handle = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(file.mode)
        .open(path)?;
    written.push(path.to_owned());
    handle.write_all(file.contents.as_bytes())?;
    handle.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn file<'a>(name: &'static str, mode: u32, contents: &'a str) -> NewFile<'a> {
        NewFile {
            name,
            mode,
            contents,
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn keys_and_a_new_directory_are_for_the_owner_alone() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("a/b");
        let files = [
            file("x.key", KEY_MODE, "k"),
            file("x.crt", CERTIFICATE_MODE, "c"),
        ];
        write_new(&directory, &files).unwrap();
        assert_eq!(mode(&directory), 0o700);
        assert_eq!(mode(&directory.join("x.key")), 0o600);
        assert_eq!(mode(&directory.join("x.crt")) & 0o600, 0o600);
        assert_eq!(fs::read_to_string(directory.join("x.key")).unwrap(), "k");
    }

    #[test]
    fn nothing_is_overwritten_and_nothing_is_written_beside_it() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("x.crt"), "precious").unwrap();
        std::os::unix::fs::symlink("nowhere", root.path().join("y.key")).unwrap();
        let files = [
            file("x.key", KEY_MODE, "k"),
            file("x.crt", CERTIFICATE_MODE, "c"),
            file("y.key", KEY_MODE, "k"),
        ];
        let error = write_new(root.path(), &files).unwrap_err();
        assert!(matches!(&error, PkiError::Exists { files, .. } if files == "x.crt, y.key"));
        assert_eq!(
            fs::read_to_string(root.path().join("x.crt")).unwrap(),
            "precious"
        );
        assert!(!root.path().join("x.key").exists());
    }

    #[test]
    fn a_failure_half_way_leaves_nothing_behind() {
        let root = tempfile::tempdir().unwrap();
        let files = [
            file("x.key", KEY_MODE, "k"),
            file("no/such.crt", CERTIFICATE_MODE, "c"),
        ];
        assert!(matches!(
            write_new(root.path(), &files),
            Err(PkiError::Write { .. })
        ));
        assert!(!root.path().join("x.key").exists());
    }
}
