//! Sessions that outlast their streams.

use proptest::prelude::*;

use super::*;
use crate::core::id::SessionId;
use crate::core::input::INPUT_WINDOW;

struct Stream {
    opened: Opened,
    session: Session,
    inbound: Inbound,
    heard: LastHeard,
}

impl Desk {
    async fn stream(&self, open: OpenRequest) -> Result<Stream, OpenError> {
        let heard = open.client.heard.clone();
        let (opened, session, inbound) = self.sessions.open(&self.console, open).await?;
        Ok(Stream {
            opened,
            session,
            inbound,
            heard,
        })
    }

    async fn writer(&self) -> Stream {
        let opened = self.stream(request(Some(Claim::IfFree), None)).await;
        opened.expect("it opens")
    }

    async fn again(&self, token: Token) -> Result<Stream, OpenError> {
        self.stream(resuming(token)).await
    }

    async fn refused(&self, token: Token) -> Reason {
        self.again(token).await.map(|_| ()).unwrap_err().reason()
    }

    fn writer_now(&self) -> Option<SessionId> {
        self.console.status().writer.map(|writer| writer.session)
    }
}

fn resuming(token: Token) -> OpenRequest {
    OpenRequest {
        resume: Some(token),
        ..request(Some(Claim::IfFree), None)
    }
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_taken_up_again_keeps_its_name_its_lease_and_its_input() {
    let desk = Desk::open(9).await;
    let stream = desk.writer().await;
    stream.inbound.input(0, Epoch(1), b"abc");
    let (id, token) = (stream.opened.session, stream.opened.token);
    drop(stream);
    assert!(desk.host.metric("vmconsole_sessions_away 1"));
    assert_eq!(desk.writer_now(), Some(id), "it is away, not gone");
    desk.host.appetite.add_permits(2);
    pass(Duration::from_secs(29)).await;
    let again = desk.again(token).await.expect("in time");
    assert_eq!(again.opened.session, id);
    assert!(again.opened.writes);
    assert_eq!((again.opened.epoch, again.opened.next_input), (Epoch(1), 3));
    let waits = 1;
    assert_eq!(again.opened.input_window, INPUT_WINDOW - waits);
    assert_eq!(*desk.host.script.written.lock(), b"ab", "written meanwhile");
    // What it sends again is not typed twice.
    again.inbound.input(1, Epoch(1), b"bcd");
    desk.host.appetite.add_permits(9);
    while desk.host.script.written.lock().len() < 4 {
        pass(Duration::from_millis(1)).await;
    }
    assert_eq!(*desk.host.script.written.lock(), b"abcd");
    let roster = again.opened.roster;
    assert_eq!((roster.total, roster.participants[0].away), (1, None));
    assert!(desk.host.metric("vmconsole_sessions_away 0"));
    assert!(desk.host.metric("vmconsole_sessions_opened_total 1"));
    assert!(desk.host.metric("vmconsole_sessions_resumed_total 1"));
}

#[tokio::test(start_paused = true)]
async fn its_time_counts_from_the_last_sign_of_life() {
    let desk = Desk::open(9).await;
    let stream = desk.writer().await;
    let token = stream.opened.token;
    pass(Duration::from_secs(10)).await;
    stream.heard.note();
    pass(Duration::from_secs(20)).await;
    drop(stream);
    pass(Duration::from_millis(9_990)).await;
    assert!(desk.writer_now().is_some());
    pass(Duration::from_millis(20)).await;
    assert_eq!(desk.writer_now(), None, "30 s after it was heard");
    assert!(desk.closed(Reason::TransportLost, 1));
    assert_eq!(desk.refused(token).await, Reason::ResumeRefused);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_was_silent_for_too_long_is_not_waited_for() {
    let desk = Desk::open(9).await;
    let stream = desk.writer().await;
    pass(GRACE).await;
    drop(stream);
    assert_eq!(desk.writer_now(), None);
    assert!(desk.closed(Reason::TransportLost, 1));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_still_runs_is_superseded_and_what_it_does_counts_for_nothing() {
    let desk = Desk::open(9).await;
    let mut old = desk.writer().await;
    old.inbound.input(0, Epoch(1), b"ab");
    let new = desk.again(old.opened.token).await.expect("it runs");
    assert_eq!(new.opened.next_input, 2);
    old.inbound.input(2, Epoch(1), b"cd");
    old.inbound.release_writer();
    assert_eq!(last(&mut old.session).await.reason, Reason::Superseded);
    drop(old);
    assert_eq!(desk.writer_now(), Some(new.opened.session));
    new.inbound.input(2, Epoch(1), b"CD");
    desk.host.appetite.add_permits(9);
    while desk.host.script.written.lock().len() < 4 {
        pass(Duration::from_millis(1)).await;
    }
    assert_eq!(*desk.host.script.written.lock(), b"abCD");
    assert!(desk.host.metric("vmconsole_sessions_active 1"));
}

#[tokio::test(start_paused = true)]
async fn a_lost_opened_loses_no_session_and_a_spent_token_is_refused() {
    let desk = Desk::open(9).await;
    let first = desk.writer().await;
    let (id, token) = (first.opened.session, first.opened.token);
    drop(first);
    for _ in 0..3 {
        // Its Opened is lost on the way, and with it the next token.
        let lost = desk.again(token).await.expect("not spent yet");
        assert_eq!(lost.opened.session, id);
        let untold = lost.opened.token;
        drop(lost);
        let again = desk.again(token).await.expect("not spent yet");
        assert_eq!(desk.refused(untold).await, Reason::ResumeRefused);
        drop(again);
    }
    let last = desk.again(token).await.expect("not spent yet");
    last.inbound.answered();
    assert_eq!(desk.refused(token).await, Reason::ResumeRefused);
    let next = desk.again(last.opened.token).await.expect("the newest");
    assert_eq!(next.opened.session, id);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_of_no_use_to_another_proxy_or_at_another_console() {
    let desk = Desk::open(9).await;
    let stream = desk.writer().await;
    let token = stream.opened.token;
    drop(stream);
    let thief = OpenRequest {
        proxy: PeerIdentity::new("spiffe://test/thief"),
        ..resuming(token)
    };
    let refused = desk.stream(thief).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.reason(), Reason::ResumeRefused);
    let elsewhere = crate::core::id::ConsoleId {
        alias: crate::core::id::Alias::new("serial9").unwrap(),
        ..desk.console.id().clone()
    };
    let proxy = request(None, None).proxy;
    let refused = desk.sessions.ledger.resume(token, &proxy, &elsewhere);
    assert_eq!(refused.map(|_| ()), Err(ResumeError::Unknown));
    let guessed = Token::random();
    assert_eq!(desk.refused(guessed).await, Reason::ResumeRefused);
    assert!(desk.again(token).await.is_ok(), "it lost nothing by that");
}

#[tokio::test(start_paused = true)]
async fn a_takeover_wins_over_who_is_away_and_it_comes_back_to_view() {
    let desk = Desk::open(9).await;
    let stream = desk.writer().await;
    stream.inbound.input(0, Epoch(1), b"unwritten");
    let token = stream.opened.token;
    drop(stream);
    let refused = desk.stream(request(Some(Claim::IfFree), None)).await;
    let refused = refused.map(|_| ()).unwrap_err();
    assert_eq!(refused.reason(), Reason::LeaseHeld, "its lease is held");
    let other = desk.stream(request(Some(Claim::Takeover), None)).await;
    let other = other.expect("it wins");
    for claim in [Claim::IfFree, Claim::Takeover] {
        let open = OpenRequest {
            claim: Some(claim),
            ..resuming(token)
        };
        let mut again = desk.stream(open).await.expect("it comes back");
        assert!(
            !again.opened.writes,
            "nobody fights for the lease by itself"
        );
        loop {
            if let Event::InputRefused(refused) = next(&mut again.session).await.unwrap() {
                assert_eq!((refused.from, refused.reason), (0, Reason::TakenOver));
                break;
            }
        }
    }
    assert_eq!(desk.writer_now(), Some(other.opened.session));
}

#[tokio::test(start_paused = true)]
async fn who_is_away_keeps_its_turn_and_is_passed_over() {
    let desk = Desk::open(9).await;
    let writer = desk.writer().await;
    let waiting = desk
        .stream(request(Some(Claim::Queue), None))
        .await
        .unwrap();
    let token = waiting.opened.token;
    drop(waiting);
    writer.inbound.release_writer();
    assert_eq!(desk.writer_now(), None, "nobody who is there waits");
    let open = OpenRequest {
        claim: Some(Claim::Queue),
        ..resuming(token)
    };
    let again = desk.stream(open).await.expect("in time");
    assert!(again.opened.writes);
}

#[tokio::test(start_paused = true)]
async fn who_is_away_makes_room_for_who_comes() {
    let desk = Desk::open(1).await;
    let stream = desk.writer().await;
    let token = stream.opened.token;
    drop(stream);
    let other = desk.writer().await;
    assert_eq!(desk.refused(token).await, Reason::ResumeRefused);
    assert!(desk.host.metric("vmconsole_sessions_active 1"));
    drop(other);
}

#[tokio::test(start_paused = true)]
async fn who_is_away_when_the_agent_stops_ends_with_it() {
    let desk = Desk::open(9).await;
    drop(desk.writer().await);
    let later = desk.stream(request(None, None)).await.unwrap();
    desk.draining.cancel();
    while !desk.host.metric("vmconsole_sessions_away 0") {
        pass(Duration::from_millis(1)).await;
    }
    drop(later);
    assert!(desk.closed(Reason::AgentDraining, 1));
    assert!(desk.closed(Reason::TransportLost, 1));
}

#[tokio::test(start_paused = true)]
async fn who_said_goodbye_is_not_waited_for_even_if_it_left_before_the_answer() {
    let desk = Desk::open(9).await;
    let stream = desk.writer().await;
    stream.inbound.close(Reason::ClientDetached, "");
    drop(stream);
    assert!(desk.closed(Reason::ClientDetached, 1));
    assert!(desk.host.metric("vmconsole_sessions_away 0"));
}

#[tokio::test(start_paused = true)]
async fn an_end_that_its_client_does_not_read_is_an_end() {
    let desk = Desk::open(1).await;
    let stream = desk.writer().await;
    let token = stream.opened.token;
    stream.inbound.close(Reason::MaxDuration, "");
    assert!(desk.closed(Reason::MaxDuration, 1));
    assert_eq!(desk.refused(token).await, Reason::ResumeRefused);
    assert!(
        desk.stream(request(None, None)).await.is_ok(),
        "its place is free"
    );
    stream.inbound.over().await;
    drop(stream);
}

#[tokio::test(start_paused = true)]
async fn of_two_that_take_a_session_up_at_once_one_has_it_whole() {
    for first_wins in [true, false] {
        let desk = Desk::open(9).await;
        let mut old = desk.writer().await;
        let proxy = request(None, None).proxy;
        let take = || {
            let ledger = &desk.sessions.ledger;
            ledger.resume(old.opened.token, &proxy, desk.console.id())
        };
        let (first, second) = (take().unwrap(), take().unwrap());
        // The stream before ends meanwhile, and takes nothing with it.
        assert_eq!(last(&mut old.session).await.reason, Reason::Superseded);
        let mut order = [first.stream, second.stream];
        if !first_wins {
            order.reverse();
        }
        let rejoined = order.map(|stream| {
            let request = crate::console::RejoinRequest {
                stream,
                start: Start::Live,
                claim: Some(Claim::IfFree),
                end_when_stopped: false,
            };
            desk.console.rejoin(&request).is_ok()
        });
        assert_eq!(rejoined, [!first_wins, first_wins]);
        drop(old);
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_console_went_is_not_found_again() {
    let mut desk = Desk::open(9).await;
    let stream = desk.writer().await;
    let token = stream.opened.token;
    drop(stream);
    desk.host.inventory.send_replace(inventory([]));
    desk.host.gone().await;
    assert_eq!(desk.refused(token).await, Reason::NotFound);
    assert!(desk.closed(Reason::VmGone, 1));
}

/// What a session's tokens are worth, as plainly as it can be told.
#[derive(Debug)]
struct Model {
    /// What the newest stream was told.
    newest: Token,
    /// What it was opened with, until its client is heard.
    unspent: Option<Token>,
    /// Until when the session may be taken up, if no stream runs.
    away_until: Option<tokio::time::Instant>,
}

impl Model {
    fn is_over(&self) -> bool {
        let now = tokio::time::Instant::now();
        self.away_until.is_some_and(|until| until <= now)
    }

    fn honours(&self, token: Token) -> bool {
        !self.is_over() && (token == self.newest || Some(token) == self.unspent)
    }
}

/// Takes steps with one session, and holds what becomes of each token against the model.
async fn follow(steps: Vec<(u8, usize, u64)>) -> Result<(), TestCaseError> {
    let desk = Desk::open(9).await;
    let stream = desk.writer().await;
    let id = stream.opened.session;
    let mut seen = vec![stream.opened.token];
    let mut model = Model {
        newest: seen[0],
        unspent: None,
        away_until: None,
    };
    let mut running = Some(stream);
    for (what, which, seconds) in steps {
        match what {
            0 => {
                let heard = running.take().map(|stream| stream.heard.when());
                model.away_until = model.away_until.or(heard.map(|heard| heard + GRACE));
            }
            1 => {
                if let Some(stream) = &running {
                    stream.inbound.answered();
                    model.unspent = None;
                }
            }
            2 => pass(Duration::from_secs(seconds)).await,
            _ => {
                let token = seen[which % seen.len()];
                let honoured = model.honours(token);
                let again = desk.again(token).await;
                prop_assert_eq!(again.is_ok(), honoured);
                if let Ok(stream) = again {
                    prop_assert_eq!(stream.opened.session, id);
                    model = Model {
                        newest: stream.opened.token,
                        unspent: Some(token),
                        away_until: None,
                    };
                    seen.push(model.newest);
                    running = Some(stream);
                }
            }
        }
        if model.is_over() {
            pass(Duration::from_millis(2)).await;
        }
        prop_assert_eq!(desk.writer_now().is_none(), model.is_over());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_token_is_worth_what_the_model_says(
        steps in prop::collection::vec((0u8..6, 0usize..64, 1u64..20), 0..60),
    ) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(follow(steps))?;
    }
}
