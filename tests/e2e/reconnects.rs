//! `vmconsolectl attach` through breaks of all that is between it and the guest: each line is
//! printed once, each keystroke arrives once, and what may be missing is told.

use std::net::SocketAddr;

use nix::sys::signal::Signal;
use vmconsole_tests::random::Random;
use vmconsole_tests::wait;

use crate::cutter::Cutter;
use crate::host::BOUND;
use crate::site::Site;
use crate::terminal::Piped;

/// How many lines the guest prints while its viewer is cut off again and again.
const LINES: usize = 12_000;

/// How often the way is cut.
const CUTS: usize = 12;

/// Between two cuts at most so many bytes of output come, and one byte at least.
const MOST_BYTES: u64 = 3000;

/// A pipe that has logged in and whose shell echoes nothing.
fn logged_in(mut attach: Piped) -> Piped {
    for (text, answer) in [
        ("login: ", "root\n"),
        ("Password: ", "console\n"),
        ("# ", "stty -echo; PS1=; echo qu''iet\n"),
        ("quiet\r\n", ""),
    ] {
        attach.sees(text);
        attach.types(answer);
    }
    attach
}

/// How often it has said so.
fn times(attach: &Piped, text: &str) -> usize {
    attach.process.stderr().matches(text).count()
}

/// Whether something lies unread at this address.
fn is_unread(at: SocketAddr) -> bool {
    let port = format!(":{:04X}", at.port());
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    // Columns: number, local, remote, state, tx_queue:rx_queue.
    sockets.lines().skip(1).any(|socket| {
        let columns: Vec<&str> = socket.split_whitespace().collect();
        let unread = columns[4].split_once(':').map(|(_, unread)| unread);
        let established = columns[3] == "01";
        columns[1].ends_with(&port) && established && unread != Some("00000000")
    })
}

#[test]
fn lines_come_once_and_typing_arrives_once_over_a_way_that_is_cut() {
    let site = Site::start();
    let guest = site.guest("ctl-cut");
    let way = Cutter::to(site.agent.grpc());
    let mut command = site.command(&["attach", guest.name(), "--tail", "65536"]);
    command.env("VMCONSOLE_AGENT", way.address().to_string());
    let mut attach = logged_in(Piped::start(command));

    attach.types(&format!(
        "i=0; while [ $i -lt {LINES} ]; do echo line $i; i=$((i+1)); done\n"
    ));
    attach.sees("line 0\r\n");
    let mut random = Random::default();
    let over = format!("line {}\r\n", LINES - 1);
    for cut in 0..CUTS {
        let wanted = attach.stdout().len() as u64 + 1 + random.below(MOST_BYTES);
        wait::until("more output", BOUND, || {
            let shown = attach.stdout();
            shown.len() as u64 >= wanted || shown.contains(&over)
        });
        let (made, back) = (way.made(), times(&attach, "back after"));
        way.cut();
        // While there is no connection, and for the shell to do when it is done.
        attach.types(&format!("echo ty''ped {cut}\n"));
        wait::until("another connection", BOUND, || way.made() > made);
        if cut % 4 == 3 {
            // In the midst of a handshake, or of an opening.
            way.cut();
        }
        wait::until("being back", BOUND, || times(&attach, "back after") > back);
    }
    attach.types("echo al''l\n");
    attach.sees("all\r\n");
    assert_eq!(
        attach.end_of_input(),
        Some(0),
        "{}",
        attach.process.stderr()
    );

    let shown = attach.stdout();
    let of = |word: &str| -> Vec<String> {
        let lines = shown.split("\r\n").filter(|line| line.starts_with(word));
        lines.map(str::to_owned).collect()
    };
    let expected = |word: &str, count| -> Vec<String> {
        (0..count)
            .map(|number| format!("{word} {number}"))
            .collect()
    };
    assert_eq!(of("line "), expected("line", LINES));
    assert_eq!(of("typed "), expected("typed", CUTS));
    let told = attach.process.stderr();
    let (lost, back) = (
        told.matches("trying again").count(),
        told.matches("back after").count(),
    );
    assert!(lost >= 1 && back == lost, "{told}");
    assert_eq!(told.matches("nothing was missed").count(), back, "{told}");
    println!("{CUTS} cuts, {lost} breaks told");
    site.settled(1.0);
}

#[test]
fn an_agent_that_is_killed_and_started_again_is_come_back_to() {
    let mut site = Site::start();
    let guest = site.guest("ctl-killed");
    let mut attach = site.terminal(&["attach", guest.name(), "--takeover"]);
    attach.is_told("attached to ctl-killed/serial0");
    attach.is_taken_over();
    attach.types("\r");
    attach.sees("login: ");

    // What it was sent while it did nothing nobody knows of.
    site.agent.signal(Signal::SIGSTOP);
    attach.types("r");
    wait::until("the key to be sent", BOUND, || is_unread(site.agent.grpc()));
    site.agent.signal(Signal::SIGKILL);
    site.agent.wait();
    attach.is_told("trying again for 300 s at most");
    site.starts_again();
    attach.is_told("as a new session");
    attach.is_told("some output was missed");
    attach.is_told("1 typed bytes may not have arrived, and are not sent again");
    attach.is_told("gap: an unknown amount of output missing here");

    attach.types("\r");
    attach.sees("login: ");
    attach.types("\r~.");
    assert_eq!(attach.ended(), Some(0));
    site.settled(1.0);
}

#[test]
fn an_agent_that_stops_and_starts_is_come_back_to_and_typing_waits() {
    let mut site = Site::start();
    let guest = site.guest("ctl-restarted");
    let attach = site.piped(&["attach", guest.name(), "--tail", "65536"]);
    let mut attach = logged_in(attach);
    attach.types("echo be''fore\n");
    attach.sees("before\r\n");
    site.agent.signal(Signal::SIGTERM);
    wait::until("the break to be told", BOUND, || {
        attach.process.stderr().contains("AGENT_DRAINING")
    });
    attach.types("echo be''tween\n");
    assert!(site.agent.wait().success());
    site.starts_again();
    attach.sees("between\r\n");
    assert_eq!(
        attach.end_of_input(),
        Some(0),
        "{}",
        attach.process.stderr()
    );
    assert_eq!(attach.stdout().matches("between").count(), 1);
    site.settled(1.0);
}
