use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::core::rfb::rules::MAX_COMBINATIONS;

const SAMPLE: &str = include_str!("../../../packaging/config.toml");
const FILE: &str = "/etc/x.toml";
const REQUIRED: &str = r#"
[grpc]
certificate = "/a.crt"
private_key = "/a.key"
client_ca = "/ca.crt"
[access]
allowed_clients = ["spiffe://example.org/proxy", "Proxy.example.org"]
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new(FILE))
}

/// The error's text for the required keys followed by `more`.
fn refusal(more: &str) -> String {
    parse(&format!("{REQUIRED}{more}"))
        .expect_err("it is wrong")
        .to_string()
}

/// The sample's `#key = value` lines made into `key = value`.
fn uncommented() -> String {
    let is_key = |c: char| c.is_ascii_lowercase() || c == '_';
    let lines = SAMPLE.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(is_key) => rest,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Which keys a table knows, as its refusal of an unknown one names them.
fn known_keys(table: Option<&str>) -> BTreeSet<String> {
    let header = table
        .map(|table| format!("[{table}]\n"))
        .unwrap_or_default();
    let message = parse(&format!("{header}no_such_key = 1"))
        .expect_err("unknown")
        .to_string();
    let (_, expected) = message
        .split_once("expected")
        .expect("the message names the known keys");
    expected
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

#[test]
fn what_is_left_out_has_its_default() {
    let config = parse(REQUIRED).expect("valid");
    let expected = Config {
        grpc: Grpc {
            listen: vec!["[::]:2223".parse().expect("an address")],
            certificate: "/a.crt".into(),
            private_key: "/a.key".into(),
            client_ca: "/ca.crt".into(),
            drain: Duration::from_secs(10),
        },
        access: Access {
            allowed_clients: vec![
                "spiffe://example.org/proxy".into(),
                "Proxy.example.org".into(),
            ],
        },
        http: Http {
            listen: "127.0.0.1:9223".parse().expect("an address"),
        },
        libvirt: Libvirt {
            enabled: true,
            uri: "qemu:///system".into(),
            call_timeout: Duration::from_secs(10),
            channels: Vec::new(),
        },
        qemu: Qemu {
            enabled: true,
            directory: "/run/vmconsole/qmp".into(),
            sockets: Vec::new(),
        },
        endpoints: Endpoints {
            directories: DEFAULT_DIRECTORIES.map(Into::into).into(),
            owners: DEFAULT_OWNERS.map(Into::into).into(),
            tcp: TcpConsoles::Loopback,
        },
        console: Console {
            ring_bytes: 1_048_576,
        },
        graphics: Graphics::default(),
        capture: Capture {
            mode: CaptureMode::OnDemand,
            linger: Duration::from_secs(300),
            budget_bytes: 268_435_456,
            rules: Vec::new(),
        },
        limits: Limits {
            connections: 1024,
            streams_per_connection: 1024,
            handshakes: 512,
            handshake: Duration::from_secs(10),
            first_message: Duration::from_secs(10),
            resume_grace: Duration::from_secs(30),
            viewers_per_console: 256,
            sessions: 8192,
            watchers: 64,
            idle_timeout: None,
            max_duration: None,
        },
        log: Log {
            format: LogFormat::Text,
            level: LogLevel::Info,
        },
    };
    assert_eq!(config, expected);
}

#[test]
fn the_sample_shows_every_key_with_its_default() {
    let sample = parse(SAMPLE).expect("the sample is valid");
    let shown = parse(&uncommented()).expect("so is each value that it shows");
    assert_eq!(sample, shown, "the values after # are the defaults");

    let shown: BTreeMap<String, toml::Table> = toml::from_str(&uncommented()).expect("TOML");
    assert_eq!(
        shown.keys().cloned().collect::<BTreeSet<_>>(),
        known_keys(None)
    );
    for (table, keys) in &shown {
        let keys: BTreeSet<String> = keys.keys().cloned().collect();
        assert_eq!(keys, known_keys(Some(table)), "in [{table}]");
    }
}

#[test]
fn the_sample_tells_each_range() {
    for number in [
        DRAIN_SECONDS,
        CALL_TIMEOUT_SECONDS,
        LINGER_SECONDS,
        CONNECTIONS,
        STREAMS_PER_CONNECTION,
        HANDSHAKES,
        HANDSHAKE_SECONDS,
        FIRST_MESSAGE_SECONDS,
        RESUME_GRACE_SECONDS,
        VIEWERS_PER_CONSOLE,
        SESSIONS,
        WATCHERS,
        IDLE_TIMEOUT_SECONDS,
        MAX_DURATION_SECONDS,
        OPEN_SECONDS,
    ] {
        let range = format!("{} to {}", number.range.start(), number.range.end());
        assert!(SAMPLE.contains(&range), "{range} is not in the sample");
        assert!(number.range.contains(&number.default));
    }
    assert!(SAMPLE.contains(&format!("{} (64 KiB)", RING_BYTES.range.start())));
    assert!(SAMPLE.contains(&format!("{} (64 MiB)", RING_BYTES.range.end())));
    assert!(SAMPLE.contains(&format!("{} (1 MiB)", BUDGET_BYTES.range.start())));
    assert!(SAMPLE.contains(&format!("{} (64 GiB)", BUDGET_BYTES.range.end())));
    assert!(SAMPLE.contains(&format!("at most {MAX_CAPTURE_RULES} rules")));
    assert!(SAMPLE.contains(&format!("at most {MAX_GRAPHICS_RULES} rules")));
    assert!(SAMPLE.contains(&format!("at most {MAX_COMBINATIONS} such as")));
}

#[test]
fn the_samples_of_rules_are_some() {
    let sample = |header: &str| {
        let shown = SAMPLE.split_once(&format!("# {header}\n"));
        let (_, rule) = shown.expect("it is shown");
        let lines = rule.lines().map_while(|line| line.strip_prefix("# "));
        let rule: String = lines.map(|line| format!("{line}\n")).collect();
        parse(&format!("{REQUIRED}{header}\n{rule}")).expect("valid")
    };
    assert_eq!(sample("[[capture.rule]]").capture.rules.len(), 1);
    assert_eq!(sample("[[graphics.rule]]").graphics.rules.len(), 1);
}

#[test]
fn what_is_written_holds() {
    let text = REQUIRED.replace("[grpc]", "[grpc]\nlisten = ['10.0.0.1:1', '[::1]:2']")
        + "[log]\nformat = 'json'\nlevel = 'trace'\n[console]\nring_bytes = 65536\n\
           [libvirt]\nuri = 'qemu+unix:///session'\n[limits]\nhandshakes = 7\nidle_timeout_seconds = 900\n";
    let config = parse(&text).expect("valid");
    assert_eq!(config.grpc.listen.len(), 2);
    assert_eq!(
        config.log,
        Log {
            format: LogFormat::Json,
            level: LogLevel::Trace
        }
    );
    assert_eq!(config.console.ring_bytes, 65536);
    assert_eq!(config.libvirt.uri, "qemu+unix:///session");
    assert_eq!(config.limits.handshakes, 7);
    assert_eq!(config.limits.idle_timeout, Some(Duration::from_secs(900)));
}

#[test]
fn an_error_names_file_line_key_and_remedy() {
    assert_eq!(
        refusal("[limits]\n  handshakes = 0\n"),
        "/etc/x.toml:9:16: limits.handshakes: out of range; write 1 to 65536 (default 512)"
    );
    assert_eq!(
        refusal("[limits]\nsessions = -1\n"),
        "/etc/x.toml:9:12: limits.sessions: out of range; write 1 to 1048576 (default 8192)"
    );
    assert_eq!(
        refusal("[log]\nlevel = 'loud'\n"),
        "/etc/x.toml:9:9: log.level: not known; write one of \"error\", \"warn\", \"info\", \
         \"debug\", \"trace\""
    );
    assert_eq!(
        refusal("[console]\nring_bytes = \"1M\"\n"),
        "/etc/x.toml:9:14: console.ring_bytes: invalid type: string \"1M\", expected a whole number"
    );
    assert_eq!(
        refusal("[http]\nlisten = 9223\n"),
        "/etc/x.toml:9:10: http.listen: invalid type: integer `9223`, expected a string"
    );
    let unknown = refusal("[log]\n\ncolour = 1\n");
    assert!(
        unknown.starts_with("/etc/x.toml:10:1: log.colour: unknown field"),
        "{unknown}"
    );
    let unknown = refusal("[network]\n");
    assert!(
        unknown.starts_with("/etc/x.toml:8:2: network: unknown field"),
        "{unknown}"
    );
    let broken = refusal("[log\n");
    assert!(
        broken.starts_with("/etc/x.toml:8:5: not valid TOML: "),
        "{broken}"
    );
    assert!(!broken.contains('\n'), "{broken}");
}

#[test]
fn what_must_be_set_is_asked_for() {
    for key in [
        "grpc.certificate",
        "grpc.private_key",
        "grpc.client_ca",
        "access.allowed_clients",
    ] {
        let name = key.split_once('.').expect("dotted").1;
        let text: Vec<&str> = REQUIRED
            .lines()
            .filter(|line| !line.starts_with(name))
            .collect();
        let message = parse(&text.join("\n"))
            .expect_err("one is missing")
            .to_string();
        assert!(
            message.starts_with(&format!("/etc/x.toml: {key}: is missing; ")),
            "{message}"
        );
    }
}

#[test]
fn values_that_cannot_work_are_refused() {
    for (from, to, message) in [
        (
            "\"/a.crt\"",
            "\"a.crt\"",
            "3:15: grpc.certificate: not an absolute path",
        ),
        (
            "[grpc]",
            "[grpc]\nlisten = []",
            "3:10: grpc.listen: has 0 entries; write 1 to 16",
        ),
        (
            "[grpc]",
            "[grpc]\nlisten = [':2223']",
            "3:11: grpc.listen: not an IP address",
        ),
        (
            "[grpc]",
            "[grpc]\nlisten = ['[::]:1', '[::]:1']",
            "3:21: grpc.listen: stands there",
        ),
        (
            "\"Proxy.example.org\"",
            "\"*.example.org\"",
            "7:50: access.allowed_clients: not a DNS",
        ),
        (
            "spiffe://example.org/proxy",
            "spiffe://",
            "7:20: access.allowed_clients: not a URI",
        ),
        (
            "spiffe://example.org/proxy",
            "",
            "7:20: access.allowed_clients: a name is empty",
        ),
        (
            "[grpc]",
            "[libvirt]\nuri='xen:///'\n[grpc]",
            "3:5: libvirt.uri: not a libvirt URI",
        ),
        (
            "[grpc]",
            "[http]\nlisten=''\n[grpc]",
            "3:8: http.listen: not an IP address",
        ),
    ] {
        let error = parse(&REQUIRED.replace(from, to))
            .expect_err(to)
            .to_string();
        assert!(
            error.starts_with(&format!("/etc/x.toml:{message}")),
            "{error}"
        );
    }
    let none = REQUIRED.replace(
        "[\"spiffe://example.org/proxy\", \"Proxy.example.org\"]",
        "[]",
    );
    let error = parse(&none).expect_err("nobody could call").to_string();
    assert!(
        error.contains("access.allowed_clients: has 0 entries"),
        "{error}"
    );
}

#[test]
fn a_file_is_read_within_bounds() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("config.toml");
    let error = Config::load(&path).expect_err("absent");
    assert!(matches!(error, ConfigError::Unreadable { .. }), "{error}");

    std::fs::write(&path, REQUIRED).expect("writes");
    assert_eq!(
        Config::load(&path).expect("valid"),
        parse(REQUIRED).expect("valid")
    );

    std::fs::write(&path, b"\xff\xfe").expect("writes");
    let error = Config::load(&path).expect_err("not text");
    assert!(matches!(error, ConfigError::NotText { .. }), "{error}");

    let full = format!(
        "{REQUIRED}{}",
        "#".repeat(MAX_FILE_BYTES as usize - REQUIRED.len())
    );
    std::fs::write(&path, &full).expect("writes");
    Config::load(&path).expect("as long as may be");
    std::fs::write(&path, full + "#").expect("writes");
    let error = Config::load(&path).expect_err("too long");
    assert!(matches!(error, ConfigError::TooLong { .. }), "{error}");
    assert!(error.to_string().starts_with(&path.display().to_string()));
}

proptest! {
    /// Whatever the file holds, it is taken or refused with a place inside of it.
    #[test]
    fn any_text_is_taken_or_refused(text in ".*|(?s:.{0,400})") {
        check_refusal(&text)?;
    }

    /// The same for files that nearly fit: a valid one with a piece replaced.
    #[test]
    fn any_damage_is_taken_or_refused(
        at in 0..SAMPLE.len(),
        cut in 0..40_usize,
        piece in r#"[a-z0-9 ="'\[\].#{},\n:-]{0,20}|\PC{0,8}"#,
    ) {
        let text = uncommented();
        let kept: String = text.chars().take(at).chain(piece.chars())
            .chain(text.chars().skip(at + cut)).collect();
        check_refusal(&kept)?;
    }
}

fn check_refusal(text: &str) -> Result<(), TestCaseError> {
    let Err(error) = parse(text) else {
        return Ok(());
    };
    prop_assert!(error.to_string().starts_with(FILE), "{}", error);
    if let ConfigError::Syntax { place, .. }
    | ConfigError::Shape { place, .. }
    | ConfigError::Invalid { place, .. } = error
    {
        prop_assert!(place.line <= text.matches('\n').count() + 1);
        prop_assert!(place.line > 0 && place.column > 0);
    }
    Ok(())
}
