//! By which lines firmware, kernels and prompts are known. Pure: one line in, a mark out.
//!
//! Lines that several could have written have no mark: it is better not to know.

/// Who wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Firmware or a boot loader.
    Firmware(LoaderState),
    /// A kernel, or what starts services after it.
    Kernel,
    /// A login, a shell, or something else that asks.
    Prompt,
    /// A login that asks for what it does not show.
    Secret,
    /// A kernel that died.
    Panic,
}

/// How far firmware and boot loader came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoaderState {
    /// They were at work.
    Running,
    /// They started a kernel.
    StartedKernel,
    /// They found nothing to boot.
    NothingToBoot,
    /// They wait for a command.
    Asking,
}

/// What a line tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Firmware(LoaderState),
    /// The first line of a kernel.
    KernelStart,
    /// A kernel's line of its first seconds.
    KernelEarly,
    Kernel,
    Prompt,
    Secret,
    Panic,
}

impl Mark {
    pub(super) const fn stage(self) -> Stage {
        match self {
            Self::Firmware(state) => Stage::Firmware(state),
            Self::KernelStart | Self::KernelEarly | Self::Kernel => Stage::Kernel,
            Self::Prompt => Stage::Prompt,
            Self::Secret => Stage::Secret,
            Self::Panic => Stage::Panic,
        }
    }
}

/// The longest line that can be a prompt.
const MAX_PROMPT: usize = 128;

/// How much of a boot may have passed, by the kernel's clock, for its start to be seen.
const EARLY_SECONDS: u64 = 3;

/// Anywhere in a line.
const PANIC: &[&str] = &[
    "Kernel panic - not syncing",
    "end Kernel panic",
    "Fatal trap ",
    "*** STOP: 0x",
];

/// SeaBIOS, iPXE, OVMF, GRUB, SYSLINUX; what finds nothing. Anywhere in a line.
const NOTHING_TO_BOOT: &[&str] = &[
    "No bootable device",
    "No more network devices",
    "BdsDxe: No bootable option or device was found",
    "BdsDxe: failed to load Boot",
    "Operating system not found",
    "Missing operating system",
    "No DEFAULT or UI configuration directive found",
];

/// At the start of a line: a kernel begins to run, and says so through the firmware.
const STARTS_KERNEL: &[&str] = &[
    "Booting from ROM...",
    "Probing EDD ",
    "Loading Linux ",
    "Loading initial ramdisk",
    "Loading vmlinuz",
    "Loading initrd",
    "Loading kernel ",
    "Loading ramdisk",
    "EFI stub:",
    "Decompressing Linux",
    "Starting kernel ...",
    "Booting `",
    "Booting '",
    "Booting a command list",
];

/// Anywhere in a line.
const FIRMWARE: &[&str] = &[
    "SeaBIOS (version",
    "iPXE ",
    "Google, Inc.\u{20}Serial Graphics Adapter",
    "BdsDxe:",
    "EDK II",
    "UEFI Interactive Shell",
    "UEFI firmware",
    "TianoCore",
    "GNU GRUB",
    "GRUB loading",
    "Welcome to GRUB!",
    "Booting from ",
    "Booting Linux from ",
    "ISOLINUX ",
    "SYSLINUX ",
    "PXELINUX ",
    "U-Boot ",
    "SLOF",
    "OpenBIOS",
    "FreeBSD/x86 bootstrap loader",
    "Hit [Enter] to boot immediately",
    ">> OpenBSD/",
    "Press ESC for boot menu",
];

/// A boot loader's prompt, alone on its line.
const LOADER_PROMPTS: &[&str] = &["grub>", "grub rescue>", "Shell>", "boot:", "=>", "iPXE>"];

/// At the start of a line.
const KERNEL_START: &[&str] = &[
    "Linux version ",
    "Copyright (c) 1992-",
    "OpenBSD ",
    "NetBSD ",
    "Computer is booting, SAC started",
];

/// At the start of a line: what starts services after a Linux kernel.
const SERVICES: &[&str] = &[
    "[  OK  ]",
    "[FAILED]",
    "[DEPEND]",
    "Starting version ",
    "Welcome to ",
    "INIT: version",
    "systemd[1]:",
    "cloud-init[",
    "FreeBSD ",
];

/// What a line says of who wrote it. The last line of all may be without its end: prompts are.
pub(super) fn mark(line: &str, ended: bool) -> Option<Mark> {
    let (stamp, rest) = kernel_time(line);
    let text = rest.trim();
    if has(text, PANIC) || text.starts_with("panic: ") {
        return Some(Mark::Panic);
    }
    if let Some(seconds) = stamp {
        return Some(if begins(text, KERNEL_START) {
            Mark::KernelStart
        } else if seconds < EARLY_SECONDS {
            Mark::KernelEarly
        } else {
            Mark::Kernel
        });
    }
    prompt(line, ended).or_else(|| loader(text)).or_else(|| {
        if begins(text, KERNEL_START) {
            Some(Mark::KernelStart)
        } else {
            begins(text, SERVICES).then_some(Mark::Kernel)
        }
    })
}

/// The two parts of a line in which a kernel wrote over something that asks.
pub(super) fn written_over(line: &str) -> Option<(&str, &str)> {
    let at = line.find('[').filter(|at| *at > 0)?;
    let (before, kernel) = line.split_at(at);
    let asks = kernel_time(kernel).0.is_some() && prompt(before, false).is_some();
    asks.then_some((before, kernel))
}

fn has(text: &str, marks: &[&str]) -> bool {
    marks.iter().any(|mark| text.contains(mark))
}

fn begins(text: &str, marks: &[&str]) -> bool {
    marks.iter().any(|mark| text.starts_with(mark))
}

fn loader(text: &str) -> Option<Mark> {
    if LOADER_PROMPTS.contains(&text) {
        Some(Mark::Firmware(LoaderState::Asking))
    } else if has(text, NOTHING_TO_BOOT) {
        Some(Mark::Firmware(LoaderState::NothingToBoot))
    } else if begins(text, STARTS_KERNEL) {
        Some(Mark::Firmware(LoaderState::StartedKernel))
    } else {
        has(text, FIRMWARE).then_some(Mark::Firmware(LoaderState::Running))
    }
}

/// The seconds of a Linux kernel's `[    1.234567] `, and the text after it.
fn kernel_time(line: &str) -> (Option<u64>, &str) {
    // A line may begin with the remains of another one.
    let parsed = line.find('[').and_then(|open| {
        let (inner, rest) = line[open + 1..].split_once(']')?;
        let (seconds, micros) = inner.trim_start().split_once('.')?;
        let micros = micros.split('T').next()?.trim_end();
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(seconds) || !digits(micros) || micros.len() != 6 {
            return None;
        }
        Some((seconds.parse().ok()?, rest))
    });
    match parsed {
        Some((seconds, rest)) => (Some(seconds), rest),
        None => (None, line),
    }
}

fn prompt(line: &str, ended: bool) -> Option<Mark> {
    let text = line.trim();
    if text.len() > MAX_PROMPT {
        return None;
    }
    let lower = text.to_ascii_lowercase();
    if lower.ends_with("password:") || lower.ends_with("passphrase:") {
        return Some(Mark::Secret);
    }
    let asks = lower.ends_with("login:")
        || lower.contains(" login: ")
        || lower.ends_with("[y/n]")
        || text.starts_with("SAC>")
        || text.starts_with("(initramfs)")
        || text.contains("(or press Control-D to continue):")
        || lower.starts_with("press enter ");
    (asks || is_shell(text, ended)).then_some(Mark::Prompt)
}

/// Whether it looks like a shell's prompt: `root@host:~# `, `[user@host dir]$ `, `sh-5.1# `,
/// `C:\>`, with a command after it or without.
fn is_shell(text: &str, ended: bool) -> bool {
    let bare = !ended && text.len() <= MAX_PROMPT && text.ends_with(['#', '$', '%', '>']);
    let known_loader = LOADER_PROMPTS.contains(&text);
    let head = text.split(['#', '$']).next().unwrap_or_default();
    let user_at_host = head.len() < text.len()
        && head
            .split_once('@')
            .is_some_and(|(user, host)| is_name(user.trim_start_matches('[')) && !host.is_empty())
        && !head.contains("://");
    (bare && !known_loader) || user_at_host
}

fn is_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    !text.is_empty() && text.bytes().all(allowed)
}
