//! A screen's picture, from the agent to a file or to standard output.
//!
//! Refuses to show half a picture: nothing is written before all of it is there, and a file
//! appears, or is replaced, all at once.

use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tonic::Streaming;
use tonic::transport::Channel;
use uuid::Uuid;
use vmconsole_proto::v1::capture_screenshot_response::Part;
use vmconsole_proto::v1::console_service_client::ConsoleServiceClient;
use vmconsole_proto::v1::{CaptureScreenshotRequest, CaptureScreenshotResponse};

use super::{CALL_TIMEOUT, EffectError, in_time, limited, refused};
use crate::reference;

/// The most bytes of a picture that are taken.
const MAX_PICTURE_BYTES: u64 = 256 * 1024 * 1024;

/// How long the agent may fall silent within a picture.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);

/// What a PNG begins with.
const PNG_SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Mode of the file: the screen may show what is not everybody's.
const MODE: u32 = 0o600;

/// What was asked for, in messages.
const WHAT: &str = "take the picture";

/// Where a picture goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Standard output.
    Stdout,
    /// A file, which is replaced if it is there.
    File(PathBuf),
}

impl From<PathBuf> for Target {
    /// `-` is standard output.
    fn from(path: PathBuf) -> Self {
        if path.as_os_str() == "-" {
            Self::Stdout
        } else {
            Self::File(path)
        }
    }
}

impl Target {
    /// Refuses what no picture is to be written to, before one is taken.
    ///
    /// # Errors
    /// [`EffectError::Terminal`], [`EffectError::NotAFile`].
    pub(crate) fn check(&self) -> Result<(), EffectError> {
        match self {
            Self::Stdout if io::stdout().is_terminal() => Err(EffectError::Terminal),
            Self::File(path) if fs::metadata(path).is_ok_and(|there| !there.is_file()) => {
                Err(EffectError::NotAFile(path.clone()))
            }
            Self::Stdout | Self::File(_) => Ok(()),
        }
    }

    fn write(&self, picture: &[u8]) -> Result<(), EffectError> {
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                let written = stdout.write_all(picture).and_then(|()| stdout.flush());
                written.map_err(EffectError::Stdout)
            }
            Self::File(path) => replace(path, picture).map_err(|source| EffectError::Write {
                path: path.clone(),
                source,
            }),
        }
    }
}

/// Takes a picture of a VM's screen of this number, and writes it.
///
/// # Errors
/// [`EffectError`]; nothing is written then, save for [`EffectError::Stdout`].
pub(crate) async fn screenshot(
    channel: Channel,
    vm: &str,
    screen: u32,
    target: &Target,
) -> Result<(), EffectError> {
    let mut client = ConsoleServiceClient::new(channel);
    let request = limited(CaptureScreenshotRequest {
        vm: Some(reference::vm(vm)),
        screen,
    });
    let answer = in_time(CALL_TIMEOUT, client.capture_screenshot(request)).await;
    let parts = answer
        .map_err(|status| refused(WHAT, &status))?
        .into_inner();
    let picture = read(parts).await?;
    target.write(&picture)
}

/// Reads all of it, and checks it against what the agent said of it.
async fn read(mut parts: Streaming<CaptureScreenshotResponse>) -> Result<Vec<u8>, EffectError> {
    let bad = |what: &str| EffectError::Picture(what.to_owned());
    let mut size = None;
    let mut picture = Vec::new();
    loop {
        let part = in_time(PIECE_TIMEOUT, parts.message()).await;
        let Some(part) = part.map_err(|status| refused(WHAT, &status))? else {
            break;
        };
        match (part.part, size) {
            (Some(Part::Info(info)), None) if info.size <= MAX_PICTURE_BYTES => {
                size = Some(info.size);
            }
            (Some(Part::Info(_)), None) => return Err(bad("is too large")),
            (Some(Part::Info(_)), Some(_)) => return Err(bad("begins twice")),
            (Some(Part::Data(data)), Some(size)) => {
                picture.extend_from_slice(&data);
                if picture.len() as u64 > size {
                    return Err(bad("is longer than was said"));
                }
            }
            (Some(Part::Data(_)), None) => return Err(bad("came without its size")),
            // A part that is newer than this program.
            (None, _) => {}
        }
    }
    if size != Some(picture.len() as u64) {
        return Err(bad("is not whole"));
    }
    if !picture.starts_with(PNG_SIGNATURE) {
        return Err(bad("is no PNG"));
    }
    Ok(picture)
}

/// Writes the file beside its place, and puts it there when it is whole.
fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it names no file"))?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}", Uuid::new_v4().simple()));
    let temporary = path.with_file_name(temporary);
    let written = write_new(&temporary, contents).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // What could not be made cannot be removed; the error that counts is the first.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_new(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(path)?;
    file.write_all(contents)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_whole_and_is_its_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("screen.png");
        fs::write(&path, "what was there").unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, MODE);
        assert_eq!(names(directory.path()), ["screen.png"]);
    }

    #[test]
    fn what_cannot_be_replaced_stays_and_leaves_nothing_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("taken");
        fs::create_dir(&path).unwrap();
        replace(&path, b"new").unwrap_err();
        replace(&directory.path().join(".."), b"new").unwrap_err();
        replace(&directory.path().join("none/screen.png"), b"new").unwrap_err();
        assert_eq!(names(directory.path()), ["taken"]);
    }

    #[test]
    fn devices_and_directories_are_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        for path in [Path::new("/dev/null"), directory.path()] {
            let refused = Target::from(path.to_owned()).check().unwrap_err();
            assert!(matches!(refused, EffectError::NotAFile(_)), "{refused}");
        }
        let absent = Target::from(directory.path().join("new.png"));
        absent.check().unwrap();
        assert_eq!(Target::from(PathBuf::from("-")), Target::Stdout);
    }
}
