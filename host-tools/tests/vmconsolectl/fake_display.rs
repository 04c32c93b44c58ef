//! The agent's end of RelayGraphics, on which the test itself speaks.
//!
//! Refuses to know RFB: bytes are bytes here.

use std::sync::mpsc::SyncSender;

use tonic::{Request, Response, Status, Streaming};
use vmconsole_proto::v1::graphics_service_server::GraphicsService;
use vmconsole_proto::v1::relay_graphics_request::Message as FromClient;
use vmconsole_proto::v1::relay_graphics_response::Message as ToClient;
use vmconsole_proto::v1::*;

use crate::fake_stream::{AgentEnd, BoxStream, closed};

/// The agent's end of one RelayGraphics.
pub(crate) type DisplayStream = AgentEnd<FromClient, ToClient>;

impl DisplayStream {
    /// The first message.
    pub(crate) fn open(&mut self) -> RelayOpen {
        match self.next() {
            Some(FromClient::Open(open)) => open,
            other => panic!("not RelayOpen: {other:?}"),
        }
    }

    fn next_but_acks(&mut self) -> Option<FromClient> {
        self.next_but(|message| matches!(message, FromClient::Ack(_)))
    }

    /// The next bytes, which must be where the last ended; acknowledgements and signs of life
    /// are passed over.
    pub(crate) fn data(&mut self) -> Vec<u8> {
        match self.next_but(|message| matches!(message, FromClient::Ack(_) | FromClient::Ping(_))) {
            Some(FromClient::Data(data)) => {
                assert_eq!(data.offset, self.received, "data is not contiguous");
                assert!((1..=65_536).contains(&data.data.len()));
                self.received += data.data.len() as u64;
                data.data.to_vec()
            }
            other => panic!("not RelayData: {other:?}"),
        }
    }

    /// Bytes until so many have come; each piece is acknowledged, so that `window` more may be
    /// sent.
    pub(crate) fn all_data(&mut self, len: usize, window: u64) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < len {
            let data = self.data();
            assert!(data.len() as u64 <= window, "the input window was overrun");
            all.extend(data);
            self.acknowledge(window);
        }
        all
    }

    /// Acknowledges all that came.
    pub(crate) fn acknowledge(&self, window: u64) {
        let offset = self.received;
        self.say(ToClient::InputAck(InputAck { offset, window }));
    }

    /// The next acknowledgement.
    pub(crate) fn ack(&mut self) -> u64 {
        match self.next() {
            Some(FromClient::Ack(ack)) => ack.offset,
            other => panic!("not RelayAck: {other:?}"),
        }
    }

    /// Waits until the client's side has ended; acknowledgements are passed over.
    pub(crate) fn until_half_closed(&mut self) {
        if let Some(other) = self.next_but_acks() {
            panic!("not the end: {other:?}");
        }
    }

    /// Waits until the client has left: first by the end of its side, or by Detach at once.
    pub(crate) fn until_half_closed_or_detached(&mut self) {
        match self.next_but_acks() {
            // A client that was in a hurry does not wait for this.
            Some(FromClient::Detach(_)) | None => {
                self.try_say_last(ToClient::Closed(closed(Reason::ClientDetached)));
            }
            other => panic!("neither the end nor Detach: {other:?}"),
        }
    }

    /// Everything up to Detach, which is answered with Closed.
    pub(crate) fn detached(&mut self) {
        match self.next_but_acks() {
            Some(FromClient::Detach(_)) => self.closed(Reason::ClientDetached),
            other => panic!("not Detach: {other:?}"),
        }
    }

    /// RelayOpened, with this mode and input window.
    pub(crate) fn opened(&self, mode: Mode, input_window: u64) {
        self.say(ToClient::Opened(RelayOpened {
            session_id: "s1".into(),
            mode: mode.into(),
            input_window,
            width: 800,
            height: 600,
            ..Default::default()
        }));
    }

    /// Bytes of the display.
    pub(crate) fn shows(&self, offset: u64, data: impl Into<Vec<u8>>) {
        let data = data.into().into();
        self.say(ToClient::Data(RelayData { offset, data }));
    }

    /// Closed with a reason, and the end of the stream.
    pub(crate) fn closed(&mut self, reason: Reason) {
        self.say_last(ToClient::Closed(closed(reason)));
    }
}

/// Hands each stream to the test.
pub(crate) struct Displays(pub(crate) SyncSender<DisplayStream>);

#[tonic::async_trait]
impl GraphicsService for Displays {
    type RelayGraphicsStream = BoxStream<RelayGraphicsResponse>;

    async fn relay_graphics(
        &self,
        request: Request<Streaming<RelayGraphicsRequest>>,
    ) -> Result<Response<Self::RelayGraphicsStream>, Status> {
        let requests = request.into_inner();
        let said = |message| RelayGraphicsResponse {
            message: Some(message),
        };
        let (stream, responses) = DisplayStream::new(requests, |request| request.message, said);
        let handed = self.0.try_send(stream);
        handed.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(responses))
    }
}
