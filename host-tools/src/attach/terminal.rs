//! The user's terminal in raw mode, and its way back.
//!
//! The settings of before are kept in one place of the process, so that a panic on any
//! thread finds them. Refuses to wait for the terminal to drain, since one that is stuck
//! would keep its user from leaving, and never touches O_NONBLOCK.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::Pid;

/// The terminal that is raw, and its settings of before.
static SAVED: Mutex<Option<(OwnedFd, Termios)>> = Mutex::new(None);

/// A raw terminal; dropping it restores it.
#[derive(Debug)]
pub(super) struct RawTerminal(());

impl RawTerminal {
    /// Makes the terminal raw: each key at once, no echo, no signals from keys.
    ///
    /// # Errors
    /// As the terminal cannot be asked or set.
    pub(super) fn enter(terminal: impl AsFd) -> io::Result<Self> {
        let terminal = terminal.as_fd().try_clone_to_owned()?;
        let before = tcgetattr(&terminal)?;
        let mut saved = SAVED.lock().unwrap_or_else(PoisonError::into_inner);
        set_raw(&terminal, &before)?;
        *saved = Some((terminal, before));
        Ok(Self(()))
    }

    /// Stops this process as ^Z stops others, with the terminal as it was, and makes it raw
    /// again when the process goes on.
    ///
    /// # Errors
    /// As the terminal cannot be set.
    pub(super) fn suspend(&self) -> io::Result<()> {
        put_back();
        kill(Pid::this(), Signal::SIGSTOP)?;
        self.raw_again()
    }

    /// Makes the terminal raw again: a shell that took it over in between leaves its own
    /// settings.
    ///
    /// # Errors
    /// As the terminal cannot be set.
    pub(super) fn raw_again(&self) -> io::Result<()> {
        let saved = SAVED.lock().unwrap_or_else(PoisonError::into_inner);
        match saved.as_ref() {
            Some((terminal, before)) => set_raw(terminal, before),
            None => Ok(()),
        }
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the terminal back, if one is raw. May be called more than once, and from a panic.
pub(super) fn restore() {
    put_back();
    // A panic while the lock is held must not wait for itself.
    if let Ok(mut saved) = SAVED.try_lock() {
        *saved = None;
    }
}

/// Lets a panic on any thread put the terminal back before it is reported.
pub(super) fn restore_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        restore();
        report(info);
    }));
}

/// Sets the settings of before, and keeps them.
fn put_back() {
    let saved = match SAVED.try_lock() {
        Ok(saved) => saved,
        Err(std::sync::TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(std::sync::TryLockError::WouldBlock) => return,
    };
    if let Some((terminal, before)) = saved.as_ref() {
        // Nothing is left to try if this fails: the terminal is gone.
        let _ = set(terminal, before);
    }
}

fn set_raw(terminal: &OwnedFd, before: &Termios) -> io::Result<()> {
    let mut raw = before.clone();
    cfmakeraw(&mut raw);
    set(terminal, &raw)
}

/// Sets at once; in the background too, where SIGTTOU would stop the process instead.
fn set(terminal: &OwnedFd, settings: &Termios) -> io::Result<()> {
    let mut ttou = SigSet::empty();
    ttou.add(Signal::SIGTTOU);
    let mask = ttou.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let done = tcsetattr(terminal, SetArg::TCSANOW, settings);
    mask.thread_set_mask()?;
    Ok(done?)
}

#[cfg(test)]
mod tests;
