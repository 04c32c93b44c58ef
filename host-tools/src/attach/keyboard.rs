//! Standard input, read on a thread of its own.
//!
//! Refuses to set O_NONBLOCK: the flag belongs to the open file, which the shell and every
//! other program on the terminal share. Hence the blocking thread, which ends with the
//! process, and reads nothing before it is started.

use std::io;
use std::os::fd::AsFd;

use bytes::Bytes;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::mpsc;

/// The most that one read takes, in bytes.
const READ_BYTES: usize = 16 << 10;

/// How many reads wait to be taken; then the thread waits.
const QUEUED_READS: usize = 4;

/// What was read; the channel ends at the end of input.
pub(super) type Reads = mpsc::Receiver<io::Result<Bytes>>;

/// Starts reading.
///
/// # Errors
/// As the thread cannot be made.
pub(super) fn start(input: impl AsFd + Send + 'static) -> io::Result<Reads> {
    let (reads, taken) = mpsc::channel(QUEUED_READS);
    let thread = std::thread::Builder::new().name("stdin".to_owned());
    thread.spawn(move || {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let read = match read(&input, &mut buffer) {
                Ok(0) => return,
                Ok(len) => Ok(Bytes::copy_from_slice(
                    buffer.get(..len).unwrap_or_default(),
                )),
                Err(error) => Err(error),
            };
            let failed = read.is_err();
            if reads.blocking_send(read).is_err() || failed {
                return;
            }
        }
    })?;
    Ok(taken)
}

/// One read of what is there, waited for: a read that waits in the background would stop the
/// whole process by SIGTTIN, before it hears the signals that came with going on. Also right
/// where somebody else made the file non-blocking.
fn read(input: &impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        let mut fds = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
        match nix::unistd::read(input, buffer) {
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            read => return Ok(read?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_pipe_is_read_to_its_end_also_where_it_is_non_blocking() {
        let (input, mut far) = io::pipe().unwrap();
        nix::fcntl::fcntl(&input, nix::fcntl::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
        let mut reads = start(input).unwrap();
        let mut all = Vec::new();
        for chunk in [b"one".as_slice(), &[0, 255], &[b'x'; 50_000]] {
            far.write_all(chunk).unwrap();
            all.extend_from_slice(chunk);
        }
        drop(far);
        let mut got = Vec::new();
        while let Some(read) = reads.blocking_recv() {
            got.extend_from_slice(&read.unwrap());
        }
        assert_eq!(got, all);
    }

    #[test]
    fn a_failing_input_is_told_once() {
        let directory = std::fs::File::open("/").unwrap();
        let mut reads = start(directory).unwrap();
        assert!(reads.blocking_recv().unwrap().is_err());
        assert!(reads.blocking_recv().is_none());
    }
}
