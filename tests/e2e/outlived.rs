//! Proxies and libvirtds that are killed while a guest prints numbered lines. Joined by
//! positions, every line is there exactly once, but for what a gap tells.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use vmconsole_proto::v1;
use vmconsole_proto::v1::stream_console_response::Message;
use vmconsole_tests::client::{Attached, Client, open};
use vmconsole_tests::guest::{Guest, SERIAL1};
use vmconsole_tests::proxy::ProxyProcess;
use vmconsole_tests::random::Random;

use crate::host::{BOUND, Host, run, told_state};

/// What prints the lines: on the second serial port, where the kernel writes nothing.
const COUNT: &str = "i=0; while :; do echo line $i; i=$((i+1)); done\n";

/// So small that each proxy acknowledges soon, and so spends the token that it came with.
const WINDOW: u64 = 16 * 1024;

/// The longest time from a proxy's start, or from its `Opened`, to its death.
const LONGEST: u64 = 500;

/// What a terminal may still hold of what its guest wrote before libvirtd died. It comes after
/// the gap that tells of the outage, and the hole is behind it: nobody can see where.
const BUFFERED: usize = 20 * 1024;

/// All output from `at` on, whichever stream it came by.
struct Joined {
    at: v1::Position,
    /// What came between gaps.
    parts: Vec<Vec<u8>>,
    gaps: Vec<v1::Gap>,
}

impl Joined {
    fn from(at: v1::Position) -> Self {
        let parts = vec![Vec::new()];
        let gaps = Vec::new();
        Self { at, parts, gaps }
    }

    fn take(&mut self, message: &Message) {
        match message {
            Message::Output(output) => {
                assert_eq!(output.position, Some(self.at), "output with a seam");
                self.at.offset += output.data.len() as u64;
                self.parts.last_mut().unwrap().extend(&output.data);
            }
            Message::Gap(gap) => {
                assert_eq!(gap.from, Some(self.at), "a gap with a seam");
                self.at = gap.to.unwrap();
                self.parts.push(Vec::new());
                self.gaps.push(*gap);
            }
            Message::GenerationStarted(_) => panic!("it is one QEMU throughout"),
            _ => {}
        }
    }

    /// Follows a stream until so many bytes more have come.
    async fn follow(&mut self, attached: &mut Attached, bytes: u64) {
        let end = self.at.offset + bytes;
        while self.at.offset < end {
            let message = tokio::time::timeout(BOUND, attached.receive.next()).await;
            let message = message.expect("lines go on").unwrap();
            self.take(&message.expect("the stream goes on"));
        }
    }

    /// The number of lines, each of which is there once, and in order. A gap may have cut the
    /// lines on both its sides, and once more what comes from the terminal's buffer after it,
    /// though there be another gap by then.
    fn lines(&self) -> u64 {
        let (mut count, mut least) = (0, 0);
        // Until where each hole that was not come upon may still be.
        let (mut holes, mut passed) = (VecDeque::new(), 0);
        for (index, part) in self.parts.iter().enumerate() {
            let mut may_jump = true;
            if index > 0 {
                holes.push_back(passed + BUFFERED);
            }
            let text = std::str::from_utf8(part).expect("it is lines");
            let pieces: Vec<&str> = text.split("\r\n").collect();
            let whole = pieces.get(1..pieces.len() - 1).unwrap_or_default();
            let mut at = passed + pieces[0].len();
            for line in whole {
                let number = line.strip_prefix("line ").and_then(|n| n.parse().ok());
                let expected = |number: u64| number == least || may_jump && number > least;
                if let Some(number) = number.filter(|number| expected(*number)) {
                    (count, least) = (count + 1, number + 1);
                    may_jump = false;
                } else {
                    holes.retain(|until| at < *until);
                    let hole = holes.pop_front();
                    assert!(hole.is_some(), "{line:?} instead of {least}");
                    // What is left of two lines may look like a third.
                    may_jump = true;
                }
                at += line.len() + 2;
            }
            passed += part.len();
        }
        count
    }
}

/// A writer whose guest counts, and where its lines begin.
async fn counting(host: &Host, client: &Client, guest: &Guest) -> (Attached, Joined) {
    let mut attached = host.shell_on(client, guest.name(), SERIAL1).await;
    attached.send.type_bytes(COUNT).await;
    attached.receive.read_until(b"line 10\r\n", BOUND).await;
    let joined = Joined::from(attached.receive.position());
    (attached, joined)
}

/// Ends the counting: the session still types into the shell that it had.
async fn stop(attached: &mut Attached, joined: &mut Joined) {
    attached.send.type_bytes("\x03").await;
    let until = Instant::now() + BOUND;
    // What is still on its way is lines as well. The prompt is the first that has such a sign.
    while !joined.parts.last().unwrap().contains(&b'#') {
        assert!(Instant::now() < until, "the guest still counts");
        joined.follow(attached, 1).await;
    }
    let last = joined.parts.last_mut().unwrap();
    let interrupted = last.windows(2).rposition(|two| two == b"^C");
    last.truncate(interrupted.expect("the terminal echoes it"));
    let said = run(&mut attached.send, &mut attached.receive, "echo i is $i").await;
    let (_, counted) = said.rsplit_once("i is ").unwrap();
    let counted = counted.lines().next().and_then(|i| i.parse::<u64>().ok());
    assert!(counted >= Some(joined.lines()), "{said}");
}

async fn proxies_killed(kills: usize) {
    let host = Host::start();
    let guest = host.guest("outlived");
    let client = host.client().await;
    let (attached, mut joined) = counting(&host, &client, &guest).await;
    let (session, typed) = (attached.opened.session_id.clone(), attached.send.offset());
    let mut next = open(guest.name(), v1::Mode::WriteIfFree);
    if let Some(console) = &mut next.console {
        SERIAL1.clone_into(&mut console.alias);
    }
    next.output_window = WINDOW;
    next.resume_token = attached.opened.resume_token.clone();
    drop(attached);

    let dir = tempfile::tempdir().unwrap();
    let (mut random, begun) = (Random::default(), Instant::now());
    let (mut unopened, mut empty) = (0, 0);
    for number in 0..kills {
        next.start = resume(joined.at);
        let program = env!("CARGO_BIN_EXE_proxy");
        let address = host.agent.grpc();
        let mut proxy = ProxyProcess::start(program, dir.path(), address, &host.pki, &next);
        // Every other one lives until it is attached, at least.
        if number.is_multiple_of(2) {
            until_opened(&mut proxy).await;
        }
        let lives = Duration::from_millis(random.below(LONGEST));
        tokio::time::sleep(lives).await;
        proxy.kill();
        let journal = proxy.journal();
        let before = joined.at;
        for message in &journal {
            if let Message::Opened(opened) = message {
                assert_eq!(opened.session_id, session);
                assert_eq!(opened.mode(), v1::Mode::WriteIfFree, "it kept its lease");
                assert_eq!(opened.next_input_offset, Some(typed));
                next.resume_token = opened.resume_token.clone();
            }
            joined.take(message);
        }
        unopened += usize::from(journal.is_empty());
        empty += usize::from(joined.at == before);
    }
    next.start = resume(joined.at);
    let mut attached = client.attach(next).await.unwrap();
    assert_eq!(attached.opened.session_id, session);
    joined.follow(&mut attached, 10_000).await;
    stop(&mut attached, &mut joined).await;
    println!(
        "{kills} proxies killed in {:.0} s, {unopened} of them before Opened, {empty} before any \
         output: {} lines, each once; {} gaps",
        begun.elapsed().as_secs_f64(),
        joined.lines(),
        joined.gaps.len(),
    );
    assert!(joined.gaps.is_empty(), "{:?}", joined.gaps);
    assert!(joined.lines() > 100 && empty < kills);
    attached.detach(BOUND).await;
    host.settled().await;
}

fn resume(at: v1::Position) -> Option<v1::Start> {
    let from = Some(v1::start::From::Resume(at));
    Some(v1::Start { from })
}

async fn until_opened(proxy: &mut ProxyProcess) {
    let until = Instant::now() + BOUND;
    while proxy.journal().is_empty() {
        assert!(Instant::now() < until, "the proxy does not attach");
        if proxy.ended().is_some() {
            // Which panics, with what it said.
            proxy.kill();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn libvirtds_killed(kills: usize) {
    let host = Host::start();
    let guest = host.guest("outlived");
    let client = host.client().await;
    let (mut attached, mut joined) = counting(&host, &client, &guest).await;
    let (mut random, begun) = (Random::default(), Instant::now());
    for _ in 0..kills {
        let some = random.below(20_000);
        joined.follow(&mut attached, some).await;
        host.libvirtd.kill();
        until_state(&mut attached, &mut joined, v1::Availability::Lost).await;
        let gaps = joined.gaps.len();
        host.libvirtd.restart();
        until_state(&mut attached, &mut joined, v1::Availability::Attached).await;
        joined.follow(&mut attached, 1000).await;
        let told = &joined.gaps[gaps..];
        assert!(!told.is_empty(), "the outage is not told");
        for gap in told {
            assert_eq!(gap.reason(), v1::GapReason::NotAttached);
            assert!(!gap.length_known && gap.from == gap.to);
        }
    }
    stop(&mut attached, &mut joined).await;
    println!(
        "libvirtd killed {kills} times in {:.0} s: {} lines, each once or in one of {} gaps",
        begun.elapsed().as_secs_f64(),
        joined.lines(),
        joined.gaps.len(),
    );
    assert!(joined.lines() > 100);
    attached.detach(BOUND).await;
    host.settled().await;
}

async fn until_state(attached: &mut Attached, joined: &mut Joined, state: v1::Availability) {
    let mut told = told_state(state);
    let wanted = |message: Message| {
        joined.take(&message);
        told(message)
    };
    let what = state.as_str_name();
    attached.receive.wait_for(what, BOUND, wanted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_outlives_ten_proxies() {
    proxies_killed(10).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make long TESTS=outlive"]
async fn a_session_outlives_two_hundred_proxies() {
    proxies_killed(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_outlives_two_libvirtds() {
    libvirtds_killed(2).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make long TESTS=outlive"]
async fn a_stream_outlives_twenty_libvirtds() {
    libvirtds_killed(20).await;
}
