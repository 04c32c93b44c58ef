//! The user's terminal in raw mode, and its way back.
//!
//! ```text
//!   enter ─▶ Theirs ── raw_again, in the foreground ──▶ Raw
//!            ▲  ▲ └─── raw_again, in the background ─┐   │
//!            │  └───── SIGTTOU has stopped the job ──┘   │
//!            └──────── suspend, restore, a panic ────────┘
//! ```
//!
//! The settings of before are kept in one place of the process, so that a panic on any
//! thread finds them. Refuses to change a terminal that another job has, to wait for the
//! terminal to drain, since one that is stuck would keep its user from leaving, and to touch
//! O_NONBLOCK.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{Pid, getpgrp, tcgetpgrp};

/// What kill takes for the process group of the caller.
const OWN_GROUP: Pid = Pid::from_raw(0);

/// Whose settings the terminal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settings {
    /// Those of before, or what another program set since.
    Theirs,
    /// Ours.
    Raw,
}

/// A terminal that was made raw at least once.
struct Saved {
    terminal: OwnedFd,
    before: Termios,
    now: Settings,
}

/// The terminal that is raw, and its settings of before.
static SAVED: Mutex<Option<Saved>> = Mutex::new(None);

/// The user's terminal, raw while this process is in the foreground; dropping it restores it.
#[derive(Debug)]
pub(super) struct RawTerminal(OwnedFd);

impl RawTerminal {
    /// Makes the terminal raw: each key at once, no echo, no signals from keys. In the
    /// background as [`RawTerminal::raw_again`].
    ///
    /// # Errors
    /// As the terminal cannot be asked or set.
    pub(super) fn enter(terminal: impl AsFd) -> io::Result<Self> {
        let entered = Self(terminal.as_fd().try_clone_to_owned()?);
        entered.raw_again()?;
        Ok(entered)
    }

    /// Stops this process as ^Z stops others, with the terminal as it was. It is for SIGCONT
    /// to call [`RawTerminal::raw_again`].
    ///
    /// # Errors
    /// As the process cannot be stopped.
    pub(super) fn suspend(&self) -> io::Result<()> {
        put_back();
        Ok(kill(Pid::this(), Signal::SIGSTOP)?)
    }

    /// Makes the terminal raw: a shell that took it over in between leaves its own settings.
    ///
    /// In the background the job is stopped first, as the kernel stops any that sets its
    /// terminal. One that goes on there returns with the terminal untouched, so that its
    /// signals are heard, and must call this again, as SIGCONT asks for anyway.
    ///
    /// # Errors
    /// As the terminal cannot be asked or set.
    pub(super) fn raw_again(&self) -> io::Result<()> {
        if !in_foreground(&self.0)? {
            // By hand: within tcsetattr a job would be stopped again and again unheard.
            kill(OWN_GROUP, Signal::SIGTTOU)?;
            if !in_foreground(&self.0)? {
                return Ok(());
            }
        }
        let mut saved = SAVED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(saved) = saved.as_mut() {
            set_raw(&saved.terminal, &saved.before)?;
            saved.now = Settings::Raw;
            return Ok(());
        }
        // Not before now: what a shell sets for its prompt is not for us to bring back.
        let before = tcgetattr(&self.0)?;
        let terminal = self.0.try_clone()?;
        set_raw(&terminal, &before)?;
        *saved = Some(Saved {
            terminal,
            before,
            now: Settings::Raw,
        });
        Ok(())
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

/// Sets the settings of before if ours are set, and keeps them.
fn put_back() {
    let mut saved = match SAVED.try_lock() {
        Ok(saved) => saved,
        Err(std::sync::TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(std::sync::TryLockError::WouldBlock) => return,
    };
    if let Some(saved) = saved.as_mut()
        && saved.now == Settings::Raw
    {
        // Nothing is left to try if this fails: the terminal is gone.
        let _ = set_unstopped(&saved.terminal, &saved.before);
        saved.now = Settings::Theirs;
    }
}

/// Whether this process may set the terminal: its job has it, or it is no job's.
fn in_foreground(terminal: &OwnedFd) -> io::Result<bool> {
    match tcgetpgrp(terminal) {
        Ok(foreground) => Ok(foreground == getpgrp()),
        // Not the terminal that controls this process; what is none at all tells later.
        Err(Errno::ENOTTY) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Sets at once; SIGTTOU stops a process that has just lost the foreground.
fn set_raw(terminal: &OwnedFd, before: &Termios) -> io::Result<()> {
    let mut raw = before.clone();
    cfmakeraw(&mut raw);
    Ok(tcsetattr(terminal, SetArg::TCSANOW, &raw)?)
}

/// Sets at once, in the background too: a process on its way out must not be stopped by
/// SIGTTOU and leave the terminal raw.
fn set_unstopped(terminal: &OwnedFd, settings: &Termios) -> io::Result<()> {
    let mut ttou = SigSet::empty();
    ttou.add(Signal::SIGTTOU);
    let mask = ttou.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let done = tcsetattr(terminal, SetArg::TCSANOW, settings);
    mask.thread_set_mask()?;
    Ok(done?)
}

#[cfg(test)]
mod tests;
