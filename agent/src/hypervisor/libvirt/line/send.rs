//! To the guest: bytes are taken into a small buffer, and the console's own thread sends
//! them. How much may be under way is decided in [`Input`](super::super::input::Input).

use std::sync::Arc;

use super::super::ffi::{LibvirtError, Stream, event_loop};
use super::{Line, Tap};
use crate::endpoint::EndpointError;

impl Line {
    /// Takes the beginning of `bytes` and tells how many were taken. Waits while there is no
    /// room.
    ///
    /// # Errors
    /// The console is over.
    ///
    /// # Cancel safety
    /// If dropped before it returns, nothing was taken. One waiter at a time.
    pub(in crate::hypervisor::libvirt) async fn write(
        self: &Arc<Self>,
        bytes: &[u8],
    ) -> Result<usize, EndpointError> {
        if bytes.is_empty() {
            return Ok(0);
        }
        loop {
            let taken = self.offer(bytes)?;
            if taken > 0 {
                return Ok(taken);
            }
            // A bell that rang before this is heard here.
            self.room.notified().await;
        }
    }

    fn offer(self: &Arc<Self>, bytes: &[u8]) -> Result<usize, EndpointError> {
        self.still_wanted()?;
        let mut input = self.input.lock();
        let taken = input.append(bytes);
        let start = taken > 0 && input.start();
        drop(input);
        if start && let Err(why) = self.start_sending() {
            self.give_up_sending(why.clone());
            return Err(EndpointError::Unreachable(why));
        }
        Ok(taken)
    }

    fn start_sending(self: &Arc<Self>) -> Result<(), String> {
        let line = Arc::clone(self);
        self.run(move || line.send_waiting())
            .map_err(|error| error.to_string())
    }

    /// Sends what waits until nothing does. On the lane; may block.
    fn send_waiting(self: Arc<Self>) {
        loop {
            // Cloned for each piece: whoever releases the console waits for this lane anyway.
            let Some(stream) = self.stream.lock().clone() else {
                return;
            };
            let Some(bytes) = self.input.lock().next() else {
                return;
            };
            self.room.notify_one();
            match self.send(&stream, &bytes) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return self.give_up_sending(error.to_string()),
            }
        }
    }

    /// Sends one piece, and answers whether to go on; if not, [`Line::writable`] will.
    fn send(&self, stream: &Stream, bytes: &[u8]) -> Result<bool, LibvirtError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some(count) = stream.send(rest)? else {
                self.input.lock().put_back(rest);
                // (A stream of libvirt's remote driver never comes here: it waits.)
                stream.want_writable(true)?;
                return Ok(false);
            };
            rest = &rest[count..];
        }
        if self.input.lock().sent(bytes.len()) {
            stream.connection().ping()?;
            self.input.lock().answered();
        }
        Ok(true)
    }

    /// The stream takes bytes again. On the event loop's thread.
    pub(super) fn writable(self: &Arc<Self>) {
        let stream = self.stream.lock().clone();
        let quiet = stream.map_or(Ok(()), |stream| stream.want_writable(false));
        let started = quiet
            .map_err(|error| error.to_string())
            .and_then(|()| self.start_sending());
        if let Err(why) = started {
            self.give_up_sending(why);
        }
    }

    /// Ends the console because its input is broken; on the event loop's thread, after the
    /// output that has come.
    fn give_up_sending(self: &Arc<Self>, why: String) {
        if matches!(*self.tap.lock(), Tap::Over(_)) {
            return;
        }
        let line = Arc::clone(self);
        if let Err(error) = event_loop::run_soon(move || line.lost(why)) {
            tracing::error!(console = %self.console, %error, "a console's end is not told");
        }
    }
}
