//! On real PTYs. The settings are kept once per process, so these run one at a time.

use nix::pty::openpty;
use nix::sys::termios::LocalFlags;

use super::*;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn pty() -> (OwnedFd, OwnedFd, Termios) {
    let pty = openpty(None, None).unwrap();
    let before = tcgetattr(&pty.slave).unwrap();
    assert!(
        before
            .local_flags
            .contains(LocalFlags::ICANON | LocalFlags::ECHO)
    );
    (pty.master, pty.slave, before)
}

fn is_raw(slave: &OwnedFd) -> bool {
    !tcgetattr(slave)
        .unwrap()
        .local_flags
        .intersects(LocalFlags::ICANON | LocalFlags::ISIG)
}

fn alone() -> std::sync::MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn dropping_it_restores_the_terminal() {
    let _alone = alone();
    let (_master, slave, before) = pty();
    let raw = RawTerminal::enter(&slave).unwrap();
    assert!(is_raw(&slave));
    drop(raw);
    assert_eq!(tcgetattr(&slave).unwrap(), before);
}

#[test]
fn a_panic_restores_the_terminal_by_the_hook_alone() {
    let _alone = alone();
    let (_master, slave, before) = pty();
    std::mem::forget(RawTerminal::enter(&slave).unwrap());
    restore_on_panic();
    let panicked = std::thread::spawn(|| panic!("as a test")).join();
    assert!(panicked.is_err());
    assert_eq!(tcgetattr(&slave).unwrap(), before);
}

#[test]
fn a_terminal_that_another_program_set_is_made_raw_again() {
    let _alone = alone();
    let (_master, slave, before) = pty();
    let raw = RawTerminal::enter(&slave).unwrap();
    tcsetattr(&slave, SetArg::TCSANOW, &before).unwrap();
    raw.raw_again().unwrap();
    assert!(is_raw(&slave));
    drop(raw);
    assert_eq!(tcgetattr(&slave).unwrap(), before);
}

#[test]
fn a_terminal_that_was_put_back_is_left_to_others() {
    let _alone = alone();
    let (_master, slave, before) = pty();
    let raw = RawTerminal::enter(&slave).unwrap();
    put_back();
    assert_eq!(tcgetattr(&slave).unwrap(), before);
    let mut theirs = before;
    theirs.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(&slave, SetArg::TCSANOW, &theirs).unwrap();
    drop(raw);
    assert_eq!(tcgetattr(&slave).unwrap(), theirs);
}

#[test]
fn what_is_no_terminal_is_refused_and_nothing_is_kept() {
    let _alone = alone();
    assert!(RawTerminal::enter(std::fs::File::open("/dev/null").unwrap()).is_err());
    assert!(
        SAVED
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_none()
    );
}
