//! Opens terminals at paths that are not trusted: raw, and alone. It shares none with another
//! reader, since two of them split the guest's output between them.
//!
//! It does not make them exclusive by `TIOCEXCL`: the kernel keeps that beyond the end of the
//! process that set it, so that an agent that was killed would lock everybody but root out of
//! the console for as long as its QEMU runs (seen on Linux 6.18). A lock by flock(2) ends with
//! its process.

use std::fs::{File, TryLockError};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open as open_path};
use nix::sys::stat::Mode;
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use tokio::time::timeout;

use super::DirectRules;
use super::path::{self, Found, Wanted};
use super::process::{self, Search};
use crate::endpoint::{EndpointError, Holder};

/// Where libvirt, and most others, say that they have a terminal (`VIR_CHRDEV_LOCK_FILE_PATH`
/// of libvirt; FHS 3.0, 5.9).
const LOCKS: &str = "/var/lock";

/// The longest lock that is read: ten digits and a line's end, by the FHS.
const MAX_LOCK: usize = 32;

/// How long finding out who has a terminal may take before it is opened. A look through the
/// host's processes has a shorter limit of its own, and two of them may have to be waited for.
const LOOKED_FOR_WITHIN: Duration = Duration::from_secs(3);

/// Opens the terminal at `path`.
///
/// # Errors
/// [`EndpointError`].
///
/// # Cancel safety
/// If dropped, nothing stays open.
pub(super) async fn open(
    rules: &DirectRules,
    search: &Search,
    path: &Path,
) -> Result<OwnedFd, EndpointError> {
    let found = path::find(rules, path, Wanted::Terminal)?;
    let holder = timeout(LOOKED_FOR_WITHIN, holder_of(rules, search, &found)).await;
    let holder = holder.map_err(|_| {
        EndpointError::NotReady(format!(
            "{}: it was not found out within {LOOKED_FOR_WITHIN:?} whether a process has it open",
            path.display()
        ))
    })?;
    if let Some(holder) = holder {
        return Err(EndpointError::HeldByOther(format!(
            "{}: {holder} has it open, or says so by a lock",
            path.display()
        )));
    }
    let terminal = File::from(opened(&found)?);
    match terminal.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let detail = format!("{}: another process has locked it", path.display());
            return Err(EndpointError::HeldByOther(detail));
        }
        Err(TryLockError::Error(error)) => {
            let detail = format!("{}: it cannot be locked: {error}", path.display());
            return Err(EndpointError::Unreachable(detail));
        }
    }
    let terminal = OwnedFd::from(terminal);
    make_raw(&terminal).map_err(|errno| failed(&found, errno))?;
    Ok(terminal)
}

/// The process other than this one that has the terminal at `path`, as far as can be told.
pub(super) async fn holder(rules: &DirectRules, search: &Search, path: &Path) -> Option<Holder> {
    let found = path::find(rules, path, Wanted::Terminal).ok()?;
    holder_of(rules, search, &found).await
}

async fn holder_of(rules: &DirectRules, search: &Search, found: &Found) -> Option<Holder> {
    match locked_by(rules, Path::new(LOCKS), found.path()) {
        Some(holder) => Some(holder),
        None => search.with_open(found.path()).await,
    }
}

/// The living process that a lock in `locks` names.
fn locked_by(rules: &DirectRules, locks: &Path, terminal: &Path) -> Option<Holder> {
    let lock = path::read_small(rules, &lock_path(locks, terminal), MAX_LOCK)?;
    let process = std::str::from_utf8(&lock).ok()?.trim().parse().ok()?;
    (process != std::process::id())
        .then(|| process::holder(process))
        .flatten()
}

/// The lock's path as libvirt makes it (`virChrdevLockFilePath`): for `/dev/pts/3` it is
/// `LCK.._pts_3`.
fn lock_path(locks: &Path, terminal: &Path) -> PathBuf {
    let name = terminal.to_string_lossy();
    let name = name.strip_prefix("/dev").unwrap_or(&name);
    locks.join(format!("LCK..{}", name.replace('/', "_")))
}

fn opened(found: &Found) -> Result<OwnedFd, EndpointError> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    open_path(&found.lasting_path(), flags, Mode::empty()).map_err(|errno| failed(found, errno))
}

/// Has every byte pass as it is. QEMU sets its terminals up so; whoever had this one before
/// may have changed that, and one that echoes would type the guest's output into the guest.
fn make_raw(terminal: &OwnedFd) -> Result<(), Errno> {
    let now = tcgetattr(terminal)?;
    let mut raw = now.clone();
    cfmakeraw(&mut raw);
    if raw != now {
        tcsetattr(terminal, SetArg::TCSANOW, &raw)?;
    }
    Ok(())
}

fn failed(found: &Found, errno: Errno) -> EndpointError {
    let path = found.path().display();
    match errno {
        Errno::EBUSY => EndpointError::HeldByOther(format!(
            "{path}: a process has, or once had, made it exclusive (TIOCEXCL)"
        )),
        Errno::EIO | Errno::ENXIO | Errno::ENOENT => {
            EndpointError::NotReady(format!("{path}: QEMU has let it go"))
        }
        Errno::EACCES | Errno::EPERM => found.not_permitted(),
        errno => EndpointError::Unreachable(format!("{path}: {}", errno.desc())),
    }
}

#[cfg(test)]
mod tests;
