use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::console::scripted::{BOUND, Does, Host, inventory, vm};
use crate::console::{Availability, SideEffect, SideEffectKind};
use crate::core::id::PeerIdentity;
use crate::core::lease::{Claim, Epoch};
use crate::core::output::Start;
use crate::core::position::Position;
use crate::endpoint::{EndpointError, Holder};

mod relays;
mod resume;
mod timers;
mod writer;

/// How long a session waits for its client.
const GRACE: Duration = Duration::from_secs(30);

struct Desk {
    host: Host,
    sessions: Arc<Sessions>,
    draining: CancellationToken,
    console: Arc<Console>,
}

impl Desk {
    async fn open(limit: usize) -> Self {
        Self::open_with(limit, TimeLimits::default()).await
    }

    async fn open_with(limit: usize, times: TimeLimits) -> Self {
        let host = Host::start(Some(1), 1024);
        host.script.attached().await;
        Self::at(host, limit, times).await
    }

    async fn at(mut host: Host, limit: usize, times: TimeLimits) -> Self {
        let console = host.console().await;
        let draining = CancellationToken::new();
        let metrics = SessionMetrics::register(host.metrics.registry()).unwrap();
        let sessions = Sessions::new(limit, GRACE, draining.clone(), metrics);
        let sessions = Arc::new(sessions.with_times(times));
        let kept = sessions.clone();
        host.tasks
            .spawn("sessions", async move { kept.keep().await });
        Self {
            host,
            sessions,
            draining,
            console,
        }
    }

    async fn session(&self, claim: Option<Claim>, window: Option<u64>) -> (Session, Inbound) {
        let opened = self.sessions.open(&self.console, request(claim, window));
        let (_, session, inbound) = opened.await.expect("opens");
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
        displace_holder: false,
        start: Start::Live,
        wait_for_start: false,
        end_when_stopped: false,
        resume: None,
        client: ClientRules {
            on_gap: OnGap::Note,
            output_window,
            heartbeat: None,
            heard: LastHeard::now(),
        },
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
    let (mut session, inbound) = desk.session(Some(Claim::IfFree), None).await;
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
    let (session, _inbound) = desk.session(None, None).await;
    assert!(desk.host.metric("vmconsole_sessions_active 1"));
    drop(session);
    assert!(
        desk.host.metric("vmconsole_sessions_active 1"),
        "it is away"
    );
    tokio::time::sleep(GRACE * 2).await;
    assert!(desk.closed(Reason::TransportLost, 1));
}

#[tokio::test(start_paused = true)]
async fn sessions_are_bounded_and_none_is_opened_while_the_agent_stops() {
    let desk = Desk::open(1).await;
    let (mut session, _inbound) = desk.session(None, None).await;
    let refused = desk
        .sessions
        .open(&desk.console, request(None, None))
        .await
        .unwrap_err();
    assert_eq!(refused.reason(), Reason::LimitReached);
    desk.draining.cancel();
    let closed = last(&mut session).await;
    assert_eq!(closed.reason, Reason::AgentDraining);
    let refused = desk
        .sessions
        .open(&desk.console, request(None, None))
        .await
        .unwrap_err();
    assert_eq!(refused.reason(), Reason::AgentDraining);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_viewer_gets_its_window_and_its_end_but_no_more_output() {
    let desk = Desk::open(9).await;
    let (mut session, inbound) = desk.session(None, Some(4096)).await;
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
    let (mut session, inbound) = desk.session(Some(Claim::IfFree), None).await;
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
    let (mut session, inbound) = desk.session(Some(Claim::IfFree), None).await;
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
    let sessions = Sessions::new(1, GRACE, CancellationToken::new(), metrics);
    let refused = sessions
        .open(&console, request(None, None))
        .await
        .unwrap_err();
    assert_eq!(refused.reason(), Reason::Denied);
    let said = refused.to_string();
    assert!(said.contains("/dev/pts/7 is root's"), "{said}");
}

fn holder() -> Holder {
    Holder {
        process: 4711,
        command: "virsh".to_owned(),
        user: 0,
    }
}

fn displacing() -> OpenRequest {
    OpenRequest {
        displace_holder: true,
        ..request(None, None)
    }
}

/// A desk whose console was taken by another process, which meets being displaced like this.
async fn held_desk(yields: Does) -> Desk {
    let desk = Desk::open(9).await;
    *desk.host.script.yields.lock() = yields;
    *desk.host.script.finds_holder.lock() = Does::It;
    desk.host.script.displace(&holder());
    while desk.console.status().state.holder.is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    desk
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_it_opens_a_console_that_another_process_held() {
    let desk = held_desk(Does::It).await;
    let refused = desk.sessions.open(&desk.console, request(None, None)).await;
    assert_eq!(refused.unwrap_err().reason(), Reason::HeldByOther);
    let opened = desk.sessions.open(&desk.console, displacing()).await;
    let (opened, _session, _inbound) = opened.unwrap();
    let state = opened.console.status().state;
    assert_eq!(state.availability, Availability::Attached);
}

#[tokio::test(start_paused = true)]
async fn a_console_that_stays_held_is_refused_with_who_holds_it() {
    for yields in [Does::NotAtAll, Does::Hang] {
        let desk = held_desk(yields).await;
        let refused = desk.sessions.open(&desk.console, displacing()).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.reason(), Reason::HeldByOther);
        let OpenError::Join(JoinError::Unavailable(state)) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(state.holder, Some(holder()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_who_is_to_be_displaced() {
    let desk = held_desk(Does::Hang).await;
    let begun = tokio::time::Instant::now();
    let (refused, ()) = tokio::join!(desk.sessions.open(&desk.console, displacing()), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        desk.draining.cancel();
    });
    assert_eq!(refused.unwrap_err().reason(), Reason::AgentDraining);
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_viewer_that_acknowledges_nothing_is_told_few_side_effects_and_later_the_newest() {
    let desk = Desk::open(9).await;
    let (mut session, inbound) = desk.session(None, Some(4096)).await;
    let position = desk.console.status().head.unwrap();
    let mut told = Vec::new();
    let newest = 2000;
    for number in 0..=newest {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(number);
        desk.console.announce(SideEffect {
            kind: SideEffectKind::Keys,
            proxy: PeerIdentity::new("spiffe://test/operator"),
            time,
        });
        told.extend(effects_told(&mut session).await);
    }
    assert!((100..500).contains(&told.len()), "{} told", told.len());
    assert!(told.is_sorted());
    let before = told.len() as u64;
    assert_eq!(told.last(), Some(&(before - 1)), "none was left out so far");
    inbound.acknowledge(position);
    let rest: Vec<_> = (newest - 15..=newest).collect();
    assert_eq!(effects_told(&mut session).await, rest);
}

/// The times, in seconds, of the side effects that are told until there is nothing to tell.
async fn effects_told(session: &mut Session) -> Vec<u64> {
    let mut told = Vec::new();
    while let Ok(event) = timeout(Duration::from_millis(1), session.next()).await {
        if let Event::SideEffect(effect) = event.expect("it runs") {
            let since = effect.time.duration_since(SystemTime::UNIX_EPOCH);
            told.push(since.unwrap().as_secs());
        }
    }
    told
}

#[tokio::test(start_paused = true)]
async fn who_ends_with_the_vm_has_room_made_for_its_last_words_by_acknowledging() {
    let desk = Desk::open(9).await;
    let wanted = OpenRequest {
        end_when_stopped: true,
        ..request(None, Some(4096))
    };
    let opened = desk.sessions.open(&desk.console, wanted).await;
    let (_, mut session, inbound) = opened.expect("opens");
    let sink = desk.host.script.sink.lock().clone().unwrap();
    let mut received = 0;
    let seen = async |session: &mut Session, received: &mut u64, until: u64| {
        while *received < until {
            if let Event::Output { bytes, .. } = next(session).await.expect("it goes on") {
                *received += bytes.len() as u64;
            }
        }
    };
    for round in 1..=4 {
        sink.output(&[b'x'; 1000]);
        seen(&mut session, &mut received, round * 1000).await;
    }
    sink.output(&[b'y'; 1000]);
    desk.host.inventory.send_replace(inventory([vm(None)]));
    seen(&mut session, &mut received, 4096).await;
    // There is no room for more, and so no end.
    while let Ok(event) = timeout(Duration::from_secs(2), session.next()).await {
        let state = matches!(event, Some(Event::State(_)));
        assert!(state, "{event:?}");
    }
    let generation = desk.console.status().head.unwrap().generation;
    let position = |offset| Position { generation, offset };
    inbound.acknowledge(position(4096));
    seen(&mut session, &mut received, 5000).await;
    let closed = last(&mut session).await;
    assert_eq!(closed.reason, Reason::VmStopped);
    assert_eq!(closed.resume, position(5000));
    drop(session);
    assert!(desk.closed(Reason::VmStopped, 1));
}

#[tokio::test(start_paused = true)]
async fn a_gap_ends_who_asked_for_it_but_not_the_one_where_it_came_back() {
    let desk = Desk::open(9).await;
    let careful = |start| {
        let mut careful = request(None, None);
        careful.client.on_gap = OnGap::Close;
        OpenRequest { start, ..careful }
    };
    let opened = desk
        .sessions
        .open(&desk.console, careful(Start::Live))
        .await;
    let (_, mut session, _inbound) = opened.expect("opens");
    // The endpoint is lost and attached again: nobody knows what the guest wrote meanwhile.
    let lose = async || {
        let sink = desk.host.script.sink.lock().clone().unwrap();
        sink.ended(crate::endpoint::EndpointEnd::Lost("it broke".to_owned()));
        desk.host.script.attached().await;
    };
    lose().await;
    let closed = last(&mut session).await;
    assert_eq!(closed.reason, Reason::Gap);

    let resume = careful(Start::Resume(closed.resume));
    let opened = desk.sessions.open(&desk.console, resume).await;
    let (_, mut session, _inbound) = opened.expect("opens");
    let is_gap = |event: &Event| matches!(event, Event::Gap(_));
    let mut gaps = 0;
    while gaps == 0 {
        gaps += usize::from(is_gap(&next(&mut session).await.expect("it goes on")));
    }
    lose().await;
    let mut end = None;
    while let Some(event) = next(&mut session).await {
        gaps += usize::from(is_gap(&event));
        if let Event::Closed(closed) = event {
            end = Some(closed.reason);
        }
    }
    assert_eq!(
        (gaps, end),
        (2, Some(Reason::Gap)),
        "one that is new ends it"
    );
}

#[tokio::test(start_paused = true)]
async fn a_session_waits_for_a_console_on_demand_and_a_stop_waits_for_neither() {
    use crate::config::CaptureMode;
    let mut host = Host::capturing(Some(1), 1024, CaptureMode::OnDemand);
    let console = host.console().await;
    let draining = CancellationToken::new();
    let metrics = SessionMetrics::register(host.metrics.registry()).unwrap();
    let sessions = Sessions::new(1, GRACE, draining.clone(), metrics);
    let opened = sessions.open(&console, request(None, None)).await;
    let (opened, session, _inbound) = opened.expect("opens");
    assert_eq!(opened.position.offset, 0);
    assert_eq!(console.status().state.availability, Availability::Attached);
    drop(session);

    host.inventory.send_replace(inventory([]));
    host.gone().await;
    host.script
        .hangs
        .store(true, std::sync::atomic::Ordering::Relaxed);
    host.inventory
        .send_replace(inventory([crate::console::scripted::vm(Some(2))]));
    let console = host.console().await;
    let begun = tokio::time::Instant::now();
    let (refused, ()) = tokio::join!(sessions.open(&console, request(None, None)), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        draining.cancel();
    });
    assert!(matches!(refused, Err(OpenError::Draining)), "{refused:?}");
    assert_eq!(begun.elapsed(), Duration::from_secs(1));
}
