//! From the guest: libvirt's event loop thread carries bytes to the sink, and waits for
//! nobody. libvirt's client keeps what is not received without a limit, so all is received
//! at once.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::console_error::ending;
use super::super::ffi::{Readiness, Received, event_loop};
use super::super::xml::CHANNEL_PREFIX;
use super::{Line, Tap};
use crate::core::id::Alias;
use crate::endpoint::EndpointEnd;

/// The most that is received at once, in bytes.
const RECEIVE_BYTES: usize = 64 << 10;
/// How often one console may receive before others have their turn.
const RECEIVES_PER_TURN: usize = 4;

thread_local! {
    /// What is received goes through here: one buffer, on the event loop's thread.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; RECEIVE_BYTES].into_boxed_slice());
}

/// What a turn of receiving left behind.
enum Drained {
    /// Nothing more for now.
    Dry,
    /// Perhaps more.
    More,
    /// It ended.
    Ended(EndpointEnd),
}

impl Line {
    /// libvirt has something for us. On the event loop's thread. Answers whether bytes came.
    pub(super) fn ready(self: &Arc<Self>, readiness: Readiness) -> bool {
        let before = self.received.load(Ordering::Relaxed);
        if readiness.readable
            && let Drained::Ended(end) = self.drain()
        {
            self.end(end);
        }
        if readiness.writable {
            self.writable();
        }
        self.received.load(Ordering::Relaxed) != before
    }

    /// The connection is gone. On the event loop's thread. What had come before is delivered
    /// first, a turn at a time.
    pub(super) fn lost(self: &Arc<Self>, why: String) {
        match self.drain() {
            Drained::Dry | Drained::Ended(EndpointEnd::Lost(_)) => {
                self.end(EndpointEnd::Lost(why));
            }
            Drained::Ended(end) => self.end(end),
            Drained::More => {
                let line = Arc::clone(self);
                if let Err(error) = event_loop::run_soon(move || line.lost(why)) {
                    tracing::error!(console = %self.console, %error, "output was dropped");
                    self.end(EndpointEnd::Lost(error.to_string()));
                }
            }
        }
    }

    /// Carries over what has come, up to a turn's worth; into nothing once the flow is over.
    fn drain(&self) -> Drained {
        let Some(stream) = self.stream.lock().clone() else {
            return Drained::Dry;
        };
        // Held so that nothing comes after the end, and nothing after a detach.
        let tap = self.tap.lock();
        let sink = match &*tap {
            Tap::Opening => return Drained::Dry,
            Tap::Open(sink) => Some(sink),
            Tap::Over(_) => None,
        };
        BUFFER.with_borrow_mut(|buffer| {
            for _ in 0..RECEIVES_PER_TURN {
                match stream.receive(buffer) {
                    Ok(Received::Bytes(count)) => {
                        self.received.fetch_add(1, Ordering::Relaxed);
                        if let Some(sink) = sink {
                            sink.output(&buffer[..count]);
                        }
                    }
                    Ok(Received::WouldBlock) => return Drained::Dry,
                    Ok(Received::Eof) => return Drained::Ended(closed(&self.console.alias)),
                    Err(error) => return Drained::Ended(ending(&error)),
                }
            }
            Drained::More
        })
    }

    /// Ends the flow and tells the sink, if that has not happened.
    pub(super) fn end(&self, end: EndpointEnd) {
        let why = match &end {
            EndpointEnd::Eof | EndpointEnd::HungUp => "the console closed".to_owned(),
            EndpointEnd::Displaced => "somebody else took the console".to_owned(),
            EndpointEnd::Lost(why) => why.clone(),
        };
        // An ended stream would stay readable for ever.
        if let Some(stream) = &*self.stream.lock() {
            stream.stop_ready();
        }
        let tap = {
            let mut tap = self.tap.lock();
            if matches!(*tap, Tap::Over(_)) {
                return;
            }
            std::mem::replace(&mut *tap, Tap::Over(why))
        };
        self.news.notify_one();
        if let Tap::Open(sink) = tap {
            tracing::debug!(console = %self.console, ?end, "the console's stream ended");
            sink.ended(end);
        }
    }
}

/// What the end of a console's stream means. libvirtd reads a terminal for it, and so loses what
/// the kernel throws away; a channel's socket it reads to its end.
fn closed(alias: &Alias) -> EndpointEnd {
    if alias.as_str().starts_with(CHANNEL_PREFIX) {
        EndpointEnd::Eof
    } else {
        EndpointEnd::HungUp
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_channel_is_known_to_be_read_to_its_end() {
        let end = |alias| closed(&Alias::new(alias).unwrap());
        assert_eq!(end("channel:org.vmconsole.shell.0"), EndpointEnd::Eof);
        assert_eq!(end("serial0"), EndpointEnd::HungUp);
        assert_eq!(end("console1"), EndpointEnd::HungUp);
    }
}
