use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;

use nix::unistd::{geteuid, mkfifo};

use super::super::TcpRule;
use super::*;

/// A directory that rules allow, beside one that they do not.
struct Ground {
    root: tempfile::TempDir,
    rules: DirectRules,
    _listener: UnixListener,
}

impl Ground {
    /// With a good socket at `allowed/good`, and the directory `elsewhere`.
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let allowed = root.path().join("allowed");
        fs::create_dir_all(allowed.join("inner")).unwrap();
        fs::create_dir(root.path().join("elsewhere")).unwrap();
        let listener = UnixListener::bind(allowed.join("good")).unwrap();
        let rules = DirectRules {
            directories: vec![allowed],
            owners: vec![geteuid().as_raw()],
            tcp: TcpRule::Off,
        };
        Self {
            root,
            rules,
            _listener: listener,
        }
    }

    fn allowed(&self, name: &str) -> PathBuf {
        self.root.path().join("allowed").join(name)
    }

    fn find(&self, path: impl AsRef<Path>) -> Result<Found, EndpointError> {
        find(&self.rules, path.as_ref(), Wanted::Socket)
    }

    /// That `path` is denied, and that the message names it and `why`.
    fn denied(&self, path: impl AsRef<Path>, why: &str) {
        let path = path.as_ref();
        let error = self.find(path).unwrap_err();
        let EndpointError::Denied(detail) = &error else {
            panic!("{error:?}");
        };
        assert!(detail.contains(&*path.to_string_lossy()), "{detail}");
        assert!(detail.contains(why), "{detail}");
    }
}

#[test]
fn a_socket_in_an_allowed_directory_is_found_and_lasts() {
    let ground = Ground::new();
    let path = ground.allowed("good");
    let found = ground.find(&path).unwrap();
    let before = fs::metadata(&path).unwrap();
    assert_eq!(found.identity(), (before.dev(), before.ino()));
    fs::rename(&path, ground.allowed("moved")).unwrap();
    fs::write(&path, "something else").unwrap();
    let lasting = fs::metadata(found.lasting_path()).unwrap();
    assert_eq!(lasting.ino(), before.ino());
}

#[test]
fn the_allowed_directory_itself_may_be_reached_through_a_link() {
    let mut ground = Ground::new();
    let link = ground.root.path().join("link");
    symlink(ground.root.path().join("allowed"), &link).unwrap();
    ground.rules.directories = vec![link.clone()];
    ground.find(link.join("good")).unwrap();
    ground.denied(ground.allowed("good"), "endpoints.directories");
}

#[test]
fn what_is_below_no_allowed_directory_is_denied() {
    let ground = Ground::new();
    let elsewhere = ground.root.path().join("elsewhere/socket");
    let _listener = UnixListener::bind(&elsewhere).unwrap();
    ground.denied(&elsewhere, "endpoints.directories");
    ground.denied(ground.root.path().join("allowed"), "endpoints.directories");
    ground.denied(
        ground.root.path().join("allowed-not"),
        "endpoints.directories",
    );
    ground.denied(ground.allowed("../elsewhere/socket"), "..");
    ground.denied("good", "from / on");
    ground.denied("", "from / on");
}

#[test]
fn links_are_not_followed_wherever_they_stand() {
    let ground = Ground::new();
    let outside = ground.root.path().join("elsewhere/socket");
    let _listener = UnixListener::bind(&outside).unwrap();
    symlink(&outside, ground.allowed("link")).unwrap();
    ground.denied(ground.allowed("link"), "symbolic link");
    symlink("good", ground.allowed("harmless")).unwrap();
    ground.denied(ground.allowed("harmless"), "symbolic link");
    symlink("../../elsewhere", ground.allowed("inner/parent")).unwrap();
    ground.denied(ground.allowed("inner/parent/socket"), "symbolic link");
    symlink("/proc/self/root", ground.allowed("root")).unwrap();
    ground.denied(ground.allowed("root/etc/passwd"), "symbolic link");
}

#[test]
fn what_is_no_socket_is_denied_and_does_not_notice() {
    let ground = Ground::new();
    mkfifo(&ground.allowed("fifo"), Mode::from_bits_truncate(0o600)).unwrap();
    fs::write(ground.allowed("file"), "text").unwrap();
    ground.denied(ground.allowed("fifo"), "a fifo of user");
    ground.denied(ground.allowed("file"), "a file of user");
    ground.denied(ground.allowed("inner"), "a directory of user");
    ground.denied(ground.allowed("file/below"), "not a directory");
    // A fifo that somebody opened for writing would let a reader in.
    let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK;
    let opened = open(&ground.allowed("fifo"), flags, Mode::empty());
    assert_eq!(opened.unwrap_err(), Errno::ENXIO, "nobody reads it");
}

#[test]
fn what_belongs_to_somebody_else_is_denied_by_its_facts() {
    let mut ground = Ground::new();
    ground.rules.owners = vec![geteuid().as_raw() + 1];
    fs::set_permissions(ground.allowed("good"), fs::Permissions::from_mode(0o640)).unwrap();
    let facts = format!("a socket of user {} and group", geteuid());
    ground.denied(ground.allowed("good"), &facts);
    ground.denied(ground.allowed("good"), "mode 0640");
    ground.denied(ground.allowed("good"), "endpoints.owners");
}

#[test]
fn what_is_not_there_is_not_ready() {
    let ground = Ground::new();
    for path in [ground.allowed("nothing"), ground.allowed("no/where")] {
        let error = ground.find(&path).unwrap_err();
        assert!(matches!(error, EndpointError::NotReady(_)), "{error:?}");
    }
    let mut ground = ground;
    ground.rules.directories = vec![ground.root.path().join("absent")];
    let error = ground.find(ground.root.path().join("absent/socket"));
    assert!(
        matches!(error, Err(EndpointError::NotReady(_))),
        "{error:?}"
    );
}

#[test]
fn a_terminal_is_found_in_its_place_only_and_other_devices_are_not() {
    let terminal = nix::pty::openpty(None, None).unwrap();
    let path = nix::unistd::ttyname(&terminal.slave).unwrap();
    let ground = Ground::new();
    let found = find(&ground.rules, &path, Wanted::Terminal).unwrap();
    assert_eq!(found.path(), path);
    let error = find(&ground.rules, &path, Wanted::Socket).unwrap_err();
    assert!(
        error.to_string().contains("endpoints.directories"),
        "{error}"
    );

    // A terminal of another program's, which anybody may open: what it is decides.
    let mut rules = ground.rules.clone();
    rules.directories = vec![PathBuf::from("/dev")];
    rules.owners = vec![geteuid().as_raw(), 0];
    let error = find(&rules, Path::new("/dev/null"), Wanted::Terminal).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("not a pseudo-terminal but a device"),
        "{error}"
    );
    let error = find(&rules, Path::new("/dev/pts/ptmx"), Wanted::Terminal).unwrap_err();
    assert!(matches!(error, EndpointError::Denied(_)), "{error:?}");
}

#[test]
fn small_files_are_read_if_they_are_files_of_somebody_trusted() {
    let ground = Ground::new();
    let path = ground.allowed("lock");
    fs::write(&path, "      1234\nand more").unwrap();
    assert_eq!(
        read_small(&ground.rules, &path, 11).unwrap(),
        b"      1234\n"
    );
    symlink(&path, ground.allowed("link")).unwrap();
    assert_eq!(read_small(&ground.rules, &ground.allowed("link"), 11), None);
    mkfifo(&ground.allowed("fifo"), Mode::from_bits_truncate(0o600)).unwrap();
    assert_eq!(read_small(&ground.rules, &ground.allowed("fifo"), 11), None);
    let mut rules = ground.rules.clone();
    rules.owners.clear();
    assert_eq!(read_small(&rules, &path, 11), None);
}
