//! The task of one local connection: it, the stream to the agent, and the clock.
//!
//! ```text
//!   Running ── stop, the client is gone ──▶ Leaving ── Closed, or 2 s ──▶ Draining
//!      └────── Closed, or a broken stream ──────────────────────────────▶ Draining
//!   Draining ── all is written, or the client takes nothing ──▶ Ended
//! ```
//!
//! Refuses to open another stream when one breaks: the client comes again if it wants to.

mod ending;

use std::io;

use bytes::BytesMut;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tonic::{Status, Streaming};

use super::link::Stream;
use super::local::Local;
use super::say::Say;
use super::session::{Effect, Session};
use super::wire::Wire;
use crate::attach::sleep_until_some;
use crate::exit::Exit;
use crate::refusal::Refusal;

/// Where the task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// Detach is sent, or about to be.
    Leaving {
        exit: Exit,
        until: Instant,
    },
    /// The stream is over; what it brought is still being written.
    Draining {
        exit: Exit,
        until: Instant,
    },
    Ended(Exit),
}

/// Times that matter.
#[derive(Debug)]
struct Times {
    /// Since when nothing was said in either direction.
    quiet_since: Instant,
    /// When the guest last took input, or input was last read.
    input_moved: Instant,
    /// Whether somebody waits to be let go.
    hurried: bool,
}

/// The task.
pub(super) struct Line<'a, W: Wire> {
    local: &'a Local,
    /// The stream, until it is over.
    stream: Option<Stream<W>>,
    session: Session<W>,
    say: &'a Say,
    phase: Phase,
    times: Times,
    /// What is read into; what was read is a part of it, and not copied.
    buffer: BytesMut,
}

impl<'a, W: Wire> Line<'a, W> {
    /// Of a session that was opened; `effects` are what opening it asked for.
    pub(super) fn new(
        local: &'a Local,
        stream: Stream<W>,
        (session, effects): (Session<W>, Vec<Effect>),
        say: &'a Say,
    ) -> Self {
        let now = Instant::now();
        let times = Times {
            quiet_since: now,
            input_moved: now,
            hurried: false,
        };
        let mut line = Self {
            local,
            stream: Some(stream),
            session,
            say,
            phase: Phase::Running,
            times,
            buffer: BytesMut::new(),
        };
        line.apply(effects);
        line
    }

    /// Runs to the end of the stream, or until `stop` is true.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Exit {
        loop {
            if let Phase::Ended(exit) = self.phase {
                return exit;
            }
            self.beat();
            self.half_close();
            let until = self.deadline();
            if until.is_some_and(|until| until <= Instant::now()) {
                self.elapsed();
                continue;
            }
            let (room, writes) = (self.session.room(), !self.session.pending.is_empty());
            let (local, hurried) = (self.local, self.times.hurried);
            let stream = self.stream.as_mut().filter(|_| self.session.takes());
            let wants_room = self.session.has_request();
            // Writing comes before taking more, so that little waits. None of them can occupy
            // the loop: writing needs output, reading and sending need the input window, and
            // both come from the agent.
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop), if !hurried => self.stop(),
                wrote = local.write(&self.session.pending), if writes => self.wrote(wrote),
                read = local.read(&mut self.buffer, room), if room > 0 => self.read(read),
                news = news(stream, wants_room) => self.news(news),
                () = sleep_until_some(until) => {}
            }
        }
    }

    fn news(&mut self, news: News<W>) {
        match news {
            News::Room(room) => self.send(room),
            News::Message(message) => self.message(message),
        }
    }

    /// Sends one message. Where the agent reads no more, what it says last tells why.
    fn send(&mut self, room: bool) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        if !room {
            self.end_our_side();
        } else if let Some(requests) = &stream.requests
            && let Ok(permit) = requests.try_reserve()
            && let Some(message) = self.session.next_request()
        {
            permit.send(message);
        }
    }

    fn message(&mut self, message: Result<Option<W::Response>, Status>) {
        self.heard();
        match message {
            Ok(Some(response)) => {
                let before = self.session.taken_to();
                let effects = self.session.receive(W::event(response));
                if self.session.taken_to() > before {
                    self.times.input_moved = self.times.quiet_since;
                }
                self.apply(effects);
            }
            Ok(None) => {
                let text = "the agent ended the stream without a word";
                self.broken(Exit::Broken, text);
            }
            Err(status) => {
                let refusal = Refusal::new(&status);
                let text = format!("the stream broke: {refusal}");
                self.broken(refusal.exit_after_open(), &text);
            }
        }
    }

    /// The stream is over without a Closed.
    fn broken(&mut self, exit: Exit, why: &str) {
        if self.phase == Phase::Running {
            self.say.tell(why);
        }
        self.drain(exit);
    }

    fn wrote(&mut self, wrote: io::Result<usize>) {
        match wrote {
            Ok(bytes) => {
                if !self.session.takes() {
                    // The agent's silence counts from when it is listened to again.
                    self.times.quiet_since = Instant::now();
                }
                self.session.wrote(bytes);
                self.drained(bytes);
            }
            Err(error) => self.client_gone(&error),
        }
    }

    fn read(&mut self, read: io::Result<usize>) {
        self.times.quiet_since = Instant::now();
        self.times.input_moved = self.times.quiet_since;
        match read {
            Ok(0) => self.session.local_ended(),
            Ok(_) => {
                let effects = self.session.read(self.buffer.split().freeze());
                self.apply(effects);
            }
            Err(error) => self.client_gone(&error),
        }
    }

    fn apply(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Notice(text) => self.say.tell(&text),
                Effect::Leave(exit) => self.leave(exit),
                Effect::End(exit) => self.drain(exit),
            }
        }
    }
}

/// What happened on the stream.
enum News<W: Wire> {
    /// There is room for a message; false when nobody takes any.
    Room(bool),
    /// The agent said something, or the stream ended.
    Message(Result<Option<W::Response>, Status>),
}

/// What happens next on the stream, if there is one.
///
/// # Cancel safety
/// Nothing is lost.
async fn news<W: Wire>(stream: Option<&mut Stream<W>>, wants_room: bool) -> News<W> {
    let Some(Stream {
        requests, inbound, ..
    }) = stream
    else {
        return std::future::pending().await;
    };
    let wants_room = wants_room && requests.is_some();
    tokio::select! {
        biased;
        room = has_room(requests.as_ref()), if wants_room => News::Room(room),
        message = next(inbound) => News::Message(message),
    }
}

/// The agent's next message.
async fn next<T>(inbound: &mut Streaming<T>) -> Result<Option<T>, Status> {
    inbound.message().await
}

/// Waits for room in the queue, which only this task fills; false when nobody reads it.
async fn has_room<T>(requests: Option<&mpsc::Sender<T>>) -> bool {
    match requests {
        Some(requests) => requests.reserve().await.is_ok(),
        None => false,
    }
}
