//! What keeps the agent from a console.

use super::super::super::facts::PathFacts;
use super::super::super::path::{Node, NodeKind, Objection};
use super::*;
use crate::endpoint::{Direct, Holder, TcpAddress, TcpDenial};

#[test]
fn a_holder_is_named_and_how_to_be_rid_of_it() {
    let held = with(
        unavailable(Availability::HeldByOther, Source::LibvirtConsole),
        |seen| {
            seen.status.state.holder = Some(Holder {
                process: 812,
                command: "virsh".to_owned(),
                user: 0,
            });
        },
    );
    let finding = expect(&held, Code::HeldByOther, Severity::Problem, "process 812");
    assert_eq!(finding.evidence, "virsh (process 812 of user 0)");
    assert!(finding.next_step.contains("displace_outside_holder"));
    assert_eq!(finding.since, Some(ago(1000)));
    let socket = Source::Direct(Direct::Unix("/run/x".into()));
    let unknown = unavailable(Availability::HeldByOther, socket);
    let next = "Nobody can be displaced from a unix socket";
    let finding = expect(&unknown, Code::HeldByOther, Severity::Problem, next);
    assert_eq!(finding.evidence, "the detail");
}

fn denied_at(objection: Option<Objection>) -> ConsoleFacts {
    let socket = Source::Direct(Direct::Unix("/run/libvirt/qemu/web.sock".into()));
    with(unavailable(Availability::Denied, socket), |seen| {
        seen.path = Some(PathFacts {
            objection,
            evidence: "what is there".to_owned(),
            group: "kvm".to_owned(),
            owner: "mallory".to_owned(),
        });
    })
}

fn node(kind: NodeKind, mode: u32) -> Node {
    Node {
        path: "/run/libvirt/qemu".into(),
        kind,
        owner: 64055,
        group: 108,
        mode,
    }
}

#[test]
fn what_keeps_the_agent_from_a_path_is_told_with_what_gives_it_the_right() {
    let socket = |mode| Objection::Mode(node(NodeKind::Socket, mode));
    for (objection, next) in [
        (Some(socket(0o775)), "usermod -a -G kvm vmconsole"),
        (
            Some(socket(0o700)),
            "setfacl -m u:vmconsole:rw /run/libvirt/qemu",
        ),
        (
            Some(Objection::Search(node(NodeKind::Directory, 0o700))),
            "setfacl -m u:vmconsole:x /run/libvirt/qemu",
        ),
        (
            Some(Objection::Mode(node(NodeKind::Terminal, 0o600))),
            "through libvirt",
        ),
        (Some(Objection::Missing), "nothing is there"),
        (None, "AppArmor or SELinux"),
    ] {
        let finding = expect(
            &denied_at(objection),
            Code::Permission,
            Severity::Problem,
            next,
        );
        assert_eq!(finding.evidence, "what is there; the detail");
    }
}

#[test]
fn nobody_is_told_to_join_the_group_of_root() {
    let mut of_root = node(NodeKind::Socket, 0o775);
    of_root.group = 0;
    let facts = denied_at(Some(Objection::Mode(of_root)));
    let next = "setfacl -m u:vmconsole:rw /run/libvirt/qemu";
    let finding = expect(&facts, Code::Permission, Severity::Problem, next);
    assert!(!finding.next_step.contains("usermod"), "{finding:?}");
    assert!(finding.next_step.contains("a group that vmconsole is in"));
}

#[test]
fn a_path_that_is_not_safe_is_told_as_that() {
    for (objection, summary, next) in [
        (
            Objection::Link("/run/x".into()),
            "/run/x is a symbolic link",
            "the real path",
        ),
        (
            Objection::Type(NodeKind::Other),
            "a file of another type",
            "who put it there",
        ),
        (
            Objection::Outside,
            "no directory that is allowed",
            "endpoints.directories",
        ),
        (
            Objection::Owner(1001),
            "user mallory (1001)",
            "endpoints.owners",
        ),
    ] {
        let facts = denied_at(Some(objection));
        let finding = expect(&facts, Code::UnsafePath, Severity::Problem, next);
        assert!(finding.summary.contains(summary), "{finding:?}");
    }
}

#[test]
fn other_permissions_name_the_key_or_the_group() {
    let libvirt = unavailable(Availability::Denied, Source::LibvirtConsole);
    let next = "usermod -a -G libvirt vmconsole";
    expect(&libvirt, Code::Permission, Severity::Problem, next);
    let said = "permission denied: read only access prevents virDomainOpenConsole";
    let read_only = with(libvirt, |seen| seen.status.state.detail = said.to_owned());
    expect(
        &read_only,
        Code::Permission,
        Severity::Problem,
        "libvirt.uri",
    );
    let tcp = Source::Direct(Direct::Tcp(TcpAddress {
        host: "192.0.2.1".to_owned(),
        port: 4000,
        telnet: false,
    }));
    let denied = unavailable(Availability::Denied, tcp);
    let place = "127.0.0.1:4000".parse().expect("an address");
    for (error, summary, next) in [
        (
            TcpDenial::off("192.0.2.1", 4000),
            "the configuration keeps",
            "set endpoints.tcp",
        ),
        (
            TcpDenial::not_loopback("192.0.2.1", 4000),
            "the configuration keeps",
            "set endpoints.tcp",
        ),
        (
            TcpDenial::listener(place, 1001),
            "not trusted",
            "endpoints.owners",
        ),
        (
            TcpDenial::unseen(place),
            "does not tell",
            "RestrictAddressFamilies",
        ),
    ] {
        let tcp = with(denied.clone(), |seen| {
            seen.status.state.detail = error.to_string();
        });
        let finding = expect(&tcp, Code::Permission, Severity::Problem, next);
        assert!(finding.summary.contains(summary), "{finding:?}");
        assert_eq!(finding.evidence, error.to_string());
    }
    let finding = expect(&denied, Code::Permission, Severity::Problem, "endpoints.");
    assert!(!finding.summary.contains("configuration"), "{finding:?}");
    let socket = Source::Direct(Direct::Unix("/run/x".into()));
    let unseen = unavailable(Availability::Denied, socket);
    expect(
        &unseen,
        Code::Permission,
        Severity::Problem,
        "owner and mode",
    );
}

#[test]
fn a_console_that_is_lost_or_not_there_yet_says_when_it_is_tried_next() {
    for (availability, severity) in [
        (Availability::Lost, Severity::Problem),
        (Availability::Waiting, Severity::Warning),
    ] {
        let facts = with(unavailable(availability, Source::LibvirtConsole), |seen| {
            seen.status.state.next_try = Some(now() + Duration::from_secs(4));
        });
        let finding = one(&facts);
        assert_eq!(
            (finding.code, finding.severity),
            (Code::EndpointLost, severity)
        );
        assert_eq!(finding.evidence, "the detail; next try in 4 s");
    }
}
