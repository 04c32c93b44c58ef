//! Real definitions, and ones that somebody made up to do harm.

use super::*;
use crate::core::id::Alias;
use crate::endpoint::{Direct, Source};
use device::{MAX_HOST_BYTES, MAX_PATH_BYTES};
use proptest::prelude::*;

/// A running VM, as libvirt 9.0 gives it out.
const RUNNING: &str = include_str!("testdata/running.xml");
/// The same VM, off.
const OFF: &str = include_str!("testdata/off.xml");
/// A running VM whose consoles are sockets, and one channel.
const DIRECT: &str = include_str!("testdata/direct.xml");

fn device(alias: &str, kind: ConsoleKind) -> ConsoleDevice {
    ConsoleDevice {
        alias: Alias::new(alias).unwrap(),
        kind,
        source: Source::LibvirtConsole,
        backend: "pty".to_owned(),
    }
}

/// Reads a definition, of which no channel is served.
fn parse(xml: &str) -> Result<Definition, XmlError> {
    super::parse(xml, &[])
}

/// A domain with `devices`, and `name` as it stands in XML.
fn domain(name: &str, devices: &str) -> String {
    format!(
        "<domain type='kvm'><name>{name}</name>\
         <uuid>f8ec1762-0e6b-4b5b-8d1b-f31dd4eb6ffb</uuid><devices>{devices}</devices></domain>"
    )
}

fn aliases(definition: &Definition) -> Vec<&str> {
    definition
        .consoles
        .iter()
        .map(|console| console.alias.as_str())
        .collect()
}

#[test]
fn a_running_vm() {
    let definition = parse(RUNNING).unwrap();
    assert_eq!(definition.name, "vma");
    assert_eq!(definition.instance, Some(Instance(1)));
    assert_eq!(definition.left_out, 0);
    assert_eq!(
        definition.consoles,
        [
            device("serial0", ConsoleKind::Serial),
            device("console1", ConsoleKind::Virtio),
        ]
    );
}

#[test]
fn keyboards_are_noticed() {
    assert!(parse(RUNNING).unwrap().keyboard);
    let mouse = "<input type='mouse' bus='ps2'/><video><input type='keyboard'/></video>";
    assert!(!parse(&domain("vm", mouse)).unwrap().keyboard);
}

#[test]
fn a_vm_that_is_off_has_the_same_consoles() {
    let (running, off) = (parse(RUNNING).unwrap(), parse(OFF).unwrap());
    assert_eq!(off.instance, None);
    assert_eq!(
        (off.uuid, off.name, off.consoles),
        (running.uuid, running.name, running.consoles)
    );
}

#[test]
fn consoles_on_sockets_and_a_channel() {
    let channels = ["org.vmconsole.*".to_owned()];
    let definition = super::parse(DIRECT, &channels).unwrap();
    let found: Vec<String> = definition
        .consoles
        .iter()
        .map(|console| {
            let place = match &console.source {
                Source::Direct(direct) => direct.to_string(),
                Source::Unserved(why) => format!("not served: {why}"),
                other => format!("{other:?}"),
            };
            format!("{} {} {place}", console.alias, console.backend)
        })
        .collect();
    assert_eq!(
        found,
        [
            "serial0 pty LibvirtConsole",
            "serial1 unix socket /run/libvirt/qemu/vma-serial1.sock",
            "serial2 tcp telnet 127.0.0.1 port 4555",
            "serial3 tcp tcp ::1 port 4556",
            "channel:org.vmconsole.shell.0 unix LibvirtChannel",
        ]
    );
}

#[test]
fn what_is_no_console_is_not_one() {
    let xml = domain(
        "vm",
        "<serial type='pty'><target port='0'/><alias name='ua-mine.1'/></serial>\
         <console type='pty'><target type='serial' port='0'/><alias name='ua-mine.1'/></console>\
         <console type='spicevmc'><target type='virtio' port='1'/></console>\
         <parallel type='pty'><target port='0'/></parallel>\
         <channel type='unix'><target type='virtio' name='org.a'/></channel>",
    );
    let definition = parse(&xml).unwrap();
    assert_eq!(aliases(&definition), ["ua-mine.1", "console1"]);
    assert_eq!(definition.left_out, 0);
    assert_eq!(definition.consoles[1].backend, "spicevmc");
}

#[test]
fn channels_are_served_by_name() {
    let channel = |name: &str| {
        format!(
            "<channel type='unix'><target type='virtio' name='{name}'/>\
             <alias name='channel0'/></channel>"
        )
    };
    let names = [
        "org.a", "org.ab", "io.b.1", "io.c", "org.a", "io.ä", "org.qemu", "",
    ];
    let devices = names.map(channel).concat()
        + "<channel type='unix'><target type='guestfwd' name='org.a' port='1'/></channel>";
    let served = ["org.a", "io.*", "org.q*x"].map(str::to_owned);
    let definition = super::parse(&domain("vm", &devices), &served).unwrap();
    assert_eq!(
        aliases(&definition),
        ["channel:org.a", "channel:io.b.1", "channel:io.c"]
    );
    assert_eq!(definition.left_out, 2, "one repeated, one that is no alias");
    let all = ["*".to_owned()];
    let long = channel(&"x".repeat(200));
    let definition = super::parse(&domain("vm", &long), &all).unwrap();
    assert_eq!((definition.consoles.len(), definition.left_out), (0, 1));
}

#[test]
fn only_virtio_consoles() {
    let xml = domain(
        "vm",
        "<console type='pty'><target type='virtio' port='0'/></console>",
    );
    assert_eq!(aliases(&parse(&xml).unwrap()), ["console0"]);
}

#[test]
fn unusable_and_repeated_aliases_are_left_out_and_counted() {
    let serial = |alias: &str| format!("<serial type='pty'><alias name='{alias}'/></serial>");
    let long = "a".repeat(200);
    let devices = ["serial0", "serial0", "a b", "", "../x", "&#27;[2J", &long]
        .map(serial)
        .concat();
    let definition = parse(&domain("vm", &devices)).unwrap();
    assert_eq!(aliases(&definition), ["serial0"]);
    assert_eq!(definition.left_out, 6);
}

#[test]
fn too_many_consoles_are_left_out_and_counted() {
    let definition = parse(&domain("vm", &"<serial type='pty'/>".repeat(1000))).unwrap();
    assert_eq!(definition.consoles.len(), MAX_CONSOLES);
    assert_eq!(definition.left_out, 1000 - MAX_CONSOLES);
}

#[test]
fn what_looks_like_a_console_elsewhere_is_none() {
    let xml = "<domain><name>vm</name><uuid>f8ec1762-0e6b-4b5b-8d1b-f31dd4eb6ffb</uuid>\
        <metadata><devices><serial type='pty'/></devices><name>other</name></metadata>\
        <description>&lt;devices/&gt;<![CDATA[<serial/>]]></description>\
        <devices><disk><serial>WD-1</serial><alias name='serial9'/></disk></devices></domain>";
    let definition = parse(xml).unwrap();
    assert_eq!(
        (definition.name.as_str(), definition.consoles.len()),
        ("vm", 0)
    );
}

#[test]
fn names_are_unescaped_and_bounded() {
    let named = |name: &str| parse(&domain(name, "")).unwrap().name;
    assert_eq!(named("a &amp; b&#x21; <![CDATA[<c>]]>"), "a & b! <c>");
    let long = named(&"ü".repeat(MAX_NAME_BYTES));
    assert_eq!(long, "ü".repeat(MAX_NAME_BYTES / 2));
}

#[test]
fn hostile_definitions_are_refused() {
    let deep = format!("{}{}", "<a>".repeat(100_000), "</a>".repeat(100_000));
    let deep = domain("vm", &deep);
    assert!(matches!(parse(&deep), Err(XmlError::TooDeep)));
    let bomb = "<!DOCTYPE d [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><domain>&b;</domain>";
    assert!(matches!(parse(bomb), Err(XmlError::DocumentType)));
    assert!(matches!(parse(&domain("&b;", "")), Err(XmlError::Entity)));
    let in_alias = domain("vm", "<serial type='pty'><alias name='&b;'/></serial>");
    assert!(matches!(parse(&in_alias), Err(XmlError::Syntax(_))));
    assert!(matches!(parse(""), Err(XmlError::Incomplete)));
    assert!(matches!(parse("<network/>"), Err(XmlError::Incomplete)));
    assert!(matches!(parse("<domain/>"), Err(XmlError::Missing("name"))));
    let two = domain("vm", "").repeat(2);
    assert!(matches!(parse(&two), Err(XmlError::Incomplete)));
    assert!(matches!(
        parse("<domain><name>a</uuid></domain>"),
        Err(XmlError::Syntax(_))
    ));
}

#[test]
fn huge_attributes_and_many_of_them_take_no_time_to_speak_of() {
    let huge = "x".repeat(3 << 20);
    let many: String = (0..100_000).map(|n| format!(" a{n}='1'")).collect();
    let devices = format!("<serial type='{huge}'{many}><alias name='serial0'/></serial>");
    let started = std::time::Instant::now();
    let definition = parse(&domain("vm", &devices)).unwrap();
    assert_eq!(definition.consoles[0].backend.len(), MAX_TYPE_BYTES);
    assert!(started.elapsed() < std::time::Duration::from_secs(5));
}

#[test]
fn every_cut_is_noticed() {
    let xml = RUNNING.trim_end();
    for cut in (0..xml.len()).filter(|cut| xml.is_char_boundary(*cut)) {
        assert!(parse(&xml[..cut]).is_err(), "cut at {cut}");
    }
}

/// Whether nothing of it is longer than it may be, or fit to forge a line of a log.
fn is_bounded(definition: &Definition) -> bool {
    let bounded = |source: &Source| match source {
        Source::LibvirtConsole | Source::LibvirtChannel => true,
        Source::Unserved(why) => why.len() <= 256 && !why.contains(char::is_control),
        Source::Direct(Direct::Tcp(tcp)) => tcp.port > 0 && tcp.host.len() <= MAX_HOST_BYTES,
        Source::Display(display) => {
            let words = display.to_string();
            words.len() <= MAX_PATH_BYTES + MAX_HOST_BYTES + 64 && !words.contains(char::is_control)
        }
        Source::Direct(Direct::Unix(path) | Direct::Pty(path)) => {
            let path = path.to_str().unwrap();
            path.len() <= MAX_PATH_BYTES && !path.contains(char::is_control)
        }
    };
    let consoles = &definition.consoles;
    definition.name.len() <= MAX_NAME_BYTES
        && consoles.len() <= MAX_CONSOLES
        && consoles.iter().all(|console| {
            console.backend.len() <= MAX_TYPE_BYTES
                && console.backend.is_ascii()
                && bounded(&console.source)
        })
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,200}") {
        let _answer = parse(&text);
    }

    #[test]
    fn no_mutation_panics_and_all_stays_bounded(
        base in prop::sample::select(&[RUNNING, OFF, DIRECT][..]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), "[<>&'\"/a-z!\\[\\]-]{0,3}"), 1..8)
    ) {
        let mut xml = base.to_owned();
        for (at, with) in changes {
            let at = xml.floor_char_boundary(at.index(xml.len()));
            let end = xml.ceil_char_boundary((at + 1).min(xml.len()));
            xml.replace_range(at..end, &with);
        }
        if let Ok(definition) = super::parse(&xml, &["*".to_owned()]) {
            prop_assert!(is_bounded(&definition), "{definition:?}");
        }
    }

    #[test]
    fn no_attribute_panics_and_all_stays_bounded(
        kind in "serial|console|channel",
        backend in "pty|unix|tcp|\\PC{0,40}",
        mode in "bind|connect|",
        path in "(/[a-z\u{1}\u{e4}]{0,80}){0,3}",
        host in "[0-9.:a-z\u{e4}%]{0,300}",
        service in "[0-9]{0,7}|[a-z]{3}",
        target in "virtio|isa-serial",
        name in "[a-z.:\u{e4}]{0,150}",
    ) {
        let quote = |text: &str| {
            text.replace('&', "&amp;").replace('<', "&lt;").replace('\'', "&apos;")
        };
        let device = format!(
            "<{kind} type='{}'><source mode='{mode}' path='{path}' host='{host}' \
             service='{service}'/><target type='{target}' name='{name}'/></{kind}>",
            quote(&backend),
        );
        let definition = super::parse(&domain("vm", &device), &["*".to_owned()]).unwrap();
        prop_assert!(is_bounded(&definition), "{definition:?}");
    }
}
