//! What a QEMU's pictures go through: a memory file that QEMU is handed by descriptor. There is
//! no path that anybody could guess, and it does not matter as which user QEMU runs. It sends
//! QEMU nothing itself.
//!
//! One file serves all pictures of one QEMU, since QEMU (7.2, `monitor_fdset_cleanup`) closes a
//! descriptor that it was told to let go only while its VM runs, or not at all: each picture of
//! a paused VM would leave one open in it. Between pictures the file is empty.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::sys::memfd::{MFdFlags, memfd_create};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::qmp::command::FdSet;
use crate::hypervisor::MAX_SCREENSHOT_BYTES;

/// The memory file.
#[derive(Debug)]
pub(super) struct Canvas {
    opaque: String,
    /// For reading. It has an offset of its own.
    memory: File,
    /// What QEMU is handed. QEMU writes where the last write ended: the offset is shared.
    for_qemu: File,
}

impl Canvas {
    /// An empty one.
    ///
    /// # Errors
    /// The agent has no memory or no descriptors left.
    pub(super) fn new() -> io::Result<Self> {
        let memory = memfd_create("vmconsole-screenshot", MFdFlags::MFD_CLOEXEC)?;
        // Opened anew for writing alone: QEMU takes from a set the descriptor that was opened as
        // it would have opened the file.
        let for_qemu = OpenOptions::new()
            .write(true)
            .open(format!("/proc/self/fd/{}", memory.as_raw_fd()))?;
        let number: u128 = rand::random();
        Ok(Self {
            opaque: format!("vmconsole-agent: screenshot {number:032x}"),
            memory: memory.into(),
            for_qemu,
        })
    }

    /// What QEMU is told that it is for. No other canvas has the same.
    pub(super) fn opaque(&self) -> &str {
        &self.opaque
    }

    /// What QEMU is to be handed.
    pub(super) fn for_qemu(&self) -> BorrowedFd<'_> {
        self.for_qemu.as_fd()
    }

    /// The number of the set of QEMU's descriptors that this one is in, if it is in any: QEMU
    /// drops those of a monitor that was closed, if its VM ran then.
    pub(super) fn set_among(&self, sets: &[FdSet]) -> Option<u64> {
        let is_own = |set: &&FdSet| {
            let mut fds = set.fds.iter();
            fds.any(|fd| fd.opaque.as_ref() == Some(&self.opaque))
        };
        sets.iter().find(is_own).map(|set| set.fdset_id)
    }

    /// Empties it, so that the next picture begins at its beginning.
    ///
    /// # Errors
    /// None that Linux has for a memory file.
    pub(super) fn wipe(&mut self) -> io::Result<()> {
        self.for_qemu.rewind()?;
        self.for_qemu.set_len(0)
    }

    /// What QEMU wrote, and at most one byte more than is allowed.
    ///
    /// # Errors
    /// The agent has no descriptors left.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn read(&self) -> io::Result<Vec<u8>> {
        let most = u64::try_from(MAX_SCREENSHOT_BYTES).unwrap_or(u64::MAX);
        let mut picture = Vec::new();
        let mut file = tokio::fs::File::from_std(self.memory.try_clone()?);
        file.rewind().await?;
        file.take(most + 1).read_to_end(&mut picture).await?;
        Ok(picture)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hypervisor::qemu::qmp::command::FdInfo;
    use std::io::Write;

    #[tokio::test]
    async fn each_picture_begins_at_the_beginning() {
        let mut canvas = Canvas::new().unwrap();
        let mut qemu = File::from(canvas.for_qemu().try_clone_to_owned().unwrap());
        for picture in [&b"P6 long"[..], b"P6", b"P6 longest"] {
            canvas.wipe().unwrap();
            qemu.write_all(picture).unwrap();
            assert_eq!(canvas.read().await.unwrap(), picture);
        }
        canvas.wipe().unwrap();
        assert_eq!(canvas.memory.metadata().unwrap().len(), 0);
    }

    #[test]
    fn its_own_set_is_found_among_those_of_others() {
        let canvas = Canvas::new().unwrap();
        let set = |fdset_id, opaque: Option<&str>| FdSet {
            fdset_id,
            fds: vec![FdInfo {
                opaque: opaque.map(str::to_owned),
            }],
        };
        let others = [set(1, None), set(2, Some(Canvas::new().unwrap().opaque()))];
        assert_eq!(canvas.set_among(&others), None);
        let all = [others.to_vec(), vec![set(7, Some(canvas.opaque()))]].concat();
        assert_eq!(canvas.set_among(&all), Some(7));
    }
}
