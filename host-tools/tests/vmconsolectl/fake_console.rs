//! The agent's end of StreamConsole, on which the test itself speaks.
//!
//! Refuses to judge bytes: it counts them, and no more.

use tonic::Streaming;
use vmconsole_proto::v1::stream_console_request::Message as FromClient;
use vmconsole_proto::v1::stream_console_response::Message as ToClient;
use vmconsole_proto::v1::*;

use crate::fake_stream::{AgentEnd, BoxStream, closed};

/// The agent's end of one StreamConsole.
pub(crate) type ClientStream = AgentEnd<FromClient, ToClient>;

impl ClientStream {
    /// The end for these requests, and the responses that it makes.
    pub(crate) fn of(
        requests: Streaming<StreamConsoleRequest>,
    ) -> (Self, BoxStream<StreamConsoleResponse>) {
        let said = |message| StreamConsoleResponse {
            message: Some(message),
        };
        Self::new(requests, |request| request.message, said)
    }

    /// The first message.
    pub(crate) fn open(&mut self) -> Open {
        match self.next() {
            Some(FromClient::Open(open)) => open,
            other => panic!("not Open: {other:?}"),
        }
    }

    fn next_but_acks(&mut self) -> Option<FromClient> {
        self.next_but(|message| matches!(message, FromClient::OutputAck(_)))
    }

    /// Input until `len` bytes of it have come, acknowledged as it comes.
    pub(crate) fn input(&mut self, len: usize, window: u64) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < len {
            match self.next_but_acks() {
                Some(FromClient::Input(Input { offset, data, .. })) => {
                    assert_eq!(offset, self.received, "input is not contiguous");
                    assert!(data.len() as u64 <= window, "the input window was overrun");
                    self.received += data.len() as u64;
                    all.extend_from_slice(&data);
                    let offset = self.received;
                    self.say(ToClient::InputAck(InputAck { offset, window }));
                }
                other => panic!("not Input: {other:?}"),
            }
        }
        all
    }

    /// Everything up to Detach, which is answered with Closed; acknowledgements are passed over.
    pub(crate) fn detached(&mut self) {
        match self.next_but_acks() {
            Some(FromClient::Detach(_)) => self.closed(Reason::ClientDetached),
            other => panic!("not Detach: {other:?}"),
        }
    }

    /// Output at a position of generation 1.
    pub(crate) fn output(&self, offset: u64, data: impl Into<Vec<u8>>) {
        let data = data.into().into();
        self.say(ToClient::Output(Output {
            position: at(offset),
            data,
            time: None,
        }));
    }

    /// Opened, with this mode and input window; somebody named bob writes if not we.
    pub(crate) fn opened(&self, mode: Mode, input_window: u64) {
        self.say(ToClient::Opened(opened(mode, input_window)));
    }

    /// Closed with a reason, and the end of the stream.
    pub(crate) fn closed(&mut self, reason: Reason) {
        self.say_last(ToClient::Closed(closed(reason)));
    }
}

/// What [`ClientStream::opened`] says.
pub(crate) fn opened(mode: Mode, input_window: u64) -> Opened {
    let bob = Participant {
        subject: "bob".into(),
        proxy: "web".into(),
        ..Default::default()
    };
    Opened {
        session_id: "s1".into(),
        console: Some(Console {
            vm_name: "web-1".into(),
            alias: "serial0".into(),
            writer: (mode == Mode::View).then_some(bob),
            ..Default::default()
        }),
        mode: mode.into(),
        write_epoch: 3,
        position: at(0),
        oldest: at(0),
        next_input_offset: Some(0),
        input_window,
        ..Default::default()
    }
}

/// A position of generation 1.
pub(crate) fn at(offset: u64) -> Option<Position> {
    Some(Position {
        generation: 1,
        offset,
    })
}
