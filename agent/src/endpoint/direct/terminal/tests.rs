use std::os::fd::OwnedFd;

use nix::pty::{OpenptyResult, openpty};
use nix::sys::termios::{InputFlags, LocalFlags};
use nix::unistd::{geteuid, read, ttyname, write};

use super::super::TcpRule;
use super::*;
use crate::shutdown::Tasks;

fn rules() -> DirectRules {
    DirectRules {
        directories: vec![],
        owners: vec![geteuid().as_raw()],
        tcp: TcpRule::Off,
    }
}

fn search() -> Search {
    Search::new(Tasks::new())
}

/// QEMU's side of a terminal, and its path; nobody has the other side open.
fn terminal() -> (OwnedFd, PathBuf) {
    let OpenptyResult { master, slave } = openpty(None, None).unwrap();
    let path = ttyname(&slave).unwrap();
    (master, path)
}

#[tokio::test]
async fn what_was_left_echoing_is_made_raw_before_the_guest_hears_itself() {
    let (master, path) = terminal();
    let terminal = open(&rules(), &search(), &path).await.unwrap();
    let modes = tcgetattr(&terminal).unwrap();
    assert!(
        !modes
            .local_flags
            .intersects(LocalFlags::ECHO | LocalFlags::ICANON)
    );
    assert!(!modes.input_flags.contains(InputFlags::ICRNL));
    write(&master, b"out\r\n").unwrap();
    let mut bytes = [0; 16];
    let count = loop {
        match read(&terminal, &mut bytes) {
            Err(Errno::EAGAIN) => tokio::task::yield_now().await,
            done => break done.unwrap(),
        }
    };
    assert_eq!(&bytes[..count], b"out\r\n");
    write(&terminal, b"in\r\x03").unwrap();
    let count = read(&master, &mut bytes).unwrap();
    assert_eq!(
        &bytes[..count],
        b"in\r\x03",
        "no echo before it, nothing changed in it"
    );
}

#[tokio::test]
async fn what_its_far_side_wrote_and_nobody_read_goes_with_the_far_side() {
    let (master, path) = terminal();
    let terminal = open(&rules(), &search(), &path).await.unwrap();
    write(&master, b"last words").unwrap();
    drop(master);
    let came = read(&terminal, &mut [0; 16]);
    assert!(matches!(came, Ok(0) | Err(Errno::EIO)), "{came:?}");
}

#[tokio::test]
async fn a_terminal_is_not_shared() {
    let (_master, path) = terminal();
    let first = open(&rules(), &search(), &path).await.unwrap();
    let error = open(&rules(), &search(), &path).await.unwrap_err();
    assert!(matches!(error, EndpointError::HeldByOther(_)), "{error:?}");
    drop(first);
    open(&rules(), &search(), &path).await.unwrap();
}

#[tokio::test]
async fn a_process_that_has_it_open_is_named() {
    let (_master, path) = terminal();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let mut child = std::process::Command::new("cat")
        .stdin(file)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let error = open(&rules(), &search(), &path).await.unwrap_err();
    let holder = holder(&rules(), &search(), &path).await;
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(matches!(error, EndpointError::HeldByOther(_)), "{error:?}");
    assert_eq!(holder.unwrap().process, child.id());
    open(&rules(), &search(), &path).await.unwrap();
}

#[tokio::test]
async fn a_terminal_whose_qemu_is_gone_is_not_ready() {
    let (master, path) = terminal();
    drop(master);
    let error = open(&rules(), &search(), &path).await.unwrap_err();
    assert!(matches!(error, EndpointError::NotReady(_)), "{error:?}");
}

#[test]
fn locks_of_living_processes_count() {
    let locks = tempfile::tempdir().unwrap();
    let terminal = Path::new("/dev/pts/3");
    let lock = lock_path(locks.path(), terminal);
    assert_eq!(lock.file_name().unwrap(), "LCK.._pts_3");
    let locked = || locked_by(&rules(), locks.path(), terminal);
    assert_eq!(locked(), None, "there is no lock");
    let parent = nix::unistd::getppid().as_raw();
    std::fs::write(&lock, format!("{parent:>10}\n")).unwrap();
    assert_eq!(locked().unwrap().process, parent.cast_unsigned());
    for stale in [
        "4194305\n",
        "",
        "x",
        "-1",
        "99999999999999999999999999999999",
    ] {
        std::fs::write(&lock, stale).unwrap();
        assert_eq!(locked(), None, "{stale}");
    }
    std::fs::write(&lock, std::process::id().to_string()).unwrap();
    assert_eq!(locked(), None, "our own");
}
