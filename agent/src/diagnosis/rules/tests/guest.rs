//! What the guest wrote, and what it did not.

use super::*;

#[test]
fn a_guest_that_never_wrote_is_given_time_and_then_an_argument() {
    let at = |seconds| {
        with(serial(), |seen| {
            seen.status.state.silent_since = Some(ago(seconds));
        })
    };
    expect(&at(5), Code::GuestSilent, Severity::Note, "press Enter");
    let next = "add console=ttyS0 to the guest's kernel command line";
    let finding = expect(&at(60), Code::GuestSilent, Severity::Warning, next);
    assert_eq!(finding.since, Some(ago(60)));
    let typed = with(at(60), |seen| seen.status.last_input = Some(ago(20)));
    expect(
        &typed,
        Code::GuestSilent,
        Severity::Problem,
        "serial-getty@ttyS0.service",
    );
    // What an earlier QEMU wrote and was sent is no answer.
    let before = with(at(60), |seen| {
        (seen.status.last_output, seen.status.last_input) = (Some(ago(500)), Some(ago(400)));
    });
    expect(&before, Code::GuestSilent, Severity::Warning, next);
    let channel = device("channel0", ConsoleKind::Channel, Source::LibvirtChannel);
    expect(
        &facts(channel),
        Code::GuestSilent,
        Severity::Warning,
        "start the program",
    );
}

#[test]
fn firmware_alone_asks_for_the_argument_that_fits_the_console() {
    let early = wrote(serial(), NO_ARGUMENT, 10);
    expect(&early, Code::FirmwareOnly, Severity::Note, "wait a moment");
    let late = wrote(serial(), NO_ARGUMENT, 45);
    let finding = expect(
        &late,
        Code::FirmwareOnly,
        Severity::Warning,
        "console=ttyS0",
    );
    assert!(
        finding.summary.contains("started a kernel 45 s ago"),
        "{finding:?}"
    );
    assert!(finding.evidence.contains("Probing EDD"), "{finding:?}");
    // The firmware cleared its screen within the last word.
    let cut = wrote(serial(), &[NO_ARGUMENT, b"k"].concat(), 45);
    let finding = expect(&cut, Code::FirmwareOnly, Severity::Warning, "console=");
    let words = "it wrote: Probing EDD (edd=off to disable)... o; its last line: k";
    assert_eq!(finding.evidence, words);
    let typed = with(late, |seen| seen.status.last_input = Some(ago(30)));
    expect(
        &typed,
        Code::FirmwareOnly,
        Severity::Problem,
        "console=ttyS0",
    );

    let second = device("console2", ConsoleKind::Virtio, Source::LibvirtConsole);
    let mut facts = wrote(facts(second), b"SeaBIOS (version 1.16.2)\r\n", 300);
    let mut consoles = vec![
        device("serial0", ConsoleKind::Serial, Source::LibvirtConsole),
        device("console1", ConsoleKind::Virtio, Source::LibvirtConsole),
    ];
    consoles.extend(facts.vm.consoles.clone());
    Arc::make_mut(&mut facts.vm).consoles = consoles;
    expect(
        &facts,
        Code::FirmwareOnly,
        Severity::Warning,
        "console=hvc1",
    );
}

#[test]
fn firmware_that_cannot_go_on_is_told_at_once() {
    let nothing = wrote(serial(), NO_DISK, 1);
    expect(
        &nothing,
        Code::FirmwareOnly,
        Severity::Problem,
        "<boot order='1'/>",
    );
    let asking = wrote(serial(), SHELL, 1);
    expect(
        &asking,
        Code::FirmwareOnly,
        Severity::Problem,
        "boot by hand",
    );
}

#[test]
fn a_kernel_without_a_login_is_given_time_and_then_a_getty() {
    let early = wrote(serial(), NO_GETTY, 10);
    expect(&early, Code::NoLogin, Severity::Note, "wait a moment");
    let next = "systemctl enable --now serial-getty@ttyS0.service";
    let late = wrote(serial(), NO_GETTY, 20);
    let finding = expect(&late, Code::NoLogin, Severity::Warning, next);
    assert_eq!(finding.since, Some(ago(20)));
    let typed = with(late.clone(), |seen| seen.status.last_input = Some(ago(10)));
    expect(&typed, Code::NoLogin, Severity::Problem, next);
    // An answer that may still come is waited for.
    let just = with(late.clone(), |seen| seen.status.last_input = Some(ago(1)));
    expect(&just, Code::NoLogin, Severity::Warning, next);
    // A login may have been asked for before.
    let partial = with(late, |seen| seen.whole = false);
    expect(&partial, Code::NoLogin, Severity::Note, "press Enter");
    let late_words = b"[ 5000.000000] usb 1-1: new device\r\n";
    expect(
        &wrote(serial(), late_words, 99),
        Code::NoLogin,
        Severity::Note,
        "press Enter",
    );
}

#[test]
fn a_kernel_that_died_is_told_with_its_words() {
    let finding = expect(
        &wrote(serial(), DIED, 1),
        Code::GuestPanic,
        Severity::Problem,
        "reset",
    );
    assert!(
        finding.evidence.contains("Unable to mount root fs"),
        "{finding:?}"
    );
}

#[test]
fn input_that_nobody_takes_is_told_beside_what_the_guest_wrote() {
    let wedged = with(wrote(serial(), NO_GETTY, 100), |seen| {
        seen.status.state.wedged_since = Some(ago(7));
    });
    let findings = console(&wedged);
    assert_eq!(findings[0].code, Code::InputWedged);
    assert!(findings[0].summary.contains("for 7 s"));
    assert!(findings[0].next_step.contains("break web-1 --sysrq h"));
    assert_eq!(findings[1].code, Code::NoLogin);
}

#[test]
fn a_login_is_a_console_that_works() {
    let at_login = wrote(serial(), LOGIN, 3600);
    let finding = expect(&at_login, Code::ConsoleWorks, Severity::Good, "");
    assert_eq!(
        finding.evidence,
        "last output 60 min ago, last input never seen"
    );
    let typed = with(at_login, |seen| seen.status.last_input = Some(ago(10)));
    expect(&typed, Code::NoLogin, Severity::Warning, "press Enter");
    let mut secret = LOGIN.to_vec();
    secret.extend_from_slice(b"root\r\nPassword: ");
    let secret = with(wrote(serial(), &secret, 60), |seen| {
        seen.status.last_input = Some(ago(10));
    });
    expect(&secret, Code::ConsoleWorks, Severity::Good, "");
    let ready = unavailable(Availability::Ready, Source::LibvirtConsole);
    let finding = expect(&ready, Code::NotCaptured, Severity::Note, "attach");
    assert!(finding.next_step.contains("capture.mode"), "{finding:?}");
}
