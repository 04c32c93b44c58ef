//! Which chardevs become consoles, and in which order.

use proptest::prelude::*;

use super::*;

fn chardev(label: &str, filename: &str) -> Chardev {
    Chardev {
        label: label.to_owned(),
        filename: filename.to_owned(),
        frontend_open: true,
    }
}

fn port(kind: &str, parent: usize, name: &str, number: u64, chardev: &str) -> Port {
    let model = Model::of(&format!("child<{kind}>")).unwrap();
    Port::new(model, (parent, name), ("", number), (0, chardev.to_owned()))
}

fn listed(ports: Vec<Port>, chardevs: &[Chardev]) -> Vec<(String, String)> {
    let consoles = consoles(ports, chardevs, &BTreeMap::new(), Path::new("/run/qmp"));
    let name = |console: Console| (console.device.alias.to_string(), console.label);
    consoles.into_iter().map(name).collect()
}

fn named(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let own = |(alias, label): &(&str, &str)| ((*alias).to_owned(), (*label).to_owned());
    pairs.iter().map(own).collect()
}

#[test]
fn aliases_go_by_the_guests_order() {
    let chardevs: Vec<Chardev> = ["a", "b", "c", "d", "e", "f", "g"]
        .map(|label| chardev(label, "pty:/dev/pts/1"))
        .into();
    let ports = vec![
        port("usb-serial", 2, "device[0]", 0, "e"),
        port("pci-serial", 2, "device[10]", 0, "d"),
        port("pci-serial", 2, "device[9]", 0, "c"),
        port("isa-serial", 1, "first", 1, "b"),
        port("virtconsole", 1, "a", 1, "g"),
        port("isa-serial", 2, "device[7]", 0, "a"),
        port("virtconsole", 1, "z", 0, "f"),
    ];
    let expected = named(&[
        ("serial0", "a"),
        ("serial1", "b"),
        ("serial2", "c"),
        ("serial3", "d"),
        ("serial4", "e"),
        ("console0", "f"),
        ("console1", "g"),
    ]);
    assert_eq!(listed(ports.clone(), &chardevs), expected);
    let reversed = ports.into_iter().rev().collect();
    assert_eq!(listed(reversed, &chardevs), expected);
}

#[test]
fn labels_count_only_where_no_device_tells() {
    let chardevs = [
        chardev("serial10", "pty:/dev/pts/1"),
        chardev("serial2", "pty:/dev/pts/2"),
        chardev("serial2-base", "pty:/dev/pts/3"),
        chardev("gdb", "pty:/dev/pts/4"),
    ];
    let expected = named(&[("serial0", "serial2"), ("serial1", "serial10")]);
    assert_eq!(listed(Vec::new(), &chardevs), expected);
    let ports = vec![port("isa-serial", 0, "device[3]", 0, "gdb")];
    assert_eq!(listed(ports, &chardevs), named(&[("serial0", "gdb")]));
}

#[test]
fn monitors_and_what_nothing_uses_are_no_consoles() {
    let mut unused = chardev("serial3", "pty:/dev/pts/1");
    unused.frontend_open = false;
    let chardevs = [
        chardev("compat_monitor0", "unix:/run/other,server=on"),
        chardev("serial0", "unix:/run/qmp,server=on"),
        unused,
    ];
    assert_eq!(listed(Vec::new(), &chardevs), named(&[]));
    let ports = vec![
        port("isa-serial", 0, "device[3]", 0, "compat_monitor0"),
        port("isa-serial", 0, "device[4]", 1, "nowhere"),
    ];
    assert_eq!(listed(ports, &chardevs), named(&[]));
}

#[test]
fn what_is_no_console_has_no_model() {
    for kind in [
        "child<isa-serial-x>",
        "isa-serial",
        "child<virtserialport>",
        "string",
        "child<",
    ] {
        assert_eq!(Model::of(kind), None);
    }
}

proptest! {
    #[test]
    fn aliases_are_dense_unique_and_bounded(
        ports in prop::collection::vec((0usize..3, "[a-z\\[\\]0-9]{0,6}", 0u64..4, 0usize..100), 0..100),
        labels in prop::collection::vec("(char)?(serial|console|x)[0-9]{0,20}", 0..100),
    ) {
        let chardevs: Vec<Chardev> =
            labels.iter().map(|label| chardev(label, "pty:/dev/pts/1")).collect();
        let kinds = ["isa-serial", "virtconsole", "pci-serial"];
        let ports = ports.into_iter().filter_map(|(kind, name, number, label)| {
            Some(port(kinds.get(kind)?, kind, &name, number, labels.get(label)?))
        });
        let listed = listed(ports.collect(), &chardevs);
        prop_assert!(listed.len() <= MAX_CONSOLES);
        for prefix in ["serial", "console"] {
            let of_kind: Vec<_> = listed.iter().filter(|(alias, _)| alias.starts_with(prefix)).collect();
            for (number, (alias, _)) in of_kind.iter().enumerate() {
                prop_assert_eq!(alias, &format!("{prefix}{number}"));
            }
        }
    }
}
