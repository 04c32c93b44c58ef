//! What a guest whose console is attached does, by what it wrote and when.
//!
//! A guest that is still booting is not accused: what it wrote last, and how long ago, decide
//! how it is put. All of it is likelihood, and is worded so.

use std::time::{Duration, SystemTime};

use super::super::facts::{ConsoleFacts, Seen};
use super::super::finding::{Code, Finding, Severity, age, length};
use super::super::transcript::{LoaderState, Stage};
use super::{device_in_guest, shell_word};
use crate::console::Availability;
use crate::hypervisor::ConsoleKind;

/// How long a guest may take for its first byte.
pub(super) const FIRST_BYTE: Duration = Duration::from_secs(10);
/// How long firmware and boot loader may be silent: they wait for disks, networks and menus.
pub(super) const FIRMWARE_PAUSE: Duration = Duration::from_secs(30);
/// How long a kernel and what it starts may be silent on their way to a login.
pub(super) const BOOT_PAUSE: Duration = Duration::from_secs(15);
/// How long an answer to input may take.
pub(super) const ANSWER: Duration = Duration::from_secs(5);

/// How the guest's silence is to be seen.
#[derive(Clone, Copy)]
struct Silence {
    /// Since when, if it was ever seen to write.
    since: Option<SystemTime>,
    /// How long.
    length: Duration,
    /// Whether somebody typed since, long enough ago.
    unanswered: bool,
}

/// What the guest's output shows.
pub(super) fn rules(facts: &ConsoleFacts, seen: &Seen) -> Option<Finding> {
    let state = &seen.status.state;
    if state.availability == Availability::Ready {
        return Some(not_captured(facts, seen));
    }
    let wrote = seen.status.head.is_some_and(|head| head.offset > 0);
    let silence = silence(facts, seen, wrote);
    if !wrote {
        return Some(never_wrote(facts, seen, silence));
    }
    let finding = match seen.transcript.last {
        Some(Stage::Panic) => panicked(seen),
        Some(Stage::Firmware(state)) => firmware(facts, seen, state, silence),
        Some(Stage::Kernel) if !seen.transcript.prompted => no_login(facts, seen, silence),
        // What is typed at a password's prompt is not shown.
        Some(Stage::Secret) => return None,
        _ if silence.unanswered => unanswered(facts, seen, silence),
        _ => return None,
    };
    Some(finding.since(silence.since))
}

/// What the guest does not show, since nobody looks.
fn not_captured(facts: &ConsoleFacts, seen: &Seen) -> Finding {
    let status = &seen.status;
    let ago = |time| length(age(facts.now, time));
    let mut evidence = match status.last_output {
        Some(time) => format!("its guest was last seen to write {} ago", ago(time)),
        None => "its guest was never seen to write".to_owned(),
    };
    if let Some(checked) = status.state.checked {
        evidence.push_str(&format!(
            "; that it can be attached was seen {} ago",
            ago(checked)
        ));
    }
    Finding::note(
        Code::NotCaptured,
        "nobody views the console, so nothing of it is read or kept; it can be attached, as far as was last seen",
    )
    .evidence(evidence)
    .next(format!(
        "attach: vmconsolectl attach {} {}, and press Enter. For output to be kept while nobody looks, set capture.mode to \"always\", or write a [[capture.rule]] for this VM",
        shell_word(&facts.vm),
        status.id.alias
    ))
}

fn silence(facts: &ConsoleFacts, seen: &Seen, wrote: bool) -> Silence {
    let status = &seen.status;
    // Times of an earlier QEMU's output and input stay in the status.
    let since = if wrote { status.last_output } else { None };
    let begin = since
        .or(status.state.silent_since)
        .unwrap_or(status.state.since);
    let typed = status.last_input.filter(|typed| *typed > begin);
    Silence {
        since,
        length: age(facts.now, begin),
        unanswered: typed.is_some_and(|typed| age(facts.now, typed) >= ANSWER),
    }
}

/// A note while it is early, a problem where somebody typed in vain, else a warning.
fn severity(silence: Silence, pause: Duration) -> Severity {
    if silence.unanswered {
        Severity::Problem
    } else if silence.length < pause {
        Severity::Note
    } else {
        Severity::Warning
    }
}

fn never_wrote(facts: &ConsoleFacts, seen: &Seen, silence: Silence) -> Finding {
    let status = &seen.status;
    let since = status.state.silent_since.unwrap_or(status.state.since);
    let mut summary = format!(
        "nothing was seen of the guest since its console was attached {} ago",
        length(silence.length)
    );
    if silence.unanswered {
        summary.push_str(", and it does not answer what was typed");
    }
    let device = device_in_guest(&facts.vm, &status.device);
    let next = match status.device.kind {
        ConsoleKind::Channel => {
            "start the program in the guest that uses the channel".to_owned()
        }
        _ if severity(silence, FIRST_BYTE) == Severity::Note => {
            "wait a moment, or press Enter: a prompt that was written before is not written again by itself".to_owned()
        }
        _ => format!(
            "press Enter: a prompt that was written before is not written again by itself. If nothing answers: {}, and {}",
            argument(&device), getty(&device)
        ),
    };
    Finding::new(severity(silence, FIRST_BYTE), Code::GuestSilent, summary)
        .next(next)
        .since(Some(since))
}

/// What to do for the kernel to write to this console.
fn argument(device: &str) -> String {
    format!(
        "add console={device} to the guest's kernel command line (GRUB_CMDLINE_LINUX in its /etc/default/grub, then update-grub or grub2-mkconfig)"
    )
}

/// What to do for a login on this console.
fn getty(device: &str) -> String {
    format!("in the guest: systemctl enable --now serial-getty@{device}.service")
}

fn quoted(seen: &Seen) -> String {
    format!("its last line: {}", seen.transcript.last_line)
}

/// What the firmware is known by, and what came after it: it clears its screen in the middle
/// of a word, and the rest alone says nothing.
fn quoted_firmware(seen: &Seen) -> String {
    let transcript = &seen.transcript;
    if transcript.telling_line == transcript.last_line {
        return quoted(seen);
    }
    format!("it wrote: {}; {}", transcript.telling_line, quoted(seen))
}

fn panicked(seen: &Seen) -> Finding {
    Finding::problem(Code::GuestPanic, "the guest's kernel died")
        .evidence(format!("it wrote: {}", seen.transcript.telling_line))
        .next("read what it wrote before that (vmconsolectl attach --tail 65536 --view), mend it, and reset the VM")
}

fn firmware(facts: &ConsoleFacts, seen: &Seen, state: LoaderState, silence: Silence) -> Finding {
    let device = device_in_guest(&facts.vm, &seen.status.device);
    let quiet = length(silence.length);
    let early = silence.length < FIRMWARE_PAUSE;
    let (severity, summary, next) = match state {
        LoaderState::NothingToBoot => (
            Severity::Problem,
            "the firmware found nothing to boot from".to_owned(),
            "give the VM a disk, image or network to boot from (<boot order='1'/> at the device), and reset it".to_owned(),
        ),
        LoaderState::Asking => (
            Severity::Problem,
            "the boot loader waits for a command and boots nothing by itself".to_owned(),
            "attach and boot by hand, then mend the boot loader's configuration; or give the VM the right disk".to_owned(),
        ),
        LoaderState::Running | LoaderState::StartedKernel if early => (
            severity(silence, FIRMWARE_PAUSE),
            format!("firmware or boot loader wrote last, {quiet} ago: the guest may still be booting"),
            format!("wait a moment; if nothing follows: {}", argument(&device)),
        ),
        LoaderState::StartedKernel => (
            severity(silence, FIRMWARE_PAUSE),
            format!("the boot loader started a kernel {quiet} ago, which has written nothing to this console"),
            argument(&device),
        ),
        LoaderState::Running => (
            severity(silence, FIRMWARE_PAUSE),
            format!("only firmware or boot loader wrote, and nothing for {quiet}"),
            format!("if the guest runs, its kernel writes elsewhere: {}. If not, see on its screen whether the boot loader waits", argument(&device)),
        ),
    };
    Finding::new(severity, Code::FirmwareOnly, summary)
        .evidence(quoted_firmware(seen))
        .next(next)
}

fn no_login(facts: &ConsoleFacts, seen: &Seen, silence: Silence) -> Finding {
    let device = device_in_guest(&facts.vm, &seen.status.device);
    let quiet = length(silence.length);
    let transcript = &seen.transcript;
    if silence.length < BOOT_PAUSE && !silence.unanswered {
        return Finding::note(
            Code::NoLogin,
            format!("the kernel wrote last, {quiet} ago, and no login yet: the guest may still be booting"),
        )
        .evidence(quoted(seen))
        .next("wait a moment");
    }
    // A login that was written before the agent looked, or that it has forgotten, may wait.
    let sure = silence.unanswered || (transcript.began && seen.whole && !transcript.open_line);
    if !sure {
        return Finding::note(
            Code::NoLogin,
            format!("the kernel wrote last, {quiet} ago; a login that was asked for before is not among what is kept"),
        )
        .evidence(quoted(seen))
        .next(format!("press Enter; if nothing answers, {}", getty(&device)));
    }
    let summary = if silence.unanswered {
        "the kernel wrote, and nothing answers what is typed".to_owned()
    } else {
        format!("the kernel wrote, and nothing has asked for a login for {quiet}")
    };
    Finding::new(severity(silence, BOOT_PAUSE), Code::NoLogin, summary)
        .evidence(quoted(seen))
        .next(getty(&device))
}

fn unanswered(facts: &ConsoleFacts, seen: &Seen, silence: Silence) -> Finding {
    let typed = seen.status.last_input.unwrap_or(facts.now);
    let summary = format!(
        "the guest has not answered what was typed {} ago",
        length(age(facts.now, typed))
    );
    let evidence = format!(
        "it last wrote {} ago; {}",
        length(silence.length),
        quoted(seen)
    );
    Finding::warning(Code::NoLogin, summary)
        .evidence(evidence)
        .next(format!(
            "what runs on the console may show nothing of what is typed; else press Enter, then Ctrl-C, and see whether the guest is alive: vmconsolectl break {} --sysrq h",
            shell_word(&facts.vm)
        ))
}
