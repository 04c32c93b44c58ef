use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::console::Availability;
use crate::console::scripted::{BOUND, Host, inventory};
use crate::core::id::PeerIdentity;
use crate::core::lease::Epoch;
use crate::endpoint::EndpointError;

struct Desk {
    host: Host,
    sessions: Sessions,
    draining: CancellationToken,
    console: Arc<Console>,
}

impl Desk {
    async fn open(limit: usize) -> Self {
        let mut host = Host::start(Some(1), 1024);
        let console = host.console().await;
        host.script.attached().await;
        let draining = CancellationToken::new();
        let metrics = SessionMetrics::register(host.metrics.registry()).unwrap();
        let sessions = Sessions::new(limit, draining.clone(), metrics);
        Self {
            host,
            sessions,
            draining,
            console,
        }
    }

    fn session(&self, claim: Option<Claim>, window: Option<u64>) -> (Session, Inbound) {
        let opened = self.sessions.open(&self.console, request(claim, window));
        let (_, session, inbound) = opened.expect("opens");
        (session, inbound)
    }

    fn closed(&self, reason: Reason, times: u32) -> bool {
        let name = reason.name();
        let line = format!("vmconsole_sessions_closed_total{{reason=\"{name}\"}} {times}");
        self.host.metric(&line) && self.host.metric("vmconsole_sessions_active 0")
    }
}

fn request(claim: Option<Claim>, output_window: Option<u64>) -> OpenRequest {
    OpenRequest {
        proxy: PeerIdentity::new("spiffe://test/proxy"),
        claim,
        takeover_reason: String::new(),
        view_otherwise: false,
        start: Start::Live,
        output_window,
    }
}

async fn next(session: &mut Session) -> Option<Event> {
    timeout(BOUND, session.next())
        .await
        .expect("an event in time")
}

/// The last event, after which there is none.
async fn last(session: &mut Session) -> Closed {
    loop {
        if let Event::Closed(closed) = next(session).await.expect("Closed comes first") {
            assert!(next(session).await.is_none());
            return closed;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_reason_to_end_is_the_one_that_counts() {
    let desk = Desk::open(9).await;
    let (mut session, inbound) = desk.session(Some(Claim::IfFree), None);
    inbound.close(Reason::ClientDetached, "");
    inbound.close(Reason::BadRequest, "too late");
    assert_eq!(last(&mut session).await.reason, Reason::ClientDetached);
    drop(session);
    assert!(desk.closed(Reason::ClientDetached, 1));
    assert!(desk.closed(Reason::BadRequest, 0));
    assert!(desk.console.status().writer.is_none(), "its lease is free");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_dropped_was_lost_in_transport() {
    let desk = Desk::open(9).await;
    let (session, _inbound) = desk.session(None, None);
    assert!(desk.host.metric("vmconsole_sessions_active 1"));
    drop(session);
    assert!(desk.closed(Reason::TransportLost, 1));
}

#[tokio::test(start_paused = true)]
async fn sessions_are_bounded_and_none_is_opened_while_the_agent_stops() {
    let desk = Desk::open(1).await;
    let (mut session, _inbound) = desk.session(None, None);
    let refused = desk
        .sessions
        .open(&desk.console, request(None, None))
        .unwrap_err();
    assert_eq!(refused.reason(), Reason::LimitReached);
    desk.draining.cancel();
    let closed = last(&mut session).await;
    assert_eq!(closed.reason, Reason::AgentDraining);
    let refused = desk
        .sessions
        .open(&desk.console, request(None, None))
        .unwrap_err();
    assert_eq!(refused.reason(), Reason::AgentDraining);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_viewer_gets_its_window_and_its_end_but_no_more_output() {
    let desk = Desk::open(9).await;
    let (mut session, inbound) = desk.session(None, Some(4096));
    let sink = desk.host.script.sink.lock().clone().unwrap();
    sink.output(&[b'x'; 1000]);
    sink.output(&[b'x'; 20_000]);
    desk.host.inventory.send_replace(inventory([]));
    let (mut received, mut end) = (0, None);
    while let Some(event) = next(&mut session).await {
        match event {
            Event::Output { bytes, .. } => received += bytes.len(),
            Event::Closed(closed) => end = Some(closed),
            _ => {}
        }
    }
    assert!(received <= 4096, "{received} bytes");
    assert_eq!(end.unwrap().reason, Reason::VmGone);
    drop(inbound);
}

#[tokio::test(start_paused = true)]
async fn typed_bytes_are_acknowledged_as_the_guest_takes_them() {
    let desk = Desk::open(9).await;
    let (mut session, inbound) = desk.session(Some(Claim::IfFree), None);
    inbound.input(0, Epoch(1), b"abc");
    desk.host.appetite.add_permits(2);
    let mut acknowledged = 0;
    while acknowledged < 2 {
        if let Some(Event::InputAck { offset, window }) = next(&mut session).await {
            assert_eq!(window, crate::core::input::INPUT_WINDOW);
            acknowledged = offset;
        }
    }
    assert_eq!(acknowledged, 2);
    assert_eq!(*desk.host.script.written.lock(), b"ab");
    inbound.input(7, Epoch(1), b"d");
    let closed = last(&mut session).await;
    assert_eq!(closed.reason, Reason::BadRequest);
    assert!(closed.detail.contains("offset 7"), "{}", closed.detail);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_is_told_what_became_of_the_rest_and_no_longer_writes() {
    let desk = Desk::open(9).await;
    let (mut session, inbound) = desk.session(Some(Claim::IfFree), None);
    inbound.input(0, Epoch(1), b"abc");
    inbound.close(Reason::ClientDetached, "");
    assert!(inbound.is_closed());
    assert!(
        desk.console.status().writer.is_none(),
        "at once, whether or not it reads"
    );
    let mut refused = Vec::new();
    loop {
        match next(&mut session).await.expect("Closed comes first") {
            Event::InputRefused(one) => refused.push((one.from, one.to)),
            Event::Closed(closed) => {
                assert_eq!(closed.reason, Reason::ClientDetached);
                break;
            }
            _ => {}
        }
    }
    assert_eq!(refused, [(0, 3)]);
}

#[tokio::test(start_paused = true)]
async fn a_console_that_the_agent_may_not_open_is_refused_as_denied() {
    let mut host = Host::start(Some(1), 1024);
    for _ in 0..3 {
        let denied = EndpointError::Denied("/dev/pts/7 is root's".to_owned());
        host.script.refusals.lock().push_back(denied);
    }
    let console = host.console().await;
    while console.status().state.availability != Availability::Denied {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let metrics = SessionMetrics::register(host.metrics.registry()).unwrap();
    let sessions = Sessions::new(1, CancellationToken::new(), metrics);
    let refused = sessions.open(&console, request(None, None)).unwrap_err();
    assert_eq!(refused.reason(), Reason::Denied);
    let said = refused.to_string();
    assert!(said.contains("/dev/pts/7 is root's"), "{said}");
}
