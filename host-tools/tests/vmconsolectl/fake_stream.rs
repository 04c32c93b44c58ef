//! The agent's end of one stream, on which the test itself speaks: what all calls share.
//!
//! Refuses to know what is said: each call's file does.

use std::fmt::Debug;
use std::pin::Pin;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Status, Streaming};
use vmconsole_proto::v1::{Closed, Reason};

use crate::program::LIMIT;

pub(crate) type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The agent's end of one stream, on which the client says `F` and the test says `T`.
pub(crate) struct AgentEnd<F, T> {
    requests: BoxStream<F>,
    responses: Option<mpsc::Sender<Result<T, Status>>>,
    runtime: Handle,
    /// How many bytes came.
    pub(crate) received: u64,
}

impl<F: Debug + 'static, T: Send + 'static> AgentEnd<F, T> {
    /// The end for these requests, and the responses that it makes; `heard` and `said` take the
    /// messages out of the one and put them into the other.
    pub(crate) fn new<Q: Send + 'static, S>(
        requests: Streaming<Q>,
        heard: impl Fn(Q) -> Option<F> + Send + 'static,
        said: impl Fn(T) -> S + Send + 'static,
    ) -> (Self, BoxStream<S>) {
        let (sender, responses) = mpsc::channel(4);
        let requests = requests.map(move |request| request.map(|request| heard(request).unwrap()));
        let responses = ReceiverStream::new(responses);
        let responses = responses.map(move |message: Result<T, Status>| message.map(&said));
        let end = Self {
            requests: Box::pin(requests),
            responses: Some(sender),
            runtime: Handle::current(),
            received: 0,
        };
        (end, Box::pin(responses))
    }

    /// The client's next message; `None` at the end of its side.
    pub(crate) fn next(&mut self) -> Option<F> {
        let requests = &mut self.requests;
        let message = self.runtime.block_on(async {
            let next = tokio::time::timeout(LIMIT, requests.next());
            next.await.expect("the client says nothing")
        });
        message.and_then(Result::ok)
    }

    /// The first message that is none of these.
    pub(crate) fn next_but(&mut self, passed_over: impl Fn(&F) -> bool) -> Option<F> {
        loop {
            match self.next() {
                Some(message) if passed_over(&message) => {}
                other => return other,
            }
        }
    }

    /// Says something.
    pub(crate) fn say(&self, message: T) {
        let sender = self.responses.as_ref().expect("the stream is over");
        self.send(sender, Ok(message));
    }

    /// Says something that a client may not wait for, and ends the stream.
    pub(crate) fn try_say_last(&mut self, message: T) {
        if let Some(responses) = self.responses.take() {
            let _ = responses.try_send(Ok(message));
        }
    }

    /// Says something, and ends the stream.
    pub(crate) fn say_last(&mut self, message: T) {
        self.say(message);
        self.responses = None;
    }

    /// Refuses the stream, in the place of the message that opens it.
    pub(crate) fn refuse(mut self, status: Status) {
        let sender = self.responses.take().expect("the stream is over");
        self.send(&sender, Err(status));
    }

    fn send(&self, sender: &mpsc::Sender<Result<T, Status>>, message: Result<T, Status>) {
        self.runtime.block_on(async {
            let sent = tokio::time::timeout(LIMIT, sender.send(message));
            sent.await.expect("the client takes nothing").unwrap();
        });
    }
}

/// Closed, with a reason alone.
pub(crate) fn closed(reason: Reason) -> Closed {
    Closed {
        reason: reason.into(),
        ..Default::default()
    }
}
