//! Attachments to real sockets and terminals.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::fcntl::{RenameFlags, renameat2};
use nix::pty::openpty;
use nix::unistd::ttyname;

use super::testing::{SOON, Shown, rules, soon, until};
use super::*;
use crate::endpoint::{EndpointEnd, TcpAddress};

struct Site {
    dir: tempfile::TempDir,
    tasks: Tasks,
    direct: Arc<DirectEndpoints>,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tasks = Tasks::new();
        let direct = DirectEndpoints::new(rules(dir.path()), tasks.clone());
        Self { dir, tasks, direct }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A far side that accepts one client, in a thread.
    fn far(&self, name: &str) -> (Direct, std::thread::JoinHandle<UnixStream>) {
        let listener = UnixListener::bind(self.path(name)).unwrap();
        let accepted = std::thread::spawn(move || listener.accept().unwrap().0);
        (Direct::Unix(self.path(name)), accepted)
    }

    async fn all_ended(&self) {
        soon(async {
            while !self.tasks.running().is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_unix_socket_carries_bytes_both_ways_and_ends_once() {
    let site = Site::new();
    let (direct, far) = site.far("socket");
    let (sink, mut came) = Shown::new();
    let mut attached = soon(site.direct.attach(&direct, sink)).await.unwrap();
    let mut far = far.join().unwrap();
    far.write_all(b"login: ").unwrap();
    until(&mut came, |came| came.bytes == b"login: ").await;
    assert_eq!(attached.unread(), Some(0));
    assert_eq!(soon(attached.write(b"root\r")).await.unwrap(), 5);
    assert_eq!(attached.unread(), Some(5));
    let mut typed = [0; 5];
    far.read_exact(&mut typed).unwrap();
    assert_eq!(&typed, b"root\r");
    assert_eq!(attached.unread(), Some(0));
    assert_eq!(attached.write(b"").await.unwrap(), 0);
    let error = attached.send_break().await.unwrap_err();
    assert!(matches!(error, EndpointError::Unsupported(_)), "{error:?}");

    far.write_all(b"bye").unwrap();
    soon(attached.write(b"unread")).await.unwrap();
    drop(far);
    let came = until(&mut came, |came| !came.ends.is_empty()).await;
    assert_eq!(came.bytes, b"login: bye");
    assert_eq!(came.ends, [EndpointEnd::Eof]);
    let error = soon(attached.write(b"x")).await.unwrap_err();
    assert!(matches!(error, EndpointError::Unreachable(_)), "{error:?}");
    attached.detach().await;
    assert!(site.tasks.running().is_empty());
}

#[tokio::test]
async fn letting_go_closes_at_once_and_is_no_end() {
    let site = Site::new();
    for detach in [true, false] {
        let (direct, far) = site.far(&format!("socket-{detach}"));
        let (sink, came) = Shown::new();
        let attached = soon(site.direct.attach(&direct, sink)).await.unwrap();
        let mut far = far.join().unwrap();
        if detach {
            attached.detach().await;
            assert!(site.tasks.running().is_empty());
        } else {
            drop(attached);
        }
        assert_eq!(far.read(&mut [0]).unwrap(), 0, "it is closed");
        site.all_ended().await;
        assert!(came.borrow().ends.is_empty());
    }
}

#[tokio::test]
async fn input_waits_while_it_is_not_read_and_what_was_given_up_was_not_sent() {
    let site = Site::new();
    let (direct, far) = site.far("socket");
    let (sink, _came) = Shown::new();
    let mut attached = soon(site.direct.attach(&direct, sink)).await.unwrap();
    let mut far = far.join().unwrap();
    let piece = [b'x'; 4096];
    let mut taken = 0;
    let bound = Duration::from_millis(200);
    while let Ok(written) = timeout(bound, attached.write(&piece)).await {
        taken += written.unwrap();
    }
    assert_eq!(attached.unread(), Some(taken));
    let reader = std::thread::spawn(move || {
        let mut bytes = vec![0; taken + 4];
        far.read_exact(&mut bytes).unwrap();
        bytes
    });
    assert_eq!(soon(attached.write(b"last")).await.unwrap(), 4);
    let bytes = reader.join().unwrap();
    assert!(bytes[..taken].iter().all(|byte| *byte == b'x'));
    assert_eq!(&bytes[taken..], b"last");
}

/// Sends `total` bytes in pieces of `piece`, in a thread.
fn flood(mut far: UnixStream, piece: usize, total: usize) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let bytes: Vec<u8> = (0..=250).cycle().take(total).collect();
        for piece in bytes.chunks(piece) {
            far.write_all(piece).unwrap();
        }
    })
}

#[tokio::test]
async fn a_flood_of_single_bytes_arrives_whole_in_few_reads() {
    let site = Site::new();
    let (direct, far) = site.far("socket");
    let (sink, mut came) = Shown::new();
    let _attached = soon(site.direct.attach(&direct, sink)).await.unwrap();
    const TOTAL: usize = 50_000;
    let flood = flood(far.join().unwrap(), 1, TOTAL);
    let came = until(&mut came, |came| !came.ends.is_empty()).await;
    flood.join().unwrap();
    let wanted: Vec<u8> = (0..=250).cycle().take(TOTAL).collect();
    assert_eq!(came.bytes, wanted);
    let rests = site
        .direct
        .counters
        .rests
        .load(std::sync::atomic::Ordering::Relaxed);
    assert!(rests > 0, "small reads were not joined");
}

#[tokio::test(flavor = "current_thread")]
async fn a_flooding_console_leaves_others_their_turn() {
    let site = Site::new();
    let (loud, far) = site.far("loud");
    let (sink, mut loud_came) = Shown::new();
    let _loud = soon(site.direct.attach(&loud, sink)).await.unwrap();
    const TOTAL: usize = 16 << 20;
    let flood = flood(far.join().unwrap(), 64 * 1024, TOTAL);
    until(&mut loud_came, |came| !came.bytes.is_empty()).await;
    let (quiet, far) = site.far("quiet");
    let (sink, mut quiet_came) = Shown::new();
    let _quiet = soon(site.direct.attach(&quiet, sink)).await.unwrap();
    far.join().unwrap().write_all(b"hello").unwrap();
    until(&mut quiet_came, |came| came.bytes == b"hello").await;
    until(&mut loud_came, |came| came.bytes.len() == TOTAL).await;
    flood.join().unwrap();
}

#[tokio::test]
async fn who_waits_in_the_queue_of_a_served_socket_is_told_that_it_is_held() {
    let site = Site::new();
    let path = site.path("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let other = UnixStream::connect(&path).unwrap();
    let (served, _) = listener.accept().unwrap();
    listener.set_nonblocking(true).unwrap();
    let direct = Direct::Unix(path);
    let (sink, _came) = Shown::new();
    let error = soon(site.direct.attach(&direct, sink.clone()))
        .await
        .err()
        .unwrap();
    assert!(matches!(error, EndpointError::HeldByOther(_)), "{error:?}");
    let came = listener.accept().unwrap_err();
    assert_eq!(came.kind(), std::io::ErrorKind::WouldBlock, "nobody queued");

    drop((other, served));
    listener.set_nonblocking(false).unwrap();
    let far = std::thread::spawn(move || listener.accept().unwrap().0);
    let attached = soon(site.direct.attach(&direct, sink)).await.unwrap();
    let _far = far.join().unwrap();
    drop(attached);
}

#[tokio::test]
async fn a_listener_that_takes_nobody_is_left() {
    let site = Site::new();
    let path = site.path("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let (sink, _came) = Shown::new();
    let error = soon(site.direct.attach(&Direct::Unix(path), sink))
        .await
        .err()
        .unwrap();
    assert!(
        matches!(&error, EndpointError::NotReady(it) if it.contains("stopped")),
        "{error:?}"
    );
    let (mut left, _) = listener.accept().unwrap();
    assert_eq!(left.read(&mut [0]).unwrap(), 0, "we left the queue");
}

#[tokio::test]
async fn a_socket_on_which_nobody_listens_is_not_ready() {
    let site = Site::new();
    let path = site.path("socket");
    drop(UnixListener::bind(&path).unwrap());
    let (sink, _came) = Shown::new();
    let error = soon(site.direct.attach(&Direct::Unix(path), sink))
        .await
        .err()
        .unwrap();
    assert!(matches!(error, EndpointError::NotReady(_)), "{error:?}");
}

/// Swaps what is at `path` for what is at `with`, again and again, until told to stop.
fn swap(
    path: &Path,
    with: &Path,
    stop: Arc<std::sync::atomic::AtomicBool>,
) -> std::thread::JoinHandle<u32> {
    let (path, with) = (path.to_owned(), with.to_owned());
    std::thread::spawn(move || {
        let here = nix::fcntl::AT_FDCWD;
        let mut swaps = 0;
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            renameat2(here, &path, here, &with, RenameFlags::RENAME_EXCHANGE).unwrap();
            swaps += 1;
        }
        swaps
    })
}

/// What may be connected to at `good/socket`; what must not, at `evil/socket`.
async fn never_the_evil_one(site: &Site, path: PathBuf, evil: &UnixListener) {
    evil.set_nonblocking(true).unwrap();
    let (mut attached, mut refused) = (0, 0);
    let begun = std::time::Instant::now();
    let mut tries = 0;
    // On a busy machine it takes a while until the two meet at all.
    while tries < 400 || (attached == 0 || refused == 0) && begun.elapsed() < SOON {
        tries += 1;
        let (sink, _came) = Shown::new();
        match soon(site.direct.attach(&Direct::Unix(path.clone()), sink)).await {
            Ok(it) => {
                attached += 1;
                it.detach().await;
            }
            Err(EndpointError::Denied(_) | EndpointError::NotReady(_)) => refused += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    let came = evil.accept().unwrap_err();
    assert_eq!(
        came.kind(),
        std::io::ErrorKind::WouldBlock,
        "{attached} {refused}"
    );
    assert!(
        attached > 0 && refused > 0,
        "{attached} {refused}: nothing was raced"
    );
}

#[tokio::test]
async fn no_swap_of_a_socket_or_of_its_parent_leads_astray() {
    let site = Site::new();
    let outside = tempfile::tempdir().unwrap();
    let evil = UnixListener::bind(outside.path().join("socket")).unwrap();
    std::fs::create_dir(site.path("good")).unwrap();
    let good = UnixListener::bind(site.path("good/socket")).unwrap();
    std::thread::spawn(move || {
        let mut clients = Vec::new();
        while let Ok((client, _)) = good.accept() {
            clients.push(client);
        }
    });
    let swaps = [
        ("good/socket", outside.path().join("socket")),
        ("good", outside.path().to_owned()),
    ];
    for (swapped, leads_to) in swaps {
        let link = site.path("link");
        std::os::unix::fs::symlink(leads_to, &link).unwrap();
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let swapper = swap(&site.path(swapped), &link, stop.clone());
        never_the_evil_one(&site, site.path("good/socket"), &evil).await;
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(swapper.join().unwrap() > 0);
        if site.path(swapped).is_symlink() {
            std::fs::rename(&link, site.path("real")).unwrap();
            std::fs::remove_file(site.path(swapped)).unwrap();
            std::fs::rename(site.path("real"), site.path(swapped)).unwrap();
        } else {
            std::fs::remove_file(&link).unwrap();
        }
    }
}

#[tokio::test]
async fn a_terminal_carries_bytes_both_ways_and_ends_with_its_far_side() {
    let site = Site::new();
    let terminal = openpty(None, None).unwrap();
    let path = ttyname(&terminal.slave).unwrap();
    drop(terminal.slave);
    let mut far = std::fs::File::from(terminal.master);
    let (sink, mut came) = Shown::new();
    let direct = Direct::Pty(path);
    let mut attached = soon(site.direct.attach(&direct, sink)).await.unwrap();
    assert_eq!(soon(attached.write(b"ls\r")).await.unwrap(), 3);
    let mut typed = [0; 3];
    far.read_exact(&mut typed).unwrap();
    assert_eq!(&typed, b"ls\r");
    far.write_all(b"file\r\n").unwrap();
    until(&mut came, |came| came.bytes == b"file\r\n").await;
    far.write_all(&[b'y'; 3000]).unwrap();
    until(&mut came, |came| came.bytes.len() == 6 + 3000).await;
    drop(far);
    let came = until(&mut came, |came| !came.ends.is_empty()).await;
    assert_eq!(came.ends, [EndpointEnd::HungUp]);
    assert_eq!(site.direct.holder(&direct).await, None);
}

#[tokio::test]
async fn telnet_carries_any_byte_and_a_break() {
    let site = Site::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let far = std::thread::spawn(move || listener.accept().unwrap().0);
    let direct = Direct::Tcp(TcpAddress {
        host: "localhost".to_owned(),
        port,
        telnet: true,
    });
    let (sink, mut came) = Shown::new();
    let mut attached = soon(site.direct.attach(&direct, sink)).await.unwrap();
    let mut far = far.join().unwrap();
    // As QEMU begins, and never doubles 0xFF after it.
    far.write_all(b"\xff\xfb\x01\xff\xfb\x03\xff\xfb\x00\xff\xfd\x00\xff\x41")
        .unwrap();
    until(&mut came, |came| came.bytes == b"\xff\x41").await;
    assert_eq!(soon(attached.write(b"a\xffb")).await.unwrap(), 3);
    soon(attached.send_break()).await.unwrap();
    let mut typed = [0; 6];
    far.read_exact(&mut typed).unwrap();
    assert_eq!(&typed, b"a\xff\xffb\xff\xf3");
    assert_eq!(attached.unread(), Some(0));
    drop(far);
    let came = until(&mut came, |came| !came.ends.is_empty()).await;
    assert_eq!(came.ends, [EndpointEnd::Eof]);
}

/// Has this test's thread, and so its runtime, access files as somebody unprivileged.
fn forgo_privileges() {
    if geteuid().is_root() {
        nix::unistd::setfsuid(nix::unistd::Uid::from_raw(65534));
    }
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn what_the_agent_may_not_reach_or_open_is_denied_by_its_facts() {
    let site = Site::new();
    set_mode(site.dir.path(), 0o755);
    std::fs::create_dir(site.path("closed")).unwrap();
    std::fs::create_dir(site.path("closed/inner")).unwrap();
    let _listener = UnixListener::bind(site.path("socket")).unwrap();
    let terminal = openpty(None, None).unwrap();
    let tty = ttyname(&terminal.slave).unwrap();
    drop(terminal.slave);
    for path in [&site.path("closed"), &site.path("socket"), &tty] {
        set_mode(path, 0);
    }
    forgo_privileges();
    let refused = [
        (
            Direct::Unix(site.path("closed/inner/x")),
            site.path("closed"),
            "pass through it: a directory",
        ),
        (
            Direct::Unix(site.path("socket")),
            site.path("socket"),
            "open it: a socket",
        ),
        (Direct::Pty(tty.clone()), tty, "open it: a device"),
    ];
    for (direct, names, what) in refused {
        let (sink, _came) = Shown::new();
        let error = soon(site.direct.attach(&direct, sink)).await.err().unwrap();
        let EndpointError::Denied(detail) = &error else {
            panic!("{error:?}");
        };
        assert!(
            detail.starts_with(&format!("{}: ", names.display())),
            "{detail}"
        );
        assert!(
            detail.contains(what) && detail.contains("mode 0000"),
            "{detail}"
        );
    }
}
