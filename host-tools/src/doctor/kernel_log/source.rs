//! Where the kernel's log is read: from a file that was named, or, by root, from the kernel
//! and from auditd.
//!
//! Refuses to read more than the newest part, and to wait for what comes next.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::super::program;

/// How much of the newest is read, in bytes.
const NEWEST: usize = 1024 * 1024;

/// The longest record that the kernel hands out, in bytes.
const MAX_RECORD: usize = 16 * 1024;

/// The most records that are read: more than the kernel keeps, and not without end.
const MAX_RECORDS: usize = 200_000;

/// The kernel's records, below the file system's root.
const KERNEL: &str = "dev/kmsg";

/// auditd's. Where it runs, denials are here alone.
const AUDIT: &str = "var/log/audit/audit.log";

/// Which log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LogSource {
    /// This host's, below this root.
    Host(PathBuf),
    /// A file.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

/// The newest of the log, as text.
///
/// # Errors
/// If nothing of it can be read.
///
/// # Cancel safety
/// If dropped, the program that is asked is killed.
pub(in super::super) async fn read(source: &LogSource) -> io::Result<String> {
    let bytes = match source {
        LogSource::File(path) => newest_of_file(path)?,
        LogSource::Stdin => newest_of_stream(io::stdin().lock())?,
        LogSource::Host(root) => {
            let kernel = match kernel(&root.join(KERNEL)) {
                Ok(records) => Ok(records),
                Err(_) => journal().await,
            };
            // Either may be missing, but not both.
            match (kernel, newest_of_file(&root.join(AUDIT))) {
                (Ok(kernel), Ok(audit)) => [kernel, b"\n".to_vec(), audit].concat(),
                (Ok(one), Err(_)) | (Err(_), Ok(one)) => one,
                (Err(error), Err(_)) => return Err(error),
            }
        }
    };
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn newest_of_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    if length > NEWEST as u64 {
        file.seek(SeekFrom::Start(length - NEWEST as u64))?;
    }
    newest_of_stream(file.take(2 * NEWEST as u64))
}

fn newest_of_stream(mut stream: impl Read) -> io::Result<Vec<u8>> {
    let mut newest = VecDeque::new();
    let mut buffer = [0; 8192];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(newest.into()),
            Ok(length) => {
                newest.extend(&buffer[..length]);
                let more = newest.len().saturating_sub(NEWEST);
                newest.drain(..more);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The kernel's ring: each read is one record, `priority,number,time,flags;text` and further
/// lines that begin with a blank.
fn kernel(path: &Path) -> io::Result<Vec<u8>> {
    let mut ring = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)?;
    let mut newest = VecDeque::new();
    let mut record = vec![0; MAX_RECORD];
    for _ in 0..MAX_RECORDS {
        let length = match ring.read(&mut record) {
            Ok(0) => break,
            Ok(length) => length,
            // It wrote over what was to be read next.
            Err(error) if error.raw_os_error() == Some(Errno::EPIPE as i32) => continue,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        };
        newest.extend(&record[..length]);
        newest.push_back(b'\n');
        let more = newest.len().saturating_sub(NEWEST);
        newest.drain(..more);
    }
    Ok(newest.into())
}

/// The journal's copy of the kernel's log.
async fn journal() -> io::Result<Vec<u8>> {
    let arguments = ["--dmesg", "--no-pager", "--output=cat", "--lines=5000"];
    let said = program::ask("journalctl", arguments, NEWEST as u64).await?;
    if said.success {
        Ok(said.output.into_bytes())
    } else {
        Err(io::Error::other(said.errors.trim().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_of_a_long_file_is_read() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("log");
        std::fs::write(
            &path,
            [vec![b'x'; 2 * NEWEST], b"\nlast\n".to_vec()].concat(),
        )
        .unwrap();
        let text = read(&LogSource::File(path)).await.unwrap();
        assert_eq!(text.len(), NEWEST);
        assert!(text.ends_with("\nlast\n"));
        assert!(read(&LogSource::File("/nowhere/log".into())).await.is_err());
    }

    #[tokio::test]
    async fn what_auditd_wrote_is_read_beside_the_kernels_log() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(KERNEL, "6,1,2,-;kernel");
        let source = LogSource::Host(root.path().to_owned());
        assert_eq!(read(&source).await.unwrap(), "6,1,2,-;kernel\n");
        write(AUDIT, "type=AVC audit");
        assert_eq!(
            read(&source).await.unwrap(),
            "6,1,2,-;kernel\n\ntype=AVC audit"
        );
    }

    #[test]
    fn a_stream_is_read_to_its_end_and_its_newest_kept() {
        let bytes = [vec![b'a'; NEWEST], b"b".to_vec()].concat();
        let newest = newest_of_stream(&bytes[..]).unwrap();
        assert_eq!((newest.len(), newest.last()), (NEWEST, Some(&b'b')));
    }
}
