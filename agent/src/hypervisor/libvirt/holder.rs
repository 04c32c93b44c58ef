//! Who else may have a console open through libvirt. libvirtd tells nobody which of its clients
//! holds a console, so this looks for `virsh console` among the host's processes. It finds no
//! other client, and believes command lines, which a local user may forge: what it finds is for
//! messages, and nothing is decided by it.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::lane::Lane;
use crate::core::id::Alias;
use crate::endpoint::Holder;
use crate::hypervisor::{ConsoleKind, Vm};

/// How long is looked for at most.
const FIND_WITHIN: Duration = Duration::from_millis(900);
/// The most entries of `/proc` that are looked at.
const MAX_PROCESSES: usize = 65_536;
/// The most of a command line that is read, in bytes.
const MAX_COMMAND_LINE_BYTES: u64 = 4096;
/// The most of a command's name that is kept, in bytes. The kernel has 15.
const MAX_COMMAND_BYTES: u64 = 64;

/// A `virsh console` of this console, if there is one that the agent may see; of several the
/// one with the highest number, which most often is the latest.
///
/// # Cancel safety
/// Nothing is changed by it.
pub(super) async fn find_holder(vm: Arc<Vm>, alias: Alias) -> Option<Holder> {
    let (tell, told) = oneshot::channel();
    let search = move || {
        let deadline = Instant::now() + FIND_WITHIN;
        let _unheard = tell.send(search(Path::new("/proc"), &vm, &alias, deadline));
    };
    Lane::new("libvirt-holder").run(search).ok()?;
    timeout(FIND_WITHIN, told).await.ok()?.ok()?
}

fn search(proc: &Path, vm: &Vm, alias: &Alias, deadline: Instant) -> Option<Holder> {
    let mut found: Option<Holder> = None;
    for entry in fs::read_dir(proc).ok()?.take(MAX_PROCESSES).flatten() {
        if Instant::now() >= deadline {
            break;
        }
        let process = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let Some(process) = process else { continue };
        if found.as_ref().is_some_and(|found| found.process > process) {
            continue;
        }
        if let Some(holder) = examine(&entry.path(), process, vm, alias) {
            found = Some(holder);
        }
    }
    found
}

/// The process as a holder, if it is one. It may end at any time, and then is none.
fn examine(dir: &Path, process: u32, vm: &Vm, alias: &Alias) -> Option<Holder> {
    let line = read_bounded(&dir.join("cmdline"), MAX_COMMAND_LINE_BYTES)?;
    let arguments: Vec<&str> = line.trim_end_matches('\0').split('\0').collect();
    if !attends(&arguments, vm, alias) {
        return None;
    }
    let command = read_bounded(&dir.join("comm"), MAX_COMMAND_BYTES)?;
    let printable = |c: char| if c.is_ascii_graphic() { c } else { '?' };
    Some(Holder {
        process,
        command: command.trim_end().chars().map(printable).collect(),
        user: fs::metadata(dir).ok()?.uid(),
    })
}

fn read_bounded(path: &Path, limit: u64) -> Option<String> {
    let mut bytes = Vec::new();
    let file = File::open(path).ok()?;
    file.take(limit).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether a command line is that of a `virsh console` on this console.
fn attends(arguments: &[&str], vm: &Vm, alias: &Alias) -> bool {
    let Some((program, arguments)) = arguments.split_first() else {
        return false;
    };
    if program.rsplit('/').next() != Some("virsh") {
        return false;
    }
    // A command is given as words, or whole as one argument.
    let is_console = |argument: &&str| argument.split_whitespace().next() == Some("console");
    let Some(at) = arguments.iter().position(is_console) else {
        return false;
    };
    let (options, command) = arguments.split_at(at);
    let words: Vec<&str> = match command {
        [whole] => whole.split_whitespace().skip(1).collect(),
        words => words.iter().copied().skip(1).collect(),
    };
    let (domain, device) = domain_and_device(&words);
    is_local(options)
        && domain.is_some_and(|domain| names(domain, vm))
        && match device {
            Some(device) => device == alias.as_str(),
            None => default_console(vm) == Some(alias),
        }
}

/// What a `virsh console` is about: a domain, and perhaps one of its devices.
fn domain_and_device<'a>(words: &[&'a str]) -> (Option<&'a str>, Option<&'a str>) {
    let (mut domain, mut device) = (None, None);
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        match word.split_once('=').unwrap_or((word, "")) {
            ("--domain", "") => domain = words.next(),
            ("--devname", "") => device = words.next(),
            ("--domain", value) => domain = Some(value),
            ("--devname", value) => device = Some(value),
            (flag, _) if flag.starts_with("--") => {}
            _ if domain.is_none() => domain = Some(word),
            _ => device = device.or(Some(word)),
        }
    }
    (domain, device)
}

/// Whether virsh speaks to a libvirtd of this host: its URI, if it is given, has no host.
fn is_local(options: &[&str]) -> bool {
    options.iter().all(|option| {
        let host = option.split_once("://").map(|(_, rest)| rest);
        host.is_none_or(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
    })
}

/// Whether virsh would take this for the VM: its number, its UUID or its name.
fn names(domain: &str, vm: &Vm) -> bool {
    domain == &*vm.name
        || domain.parse() == Ok(vm.uuid)
        || vm.instance.is_some_and(|run| domain.parse() == Ok(run.0))
}

/// The console that libvirt opens when none is named: the first, channels and displays aside.
fn default_console(vm: &Vm) -> Option<&Alias> {
    let mut consoles = vm.consoles.iter();
    let first =
        consoles.find(|console| !matches!(console.kind, ConsoleKind::Channel | ConsoleKind::Vnc));
    first.map(|console| &console.alias)
}

#[cfg(test)]
mod tests;
