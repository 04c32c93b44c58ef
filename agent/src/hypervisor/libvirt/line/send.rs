//! To the guest: the console's own thread sends what a write hands to it, and the write waits
//! for that: it tells no byte as taken that libvirt has not taken. What may be under way is
//! decided in [`Input`].

use std::sync::Arc;

use super::super::ffi::{LibvirtError, Stream, event_loop};
use super::super::input::Input;
use super::{Line, Tap};
use crate::endpoint::{Abandoned, EndpointError};

impl Line {
    /// As [`Attachment::write`](crate::endpoint::Attachment::write).
    ///
    /// # Errors
    /// The console is over.
    ///
    /// # Cancel safety
    /// [`Line::abandon`] tells what became of it. One waiter at a time.
    pub(in crate::hypervisor::libvirt) async fn write(
        self: &Arc<Self>,
        bytes: &[u8],
    ) -> Result<usize, EndpointError> {
        if bytes.is_empty() {
            return Ok(0);
        }
        // Nothing of a write before goes on once another one has begun.
        self.abandon();
        self.settle().await?;
        self.hand_over(bytes)?;
        self.taken(Input::take_taken).await
    }

    /// As [`Attachment::abandon`](crate::endpoint::Attachment::abandon).
    pub(in crate::hypervisor::libvirt) fn abandon(&self) -> Abandoned {
        self.input.lock().abandon()
    }

    /// As [`Attachment::settle`](crate::endpoint::Attachment::settle).
    ///
    /// # Errors
    /// The console is over, with bytes on their way.
    ///
    /// # Cancel safety
    /// Nothing is lost. One waiter at a time.
    pub(in crate::hypervisor::libvirt) async fn settle(&self) -> Result<usize, EndpointError> {
        self.taken(Input::take_settled).await
    }

    async fn taken(
        &self,
        told: impl Fn(&mut Input) -> Option<usize>,
    ) -> Result<usize, EndpointError> {
        loop {
            // Asked first: what was taken was, whether or not the console is over.
            if let Some(taken) = told(&mut self.input.lock()) {
                return Ok(taken);
            }
            self.still_wanted()?;
            // A bell that rang before this is heard here.
            self.news.notified().await;
        }
    }

    fn hand_over(self: &Arc<Self>, bytes: &[u8]) -> Result<(), EndpointError> {
        self.still_wanted()?;
        let mut input = self.input.lock();
        input.append(bytes);
        let start = input.start();
        drop(input);
        if start && let Err(why) = self.start_sending() {
            self.give_up_sending(why.clone());
            return Err(EndpointError::Unreachable(why));
        }
        Ok(())
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
            match self.send(&stream, &bytes) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return self.give_up_sending(error.to_string()),
            }
        }
    }

    /// Sends one piece, or its beginning, and answers whether to go on; if not,
    /// [`Line::writable`] will.
    fn send(&self, stream: &Stream, bytes: &[u8]) -> Result<bool, LibvirtError> {
        // If it fails, the bytes stay on their way: it is not known how far they got.
        let count = stream.send(bytes)?;
        let probe = self.input.lock().sent(bytes, count.unwrap_or(0));
        self.news.notify_one();
        if count.is_none() {
            // (A stream of libvirt's remote driver never comes here: it waits.)
            stream.want_writable(true)?;
            return Ok(false);
        }
        if probe {
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
