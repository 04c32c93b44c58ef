//! What is put where a socket ought to be, and what shows whether anybody touched it; and the
//! socket itself, put back such that its connections can be cut.

use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use vmconsole_tests::user;

/// A user whose sockets nobody trusts.
const NOBODY: u32 = 65534;

/// What may be put there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A symbolic link to a socket that could be used.
    Link,
    /// A directory.
    Directory,
    /// A fifo.
    Fifo,
    /// A socket of a user who is not trusted.
    Foreign,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Link, Self::Directory, Self::Fifo, Self::Foreign];

    /// How it is told of.
    pub(crate) const fn fault(self) -> &'static str {
        match self {
            Self::Link => "symbolic link",
            Self::Directory => "directory",
            Self::Fifo => "fifo",
            Self::Foreign => "user 65534",
        }
    }
}

/// Something that took a socket's place.
pub(crate) struct Impostor {
    pub(crate) kind: Kind,
    place: PathBuf,
    /// Who would notice a connection.
    listener: Option<UnixListener>,
}

impl Impostor {
    /// Puts one at `place`, whatever is there.
    pub(crate) fn put(kind: Kind, place: &Path) -> Self {
        remove(place);
        let listener = match kind {
            Kind::Link => {
                let target = aside(place, "consoles/target");
                remove(&target);
                let listener = listen(&target);
                symlink(&target, place).unwrap();
                Some(listener)
            }
            Kind::Directory => {
                std::fs::create_dir(place).unwrap();
                None
            }
            Kind::Fifo => {
                mkfifo(place, Mode::from_bits_truncate(0o666)).unwrap();
                None
            }
            Kind::Foreign => {
                let listener = listen(place);
                chown(place, Some(NOBODY), Some(NOBODY)).unwrap();
                Some(listener)
            }
        };
        Self {
            kind,
            place: place.to_owned(),
            listener,
        }
    }

    /// Puts another in its place.
    pub(crate) fn replace(self, kind: Kind) -> Self {
        Self::put(kind, &self.place)
    }

    /// Nobody connected to it, and nobody waits to read it.
    #[track_caller]
    pub(crate) fn was_left_alone(&self) {
        if let Some(listener) = &self.listener {
            let accepted = listener.accept().map(|_| ()).map_err(|error| error.kind());
            assert_eq!(accepted, Err(ErrorKind::WouldBlock), "{:?}", self.kind);
        }
        if self.kind == Kind::Fifo {
            let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK;
            let reader = open(&self.place, flags, Mode::empty()).map(drop);
            assert_eq!(reader, Err(Errno::ENXIO));
        }
    }
}

/// Removes what is there, if anything is.
fn remove(place: &Path) {
    match place.symlink_metadata() {
        Ok(there) if there.is_dir() => std::fs::remove_dir(place).unwrap(),
        Ok(_) => std::fs::remove_file(place).unwrap(),
        Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound),
    }
}

/// A path beside the directory that `place` is in, on the same file system.
fn aside(place: &Path, name: &str) -> PathBuf {
    place.ancestors().nth(2).unwrap().join(name)
}

/// A socket of QEMU's user that anybody may connect to, put there whole.
fn listen(place: &Path) -> UnixListener {
    let beside = aside(place, "new");
    let listener = UnixListener::bind(&beside).unwrap();
    listener.set_nonblocking(true).unwrap();
    std::fs::set_permissions(&beside, PermissionsExt::from_mode(0o666)).unwrap();
    let user = user::lookup();
    chown(&beside, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    std::fs::rename(&beside, place).unwrap();
    listener
}

/// A socket at one place that leads to another's listener, one connection at a time.
pub(crate) struct Relay(JoinSet<()>);

impl Relay {
    /// Puts it at `place`, whatever is there.
    pub(crate) fn put(place: &Path, to: &Path) -> Self {
        remove(place);
        let listener = tokio::net::UnixListener::from_std(listen(place)).unwrap();
        let to = to.to_owned();
        let mut carrying = JoinSet::new();
        carrying.spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let mut far = UnixStream::connect(&to).await.unwrap();
                // Either side may end it.
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            }
        });
        Self(carrying)
    }

    /// Ends its connection, and listens no longer.
    pub(crate) async fn cut(mut self) {
        self.0.shutdown().await;
    }
}
