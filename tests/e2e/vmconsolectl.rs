//! The command line on the real agent: certificates of its own making, lists, pipes, a
//! terminal, and exit codes that scripts can use.

use nix::sys::signal::Signal;
use vmconsole_tests::guest::{Guest, GuestOptions};

use crate::site::{PROXY, Site};

/// The key that leaves.
const ESCAPE: &str = "\x1d";

#[test]
fn the_list_shows_a_vm_that_is_off_and_to_attach_to_it_or_to_no_vm_exits_with_a_code() {
    let site = Site::start();
    let guest = Guest::define(&site.libvirtd, GuestOptions::named("ctl-off"));
    site.shows(guest.name(), |console| {
        let promised = console["vm_uuid"] == guest.uuid() && console["kind"] == "serial";
        promised && console["availability"] == "waiting" && console["vm_state"] == "off"
    });
    let mut table = site.piped(&["list"]);
    assert_eq!(table.end_of_input(), Some(0));
    let table = table.stdout();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|row| row.split_whitespace().collect())
        .collect();
    assert_eq!(rows[0][..3], ["VM", "CONSOLE", "KIND"], "{table}");
    let row = ["ctl-off", "serial0", "serial", "waiting", "0", "-", "-"];
    assert!(rows.iter().any(|found| *found == row), "{table}");

    for (args, code, said) in [
        (&["attach", "ctl-off"][..], 6, "NOT_RUNNING"),
        (&["attach", "no-such-vm"], 5, "NOT_FOUND"),
        (&["attach", "ctl-off", "serial9"], 5, "NOT_FOUND"),
        (&["--server-name", "other.test", "list"], 3, "certificate"),
    ] {
        let mut attach = site.piped(args);
        assert_eq!(attach.end_of_input(), Some(code), "{args:?}");
        let told = attach.process.stderr();
        assert!(told.contains(said), "{args:?}: {told}");
        assert_eq!(attach.stdout(), "", "{args:?}");
    }
    let mut attach = site.terminal(&["attach", "ctl-off"]);
    assert_eq!(attach.ended(), Some(6));
    site.settled(0.0);
}

#[test]
fn a_pipe_logs_in_and_runs_a_command_and_the_end_of_input_leaves() {
    let site = Site::start();
    let guest = site.guest("ctl-pipe");
    let mut attach = site.piped(&["attach", guest.name(), "--tail", "65536"]);
    for (text, answer) in [
        ("login: ", "root\n"),
        ("Password: ", "console\n"),
        ("# ", "uname -a\n"),
        ("\nLinux guest 6.", ""),
        // An escape is none in a pipe.
        ("# ", "\n~.\x1d"),
        ("~.", "\n"),
    ] {
        attach.sees(text);
        attach.types(answer);
    }
    assert_eq!(attach.end_of_input(), Some(0));
    assert_eq!(attach.process.stderr(), "");
    site.settled(1.0);
}

#[test]
fn a_terminal_logs_in_and_both_escapes_leave_it_as_it_was() {
    let site = Site::start();
    let guest = site.guest("ctl-terminal");
    let mut attach = site.terminal(&["attach", guest.name(), "--tail", "65536"]);
    for (text, answer) in [
        ("login: ", "root\r"),
        ("Password: ", "console\r"),
        ("# ", "uname -a\r"),
        ("\nLinux guest 6.", ""),
        ("# ", "echo be''gun; sleep 300\r"),
        // That is the guest's to interrupt, and ends nobody here.
        ("begun\r\n", "\x03"),
        ("# ", ESCAPE),
    ] {
        attach.sees(text);
        attach.is_taken_over();
        attach.types(answer);
    }
    assert_eq!(attach.ended(), Some(0));
    attach.is_told("attached to ctl-terminal/serial0");

    let mut attach = site.terminal(&["attach", guest.name()]);
    attach.is_taken_over();
    attach.types("echo st''ill\r");
    attach.sees("still\r\n");
    attach.types("\r~.");
    assert_eq!(attach.ended(), Some(0));
    site.settled(2.0);
}

#[test]
fn a_takeover_ends_a_pipe_with_7_and_leaves_a_terminal_watching() {
    let site = Site::start();
    let guest = site.guest("ctl-takeover");
    let mut script = site.piped(&["attach", guest.name()]);
    site.shows(guest.name(), |console| console["writer"]["proxy"] == PROXY);
    let mut refused = site.piped(&["attach", guest.name()]);
    assert_eq!(refused.end_of_input(), Some(7));
    let told = refused.process.stderr();
    assert!(
        told.contains("LEASE_HELD") && told.contains(PROXY),
        "{told}"
    );
    let mut watching = site.terminal(&["attach", guest.name()]);
    watching.is_told("holds the writer's lease: you only watch");

    let takeover = [
        "attach",
        guest.name(),
        "--takeover",
        "--reason",
        "night shift",
    ];
    let mut person = site.terminal(&takeover);
    assert_eq!(script.ended(), Some(7));
    let told = script.process.stderr();
    assert!(
        told.contains("TAKEN_OVER") && told.contains("night shift"),
        "{told}"
    );
    person.is_told("attached to ctl-takeover/serial0");
    person.is_taken_over();
    person.types("\r");
    // The login prompt, again, on both screens.
    person.sees("login: ");
    watching.sees("login: ");

    let mut next = site.piped(&["attach", guest.name(), "--takeover", "--linger", "0"]);
    assert_eq!(next.end_of_input(), Some(0));
    person.is_told("you lost the writer's lease");
    for mut terminal in [person, watching] {
        terminal.types("\r~.");
        assert_eq!(terminal.ended(), Some(0));
    }
    site.settled(4.0);
}

#[test]
fn an_agent_that_stops_ends_a_terminal_with_8_and_gives_it_back() {
    let mut site = Site::start();
    let guest = site.guest("ctl-drain");
    let mut attach = site.terminal(&["attach", guest.name(), "--no-reconnect"]);
    attach.is_told("attached to ctl-drain/serial0");
    attach.is_taken_over();
    site.agent.signal(Signal::SIGTERM);
    assert_eq!(attach.ended(), Some(8));
    attach.is_told("AGENT_DRAINING");
    assert!(site.agent.wait().success());

    let mut list = site.piped(&["list"]);
    assert_eq!(list.end_of_input(), Some(3));
    assert!(
        list.process
            .stderr()
            .contains("cannot connect to the agent")
    );
}
