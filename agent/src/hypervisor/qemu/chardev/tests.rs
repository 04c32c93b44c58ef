//! Chardevs' file names, as QEMU 7.2 writes them and as nobody would.

use proptest::prelude::*;

use super::*;

fn tcp_at(host: &str, port: u16, telnet: bool) -> Source {
    Source::Direct(Direct::Tcp(TcpAddress {
        host: host.to_owned(),
        port,
        telnet,
    }))
}

fn unix_at(path: &str) -> Source {
    Source::Direct(Direct::Unix(path.into()))
}

#[test]
fn what_qemu_writes_is_read() {
    let pty = Source::Direct(Direct::Pty("/dev/pts/3".into()));
    let cases = [
        ("pty:/dev/pts/3", "pty", pty),
        (
            "disconnected:unix:/run/s1,server=on",
            "unix",
            unix_at("/run/s1"),
        ),
        ("unix:/run/s1,server=on", "unix", unix_at("/run/s1")),
        (
            "unix:/run/a,server=on,server=on",
            "unix",
            unix_at("/run/a,server=on"),
        ),
        (
            "disconnected:unix:/run/s1,server",
            "unix",
            unix_at("/run/s1"),
        ),
        (
            "disconnected:tcp:127.0.0.1:4555,server=on",
            "tcp",
            tcp_at("127.0.0.1", 4555, false),
        ),
        (
            "disconnected:tcp:0.0.0.0:4555,server=on",
            "tcp",
            tcp_at("127.0.0.1", 4555, false),
        ),
        (
            "tcp:[::1]:45,server=on <-> [::1]:5",
            "tcp",
            tcp_at("::1", 45, false),
        ),
        (
            "disconnected:telnet:::1:4556,server=on",
            "telnet",
            tcp_at("::1", 4556, true),
        ),
        (
            "disconnected:telnet::::4556,server=on",
            "telnet",
            tcp_at("::1", 4556, true),
        ),
        (
            "telnet:h.example:1,server=on <-> 10.0.0.9:5",
            "telnet",
            tcp_at("h.example", 1, true),
        ),
    ];
    for (filename, kind, source) in cases {
        assert_eq!(
            backend(filename, None),
            (kind.to_owned(), source),
            "{filename}"
        );
    }
}

#[test]
fn the_address_listened_on_beats_the_one_connected_to() {
    let address = SocketAddress {
        host: Some("0.0.0.0".to_owned()),
        port: Some("4555".to_owned()),
    };
    let connected = "tcp:10.0.0.1:4555,server=on <-> 10.0.0.9:40000";
    let (_, source) = backend(connected, Some(&address));
    assert_eq!(source, tcp_at("127.0.0.1", 4555, false));
}

#[test]
fn what_cannot_be_reached_says_what_would_help() {
    let cases = [
        ("mux", "mux", "mux=on"),
        ("file", "file", "use pty"),
        ("null", "null", "use pty"),
        ("disconnected:unix:/s", "unix", "server=on"),
        ("unix:s1,server=on", "unix", "from / on"),
        ("unix:/s,abstract=on,server=on", "unix", "use a path"),
        (
            "unix:/s,abstract=on,tight=on,server=on",
            "unix",
            "use a path",
        ),
        ("disconnected:tcp:h:1", "tcp", "server=on"),
        ("tcp:h:0,server=on", "tcp", "no address"),
        ("tcp:h:70000,server=on", "tcp", "no address"),
        ("tcp:a b:7,server=on", "tcp", "no address"),
        ("tcp:4555,server=on", "tcp", "no address"),
        ("websocket:h:1,server=on", "websocket", "use pty"),
        ("pty:\0", "pty", "no path"),
        ("", "", "use pty"),
    ];
    for (filename, kind, help) in cases {
        let (told, source) = backend(filename, None);
        assert_eq!(told, kind);
        let Source::Unserved(why) = source else {
            panic!("{filename} is served");
        };
        assert!(why.contains(help), "{filename}: {why}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_without_harm(
        filename in "(disconnected:)?(pty|unix|tcp|telnet|mux|.{0,8}):?.{0,40}(,server=on)?( <-> .{0,8})?",
        host in prop::option::of(".{0,8}"),
        port in prop::option::of("[0-9]{0,6}"),
    ) {
        let address = SocketAddress { host, port };
        for address in [None, Some(&address)] {
            let (kind, source) = backend(&filename, address);
            prop_assert!(kind.len() <= MAX_BACKEND_BYTES);
            match source {
                Source::Direct(Direct::Pty(path) | Direct::Unix(path)) => {
                    prop_assert!(path.is_absolute());
                }
                Source::Direct(Direct::Tcp(address)) => prop_assert!(address.port > 0),
                Source::Unserved(why) => prop_assert!(!why.is_empty()),
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }

    #[test]
    fn unix_paths_come_back_whole(path in "/[a-z,=/.: ]{0,30}", connected: bool) {
        prop_assume!(!path.contains("=on"));
        let prefix = if connected { "" } else { "disconnected:" };
        let filename = format!("{prefix}unix:{path},server=on");
        prop_assert_eq!(backend(&filename, None).1, unix_at(&path));
    }
}

#[test]
fn what_no_other_qemu_has_is_told_from_what_it_may() {
    let end = |filename: &str| {
        own_end(&Chardev {
            label: "x".to_owned(),
            filename: filename.to_owned(),
            frontend_open: true,
        })
    };
    assert_eq!(end("pty:/dev/pts/3").as_deref(), Some("pty:/dev/pts/3"));
    let socket = Some("unix:/run/a,server=on");
    assert_eq!(end("unix:/run/a,server=on").as_deref(), socket);
    assert_eq!(end("disconnected:unix:/run/a,server=on").as_deref(), socket);
    // A log's socket, say, which all QEMUs of the host connect to.
    for shared in [
        "unix:/run/log",
        "null",
        "file",
        "tcp:127.0.0.1:1,server=on",
        "",
    ] {
        assert_eq!(end(shared), None, "{shared}");
    }
}
