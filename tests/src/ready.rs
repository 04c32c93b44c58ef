//! Reading a descriptor as soon as something has come, and no longer than a bound.

use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// The most that is read at once.
const CHUNK: usize = 64 * 1024;

/// What came.
#[derive(Debug)]
pub(crate) enum Read {
    /// These bytes, at least one.
    Bytes(Vec<u8>),
    /// Nothing within the bound.
    Nothing,
    /// The end.
    Ended,
}

/// Reads what has come to `from`, waiting for it for at most `bound`.
///
/// # Panics
/// When it cannot be read.
pub(crate) fn read(from: &mut (impl std::io::Read + AsFd), bound: Duration) -> Read {
    let deadline = Instant::now() + bound;
    let mut chunk = vec![0; CHUNK];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut waiting = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, timeout) {
            Ok(0) => return Read::Nothing,
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(error) => panic!("poll: {error}"),
        }
        match from.read(&mut chunk) {
            Ok(0) => return Read::Ended,
            Ok(count) => {
                chunk.truncate(count);
                return Read::Bytes(chunk);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // A terminal answers so when its other side is closed, a socket when the other
            // side left something unread.
            Err(error) if is_end(&error) => return Read::Ended,
            Err(error) => panic!("cannot read: {error}"),
        }
    }
}

fn is_end(error: &std::io::Error) -> bool {
    let ends = [Errno::EIO as i32, Errno::ECONNRESET as i32];
    error
        .raw_os_error()
        .is_some_and(|code| ends.contains(&code))
}
