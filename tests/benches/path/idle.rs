//! What consoles and sessions hold and cost while nothing happens.

use std::ops::Range;
use std::time::Duration;

use vmconsole_proto::v1::Mode::View;
use vmconsole_tests::client::{Attached, Client, open};
use vmconsole_tests::standin::Mode;
use vmconsole_tests::usage;

use super::scenarios::{PACED, row, say};
use super::server::{Kind, Server};
use super::table::{Goal, Row};
use super::work::Cost;

/// Sessions whose memory is measured: in one process, and where each is a process.
const SESSIONS: usize = 300;
const PROCESSES: usize = 40;
const CONSOLES: usize = 500;

/// How long idleness is measured.
const IDLE: Duration = Duration::from_mins(1);

/// How long it may take until all consoles are attached.
const ATTACHED: Duration = Duration::from_secs(30);

/// Viewers that do nothing, and the connections that they share.
const VIEWERS: usize = 1000;
const CONNECTIONS: usize = 10;

/// What a console, a session on its own connection and one more on a shared one hold.
pub(crate) async fn memory() -> Vec<Row> {
    say("memory");
    let one = Server::start(Kind::Agent, &[Mode::Idle]);
    let base = usage::memory(one.pid()).rss;
    let relay = Server::start(Kind::Relay, &[Mode::Idle]);
    let relay_base = usage::memory(relay.pid()).rss;
    let agent = Server::start(Kind::Agent, &[Mode::Idle; CONSOLES]);
    settle(&agent).await;
    let consoles = usage::memory(agent.pid()).rss;
    let own = per_session(&agent, SESSIONS).await;
    let relay = per_session(&relay, SESSIONS).await;
    let [.., third] = Kind::all();
    let count = if third == Kind::Socat {
        PROCESSES
    } else {
        SESSIONS
    };
    let socat = per_session(&Server::start(third, &vec![Mode::Idle; count]), count).await;
    let mib = |kib: f64| Some(kib / 1024.0);
    let a_console = (consoles - base) / (CONSOLES - 1) as f64;
    let further = further_streams().await;
    vec![
        row(
            "memory, base MiB RSS",
            [mib(base), mib(relay_base), None],
            Goal::AtMost(12.0),
        ),
        row(
            "memory, idle session on its own connection KiB",
            [Some(own.rss), Some(relay.rss), Some(socat.rss)],
            Goal::AtMost(48.0),
        ),
        row(
            "  the same, PSS",
            [Some(own.pss), Some(relay.pss), Some(socat.pss)],
            Goal::None,
        ),
        row(
            "memory, further stream on one KiB",
            [Some(further), None, None],
            Goal::AtMost(12.0),
        ),
        row(
            "memory, silent console KiB",
            [Some(a_console), None, None],
            Goal::AtMost(16.0),
        ),
    ]
}

/// Waits until the agent has attached every console.
async fn settle(server: &Server) {
    let client = server.connect().await.expect("the agent has connections");
    let deadline = tokio::time::Instant::now() + ATTACHED;
    loop {
        let consoles = client.list().await.expect("it lists");
        let attached = vmconsole_proto::v1::Availability::Attached;
        let state = |console: &vmconsole_proto::v1::Console| {
            console.state.as_ref().map(|state| state.availability())
        };
        if consoles
            .iter()
            .all(|console| state(console) == Some(attached))
        {
            return;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "not all consoles attached"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn per_session(server: &Server, count: usize) -> usage::Memory {
    let before = usage::memory(server.pid());
    let mut sessions = Vec::new();
    for number in 0..count {
        sessions.push(server.open_new(number).await);
    }
    let after = usage::memory(server.pid());
    usage::Memory {
        rss: (after.rss - before.rss) / count as f64,
        pss: (after.pss - before.pss) / count as f64,
    }
}

async fn further_streams() -> f64 {
    let server = Server::start(Kind::Agent, &[Mode::Idle; CONSOLES]);
    settle(&server).await;
    let client = server.connect().await;
    let mut sessions = vec![server.open(client.as_ref(), 0).await];
    let before = usage::memory(server.pid()).rss;
    for number in 1..CONSOLES {
        sessions.push(server.open(client.as_ref(), number).await);
    }
    (usage::memory(server.pid()).rss - before) / (CONSOLES - 1) as f64
}

/// What captured consoles and viewers cost over a minute, and hold meanwhile.
pub(crate) async fn idle() -> [Row; 4] {
    say("idleness: 500 captured consoles, 1,000 viewers on 10 connections, for a minute");
    let one = Server::start(Kind::Agent, &[Mode::Idle]);
    settle(&one).await;
    let base = usage::memory(one.pid()).rss;
    let server = Server::start(Kind::Agent, &[Mode::Idle; CONSOLES]);
    settle(&server).await;
    let consoles = usage::memory(server.pid()).rss;
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(server.connect().await.expect("the agent has connections"));
    }
    // The first on each connection pays for it.
    let mut viewers = view(&clients, 0..CONNECTIONS).await;
    let connected = usage::memory(server.pid()).rss;
    viewers.extend(view(&clients, CONNECTIONS..VIEWERS).await);
    let all = usage::memory(server.pid()).rss;
    tokio::time::sleep(PACED).await;
    let (cost, ()) = Cost::of(&server, tokio::time::sleep(IDLE)).await;
    assert_eq!(viewers.len(), VIEWERS);
    let of_it = |what: &str, figure: f64, goal| row(what, [Some(figure), None, None], goal);
    [
        of_it(
            "idle, 500 consoles, 1000 viewers, % of a core",
            cost.percent(),
            Goal::AtMost(1.0),
        ),
        of_it(
            "  memory there, a captured console KiB",
            (consoles - base) / (CONSOLES - 1) as f64,
            Goal::AtMost(16.0),
        ),
        of_it(
            "  a connection with its first viewer KiB",
            (connected - consoles) / CONNECTIONS as f64,
            Goal::AtMost(48.0),
        ),
        of_it(
            "  a further viewer KiB",
            (all - connected) / (VIEWERS - CONNECTIONS) as f64,
            Goal::AtMost(12.0),
        ),
    ]
}

/// Viewers of these numbers, spread over the connections and over the consoles.
async fn view(clients: &[Client], numbers: Range<usize>) -> Vec<Attached> {
    let mut viewers = Vec::new();
    for number in numbers {
        let vm = format!("vm{:04}", number % CONSOLES);
        let attached = clients[number % clients.len()]
            .attach(open(&vm, View))
            .await;
        viewers.push(attached.expect("it attaches"));
    }
    viewers
}
