//! Signals that end or stop an attached session, so that the terminal is put back first.
//!
//! Refuses to handle ^Z and SIGCONT where no terminal is raw: their defaults are right then.

use std::future::pending;
use std::io;

use nix::sys::signal::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// End, because of this signal.
    End(Number),
    /// Stop until continued.
    Stop,
    /// Go on after having been stopped by another way.
    Continue,
}

/// The signals that are listened to.
pub(crate) struct Signals {
    hangup: Signal,
    interrupt: Signal,
    quit: Signal,
    terminate: Signal,
    job: Option<(Signal, Signal)>,
}

impl Signals {
    /// Listens from now on; to those of job control only where a terminal will be raw.
    ///
    /// # Errors
    /// As a handler cannot be installed.
    pub(crate) fn listen(raw: bool) -> io::Result<Self> {
        let on = |number: Number| signal(SignalKind::from_raw(number as i32));
        let job = match raw {
            true => Some((on(Number::SIGTSTP)?, on(Number::SIGCONT)?)),
            false => None,
        };
        Ok(Self {
            hangup: on(Number::SIGHUP)?,
            interrupt: on(Number::SIGINT)?,
            quit: on(Number::SIGQUIT)?,
            terminate: on(Number::SIGTERM)?,
            job,
        })
    }

    /// The next signal.
    ///
    /// # Cancel safety
    /// No signal is lost.
    pub(crate) async fn next(&mut self) -> Asked {
        let job = async {
            match &mut self.job {
                Some((stop, go_on)) => tokio::select! {
                    biased;
                    _ = stop.recv() => Asked::Stop,
                    _ = go_on.recv() => Asked::Continue,
                },
                None => pending().await,
            }
        };
        // Ends come first: a stopped job is sent SIGTERM and then SIGCONT, and going on in the
        // background stops it again.
        tokio::select! {
            biased;
            _ = self.hangup.recv() => Asked::End(Number::SIGHUP),
            _ = self.interrupt.recv() => Asked::End(Number::SIGINT),
            _ = self.quit.recv() => Asked::End(Number::SIGQUIT),
            _ = self.terminate.recv() => Asked::End(Number::SIGTERM),
            asked = job => asked,
        }
    }
}
