//! `ListConsoles`, and the filter that it shares with `WatchConsoles`.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::str::FromStr as _;
use std::sync::Arc;

use tonic::Status;
use vmconsole_proto::v1;

use super::convert;
use super::refusal::status;
use crate::console::{self, Console, Directory};
use crate::core::id::{Alias, ConsoleId, VmUuid};
use crate::core::reason::Reason;

/// How many consoles a page has if the caller does not say.
const DEFAULT_PAGE: usize = 100;

/// How many consoles a page may have.
const MAX_PAGE: usize = 1000;

/// How many VMs a filter may name.
const MAX_FILTER_VMS: usize = 256;

fn bad(message: impl Into<String>) -> Status {
    status(Reason::BadRequest, message)
}

/// Which consoles a caller wants to see.
#[derive(Debug, Default)]
pub(super) struct Filter {
    uuids: BTreeSet<VmUuid>,
    names: BTreeSet<String>,
    kinds: BTreeSet<i32>,
    availabilities: BTreeSet<i32>,
}

impl Filter {
    /// Checks a filter.
    ///
    /// # Errors
    /// BAD_REQUEST for a value that is not known, or too many.
    pub(super) fn new(filter: Option<v1::ConsoleFilter>) -> Result<Self, Status> {
        let filter = filter.unwrap_or_default();
        if filter.vms.len() > MAX_FILTER_VMS {
            return Err(bad(format!(
                "a filter may name {MAX_FILTER_VMS} VMs at most"
            )));
        }
        let known_kind = |kind: &i32| v1::ConsoleKind::try_from(*kind).is_ok_and(|k| k as i32 > 0);
        let known_availability =
            |one: &i32| v1::Availability::try_from(*one).is_ok_and(|a| a as i32 > 0);
        if !filter.kinds.iter().all(known_kind) {
            return Err(bad(
                "the filter has a kind that is unspecified or not known",
            ));
        }
        if !filter.availabilities.iter().all(known_availability) {
            return Err(bad(
                "the filter has an availability that is unspecified or not known",
            ));
        }
        let (mut uuids, mut names) = (BTreeSet::new(), BTreeSet::new());
        for vm in filter.vms {
            // A name may look like a UUID.
            if let Ok(uuid) = VmUuid::from_str(&vm) {
                uuids.insert(uuid);
            }
            names.insert(vm);
        }
        Ok(Self {
            uuids,
            names,
            kinds: filter.kinds.into_iter().collect(),
            availabilities: filter.availabilities.into_iter().collect(),
        })
    }

    pub(super) fn admits(&self, status: &console::Status) -> bool {
        let vm = self.names.is_empty()
            || self.uuids.contains(&status.id.vm)
            || self.names.contains(&*status.vm_name);
        let kind = convert::kind(status.device.kind) as i32;
        let availability = convert::availability(status.state.availability) as i32;
        vm && (self.kinds.is_empty() || self.kinds.contains(&kind))
            && (self.availabilities.is_empty() || self.availabilities.contains(&availability))
    }
}

/// One page of consoles. `trouble` is why a hypervisor is not connected.
///
/// # Errors
/// BAD_REQUEST for a malformed filter or page token, ENDPOINT_LOST before the hypervisor
/// was read.
pub(super) fn page(
    directory: &Directory,
    trouble: Option<String>,
    request: v1::ListConsolesRequest,
) -> Result<v1::ListConsolesResponse, Status> {
    let filter = Filter::new(request.filter)?;
    if !directory.synced {
        let message = match trouble {
            Some(trouble) => format!("not connected: {trouble}"),
            None => "the hypervisor was not read yet: try again in a moment".to_owned(),
        };
        return Err(status(Reason::EndpointLost, message));
    }
    let size = match request.page_size as usize {
        0 => DEFAULT_PAGE,
        size => size.min(MAX_PAGE),
    };
    let after = match request.page_token.as_str() {
        "" => Bound::Unbounded,
        token => Bound::Excluded(parse_token(token)?),
    };
    let rest = directory.consoles().range((after, Bound::Unbounded));
    let mut admitted = rest
        .map(|(id, console): (_, &Arc<Console>)| (id, console.status()))
        .filter(|(_, status)| filter.admits(status));
    let mut consoles = Vec::new();
    let mut last = None;
    for (id, status) in admitted.by_ref().take(size) {
        consoles.push(convert::console(&status));
        last = Some(id.to_string());
    }
    let more = admitted.next().is_some();
    let next_page_token = last.filter(|_| more).unwrap_or_default();
    Ok(v1::ListConsolesResponse {
        consoles,
        next_page_token,
    })
}

fn parse_token(token: &str) -> Result<ConsoleId, Status> {
    let parsed = token.split_once('/').and_then(|(vm, alias)| {
        Some(ConsoleId {
            vm: VmUuid::from_str(vm).ok()?,
            alias: Alias::new(alias).ok()?,
        })
    });
    parsed.ok_or_else(|| bad("page_token is not one that ListConsoles gave: begin anew without"))
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn a_list_that_cannot_be_given_yet_says_what_keeps_it() {
        let refused = |trouble: Option<&str>| {
            let trouble = trouble.map(str::to_owned);
            let answer = page(&Directory::default(), trouble, Default::default());
            answer.expect_err("nothing was read")
        };
        let away = refused(Some("libvirt (qemu:///system): no socket"));
        assert_eq!(away.code(), Code::Unavailable);
        let said = "not connected: libvirt (qemu:///system): no socket";
        assert_eq!(away.message(), said);
        assert!(refused(None).message().contains("not read yet"));
    }
}
