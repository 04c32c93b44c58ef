//! Each backend by its attributes.

use super::*;

fn backend(name: &str) -> Backend {
    Backend {
        name: name.to_owned(),
        ..Backend::default()
    }
}

fn bound_unix(path: &str) -> Backend {
    Backend {
        path: path.to_owned(),
        mode: "bind".to_owned(),
        ..backend("unix")
    }
}

fn bound_tcp(host: &str, service: &str, protocol: &str) -> Backend {
    Backend {
        mode: "bind".to_owned(),
        host: host.to_owned(),
        service: service.to_owned(),
        protocol: protocol.to_owned(),
        ..backend("tcp")
    }
}

#[track_caller]
fn refused(source: Source) -> String {
    match source {
        Source::Unserved(why) => why,
        served => panic!("{served:?}"),
    }
}

#[test]
fn a_pty_is_libvirts() {
    assert_eq!(terminal(&backend("pty"), true), Source::LibvirtConsole);
}

#[test]
fn a_socket_is_ours_where_qemu_listens() {
    let at = |path: &str| Source::Direct(Direct::Unix(path.into()));
    assert_eq!(terminal(&bound_unix("/run/a"), true), at("/run/a"));
    let out = Backend {
        mode: "connect".to_owned(),
        ..bound_unix("/run/a")
    };
    assert!(refused(terminal(&out, true)).contains("mode=\"bind\""));
    let unsaid = Backend {
        mode: String::new(),
        ..bound_unix("/run/a")
    };
    assert!(refused(terminal(&unsaid, true)).contains("mode=\"bind\""));
    let longest = format!("/{}", "a".repeat(MAX_PATH_BYTES - 1));
    assert_eq!(terminal(&bound_unix(&longest), true), at(&longest));
    let longer = bound_unix(&format!("{longest}a"));
    assert!(refused(terminal(&longer, true)).contains("shorter"));
    let forging = bound_unix("/run/a\nforged");
    assert!(refused(terminal(&forging, true)).contains("control characters"));
}

#[test]
fn a_socket_without_a_path_is_served_once_the_vm_runs_and_names_it() {
    let unnamed = backend("unix");
    let later = Source::Direct(Direct::Unix(PathBuf::new()));
    assert_eq!(terminal(&unnamed, false), later);
    assert!(refused(terminal(&unnamed, true)).contains("name one"));
}

#[test]
fn a_port_is_ours_where_qemu_listens() {
    let at = |host: &str, port, telnet| {
        let host = host.to_owned();
        Source::Direct(Direct::Tcp(TcpAddress { host, port, telnet }))
    };
    let cases = [
        (("127.0.0.1", "2445", "raw"), at("127.0.0.1", 2445, false)),
        (("::1", "65535", "telnet"), at("::1", 65535, true)),
        (("host.example", "1", ""), at("host.example", 1, false)),
        (("0.0.0.0", "7", "raw"), at("127.0.0.1", 7, false)),
        (("::", "7", "raw"), at("::1", 7, false)),
        (("", "7", "raw"), at("127.0.0.1", 7, false)),
    ];
    for ((host, service, protocol), expected) in cases {
        let backend = bound_tcp(host, service, protocol);
        assert_eq!(terminal(&backend, true), expected, "{backend:?}");
    }
    let refusals = [
        (("127.0.0.1", "login", "raw"), "not a port"),
        (("127.0.0.1", "0", "raw"), "not a port"),
        (("127.0.0.1", "65536", "raw"), "not a port"),
        (("127.0.0.1", "", "raw"), "not a port"),
        (("127.0.0.1", "7", "tls"), "neither raw nor telnet"),
        (("a b", "7", "raw"), "not an address"),
    ];
    for ((host, service, protocol), why) in refusals {
        let backend = bound_tcp(host, service, protocol);
        assert!(
            refused(terminal(&backend, true)).contains(why),
            "{backend:?}"
        );
    }
    let long = bound_tcp(&"a".repeat(MAX_HOST_BYTES + 1), "7", "raw");
    assert!(refused(terminal(&long, true)).contains("not an address"));
    let secured = Backend {
        tls: "yes".to_owned(),
        ..bound_tcp("::1", "7", "raw")
    };
    assert!(refused(terminal(&secured, true)).contains("TLS"));
    let out = Backend {
        mode: "connect".to_owned(),
        ..bound_tcp("::1", "7", "raw")
    };
    assert!(refused(terminal(&out, true)).contains("mode=\"bind\""));
}

#[test]
fn every_other_type_is_refused_with_its_reason() {
    let names = [
        "null",
        "vc",
        "stdio",
        "file",
        "pipe",
        "dev",
        "udp",
        "spicevmc",
        "spiceport",
        "nmdm",
        "dbus",
        "qemu-vdagent",
    ];
    for name in names {
        let why = refused(terminal(&backend(name), true));
        assert!(why.contains(": use type=\"pty\""), "{name}: {why}");
        assert!(!why.contains("not known"), "{name}: {why}");
        let why = refused(channel(&backend(name), "org.a"));
        assert!(!why.contains("not known"), "{name}: {why}");
    }
    assert!(refused(terminal(&backend("new"), true)).contains("\"new\" is not known"));
}

#[test]
fn a_channel_is_libvirts_where_it_is_a_socket() {
    let running = bound_unix("/run/a");
    assert_eq!(channel(&running, "org.a"), Source::LibvirtChannel);
    assert_eq!(channel(&backend("unix"), "org.a"), Source::LibvirtChannel);
    let out = Backend {
        mode: "connect".to_owned(),
        ..bound_unix("/run/a")
    };
    assert!(refused(channel(&out, "org.a")).contains("mode=\"bind\""));
    assert!(refused(channel(&backend("pty"), "org.a")).contains("type=\"unix\""));
    assert!(refused(channel(&running, GUEST_AGENT)).contains("libvirt.channels"));
}
