//! The first message of a stream: what it asks for, checked, and the console it names.

use std::ops::RangeInclusive;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use tonic::Status;
use vmconsole_proto::v1;
use vmconsole_proto::v1::console_ref::Vm as VmRef;
use vmconsole_proto::v1::start::From as StartFrom;

use super::convert;
use super::refusal::status;
use crate::console::{Console, Directory, default_alias};
use crate::core::id::{Alias, ConsoleId, PeerIdentity, VmUuid};
use crate::core::lease::Claim;
use crate::core::output::{MAX_TAIL_LINES, Start};
use crate::core::reason::Reason;
use crate::core::window::{MAX_WINDOW, MIN_WINDOW};
use crate::hypervisor::Vm;
use crate::session::{ClientRules, LastHeard, OnGap, OpenRequest, ResumeError, Token};

/// The shortest and the longest interval of a heartbeat.
const HEARTBEAT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// The longest reason for a takeover, in bytes.
const MAX_TAKEOVER_REASON: usize = 256;

/// A refusal: its reason, to be counted, and the status that tells it.
pub(super) type Refusal = (Reason, Status);

pub(super) fn refuse(reason: Reason, message: impl Into<String>) -> Refusal {
    (reason, status(reason, message))
}

/// What `open` asks for, and the mode it named.
///
/// # Errors
/// BAD_REQUEST for what is malformed, UNSUPPORTED for what this agent does not serve.
pub(super) fn request(
    open: &v1::Open,
    proxy: PeerIdentity,
    heard: LastHeard,
) -> Result<(OpenRequest, v1::Mode), Refusal> {
    let (mode, claim) = mode(open.mode)?;
    check_takeover_reason(&open.takeover_reason)
        .map_err(|message| refuse(Reason::BadRequest, message))?;
    let request = OpenRequest {
        proxy,
        claim,
        takeover_reason: open.takeover_reason.clone(),
        view_otherwise: open.view_otherwise,
        displace_holder: open.displace_outside_holder,
        start: start(open.start.as_ref())?,
        wait_for_start: open.wait_for_start,
        end_when_stopped: open.end_when_stopped,
        resume: resume(&open.resume_token)?,
        client: ClientRules {
            on_gap: on_gap(open.on_gap)?,
            output_window: output_window(open.output_window)?,
            heartbeat: heartbeat(open.heartbeat.as_ref())?,
            heard,
        },
    };
    Ok((request, mode))
}

/// A mode, and how it asks for the lease.
///
/// # Errors
/// BAD_REQUEST for one that is not known.
pub(super) fn mode(mode: i32) -> Result<(v1::Mode, Option<Claim>), Refusal> {
    let known = v1::Mode::try_from(mode);
    let mode =
        known.map_err(|_| refuse(Reason::BadRequest, format!("mode {mode} is not known")))?;
    let claim = match mode {
        v1::Mode::Unspecified | v1::Mode::View => None,
        v1::Mode::WriteIfFree => Some(Claim::IfFree),
        v1::Mode::WriteTakeover => Some(Claim::Takeover),
        v1::Mode::WriteQueue => Some(Claim::Queue),
    };
    Ok((mode, claim))
}

pub(super) fn check_takeover_reason(reason: &str) -> Result<(), String> {
    if reason.len() > MAX_TAKEOVER_REASON {
        return Err(format!(
            "takeover_reason may have {MAX_TAKEOVER_REASON} bytes at most"
        ));
    }
    Ok(())
}

/// How a running session asks for the lease, and the reason that it gives.
///
/// # Errors
/// What is malformed.
pub(super) fn writer_request(request: &v1::RequestWriter) -> Result<(Claim, &str), String> {
    check_takeover_reason(&request.takeover_reason)?;
    let claim = match v1::Mode::try_from(request.mode) {
        Ok(v1::Mode::WriteIfFree) => Claim::IfFree,
        Ok(v1::Mode::WriteQueue) => Claim::Queue,
        Ok(v1::Mode::WriteTakeover) => Claim::Takeover,
        Ok(v1::Mode::Unspecified | v1::Mode::View) | Err(_) => {
            return Err("a RequestWriter without a mode to write in came".to_owned());
        }
    };
    Ok((claim, &request.takeover_reason))
}

/// A token of a length that this agent never gave out is as unknown as any other.
fn resume(token: &[u8]) -> Result<Option<Token>, Refusal> {
    if token.is_empty() {
        return Ok(None);
    }
    let unknown = || {
        let error = ResumeError::Unknown;
        refuse(Reason::ResumeRefused, error.to_string())
    };
    Token::from_wire(token).map(Some).ok_or_else(unknown)
}

fn start(start: Option<&v1::Start>) -> Result<Start, Refusal> {
    match start.and_then(|start| start.from.as_ref()) {
        None | Some(StartFrom::Live(_)) => Ok(Start::Live),
        Some(StartFrom::TailBytes(bytes)) => Ok(Start::TailBytes(*bytes)),
        Some(StartFrom::TailLines(lines @ 0..=MAX_TAIL_LINES)) => Ok(Start::TailLines(*lines)),
        Some(StartFrom::TailLines(lines)) => {
            let message = format!("start.tail_lines is {lines}: ask for {MAX_TAIL_LINES} at most");
            Err(refuse(Reason::BadRequest, message))
        }
        Some(StartFrom::Resume(from)) => {
            let from = convert::known_position(*from).ok_or_else(|| {
                let message = "start.resume has generation 0, which no output has: \
                               name a position that the agent told";
                refuse(Reason::BadRequest, message)
            })?;
            Ok(Start::Resume(from))
        }
        Some(StartFrom::FromBoot(_)) => Ok(Start::FromBoot),
    }
}

fn on_gap(on_gap: i32) -> Result<OnGap, Refusal> {
    match v1::OnGap::try_from(on_gap) {
        Ok(v1::OnGap::Unspecified | v1::OnGap::Note) => Ok(OnGap::Note),
        Ok(v1::OnGap::Close) => Ok(OnGap::Close),
        Err(_) => {
            let message = format!("on_gap {on_gap} is not known");
            Err(refuse(Reason::BadRequest, message))
        }
    }
}

pub(super) fn output_window(bytes: u64) -> Result<Option<u64>, Refusal> {
    match bytes {
        0 => Ok(None),
        MIN_WINDOW..=MAX_WINDOW => Ok(Some(bytes)),
        _ => {
            let message = format!(
                "output_window is {bytes} bytes: set 0 for none, or {MIN_WINDOW} to {MAX_WINDOW}"
            );
            Err(refuse(Reason::BadRequest, message))
        }
    }
}

pub(super) fn heartbeat(
    interval: Option<&prost_types::Duration>,
) -> Result<Option<Duration>, Refusal> {
    let Some(interval) = interval else {
        return Ok(None);
    };
    // A negative one is none of ours either.
    let interval = Duration::try_from(*interval).ok();
    match interval.filter(|interval| HEARTBEAT.contains(interval)) {
        Some(interval) => Ok(Some(interval)),
        None => {
            let message = "heartbeat is out of range: leave it unset for none, or set 1 s to 1 h";
            Err(refuse(Reason::BadRequest, message))
        }
    }
}

/// The console that `reference` names.
///
/// # Errors
/// BAD_REQUEST for what is malformed, NOT_FOUND for what this host does not have, and
/// ENDPOINT_LOST while the hypervisor was not read yet.
pub(super) fn console(
    directory: &Directory,
    reference: Option<&v1::ConsoleRef>,
) -> Result<Arc<Console>, Refusal> {
    let bad = |message: &str| refuse(Reason::BadRequest, message);
    let reference = reference.ok_or_else(|| bad("console is not set"))?;
    let vm_ref = reference
        .vm
        .as_ref()
        .ok_or_else(|| bad("console.vm is not set"))?;
    let vm = known(directory, vm_ref)?;
    let alias = if reference.alias.is_empty() {
        let none = || {
            refuse(
                Reason::NotFound,
                "this VM has no console: add a serial device",
            )
        };
        default_alias(&vm).cloned().ok_or_else(none)?
    } else {
        Alias::new(&reference.alias).map_err(|error| bad(&error.to_string()))?
    };
    let id = ConsoleId { vm: vm.uuid, alias };
    let not_found = || {
        let has: Vec<_> = vm
            .consoles
            .iter()
            .map(|device| device.alias.as_str())
            .collect();
        let has = if has.is_empty() {
            "none".to_owned()
        } else {
            has.join(", ")
        };
        refuse(
            Reason::NotFound,
            format!("this VM has no console of that alias; it has: {has}"),
        )
    };
    directory.console(&id).cloned().ok_or_else(not_found)
}

/// The VM that `reference` names.
///
/// # Errors
/// As [`console`].
pub(super) fn vm(directory: &Directory, reference: Option<&v1::VmRef>) -> Result<Arc<Vm>, Refusal> {
    let reference = match reference.and_then(|reference| reference.vm.as_ref()) {
        Some(v1::vm_ref::Vm::Uuid(uuid)) => VmRef::VmUuid(uuid.clone()),
        Some(v1::vm_ref::Vm::Name(name)) => VmRef::VmName(name.clone()),
        None => return Err(refuse(Reason::BadRequest, "vm is not set")),
    };
    known(directory, &reference)
}

/// The VM that this part of a [`v1::ConsoleRef`] names.
///
/// # Errors
/// As [`console`].
pub(super) fn known(directory: &Directory, reference: &VmRef) -> Result<Arc<Vm>, Refusal> {
    find(directory, reference)?.ok_or_else(|| {
        if directory.synced {
            return refuse(Reason::NotFound, "this host has no such VM");
        }
        let message = "the hypervisor was not read yet: try again in a moment";
        refuse(Reason::EndpointLost, message)
    })
}

fn find(directory: &Directory, reference: &VmRef) -> Result<Option<Arc<Vm>>, Refusal> {
    match reference {
        VmRef::VmUuid(uuid) => match VmUuid::from_str(uuid) {
            Ok(uuid) => Ok(directory.vm(uuid).cloned()),
            Err(error) => Err(refuse(
                Reason::BadRequest,
                format!("the VM's UUID is {error}"),
            )),
        },
        VmRef::VmName(name) => {
            let mut named = directory.vms_named(name);
            match (named.next(), named.next()) {
                (Some(_), Some(_)) => {
                    let message = "two VMs of this host bear this name: use the UUID";
                    Err(refuse(Reason::BadRequest, message))
                }
                (found, _) => Ok(found.cloned()),
            }
        }
    }
}
