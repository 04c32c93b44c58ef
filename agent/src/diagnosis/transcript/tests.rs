//! What real guests wrote (recorded under QEMU 7.2: SeaBIOS, OVMF, Debian 12's kernel), and
//! texts that other software is known to write.

use proptest::prelude::*;

use super::*;

const LOGIN: &[u8] = include_bytes!("../captures/linux-login.bin");
const NO_GETTY: &[u8] = include_bytes!("../captures/linux-no-getty.bin");
const NO_ARGUMENT: &[u8] = include_bytes!("../captures/linux-no-console-argument.bin");
const DIED: &[u8] = include_bytes!("../captures/linux-panic.bin");
const NO_DISK: &[u8] = include_bytes!("../captures/seabios-no-disk.bin");
const SHELL: &[u8] = include_bytes!("../captures/ovmf-shell.bin");

fn read(text: impl AsRef<[u8]>) -> Transcript {
    Transcript::read(&[text.as_ref()])
}

fn last(text: impl AsRef<[u8]>) -> Option<Stage> {
    read(text).last
}

#[test]
fn a_boot_that_ends_at_a_login() {
    let transcript = read(LOGIN);
    assert_eq!(transcript.last, Some(Stage::Prompt));
    assert!(transcript.began && transcript.prompted && !transcript.open_line);
    assert_eq!(transcript.last_line, "guest login:");
}

#[test]
fn a_boot_that_ends_with_the_kernel() {
    let transcript = read(NO_GETTY);
    assert_eq!(transcript.last, Some(Stage::Kernel));
    assert!(transcript.began && !transcript.prompted);
    assert!(
        transcript
            .last_line
            .ends_with("Run /bin/busybox as init process")
    );
}

#[test]
fn a_kernel_that_writes_elsewhere_leaves_the_firmwares_words() {
    let transcript = read(NO_ARGUMENT);
    let started = Stage::Firmware(LoaderState::StartedKernel);
    assert_eq!(transcript.last, Some(started));
    assert_eq!(
        transcript.telling_line,
        "Probing EDD (edd=off to disable)... o"
    );
}

#[test]
fn a_kernel_that_dies_stays_dead_whatever_it_writes_after() {
    let transcript = read(DIED);
    assert_eq!(transcript.last, Some(Stage::Panic));
    assert!(
        transcript
            .telling_line
            .contains("Kernel panic - not syncing: VFS: Unable to mount root fs")
    );
    assert!(!transcript.telling_line.contains("---[ end"), "the first");
    let quick =
        "[    0.9] x\n[    1.200000] Kernel panic - not syncing: x\n[    1.200100] Call Trace:\n";
    assert_eq!(last(quick), Some(Stage::Panic));
    // Until it is reset.
    let mut again = DIED.to_vec();
    again.extend_from_slice(LOGIN);
    assert_eq!(last(again), Some(Stage::Prompt));
}

#[test]
fn firmware_that_finds_nothing_or_asks() {
    let nothing = Stage::Firmware(LoaderState::NothingToBoot);
    assert_eq!(last(NO_DISK), Some(nothing));
    let asking = Stage::Firmware(LoaderState::Asking);
    assert_eq!(last(SHELL), Some(asking));
    for text in [
        "BdsDxe: loading Boot0001\r\nBdsDxe: No bootable option or device was found.\r\n",
        "iPXE 1.20.1 -- Open Source\r\nNo more network devices\r\n\r\nNo bootable device.\r\n",
    ] {
        assert_eq!(last(text), Some(nothing), "{text}");
    }
    for text in ["error: no such device: 1234.\r\ngrub rescue> ", "grub> "] {
        assert_eq!(last(text), Some(asking), "{text}");
    }
}

#[test]
fn boot_loaders_at_work() {
    let running = Stage::Firmware(LoaderState::Running);
    for text in [
        "\x1b[2J\x1b[01;01HBdsDxe: starting Boot0002 \"UEFI Misc Device\"\r\n",
        "\x1b[H\x1b[J\x1b[1;1H\x1b[2;30HGNU GRUB  version 2.06\n\n\x1b[m\x1b[4;2H+----+\x1b[5;2H|*Debian GNU/Linux",
        "ISOLINUX 6.04 6.04-pre1 ETCD Copyright (C) 1994-2015 H. Peter Anvin et al\r\n",
        "SeaBIOS (version 1.16.0)\r\nMachine UUID 1-2\r\nBooting from Hard Disk...\r\n",
    ] {
        assert_eq!(last(text), Some(running), "{text}");
    }
    let started = Stage::Firmware(LoaderState::StartedKernel);
    for text in [
        "Loading Linux 6.1.0-13-amd64 ...\r\nLoading initial ramdisk ...\r\n",
        "EFI stub: Loaded initrd from LINUX_EFI_INITRD_MEDIA_GUID device path\r\n",
        "  Booting `Debian GNU/Linux'\r\n\r\n",
    ] {
        assert_eq!(last(text), Some(started), "{text}");
    }
}

#[test]
fn what_asks_for_input() {
    for text in [
        "\r\nUbuntu 22.04.3 LTS web ttyS0\r\n\r\nweb login: ",
        "web login: root\r\n",
        "Linux web 6.1\r\nroot@web:~# ",
        "root@web:/etc# ls\r\nfile one\r\n",
        "[root@web ~]# ",
        "sh-5.1# ",
        "\x1b[?2004h\x1b]0;bob@web: ~\x07\x1b[01;32mbob@web\x1b[00m:\x1b[01;34m~\x1b[00m$ ",
        "ALERT! UUID=1 does not exist. Dropping to a shell!\r\n\r\n(initramfs) ",
        "Give root password for maintenance\r\n(or press Control-D to continue): ",
        "\r\nComputer is booting, SAC started and initialized.\r\n\r\nSAC>",
        "C:\\Windows\\system32>",
        "FreeBSD/amd64 (web) (ttyu0)\r\n\r\nlogin: ",
    ] {
        assert_eq!(last(text), Some(Stage::Prompt), "{text}");
    }
    assert_eq!(last("web login: root\r\nPassword: "), Some(Stage::Secret));
}

#[test]
fn kernels_and_what_starts_services() {
    for text in [
        "[   12.345678] systemd[1]: Reached target Basic System.\r\n",
        "[  OK  ] Started OpenSSH server daemon.\r\n",
        "[    3.100000][    T1] Run /sbin/init as init process\r\n",
        "Copyright (c) 1992-2021 The FreeBSD Project.\r\n\tThe Regents of the University\r\n",
        "OpenBSD 7.4 (GENERIC) #1336: Tue Oct 10 08:52:22 MDT 2023\r\n",
    ] {
        assert_eq!(last(text), Some(Stage::Kernel), "{text}");
    }
}

#[test]
fn a_prompt_from_before_a_reset_does_not_count() {
    let text = [LOGIN, NO_GETTY].concat();
    let transcript = read(text);
    assert_eq!(transcript.last, Some(Stage::Kernel));
    assert!(!transcript.prompted);
}

#[test]
fn a_kernels_word_over_a_login_leaves_the_login() {
    let text = "web login: [  123.456789] usb 1-1: new device\r\n[  124.000000] more\r\n";
    let mut whole = LOGIN.to_vec();
    whole.extend_from_slice(text.as_bytes());
    let transcript = read(whole);
    assert_eq!(transcript.last, Some(Stage::Kernel));
    assert!(transcript.prompted);
}

#[test]
fn a_guest_of_another_kind_is_not_taken_for_its_firmware_for_ever() {
    let mut text = String::from("SeaBIOS (version 1.16.0)\r\n");
    text.extend((0..=FIRMWARE_LINES).map(|line| format!("line {line}\r\n")));
    assert_eq!(last(text), None);
    let waiting = read("some tool\r\nenter a number");
    assert!(waiting.open_line && waiting.last.is_none());
}

#[test]
fn what_is_quoted_cannot_move_a_cursor() {
    let transcript = read("\x07\u{202e}evil\u{9b}2J");
    assert_eq!(transcript.last_line, "\u{fffd}evil\u{fffd}2J");
}

proptest! {
    #[test]
    fn any_output_is_read_without_panic_into_bounded_printable_text(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 0..3),
    ) {
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let transcript = Transcript::read(&pieces);
        for text in [&transcript.last_line, &transcript.telling_line] {
            prop_assert!(text.len() <= MAX_QUOTE);
            prop_assert!(!text.chars().any(char::is_control));
        }
    }

    #[test]
    fn damage_to_a_boot_does_no_more_than_mislead(
        at in any::<prop::sample::Index>(), to: u8, cut in any::<prop::sample::Index>(),
    ) {
        let mut boot = LOGIN.to_vec();
        let at = at.index(boot.len());
        boot[at] = to;
        boot.truncate(cut.index(boot.len()));
        let transcript = read(&boot);
        prop_assert!(transcript.last_line.len() <= MAX_QUOTE);
        prop_assert!(!transcript.prompted || transcript.last.is_some());
    }

    #[test]
    fn where_the_output_is_cut_in_two_a_prompt_at_its_end_is_seen(
        cut in any::<prop::sample::Index>(),
    ) {
        // But not within the prompt itself.
        let (first, second) = LOGIN.split_at(cut.index(LOGIN.len() - 40));
        prop_assert_eq!(Transcript::read(&[first, second]).last, Some(Stage::Prompt));
    }
}
