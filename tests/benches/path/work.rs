//! The pieces of work that are measured.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval_at};
use vmconsole_proto::v1::Mode::View;
use vmconsole_tests::client::{Client, Windows, open};
use vmconsole_tests::standin::{Mode, SELL_UNIT};
use vmconsole_tests::usage;

use super::server::{Kind, Server, Session};

/// Lots that are on their way at once: less than the agent keeps of a console.
const LOTS_AHEAD: usize = 3;

/// What a real 16550 gives under emulation, in bytes a second.
pub(crate) const UART_RATE: u32 = 180_000;

/// Keystrokes of all sessions together, a second.
const KEYS_A_SECOND: usize = 1000;

/// Sessions that type them.
const TYPISTS: usize = 10;

/// What a stretch of time cost a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// How long it took.
    pub(crate) wall: Duration,
    /// How much CPU time the server used.
    pub(crate) cpu: Duration,
    /// How much the client used.
    pub(crate) client: Duration,
}

impl Cost {
    /// Measures `work`.
    pub(crate) async fn of<T>(server: &Server, work: impl Future<Output = T>) -> (Self, T) {
        Self::of_process(server.pid(), work).await
    }

    /// The same of any process and its children.
    pub(crate) async fn of_process<T>(pid: i32, work: impl Future<Output = T>) -> (Self, T) {
        let (cpu, client) = (usage::cpu(pid), usage::own_cpu());
        let begun = Instant::now();
        let result = work.await;
        let wall = begun.elapsed();
        let cpu = usage::cpu(pid).saturating_sub(cpu);
        let client = usage::own_cpu().saturating_sub(client);
        (Self { wall, cpu, client }, result)
    }

    /// The CPU time in percent of one core.
    pub(crate) fn percent(self) -> f64 {
        100.0 * self.cpu.as_secs_f64() / self.wall.as_secs_f64()
    }
}

/// Reads `lots` of [`SELL_UNIT`] bytes, each bought when one has come.
pub(crate) async fn buy(session: &mut Session, lots: usize) {
    let mut buffer = Session::buffer();
    let (mut bought, mut received) = (0, 0);
    while received < lots * SELL_UNIT {
        while bought < lots && bought < received / SELL_UNIT + LOTS_AHEAD {
            session.type_bytes(b"1").await;
            bought += 1;
        }
        received += session.read(&mut buffer).await;
    }
    assert_eq!(received, lots * SELL_UNIT);
}

/// The times of `count` round trips of one byte, one after the other.
pub(crate) async fn round_trips(session: &mut Session, count: usize) -> Vec<Duration> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let begun = Instant::now();
        session.round_trip().await;
        times.push(begun.elapsed());
    }
    times
}

/// The times of `count` attachments on new connections, each to its first echo.
pub(crate) async fn attach_new(server: &Server, count: usize) -> Vec<Duration> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let begun = Instant::now();
        let mut session = server.open_new(0).await;
        session.round_trip().await;
        times.push(begun.elapsed());
    }
    times
}

/// The times of `count` attachments on one connection, each until it is open.
pub(crate) async fn attach_warm(client: &Client, count: usize) -> Vec<Duration> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let begun = Instant::now();
        let attached = client.attach(open("vm0000", View)).await;
        times.push(begun.elapsed());
        let attached = attached.expect("it attaches");
        attached.detach(Duration::from_secs(5)).await;
    }
    times
}

/// 1,000 keystrokes a second for `seconds`, by ten sessions, each echoed before its next.
pub(crate) async fn type_along(sessions: Vec<Session>, seconds: usize) -> Vec<Session> {
    assert_eq!(sessions.len(), TYPISTS);
    let mut tasks = JoinSet::new();
    let begin = tokio::time::Instant::now();
    let period = Duration::from_secs(1) * TYPISTS as u32 / KEYS_A_SECOND as u32;
    for (number, mut session) in sessions.into_iter().enumerate() {
        let first = begin + period * number as u32 / TYPISTS as u32;
        tasks.spawn(async move {
            let mut tick = interval_at(first, period);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            for _ in 0..seconds * KEYS_A_SECOND / TYPISTS {
                tick.tick().await;
                session.round_trip().await;
            }
            session
        });
    }
    tasks.join_all().await
}

/// Ten sessions, each on a connection of its own.
pub(crate) async fn typists(server: &Server) -> Vec<Session> {
    let mut sessions = Vec::new();
    for number in 0..TYPISTS {
        sessions.push(server.open_new(number).await);
    }
    sessions
}

/// The far sides that [`typists`] need.
pub(crate) fn typists_modes() -> Vec<Mode> {
    vec![Mode::Echo; TYPISTS]
}

/// Turns the 16550 on, reads for `duration`, and turns it off. Returns how long its first
/// byte took.
pub(crate) async fn read_uart(session: &mut Session, duration: Duration) -> Duration {
    let mut buffer = Session::buffer();
    let begun = Instant::now();
    session.type_bytes(b"1").await;
    session.read(&mut buffer).await;
    let first = begun.elapsed();
    while begun.elapsed() < duration {
        session.read(&mut buffer).await;
    }
    session.type_bytes(b"1").await;
    // Until it is silent.
    while tokio::time::timeout(Duration::from_millis(100), session.read(&mut buffer))
        .await
        .is_ok()
    {}
    first
}

/// One bulk stream and `others` streams of keystrokes on one connection for `duration`:
/// the keystrokes' times, and the bulk stream's MiB/s.
pub(crate) async fn fairness(others: usize, duration: Duration) -> (Vec<Duration>, f64) {
    let mut modes = vec![Mode::Echo; others + 1];
    modes[0] = Mode::Sell(SELL_UNIT);
    let server = Server::start(Kind::Agent, &modes);
    let windows = Windows {
        stream: 1024 * 1024,
        connection: 16 * 1024 * 1024,
    };
    let client = server.connect_with(windows).await;
    let mut bulk = server.open_with(Some(&client), 0, 1024 * 1024).await;
    let mut tasks = JoinSet::new();
    let end = Instant::now() + duration;
    let period = Duration::from_millis(200);
    for number in 1..=others {
        let mut session = server.open_with(Some(&client), number, 64 * 1024).await;
        let first = tokio::time::Instant::now() + period * number as u32 / others as u32;
        tasks.spawn(async move {
            let mut tick = interval_at(first, period);
            let mut times = Vec::new();
            while Instant::now() < end {
                tick.tick().await;
                times.extend(round_trips(&mut session, 1).await);
            }
            times
        });
    }
    let bulk = tokio::task::JoinSet::from_iter([async move {
        let (begun, mut lots) = (Instant::now(), 0);
        while Instant::now() < end {
            buy(&mut bulk, 16).await;
            lots += 16;
        }
        (lots * SELL_UNIT) as f64 / 1048576.0 / begun.elapsed().as_secs_f64()
    }]);
    let times = tasks.join_all().await.concat();
    (times, bulk.join_all().await[0])
}
