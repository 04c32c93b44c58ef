//! Graphics devices as libvirt 9.0 writes them, and otherwise.

use super::*;
use crate::hypervisor::libvirt::xml::parse;

/// The displays of a domain with these devices, in words.
fn displays(devices: &str) -> Vec<String> {
    let xml = format!(
        "<domain type='kvm' id='1'><name>vm</name>\
         <uuid>f8ec1762-0e6b-4b5b-8d1b-f31dd4eb6ffb</uuid><devices>{devices}</devices></domain>"
    );
    let definition = parse(&xml, &[]).unwrap();
    let shown = |device: ConsoleDevice| {
        assert_eq!(
            (device.kind, device.backend.as_str()),
            (ConsoleKind::Vnc, "vnc")
        );
        let Source::Display(source) = device.source else {
            panic!("{device:?}");
        };
        assert_eq!(device.alias.as_str(), format!("vnc{}", source.number));
        let DisplayHandle::Libvirt(index) = source.handle else {
            panic!("{source:?}");
        };
        let ways: Vec<_> = source
            .ways()
            .skip(1)
            .map(|way| source.describe(way))
            .collect();
        format!("{index}: {}", ways.join(", "))
    };
    definition.consoles.into_iter().map(shown).collect()
}

#[test]
fn each_sort_of_listener() {
    let cases = [
        (
            "<graphics type='vnc' port='5900' autoport='yes' websocket='5700' listen='127.0.0.1'>\
             <listen type='address' address='127.0.0.1'/></graphics>",
            "0: tcp 127.0.0.1 port 5900",
        ),
        (
            "<graphics type='vnc' socket='/var/lib/libvirt/qemu/domain-1-vm/vnc.sock'>\
             <listen type='socket' socket='/var/lib/libvirt/qemu/domain-1-vm/vnc.sock'/></graphics>",
            "0: socket /var/lib/libvirt/qemu/domain-1-vm/vnc.sock",
        ),
        (
            "<graphics type='vnc'><listen type='none'/></graphics>",
            "0: ",
        ),
        (
            "<graphics type='vnc' port='5901' autoport='no' listen='192.0.2.1'>\
             <listen type='network' address='192.0.2.1' network='default'/></graphics>",
            "0: tcp 192.0.2.1 port 5901",
        ),
        (
            "<graphics type='vnc' port='5900' listen='0.0.0.0'/>",
            "0: tcp 127.0.0.1 port 5900",
        ),
        (
            "<graphics type='vnc' port='5900' listen='::'/>",
            "0: tcp ::1 port 5900",
        ),
        (
            "<graphics type='vnc' port='5900'/>",
            "0: tcp 127.0.0.1 port 5900",
        ),
        ("<graphics type='vnc' socket='/run/v'/>", "0: socket /run/v"),
    ];
    for (device, expected) in cases {
        assert_eq!(displays(device), [expected], "{device}");
    }
}

#[test]
fn what_a_vm_that_is_off_does_not_know_yet_is_not_there() {
    for device in [
        "<graphics type='vnc' port='-1' autoport='yes'><listen type='address'/></graphics>",
        "<graphics type='vnc'><listen type='socket'/></graphics>",
        "<graphics type='vnc'><listen type='network' network='default'/></graphics>",
        "<graphics type='vnc' port='0'/>",
        "<graphics type='vnc'/>",
    ] {
        assert_eq!(displays(device), ["0: "], "{device}");
    }
}

#[test]
fn what_is_not_usable_is_left_out() {
    let long = "x".repeat(MAX_PATH_BYTES);
    for device in [
        "<graphics type='vnc' socket='relative'/>".to_owned(),
        "<graphics type='vnc' socket='/a&#10;b'/>".to_owned(),
        format!("<graphics type='vnc' socket='/{long}'/>"),
        "<graphics type='vnc' port='59000000' listen='127.0.0.1'/>".to_owned(),
        "<graphics type='vnc' port='65536' listen='127.0.0.1'/>".to_owned(),
        "<graphics type='vnc' port='5900' listen='a b'/>".to_owned(),
        format!(
            "<graphics type='vnc' port='5900' listen='{}'/>",
            "x".repeat(MAX_HOST_BYTES + 1)
        ),
        // What the element itself says is that of the first listener.
        "<graphics type='vnc' port='5900' socket='/run/v'><listen type='none'/></graphics>"
            .to_owned(),
    ] {
        assert_eq!(displays(&device), ["0: "], "{device}");
    }
}

#[test]
fn other_graphics_count_for_libvirts_number_and_are_no_consoles() {
    let devices = "<graphics type='spice' autoport='yes'><listen type='none'/></graphics>\
        <graphics type='egl-headless'/>\
        <graphics type='vnc' port='5900'><listen type='address' address='127.0.0.1'/>\
        <listen type='socket' socket='/run/v'/></graphics>\
        <video><graphics type='vnc'/></video>\
        <graphics type='vnc'><listen type='none'/></graphics>";
    assert_eq!(displays(devices), ["2: tcp 127.0.0.1 port 5900", "3: "]);
    assert_eq!(
        displays("<graphics type='spice' port='5900'/>"),
        Vec::<String>::new()
    );
}

#[test]
fn there_are_no_more_displays_than_consoles_may_be() {
    let many = "<graphics type='vnc'/>".repeat(100);
    assert_eq!(displays(&many).len(), 64);
}
