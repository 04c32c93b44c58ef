//! Which console is meant, and what sort it is: asked for once, before anything is listened on.
//!
//! Refuses to guess where a name fits two VMs, and what is not relayed.

use std::collections::BTreeSet;

use vmconsole_proto::v1::{Console, ConsoleKind, ConsoleRef};

use super::wire::Kind;
use crate::output::printable;
use crate::reference;
use crate::words;

/// How many of a VM's consoles are named.
const MAX_NAMED: usize = 16;

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A VNC display.
    Display,
    /// Any console.
    Any,
}

/// What was found.
#[derive(Debug, PartialEq)]
pub(super) struct Found {
    /// As exactly as it can be named.
    pub(super) console: ConsoleRef,
    /// `VM/ALIAS`.
    pub(super) name: String,
    /// What sort.
    pub(super) kind: Kind,
}

/// Why there is nothing to relay.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FindError {
    /// No console at all.
    #[error("the agent knows no VM {0} with a console: see `vmconsolectl list`")]
    NoVm(String),
    /// A name that two VMs bear.
    #[error("two VMs are named {0}: name the one that is meant by its UUID")]
    TwoVms(String),
    /// No VNC display.
    #[error("{vm} has no VNC display; it has {has}")]
    NoDisplay {
        /// The VM.
        vm: String,
        /// What it has.
        has: String,
    },
    /// No such console.
    #[error("{vm} has no console {alias}; it has {has}")]
    NoConsole {
        /// The VM.
        vm: String,
        /// The alias.
        alias: String,
        /// What it has.
        has: String,
    },
    /// Of another sort.
    #[error("{alias} is of kind {kind}, and no VNC display: use `vmconsolectl relay` or `attach`")]
    NotVnc {
        /// The alias.
        alias: String,
        /// Its kind.
        kind: String,
    },
    /// Of a sort that is not relayed.
    #[error("{alias} is of kind {kind}, which is not relayed")]
    Kind {
        /// The alias.
        alias: String,
        /// Its kind.
        kind: String,
    },
}

/// Chooses among the consoles that the agent listed for `vm`. An empty alias means the first
/// display, or, of any, what is meant for `attach`: the first serial console, or else the first
/// console. Of a VM that has displays alone, which `attach` refuses, it means the first of VNC.
///
/// # Errors
/// [`FindError`].
pub(super) fn choose(
    consoles: &[Console],
    vm: &str,
    alias: &str,
    wanted: Wanted,
) -> Result<Found, FindError> {
    let first = consoles.first();
    let first = first.ok_or_else(|| FindError::NoVm(printable(vm)))?;
    let vms: BTreeSet<_> = consoles.iter().map(|console| &console.vm_uuid).collect();
    if vms.len() > 1 {
        return Err(FindError::TwoVms(printable(vm)));
    }
    let of_kind = |kind| consoles.iter().find(|console| console.kind() == kind);
    let is_display =
        |console: &&Console| matches!(console.kind(), ConsoleKind::Vnc | ConsoleKind::Spice);
    let chosen = match (alias, wanted) {
        ("", Wanted::Display) => of_kind(ConsoleKind::Vnc).ok_or_else(|| FindError::NoDisplay {
            vm: printable(vm),
            has: named(consoles),
        })?,
        ("", Wanted::Any) => of_kind(ConsoleKind::Serial)
            .or_else(|| consoles.iter().find(|console| !is_display(console)))
            .or_else(|| of_kind(ConsoleKind::Vnc))
            .unwrap_or(first),
        (alias, _) => {
            let found = consoles.iter().find(|console| console.alias == alias);
            found.ok_or_else(|| FindError::NoConsole {
                vm: printable(vm),
                alias: printable(alias),
                has: named(consoles),
            })?
        }
    };
    let kind = kind(chosen, wanted)?;
    let name = match chosen.vm_name.as_str() {
        "" => &chosen.vm_uuid,
        name => name,
    };
    Ok(Found {
        console: reference::console(&chosen.vm_uuid, &chosen.alias),
        name: format!("{}/{}", printable(name), printable(&chosen.alias)),
        kind,
    })
}

/// How it is relayed.
fn kind(console: &Console, wanted: Wanted) -> Result<Kind, FindError> {
    let (alias, kind) = (printable(&console.alias), words::kind(console.kind));
    match (console.kind(), wanted) {
        (ConsoleKind::Vnc, _) => Ok(Kind::Display),
        (_, Wanted::Display) => Err(FindError::NotVnc { alias, kind }),
        (ConsoleKind::Serial | ConsoleKind::Virtio | ConsoleKind::Channel, _) => Ok(Kind::Serial),
        (ConsoleKind::Spice | ConsoleKind::Unspecified, _) => Err(FindError::Kind { alias, kind }),
    }
}

/// Some of the aliases.
fn named(consoles: &[Console]) -> String {
    let aliases = consoles.iter().take(MAX_NAMED);
    let aliases = aliases.map(|console| printable(&console.alias));
    aliases.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "6f1f7f32-0000-4000-8000-00000000000a";

    fn console(alias: &str, kind: ConsoleKind) -> Console {
        Console {
            vm_uuid: UUID.into(),
            vm_name: "web-1".into(),
            alias: alias.into(),
            kind: kind.into(),
            ..Default::default()
        }
    }

    fn all() -> Vec<Console> {
        vec![
            console("console1", ConsoleKind::Virtio),
            console("serial0", ConsoleKind::Serial),
            console("spice0", ConsoleKind::Spice),
            console("vnc0", ConsoleKind::Vnc),
            console("vnc1", ConsoleKind::Vnc),
        ]
    }

    fn found(alias: &str, wanted: Wanted) -> Result<(String, Kind), FindError> {
        let found = choose(&all(), "web-1", alias, wanted)?;
        assert_eq!(
            found.console.alias,
            found.name.strip_prefix("web-1/").unwrap()
        );
        assert_eq!(
            found.console,
            reference::console(UUID, &found.console.alias)
        );
        Ok((found.console.alias, found.kind))
    }

    #[test]
    fn the_first_of_the_wanted_sort_is_meant_unless_one_is_named() {
        let of = |alias: &str, kind| Ok((alias.to_owned(), kind));
        assert_eq!(found("", Wanted::Display), of("vnc0", Kind::Display));
        assert_eq!(found("vnc1", Wanted::Display), of("vnc1", Kind::Display));
        assert_eq!(found("", Wanted::Any), of("serial0", Kind::Serial));
        assert_eq!(found("console1", Wanted::Any), of("console1", Kind::Serial));
        assert_eq!(found("vnc1", Wanted::Any), of("vnc1", Kind::Display));
    }

    #[test]
    fn a_display_is_meant_where_there_are_only_displays() {
        let spice = console("spice0", ConsoleKind::Spice);
        let vnc = console("vnc0", ConsoleKind::Vnc);
        let virtio = console("virtio0", ConsoleKind::Virtio);
        let meant = |consoles: &[Console]| {
            choose(consoles, "web-1", "", Wanted::Any).map(|found| found.console.alias)
        };
        let displays = [spice.clone(), vnc.clone()];
        assert_eq!(meant(&displays), Ok("vnc0".to_owned()));
        let first_is_a_display = [vnc, virtio];
        assert_eq!(meant(&first_is_a_display), Ok("virtio0".to_owned()));
        meant(&[spice]).unwrap_err();
    }

    #[test]
    fn what_is_not_there_or_not_relayed_is_told_with_what_is() {
        for (alias, wanted, told) in [
            ("serial0", Wanted::Display, "serial0 is of kind serial"),
            ("spice0", Wanted::Any, "spice0 is of kind spice"),
            (
                "vnc2",
                Wanted::Any,
                "it has console1, serial0, spice0, vnc0, vnc1",
            ),
        ] {
            let error = found(alias, wanted).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
        let none = choose(&[], "web-1", "", Wanted::Any).unwrap_err();
        assert_eq!(none, FindError::NoVm("web-1".into()));
        let serial = [console("serial0", ConsoleKind::Serial)];
        let none = choose(&serial, "web-1", "", Wanted::Display).unwrap_err();
        assert!(none.to_string().ends_with("it has serial0"), "{none}");
    }

    #[test]
    fn a_name_that_two_vms_bear_is_refused() {
        let mut two = all();
        two[4].vm_uuid = UUID.replace('a', "b");
        let error = choose(&two, "web-1", "", Wanted::Any).unwrap_err();
        assert_eq!(error, FindError::TwoVms("web-1".into()));
    }
}
