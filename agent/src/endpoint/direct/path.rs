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
pub(crate) enum Wanted {
    /// A unix socket.
    Socket,
    /// A terminal.
    Terminal,
}

/// What a path led to: of the wanted type, and of an allowed owner.
#[derive(Debug)]
pub(crate) struct Found {
    place: OwnedFd,
    /// The path as it was given.
    path: PathBuf,
    stat: FileStat,
}

impl Found {
    /// A path to this very thing, whatever is at its first path by now; as long as this lives.
    pub(crate) fn lasting_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.place.as_raw_fd()))
    }

    /// Its facts.
    pub(crate) const fn stat(&self) -> &FileStat {
        &self.stat
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

/// Why what a path leads to is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// Nothing is there (yet).
    Absent,
    /// A symbolic link is on the way.
    Link,
    /// Something on the way is not a directory.
    NotADirectory,
    /// It leads out of the directory.
    Outside,
    /// It is not of the wanted type; this is what it is.
    Type(String),
    /// It belongs to a user who is not trusted; this is what it is.
    Owner { user: u32, facts: String },
    /// The agent may not go there: why, and what would help.
    Denied(String),
    /// The kernel cannot walk a path safely.
    NoSafeWalk,
    /// The system's.
    System(Errno),
}

impl From<Errno> for Unfit {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::ENOENT | Errno::ENXIO => Self::Absent,
            Errno::ELOOP => Self::Link,
            Errno::ENOTDIR => Self::NotADirectory,
            Errno::EXDEV => Self::Outside,
            Errno::ENOSYS => Self::NoSafeWalk,
            errno => Self::System(errno),
        }
    }
}

impl Unfit {
    /// What a console's viewers and operators are told of it.
    fn refusal(self, path: &Path, wanted: Wanted) -> EndpointError {
        let shown = path.display();
        let denied = |detail: String| EndpointError::Denied(format!("{shown}: {detail}"));
        match self {
            Self::Absent => EndpointError::NotReady(format!("{shown} is not there")),
            Self::Link => denied(
                "a symbolic link is on the way, and none is followed; name the place itself".into(),
            ),
            Self::NotADirectory => denied("something on the way is not a directory".into()),
            Self::Outside => denied("leads out of the allowed directory".into()),
            Self::Type(facts) => {
                let wanted = match wanted {
                    Wanted::Socket => "a unix socket",
                    Wanted::Terminal => "a pseudo-terminal",
                };
                denied(format!("not {wanted} but {facts}; it was not opened"))
            }
            Self::Owner { facts, .. } => denied(format!(
                "{facts}; add that user to endpoints.owners, if it runs this VM"
            )),
            Self::Denied(detail) => EndpointError::Denied(detail),
            Self::NoSafeWalk => EndpointError::Unsupported(format!(
                "{shown}: paths are resolved by openat2, which Linux has since 5.6; this one \
                 lacks it, or forbids it to the agent"
            )),
            Self::System(errno) => EndpointError::Unreachable(format!("{shown}: {}", errno.desc())),
        }
    }
}

/// Finds what a console's `path` leads to.
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
    find_below(&directory, &rest, wanted, |user| rules.admits(user))
        .map(|found| Found {
            path: path.to_owned(),
            ..found
        })
        .map_err(|unfit| unfit.refusal(path, wanted))
}

/// Finds what `rest` leads to from `directory`, which is the operator's: links on the way to
/// it are followed, and none from there. It has to belong to a user who is `trusted`.
///
/// # Errors
/// See [`Unfit`]; nothing was opened.
pub(crate) fn find_below(
    directory: &Path,
    rest: &Path,
    wanted: Wanted,
    trusted: impl FnOnce(u32) -> bool,
) -> Result<Found, Unfit> {
    let place = walk(directory, rest)?;
    let stat = fstat(&place)?;
    if !is_wanted(&place, &stat, wanted) {
        return Err(Unfit::Type(access::facts(&stat)));
    }
    if !trusted(stat.st_uid) {
        let (user, facts) = (stat.st_uid, access::facts(&stat));
        return Err(Unfit::Owner { user, facts });
    }
    Ok(Found {
        place,
        path: directory.join(rest),
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
fn walk(directory: &Path, rest: &Path) -> Result<OwnedFd, Unfit> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(directory, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::EACCES => Unfit::Denied(access::explain_way(directory)),
        errno => errno.into(),
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
        Errno::EACCES => Unfit::Denied(denied_below(directory, rest, step)),
        errno => errno.into(),
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

fn is_wanted(place: &OwnedFd, stat: &FileStat, wanted: Wanted) -> bool {
    let kind = access::Kind::of(stat);
    match wanted {
        Wanted::Socket => kind == access::Kind::Socket,
        Wanted::Terminal => {
            kind == access::Kind::Device
                && TERMINAL_MAJORS.contains(&major(stat.st_rdev))
                && fstatfs(place).is_ok_and(|fs| fs.filesystem_type() == DEVPTS_SUPER_MAGIC)
        }
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
