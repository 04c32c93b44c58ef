//! The command line as it is parsed, and the manual that must know all of it.

use clap::{CommandFactory as _, Parser as _};

use super::lease::MAX_REASON_BYTES;
use super::*;
use crate::attach::escape::EscapeKey;
use crate::attach::{self, Begin, Tail, Wish};

const MANUAL: &str = include_str!("../../man/vmconsolectl.1");

/// The manual without the formatter's escapes.
fn manual() -> String {
    MANUAL.replace("\\-", "-").replace("\\&", "")
}

/// Every word that has an entry of its own, or a section: `.Fl -x` prints as `--x`.
fn entries(manual: &str) -> Vec<String> {
    let headed = |line: &&str| line.starts_with(".It ") || line.starts_with(".Ss ");
    let words = |line: &str| {
        let flags = line.contains(" Fl ");
        line.split_whitespace()
            .map(|word| match word.strip_prefix('-') {
                Some(_) if flags => format!("-{word}"),
                _ => word.to_owned(),
            })
            .collect::<Vec<_>>()
    };
    manual.lines().filter(headed).flat_map(words).collect()
}

fn every_command(command: &clap::Command) -> Vec<clap::Command> {
    let below = command.get_subcommands().flat_map(every_command);
    std::iter::once(command.clone()).chain(below).collect()
}

#[test]
fn clap_finds_no_contradiction() {
    Cli::command().debug_assert();
}

#[test]
fn the_manual_explains_every_command_option_and_variable() {
    let entries = entries(&manual());
    let mut command = Cli::command();
    command.build();
    let root = command.get_name().to_owned();
    for command in every_command(&command)
        .iter()
        .filter(|command| command.get_name() != root)
    {
        let name = command.get_name().to_owned();
        assert!(entries.contains(&name), "{name}");
    }
    for command in every_command(&command) {
        for argument in command.get_arguments() {
            let long = argument.get_long().map(|long| format!("--{long}"));
            let env = argument
                .get_env()
                .map(|name| name.to_string_lossy().into_owned());
            for wanted in long.into_iter().chain(env) {
                assert!(
                    entries.contains(&wanted),
                    "{wanted} of {}",
                    command.get_name()
                );
            }
        }
    }
    assert!(entries.contains(&"VMCONSOLE_PKI".to_owned()));
}

#[test]
fn the_manual_has_every_exit_code_with_its_meaning() {
    let manual = manual().split_whitespace().collect::<Vec<_>>().join(" ");
    for (code, meaning) in TABLE {
        let entry = format!(
            ".It {code} {}",
            meaning.split_whitespace().collect::<Vec<_>>().join(" ")
        );
        assert!(manual.contains(&entry), "{entry}");
    }
}

#[test]
fn help_has_every_exit_code() {
    let help = Cli::command().render_long_help().to_string();
    for (code, meaning) in TABLE {
        assert!(help.contains(&format!("{code:<6} {meaning}")), "{code}");
    }
}

fn attach(words: &[&str]) -> Result<attach::Options, clap::Error> {
    let words = ["vmconsolectl", "attach"].iter().chain(words);
    match Cli::try_parse_from(words)?.command {
        Command::Attach(args) => Ok(args.into()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn attach_is_read_as_meant() {
    let plain = attach(&["web"]).unwrap();
    assert_eq!((plain.vm.as_str(), plain.console.as_str()), ("web", ""));
    assert_eq!(
        (plain.wish, plain.escape),
        (Wish::Write, EscapeKey::Key(0x1d))
    );
    assert_eq!(
        (plain.begin, plain.linger),
        (Begin::Live, Duration::from_secs(1))
    );
    let full = attach(&[
        "web",
        "serial1",
        "--takeover",
        "--reason",
        "why",
        "--displace",
        "--linger",
        "0.5",
    ])
    .unwrap();
    assert_eq!(full.console, "serial1");
    assert_eq!(full.wish, Wish::TakeOver("why".to_owned()));
    assert!(full.displace && !plain.displace);
    assert_eq!(full.linger, Duration::from_millis(500));
    assert_eq!(
        attach(&["web", "--escape", "none"]).unwrap().escape,
        EscapeKey::Off
    );
}

#[test]
fn how_long_a_connection_is_tried_again_is_read_as_meant() {
    let limit = |words: &[&str]| attach(words).map(|options| options.reconnect.as_secs());
    assert_eq!(limit(&["web"]).unwrap(), 300);
    assert_eq!(limit(&["web", "--reconnect", "7"]).unwrap(), 7);
    assert_eq!(limit(&["web", "--no-reconnect"]).unwrap(), 0);
    let queue = attach(&["web", "--queue"]).unwrap();
    assert_eq!(queue.wish, Wish::Queue);
}

#[test]
fn a_tail_names_its_console_in_one_word() {
    let tail = |words: &[&str]| match parsed(&[&["tail"], words].concat()).unwrap() {
        Command::Tail(args) => attach::Options::from(args),
        other => panic!("{other:?}"),
    };
    let plain = tail(&["web"]);
    assert_eq!((plain.vm.as_str(), plain.console.as_str()), ("web", ""));
    assert_eq!(
        (plain.begin, plain.tail, plain.wish),
        (Begin::Lines(10), Some(Tail::Once), Wish::View)
    );
    let full = tail(&["web/serial1", "-f", "--lines", "0", "--no-reconnect"]);
    assert_eq!(
        (full.vm.as_str(), full.console.as_str()),
        ("web", "serial1")
    );
    assert_eq!((full.begin, full.tail), (Begin::Live, Some(Tail::Follow)));
    assert!(parsed(&["tail", "web", "--lines", "100001"]).is_err());
}

#[test]
fn what_does_not_go_together_is_refused() {
    let long = "x".repeat(MAX_REASON_BYTES + 1);
    for words in [
        &["web", "--view", "--takeover"][..],
        &["web", "--queue", "--takeover"],
        &["web", "--view", "--queue"],
        &["web", "--reconnect", "5", "--no-reconnect"],
        &["web", "--reconnect", "86401"],
        &["web", "--reason", "x"],
        &["web", "--takeover", "--reason", &long],
        &["web", "--escape", "~"],
        &["web", "--linger", "-1"],
        &["web", "--linger", "NaN"],
        &[],
    ] {
        assert_eq!(attach(words).unwrap_err().exit_code(), 2, "{words:?}");
    }
}

#[test]
fn certificates_last_no_longer_than_allowed() {
    let init =
        |days: &str| Cli::try_parse_from(["vmconsolectl", "pki", "init", "d", "--days", days]);
    assert!(init("825").is_ok() && init("1").is_ok());
    assert!(init("826").is_err() && init("0").is_err());
}

fn parsed(words: &[&str]) -> Result<Command, clap::Error> {
    let words = ["vmconsolectl"].iter().chain(words);
    Cli::try_parse_from(words).map(|cli| cli.command)
}

#[test]
fn keys_are_joined_by_a_hyphen_and_come_one_after_the_other() {
    let words = ["keys", "web", "Ctrl-Alt-Del", "a", "--hold", "20"];
    let Command::Keys(args) = parsed(&words).unwrap() else {
        panic!("not keys")
    };
    let press = |names: &[&str]| Press(names.iter().map(|name| (*name).to_owned()).collect());
    assert_eq!(
        args.presses,
        [press(&["ctrl", "alt", "del"]), press(&["a"])]
    );
    assert_eq!(args.hold(), Some(Duration::from_millis(20)));
    let many = ["a"; 17].join("-");
    for words in [
        &["keys", "web"][..],
        &["keys", "web", "ctrl-"],
        &["keys", "web", "-"],
        &["keys", "web", &many],
        &["keys", "web", "a", "--hold", "5001"],
        &["keys", "web", "a", "--hold", "-1"],
    ] {
        assert_eq!(parsed(words).unwrap_err().exit_code(), 2, "{words:?}");
    }
}

#[test]
fn a_break_takes_one_character() {
    let Command::Break(args) = parsed(&["break", "web", "--sysrq", "h"]).unwrap() else {
        panic!("not break")
    };
    assert_eq!((args.console.as_str(), args.sysrq), ("", Some(b'h')));
    for character in ["", "hh", "\u{e9}", " "] {
        assert!(parsed(&["break", "web", "--sysrq", character]).is_err());
    }
}

#[test]
fn a_picture_needs_a_place() {
    assert!(parsed(&["screenshot", "web"]).is_err());
    let words = ["screenshot", "web", "--screen", "1", "-o", "-"];
    let Command::Screenshot(args) = parsed(&words).unwrap() else {
        panic!("not screenshot")
    };
    assert_eq!((args.screen, args.output), (1, Target::Stdout));
}

fn doctor(words: &[&str]) -> Result<doctor::Options, clap::Error> {
    let words = ["vmconsolectl", "doctor"].iter().chain(words);
    match Cli::try_parse_from(words)?.command {
        Command::Doctor(args) => Ok(args.into()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn doctor_is_read_as_meant() {
    let plain = doctor(&[]).unwrap();
    let expected = doctor::Options {
        vm: String::new(),
        console: String::new(),
        json: false,
        config: None,
        kernel_log: None,
    };
    assert_eq!(plain, expected);
    let words = [
        "web",
        "--console",
        "serial1",
        "--json",
        "--config",
        "c",
        "--kernel-log",
        "-",
    ];
    let expected = doctor::Options {
        vm: "web".to_owned(),
        console: "serial1".to_owned(),
        json: true,
        config: Some("c".into()),
        kernel_log: Some(LogSource::Stdin),
    };
    assert_eq!(doctor(&words).unwrap(), expected);
    let file = doctor(&["--kernel-log", "dmesg.txt"]).unwrap().kernel_log;
    assert_eq!(file, Some(LogSource::File("dmesg.txt".into())));
    let no_vm = doctor(&["--console", "serial0"]).unwrap_err();
    assert_eq!(no_vm.exit_code(), 2);
}
