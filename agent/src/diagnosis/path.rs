//! What lies at the path of a console's socket or terminal, and what speaks against opening
//! it. Looks with `lstat` alone: nothing is opened or followed.

use std::fmt;
use std::fs::{FileType, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::endpoint::usual_name;

/// The most parts of a path that are looked at.
const MAX_PARTS: usize = 64;

/// Writing, as the permission bits of others name it: what connecting to a socket takes.
const WRITE: u32 = 0o2;
/// Searching a directory, likewise.
const SEARCH: u32 = 0o1;
/// Reading and writing, likewise: what a terminal takes.
const READ_WRITE: u32 = 0o6;

/// Who the agent is, as far as file permissions go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Who {
    /// Its user's name, or number.
    pub(super) name: String,
    /// Its user.
    pub(super) user: u32,
    /// Its groups.
    pub(super) groups: Vec<u32>,
}

/// What is at one part of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// The path up to here.
    pub(super) path: PathBuf,
    /// What it is.
    pub(super) kind: NodeKind,
    /// Its owner.
    pub(super) owner: u32,
    /// Its group.
    pub(super) group: u32,
    /// Its permission bits.
    pub(super) mode: u32,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NodeKind {
    /// A directory.
    Directory,
    /// A unix socket.
    Socket,
    /// A character device: terminals are.
    Terminal,
    /// A symbolic link.
    Link,
    /// Something else.
    Other,
}

impl fmt::Display for NodeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Directory => "directory",
            Self::Socket => "socket",
            Self::Terminal => "character device",
            Self::Link => "symbolic link",
            Self::Other => "file of another type",
        })
    }
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// From the first directory on, as far as it could be looked at.
    pub(super) nodes: Vec<Node>,
    /// Why the next part could not be looked at.
    pub(super) stopped: Option<io::ErrorKind>,
}

/// What speaks against opening a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Objection {
    /// Nothing is there.
    Missing,
    /// A symbolic link is on the way.
    Link(PathBuf),
    /// It is of the wrong type.
    Type(NodeKind),
    /// It does not lie below a directory that is allowed.
    Outside,
    /// It belongs to a user who is not trusted.
    Owner(u32),
    /// The agent may not search this directory.
    Search(Node),
    /// The agent may not open it.
    Mode(Node),
}

/// Where `path` leads if one of these directories has it: the directory itself is the
/// operator's, and links on the way to it are too. `None` if none has it.
pub(super) fn below(path: &Path, directories: &[PathBuf]) -> Option<PathBuf> {
    let path = usual_name(path);
    directories.iter().find_map(|directory| {
        let rest = path.strip_prefix(usual_name(directory)).ok()?;
        rest.components().next()?;
        let real = directory.canonicalize();
        Some(real.unwrap_or_else(|_| directory.clone()).join(rest))
    })
}

/// Looks at each part of `path`, as far as that goes.
pub(super) fn look(path: &Path) -> Way {
    let mut nodes = Vec::new();
    let mut here = PathBuf::new();
    for part in path.components().take(MAX_PARTS) {
        here.push(part);
        let node = match here.symlink_metadata() {
            Ok(metadata) => node(&here, &metadata),
            Err(error) => {
                let stopped = Some(error.kind());
                return Way { nodes, stopped };
            }
        };
        let link = node.kind == NodeKind::Link;
        nodes.push(node);
        if link {
            break;
        }
    }
    Way {
        nodes,
        stopped: None,
    }
}

fn node(path: &Path, metadata: &Metadata) -> Node {
    Node {
        path: path.to_owned(),
        kind: kind(metadata.file_type()),
        owner: metadata.uid(),
        group: metadata.gid(),
        mode: metadata.mode() & 0o7777,
    }
}

fn kind(kind: FileType) -> NodeKind {
    if kind.is_symlink() {
        NodeKind::Link
    } else if kind.is_dir() {
        NodeKind::Directory
    } else if kind.is_socket() {
        NodeKind::Socket
    } else if kind.is_char_device() {
        NodeKind::Terminal
    } else {
        NodeKind::Other
    }
}

impl Who {
    /// Whether the permission bits give this user all of `wanted`. Access control lists and
    /// security modules are not looked at.
    fn may(&self, node: &Node, wanted: u32) -> bool {
        let shift = if self.user == node.owner {
            6
        } else if self.groups.contains(&node.group) {
            3
        } else {
            0
        };
        self.user == 0 || (node.mode >> shift) & wanted == wanted
    }
}

/// What speaks against opening a node of this `kind` at the end of `way`, which lies below an
/// allowed directory; the first thing alone.
pub(super) fn objection(kind: NodeKind, way: &Way, owners: &[u32], who: &Who) -> Option<Objection> {
    if let Some(link) = way.nodes.iter().find(|node| node.kind == NodeKind::Link) {
        return Some(Objection::Link(link.path.clone()));
    }
    match way.stopped {
        Some(io::ErrorKind::NotFound) => return Some(Objection::Missing),
        Some(_) => {
            let last = way.nodes.last().cloned();
            return last.map(Objection::Search);
        }
        None => {}
    }
    let (node, above) = way.nodes.split_last()?;
    if node.kind != kind {
        return Some(Objection::Type(node.kind));
    }
    if !owners.contains(&node.owner) && node.owner != who.user {
        return Some(Objection::Owner(node.owner));
    }
    if let Some(closed) = above.iter().find(|node| !who.may(node, SEARCH)) {
        return Some(Objection::Search(closed.clone()));
    }
    let wanted = if kind == NodeKind::Terminal {
        READ_WRITE
    } else {
        WRITE
    };
    (!who.may(node, wanted)).then(|| Objection::Mode(node.clone()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    use super::*;

    fn judge(path: &Path, allowed: &Path, owners: &[u32], who: &Who) -> Option<Objection> {
        match below(path, &[allowed.to_owned()]) {
            Some(place) => objection(NodeKind::Socket, &look(&place), owners, who),
            None => Some(Objection::Outside),
        }
    }

    #[test]
    fn links_of_the_operators_own_are_followed() {
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path().canonicalize().expect("it is there");
        let real = root.join("real");
        std::fs::create_dir(&real).expect("makes");
        let _listener = UnixListener::bind(real.join("web.sock")).expect("binds");
        let allowed = root.join("allowed");
        symlink(&real, &allowed).expect("links");
        let owner = real.metadata().expect("there").uid();
        let own = Who {
            name: "own".to_owned(),
            user: owner,
            groups: vec![],
        };
        assert_eq!(
            judge(&allowed.join("web.sock"), &allowed, &[owner], &own),
            None
        );
        let link = allowed.join("link");
        symlink(real.join("web.sock"), &link).expect("links");
        let found = judge(&link, &allowed, &[owner], &own);
        assert_eq!(found, Some(Objection::Link(real.join("link"))));
        // Directories that are known by two names everywhere.
        let run = [PathBuf::from("/run")];
        let place = below(Path::new("/var/run/no/x.sock"), &run);
        assert_eq!(place, Some("/run/no/x.sock".into()));
    }

    #[test]
    fn each_thing_that_speaks_against_a_socket_is_told() {
        let root = tempfile::tempdir().expect("a directory");
        let below = root.path().join("below");
        std::fs::create_dir(&below).expect("makes");
        let socket = below.join("web.sock");
        let _listener = UnixListener::bind(&socket).expect("binds");
        let owner = socket.metadata().expect("there").uid();
        let own = Who {
            name: "own".to_owned(),
            user: owner,
            groups: vec![],
        };
        let stranger = Who {
            name: "stranger".to_owned(),
            user: 4_000_000,
            groups: vec![],
        };
        let judge = |path: &Path, who: &Who| judge(path, &below, &[owner], who);
        assert_eq!(judge(&socket, &own), None);

        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("sets");
        };
        mode(root.path(), 0o755);
        mode(&below, 0o755);
        mode(&socket, 0o755);
        assert!(
            matches!(judge(&socket, &stranger), Some(Objection::Mode(node)) if node.mode == 0o755)
        );
        mode(&below, 0o700);
        assert!(
            matches!(judge(&socket, &stranger), Some(Objection::Search(node)) if node.path == below)
        );

        let link = below.join("link");
        symlink(&socket, &link).expect("links");
        assert_eq!(judge(&link, &own), Some(Objection::Link(link.clone())));
        let file = below.join("file");
        std::fs::write(&file, "").expect("writes");
        assert_eq!(judge(&file, &own), Some(Objection::Type(NodeKind::Other)));
        assert_eq!(judge(&below.join("no"), &own), Some(Objection::Missing));
        assert_eq!(judge(root.path(), &own), Some(Objection::Outside));
        let other = super::tests::judge(&socket, &below, &[owner + 1], &stranger);
        assert_eq!(other, Some(Objection::Owner(owner)));
    }

    #[test]
    fn groups_count_and_root_may_everything() {
        let node = Node {
            path: "/x".into(),
            kind: NodeKind::Socket,
            owner: 10,
            group: 20,
            mode: 0o620,
        };
        let who = |user, groups: &[u32]| Who {
            name: String::new(),
            user,
            groups: groups.to_vec(),
        };
        assert!(who(10, &[]).may(&node, READ_WRITE));
        assert!(who(11, &[20]).may(&node, WRITE));
        assert!(!who(11, &[20]).may(&node, READ_WRITE));
        assert!(!who(11, &[21]).may(&node, WRITE));
        assert!(who(0, &[]).may(&node, READ_WRITE));
    }
}
