//! Finds what a path leads to, without trusting whoever chose the path.
//!
//! A console's path is the VM's to choose, and what lies there may be swapped at any moment.
//! So a path is walked once, below a directory that the operator allows, through no symbolic
//! link, to a descriptor that only stands for what was found. Type and owner are read from
//! that descriptor and it is what is opened, so that no later swap matters. Nothing is opened,
//! connected to or read before it is known to be a socket or a terminal: a fifo, a device or
//! somebody else's file never notices.

use std::fs::File;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{FileStat, Mode, fstat, major};
use nix::sys::statfs::{DEVPTS_SUPER_MAGIC, fstatfs};

use super::DirectRules;
use super::access::{self, Access};
use crate::endpoint::EndpointError;

/// Where the kernel keeps terminals.
const TERMINALS: &str = "/dev/pts";

/// The device numbers of pseudo-terminals' consoles' side (devices.txt of Linux).
const TERMINAL_MAJORS: std::ops::RangeInclusive<u64> = 136..=143;

/// How often a walk is begun anew because something on the way was just being renamed.
const WALKS: usize = 4;

/// What a path is to lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A unix socket.
    Socket,
    /// A terminal.
    Terminal,
}

/// What a path led to: of the wanted type, and of an allowed owner.
#[derive(Debug)]
pub(super) struct Found {
    place: OwnedFd,
    /// The path as it was given.
    path: PathBuf,
    stat: FileStat,
}

impl Found {
    /// A path to this very thing, whatever is at its first path by now; as long as this lives.
    pub(super) fn lasting_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.place.as_raw_fd()))
    }

    /// Its device's number and its own in there.
    pub(super) fn identity(&self) -> (u64, u64) {
        (self.stat.st_dev, self.stat.st_ino)
    }

    /// The path that led here.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Why it may not be opened for reading and writing, and what would help.
    pub(super) fn not_permitted(&self) -> EndpointError {
        EndpointError::Denied(access::explain(&self.path, &self.stat, Access::Use))
    }
}

/// Finds what `path` leads to.
///
/// # Errors
/// [`EndpointError::Denied`] for what is not allowed, not `wanted`, or not permitted to the
/// agent; [`EndpointError::NotReady`] where nothing is (yet).
pub(super) fn find(
    rules: &DirectRules,
    path: &Path,
    wanted: Wanted,
) -> Result<Found, EndpointError> {
    let (directory, rest) = allowed_directory(rules, path, wanted)?;
    let place = walk(&directory, &rest, path)?;
    let stat = fstat(&place).map_err(|errno| failed(path, errno))?;
    check_type(&place, &stat, path, wanted)?;
    check_owner(rules, &stat, path)?;
    Ok(Found {
        place,
        path: path.to_owned(),
        stat,
    })
}

/// The allowed directory that `path` is in, and the way from there.
fn allowed_directory(
    rules: &DirectRules,
    path: &Path,
    wanted: Wanted,
) -> Result<(PathBuf, PathBuf), EndpointError> {
    let plain = path.is_absolute()
        && path
            .components()
            .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !plain {
        let detail = format!("{}: not a path from / on without \"..\"", path.display());
        return Err(EndpointError::Denied(detail));
    }
    let place = usual_name(path);
    if wanted == Wanted::Terminal && place.parent() == Some(Path::new(TERMINALS)) {
        let name = place.file_name().map(PathBuf::from).unwrap_or_default();
        return Ok((PathBuf::from(TERMINALS), name));
    }
    for directory in &rules.directories {
        match place.strip_prefix(usual_name(directory)) {
            Ok(rest) if rest.components().next().is_some() => {
                return Ok((directory.clone(), rest.to_owned()));
            }
            _ => {}
        }
    }
    Err(EndpointError::Denied(format!(
        "{}: below none of the allowed directories; add the one that it is in to \
         endpoints.directories, if only VMs' consoles are there",
        path.display()
    )))
}

/// `path` under the name that its directory has today: `/var/run` and `/var/lock` are other
/// names of `/run` and `/run/lock` (FHS 3.0, 5.13), which QEMU is often given.
pub(crate) fn usual_name(path: &Path) -> PathBuf {
    for (old, new) in [("/var/run", "/run"), ("/var/lock", "/run/lock")] {
        if let Ok(rest) = path.strip_prefix(old)
            && std::fs::canonicalize(old).is_ok_and(|real| real == Path::new(new))
        {
            return Path::new(new).join(rest);
        }
    }
    path.to_owned()
}

/// Walks from `directory` along `rest` to a descriptor that stands for what is there, and
/// opens nothing.
fn walk(directory: &Path, rest: &Path, path: &Path) -> Result<OwnedFd, EndpointError> {
    // The allowed directory is the operator's: links on the way there are too.
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(directory, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::EACCES => EndpointError::Denied(access::explain_way(directory)),
        errno => failed(directory, errno),
    })?;
    let step = |rest: &Path| {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(
                ResolveFlag::RESOLVE_BENEATH
                    | ResolveFlag::RESOLVE_NO_SYMLINKS
                    | ResolveFlag::RESOLVE_NO_MAGICLINKS,
            );
        let mut walks = 1;
        loop {
            match openat2(&root, rest, how) {
                Err(Errno::EAGAIN | Errno::EINTR) if walks < WALKS => walks += 1,
                walked => return walked,
            }
        }
    };
    step(rest).map_err(|errno| match errno {
        Errno::EACCES => EndpointError::Denied(denied_below(directory, rest, step)),
        errno => failed(path, errno),
    })
}

/// Which directory on the way may not be passed, and what would help.
fn denied_below(
    directory: &Path,
    rest: &Path,
    step: impl Fn(&Path) -> Result<OwnedFd, Errno>,
) -> String {
    let parents = rest.ancestors().skip(1);
    let reached = parents
        .filter(|parent| !parent.as_os_str().is_empty())
        .find_map(|parent| Some((parent, fstat(step(parent).ok()?).ok()?)));
    match reached {
        Some((parent, stat)) => access::explain(&directory.join(parent), &stat, Access::Pass),
        None => access::explain_way(&directory.join("x")),
    }
}

fn check_type(
    place: &OwnedFd,
    stat: &FileStat,
    path: &Path,
    wanted: Wanted,
) -> Result<(), EndpointError> {
    let kind = access::Kind::of(stat);
    let right = match wanted {
        Wanted::Socket => kind == access::Kind::Socket,
        Wanted::Terminal => {
            kind == access::Kind::Device
                && TERMINAL_MAJORS.contains(&major(stat.st_rdev))
                && fstatfs(place).is_ok_and(|fs| fs.filesystem_type() == DEVPTS_SUPER_MAGIC)
        }
    };
    if right {
        return Ok(());
    }
    let wanted = match wanted {
        Wanted::Socket => "a unix socket",
        Wanted::Terminal => "a pseudo-terminal",
    };
    Err(EndpointError::Denied(format!(
        "{}: not {wanted} but {}; it was not opened",
        path.display(),
        access::facts(stat)
    )))
}

fn check_owner(rules: &DirectRules, stat: &FileStat, path: &Path) -> Result<(), EndpointError> {
    if rules.admits(stat.st_uid) {
        return Ok(());
    }
    Err(EndpointError::Denied(format!(
        "{}: {}; add that user to endpoints.owners, if it runs this VM",
        path.display(),
        access::facts(stat)
    )))
}

/// What else can go wrong with a path.
fn failed(path: &Path, errno: Errno) -> EndpointError {
    let shown = path.display();
    match errno {
        Errno::ENOENT | Errno::ENXIO => EndpointError::NotReady(format!("{shown} is not there")),
        Errno::ELOOP => EndpointError::Denied(format!(
            "{shown}: a symbolic link is on the way, and none is followed; name the place itself"
        )),
        Errno::ENOTDIR => {
            EndpointError::Denied(format!("{shown}: something on the way is not a directory"))
        }
        Errno::EXDEV => {
            EndpointError::Denied(format!("{shown}: leads out of the allowed directory"))
        }
        Errno::ENOSYS => EndpointError::Unsupported(format!(
            "{shown}: paths are resolved by openat2, which Linux has since 5.6; this one lacks \
             it, or forbids it to the agent"
        )),
        errno => EndpointError::Unreachable(format!("{shown}: {}", errno.desc())),
    }
}

/// Reads at most `most` bytes of a small regular file of an allowed owner; `None` for anything
/// else. Never waits, whatever is there.
pub(super) fn read_small(rules: &DirectRules, path: &Path, most: usize) -> Option<Vec<u8>> {
    use std::io::Read as _;
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let place = open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW, Mode::empty()).ok()?;
    let stat = fstat(&place).ok()?;
    if access::Kind::of(&stat) != access::Kind::File || !rules.admits(stat.st_uid) {
        return None;
    }
    let lasting = format!("/proc/self/fd/{}", place.as_raw_fd());
    let file = open(lasting.as_str(), flags - OFlag::O_NOFOLLOW, Mode::empty()).ok()?;
    let mut bytes = Vec::new();
    let most = u64::try_from(most).unwrap_or(u64::MAX);
    File::from(file).take(most).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests;
