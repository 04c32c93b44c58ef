//! The same on a libvirt domain, as an operator does it.

use std::os::unix::fs::PermissionsExt as _;

use vmconsole_tests::guest::{Guest, GuestOptions};
use vmconsole_tests::wait;

use super::picture::Picture;
use super::{BOOTS, HELP, NMI};
use crate::host::BOUND;
use crate::site::{PROXY, Site};
use crate::terminal::Terminal;

/// Does it, and it is done without a word.
#[track_caller]
fn done(site: &Site, args: &[&str]) {
    let mut command = site.piped(args);
    assert_eq!(
        command.end_of_input(),
        Some(0),
        "{}",
        command.process.stderr()
    );
    assert_eq!(
        (command.stdout(), command.process.stderr()),
        Default::default()
    );
}

#[track_caller]
fn refused(site: &Site, args: &[&str], reason: &str) {
    let mut command = site.piped(args);
    assert_eq!(command.end_of_input(), Some(6), "{args:?}");
    let told = command.process.stderr();
    assert!(told.contains(reason), "{args:?}: {told}");
}

/// Waits until whoever sits there was told so many times what this proxy did.
#[track_caller]
fn told(terminal: &Terminal, what: &str, times: usize) {
    let told = format!("{what} by {PROXY}");
    wait::until(&told, BOUND, || {
        terminal.process.stderr().matches(&told).count() == times
    });
}

/// The generation of the guest's output.
fn generation(site: &Site, name: &str) -> String {
    let console = site.listed(name).unwrap();
    console["head"]["generation"].as_str().unwrap().to_owned()
}

#[test]
fn on_a_libvirt_domain_each_shows_in_the_guest_and_is_told_to_other_viewers() {
    let site = Site::start();
    let mut options = GuestOptions::named("ctl-effects");
    options.video = true;
    let guest = Guest::define_and_start(&site.libvirtd, options);
    let name = guest.name();
    site.shows(name, |console| console["availability"] == "attached");
    let mut writer = site.terminal(&["attach", name, "--tail", "65536"]);
    for (text, answer) in [
        ("login: ", "root\r"),
        ("Password: ", "console\r"),
        ("# ", "dmesg -n 8\r"),
        ("# ", ""),
    ] {
        writer.sees(text);
        writer.is_taken_over();
        writer.types(answer);
    }
    let mut viewer = site.terminal(&["attach", name]);
    viewer.is_told("you only watch");
    let before = generation(&site, name);

    done(&site, &["break", name, "--sysrq", "h"]);
    for terminal in [&mut writer, &mut viewer] {
        terminal.sees(HELP);
        told(terminal, "a break was sent", 1);
    }
    writer.types("\r~B");
    told(&viewer, "a break was sent", 2);
    writer.types("h");
    writer.sees(HELP);
    viewer.sees(HELP);

    done(&site, &["nmi", name]);
    viewer.sees(NMI);
    told(&viewer, "an NMI was sent to the VM", 1);

    let file = site.libvirtd.dir().join("screen.png");
    done(&site, &["screenshot", name, "-o", file.to_str().unwrap()]);
    Picture::of_png(&std::fs::read(&file).unwrap()).has_text();
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    told(&viewer, "a picture of the screen was taken", 1);

    done(&site, &["keys", name, "ctrl-alt-del"]);
    viewer.sees(BOOTS);
    told(&viewer, "keys were sent to the VM's keyboard", 1);
    viewer.sees("login: ");
    assert_eq!(generation(&site, name), before);
    for terminal in [&mut writer, &mut viewer] {
        terminal.types("\r~.");
        assert_eq!(terminal.ended(), Some(0));
    }

    guest.destroy();
    site.shows(name, |console| console["vm_state"] == "off");
    let effects: [&[&str]; 4] = [
        &["break", name, "--sysrq", "h"],
        &["keys", name, "ctrl-alt-del"],
        &["nmi", name],
        &["screenshot", name, "-o", "-"],
    ];
    for args in effects {
        refused(&site, args, "NOT_RUNNING");
    }
    let blind = site.guest("ctl-blind");
    let args = ["screenshot", blind.name(), "-o", "-"];
    refused(&site, &args, "UNSUPPORTED");
    site.settled(2.0);
}
