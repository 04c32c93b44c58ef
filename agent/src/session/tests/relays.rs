//! Sessions at a display that does what a test tells it to. Real ones are in the tests of the
//! whole agent.

use std::collections::VecDeque;

use bytes::Bytes;
use parking_lot::Mutex as Lock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::*;
use crate::console::scripted::shown;
use crate::core::id::ConsoleId;
use crate::core::rfb::rules::Rules;
use crate::endpoint::{
    DisplayAccess, DisplayLine, DisplayStream, Endpoint, EndpointError, EndpointKind,
};
use crate::graphics::{DisplayTerms, Displays, RelayMetrics};
use crate::hypervisor::{Hypervisor, Inventory};
use crate::session::relay::{
    Pipe, RELAY_WINDOW, Relay, RelayError, RelayEvent, RelayOpened, RelayRequest,
};

const VERSION: &[u8; 12] = b"RFB 003.008\n";

/// Hands out connections that the test has the other ends of.
#[derive(Default)]
struct Screens(Lock<VecDeque<UnixStream>>);

#[async_trait::async_trait]
impl Hypervisor for Screens {
    fn inventory(&self) -> watch::Receiver<Arc<Inventory>> {
        watch::channel(Arc::default()).1
    }

    fn endpoint(&self, _: &ConsoleId) -> Arc<dyn Endpoint> {
        panic!("a display is not attached")
    }

    async fn open_display(&self, _: &ConsoleId) -> Result<DisplayLine, EndpointError> {
        let stream = self.0.lock().pop_front();
        let refused = || EndpointError::Unreachable("nobody is there".to_owned());
        Ok(DisplayLine {
            stream: DisplayStream::Unix(stream.ok_or_else(refused)?),
            access: DisplayAccess::Granted,
            way: EndpointKind::GraphicsFd,
        })
    }
}

/// A display's part of the handshake; the shared flag that it was told.
async fn shows(screen: &mut UnixStream) -> u8 {
    screen.write_all(VERSION).await.unwrap();
    screen.read_exact(&mut [0; 12]).await.unwrap();
    screen.write_all(&[1, 1]).await.unwrap();
    assert_eq!(screen.read_u8().await.unwrap(), 1);
    screen.write_all(&[0; 4]).await.unwrap();
    let shared = screen.read_u8().await.unwrap();
    screen.write_all(&INIT).await.unwrap();
    shared
}

/// 640 by 480, and no name.
const INIT: [u8; 24] = [
    2, 128, 1, 224, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0, 0, 0, 0, 0,
];

struct Wall {
    desk: Desk,
    displays: Displays,
    screens: Arc<Screens>,
}

/// A relay that was opened, and its display.
struct Open {
    opened: RelayOpened,
    relay: Relay,
    inbound: Arc<Inbound>,
    pipe: Pipe,
    screen: UnixStream,
    shared: u8,
    sent: u64,
}

fn wants(claim: Option<Claim>) -> RelayRequest {
    RelayRequest {
        proxy: PeerIdentity::new("spiffe://test/proxy"),
        claim,
        takeover_reason: String::new(),
        view_otherwise: false,
        exclusive: false,
        rules: Rules::default(),
        client: ClientRules {
            on_gap: OnGap::Note,
            output_window: None,
            heartbeat: None,
            heard: LastHeard::now(),
        },
    }
}

impl Wall {
    async fn hung(times: TimeLimits) -> Self {
        let host = Host::showing(shown(Some(1)));
        let desk = Desk::at(host, 9, times).await;
        let screens = Arc::new(Screens::default());
        let config = crate::config::Graphics::default();
        let metrics = RelayMetrics::register(desk.host.metrics.registry()).unwrap();
        let terms = DisplayTerms::load(&config).unwrap();
        let displays = Displays::new(screens.clone(), terms, metrics);
        let mut news = desk.console.news();
        while desk.console.status().state.availability != Availability::Ready {
            timeout(BOUND, news.changed()).await.unwrap().unwrap();
        }
        Self {
            desk,
            displays,
            screens,
        }
    }

    async fn relay(&self, request: RelayRequest) -> Result<Open, RelayError> {
        let (ours, mut screen) = UnixStream::pair().unwrap();
        self.screens.0.lock().push_back(ours);
        let opening = self
            .desk
            .sessions
            .relay(&self.displays, &self.desk.console, request);
        let (opened, shared) = tokio::join!(opening, async {
            // Nobody comes if it is refused before.
            timeout(BOUND, shows(&mut screen)).await.unwrap_or(9)
        });
        self.screens.0.lock().clear();
        let (opened, relay, inbound, pipe) = opened?;
        Ok(Open {
            opened,
            relay,
            inbound,
            pipe,
            screen,
            shared,
            sent: 0,
        })
    }
}

impl Open {
    fn say(&mut self, bytes: &[u8]) {
        self.pipe.take(self.sent, Bytes::copy_from_slice(bytes));
        self.sent += bytes.len() as u64;
    }

    /// Both directions go on until the relay tells this much.
    async fn hears(&mut self, count: usize) -> Vec<u8> {
        let mut heard = Vec::new();
        while heard.len() < count {
            if let RelayEvent::Data { bytes, .. } = self.next().await {
                heard.extend_from_slice(&bytes);
            }
        }
        heard
    }

    async fn next(&mut self) -> RelayEvent {
        let both = async {
            tokio::select! {
                event = self.relay.next() => event,
                () = self.pipe.work() => None,
            }
        };
        let event = timeout(BOUND, both).await.expect("an event in time");
        event.expect("it runs")
    }

    /// The caller's part of the handshake.
    async fn greets(&mut self) {
        assert_eq!(self.hears(12).await, VERSION);
        self.say(VERSION);
        assert_eq!(self.hears(2).await, [1, 1]);
        self.say(&[1]);
        assert_eq!(self.hears(4).await, [0; 4]);
        self.say(&[0]);
        assert_eq!(self.hears(24).await, INIT);
    }

    async fn closed(&mut self) -> Closed {
        loop {
            if let RelayEvent::Session(Event::Closed(closed)) = self.next().await {
                return closed;
            }
        }
    }

    /// What the display is told next.
    async fn told(&mut self, count: usize) -> Vec<u8> {
        let mut told = vec![0; count];
        let (screen, relay, pipe) = (&mut self.screen, &mut self.relay, &mut self.pipe);
        let goes_on = async {
            tokio::select! {
                () = pipe.work() => {}
                () = async { while relay.next().await.is_some() {} } => {}
            }
        };
        let read = async {
            tokio::select! {
                read = screen.read_exact(&mut told) => read.map(drop),
                () = goes_on => Ok(()),
            }
        };
        timeout(BOUND, read).await.expect("in time").unwrap();
        told
    }
}

fn key(down: u8) -> [u8; 8] {
    [4, down, 0, 0, 0, 0, 0, 0x61]
}

#[tokio::test(start_paused = true)]
async fn both_directions_pass_after_the_handshake_and_not_before() {
    let wall = Wall::hung(TimeLimits::default()).await;
    let mut open = wall.relay(wants(Some(Claim::IfFree))).await.unwrap();
    assert_eq!(
        (open.opened.writes, open.opened.size, open.shared),
        (true, (640, 480), 1)
    );
    open.screen.write_all(b"early").await.unwrap();
    open.greets().await;
    assert_eq!(open.hears(5).await, b"early");
    open.say(&key(1));
    assert_eq!(open.told(8).await, key(1));
    open.inbound.close(Reason::ClientDetached, "");
    assert_eq!(open.closed().await.reason, Reason::ClientDetached);
    open.pipe.hang_up().await;
    drop((open.relay, open.inbound));
    let mut last = Vec::new();
    open.screen.read_to_end(&mut last).await.unwrap();
    assert_eq!(last, key(0), "it is hung up, and nothing held down");
    assert!(wall.desk.closed(Reason::ClientDetached, 1));
    assert!(wall.desk.host.metric("vmconsole_relays_active 0"));
}

#[tokio::test(start_paused = true)]
async fn who_loses_the_lease_lets_its_keys_go_at_once_and_types_no_more() {
    let wall = Wall::hung(TimeLimits::default()).await;
    let mut first = wall.relay(wants(Some(Claim::IfFree))).await.unwrap();
    first.greets().await;
    first.say(&key(1));
    assert_eq!(first.told(8).await, key(1));
    let second = wall.relay(wants(Some(Claim::Takeover))).await.unwrap();
    assert_eq!(second.shared, 1, "others stay connected");
    // It says nothing any more, and all the same:
    assert_eq!(first.told(8).await, key(0));
    first.say(&key(1));
    let update = [3, 1, 0, 0, 0, 0, 2, 128, 1, 224];
    first.say(&update);
    assert_eq!(
        first.told(10).await,
        update,
        "the key is dropped, the picture is not"
    );
    let dropped = "vmconsole_relay_messages_dropped_total{kind=\"key\"} 1";
    assert!(wall.desk.host.metric(dropped));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_does_not_greet_is_not_waited_for() {
    let wall = Wall::hung(TimeLimits::default()).await;
    let mut open = wall.relay(wants(None)).await.unwrap();
    open.hears(12).await;
    let begun = tokio::time::Instant::now();
    let closed = open.closed().await;
    assert_eq!(closed.reason, Reason::BadRequest);
    assert!(
        begun.elapsed() >= Duration::from_secs(9),
        "{:?}",
        begun.elapsed()
    );
    assert!(
        wall.desk
            .host
            .metric("vmconsole_relay_caller_handshakes_failed_total 1")
    );
}

#[tokio::test(start_paused = true)]
async fn who_overruns_its_window_or_miscounts_ends_its_own_relay() {
    let wall = Wall::hung(TimeLimits::default()).await;
    for (offset, length) in [(1, 1), (0, 0), (0, RELAY_WINDOW + 1)] {
        let mut open = wall.relay(wants(None)).await.unwrap();
        let bytes = vec![b'R'; usize::try_from(length).unwrap()];
        open.pipe.take(offset, bytes.into());
        assert_eq!(open.closed().await.reason, Reason::BadRequest);
    }
    let mut open = wall.relay(wants(None)).await.unwrap();
    open.greets().await;
    // A display that reads nothing: what waits is bounded.
    let text = [6, 0, 0, 0, 0, 8, 0, 0];
    open.say(&text);
    while !open.inbound.is_closed() {
        open.say(&[b'x'; 4096]);
        assert!(open.sent < 4 * RELAY_WINDOW, "it is not held to its window");
    }
    assert_eq!(open.closed().await.reason, Reason::BadRequest);
}

#[tokio::test(start_paused = true)]
async fn a_display_that_ends_is_lost_unless_its_vm_stops() {
    let wall = Wall::hung(TimeLimits::default()).await;
    let mut open = wall.relay(wants(None)).await.unwrap();
    open.greets().await;
    open.screen.write_all(b"last words").await.unwrap();
    open.screen.shutdown().await.unwrap();
    assert_eq!(open.hears(10).await, b"last words");
    assert_eq!(open.closed().await.reason, Reason::EndpointLost);

    let mut open = wall.relay(wants(None)).await.unwrap();
    open.greets().await;
    open.screen.shutdown().await.unwrap();
    wall.desk
        .host
        .inventory
        .send_replace(inventory([shown(None)]));
    assert_eq!(open.closed().await.reason, Reason::VmStopped);
    assert!(matches!(
        wall.relay(wants(None))
            .await
            .map(drop)
            .unwrap_err()
            .reason(),
        Reason::NotRunning
    ));
}

#[tokio::test(start_paused = true)]
async fn whoever_only_looks_is_idle_and_whoever_types_is_not() {
    let idle = Duration::from_secs(100);
    let times = TimeLimits {
        idle: Some(idle),
        ..TimeLimits::default()
    };
    let wall = Wall::hung(times).await;
    let mut open = wall.relay(wants(Some(Claim::IfFree))).await.unwrap();
    open.greets().await;
    let update = [3, 1, 0, 0, 0, 0, 2, 128, 1, 224];
    tokio::time::sleep(Duration::from_secs(90)).await;
    open.say(&key(1));
    open.told(8).await;
    tokio::time::sleep(Duration::from_secs(90)).await;
    assert!(!open.inbound.is_closed());
    open.say(&update);
    open.told(10).await;
    let begun = tokio::time::Instant::now();
    open.inbound.expired().await;
    assert!(
        begun.elapsed() <= Duration::from_secs(11),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(open.closed().await.reason, Reason::IdleTimeout);
}

#[tokio::test(start_paused = true)]
async fn a_relay_whose_stream_breaks_is_over() {
    let wall = Wall::hung(TimeLimits::default()).await;
    let mut open = wall.relay(wants(Some(Claim::IfFree))).await.unwrap();
    open.greets().await;
    drop((open.relay, open.pipe, open.inbound));
    assert!(wall.desk.closed(Reason::TransportLost, 1));
    assert!(wall.desk.console.status().writer.is_none());
    assert_eq!(
        wall.desk.console.status().state.availability,
        Availability::Ready
    );
}

#[tokio::test(start_paused = true)]
async fn a_message_that_nobody_knows_ends_who_only_looks() {
    let wall = Wall::hung(TimeLimits::default()).await;
    let mut writer = wall.relay(wants(Some(Claim::IfFree))).await.unwrap();
    writer.greets().await;
    writer.say(&[99, 1, 2]);
    assert_eq!(writer.told(3).await, [99, 1, 2], "no rule needs to know");
    let mut viewer = wall.relay(wants(None)).await.unwrap();
    viewer.greets().await;
    viewer.say(&[99, 1, 2]);
    assert_eq!(viewer.closed().await.reason, Reason::RuleViolated);
    // The writer's next loss of the lease finds nobody who knows where its messages begin.
    let _third = wall.relay(wants(Some(Claim::Takeover))).await.unwrap();
    assert_eq!(writer.closed().await.reason, Reason::TakenOver);
    assert!(wall.desk.host.metric("vmconsole_relay_violations_total 1"));
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_falls_silent_gives_its_lease_back_though_nobody_reads_its_end() {
    let wall = Wall::hung(TimeLimits::default()).await;
    let mut request = wants(Some(Claim::IfFree));
    request.client.heartbeat = Some(Duration::from_secs(1));
    let mut open = wall.relay(request).await.unwrap();
    open.greets().await;
    open.inbound.expired().await;
    assert!(open.inbound.is_closed());
    assert!(
        wall.desk.console.status().writer.is_none(),
        "its lease is free"
    );
    let next = wall.relay(wants(Some(Claim::IfFree))).await;
    assert!(next.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_ends_lets_go_of_what_it_holds_down() {
    let wall = Wall::hung(TimeLimits::default()).await;
    let mut open = wall.relay(wants(Some(Claim::IfFree))).await.unwrap();
    open.greets().await;
    let pressed = [5, 1, 0, 9, 0, 9];
    open.say(&pressed);
    assert_eq!(open.told(6).await, pressed);
    open.inbound.close(Reason::ClientDetached, "");
    open.pipe.hang_up().await;
    let mut last = [0; 6];
    open.screen.read_exact(&mut last).await.unwrap();
    assert_eq!(last, [5, 0, 0, 9, 0, 9]);
}
