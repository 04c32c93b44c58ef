//! How a VM, or a console of it, is named to the agent.
//!
//! Refuses to ask the agent which is meant: a UUID is one by its form alone.

use uuid::Uuid;
use vmconsole_proto::v1::{ConsoleRef, VmRef, console_ref, vm_ref};

/// The UUID that this is, in lower case; only the form with hyphens is one, since a name may
/// look like any other.
fn uuid(vm: &str) -> Option<String> {
    let uuid = Uuid::try_parse(vm).ok().filter(|_| vm.len() == 36)?;
    Some(uuid.hyphenated().to_string())
}

/// The VM of this UUID or name.
pub(crate) fn vm(vm: &str) -> VmRef {
    let vm = match uuid(vm) {
        Some(uuid) => vm_ref::Vm::Uuid(uuid),
        None => vm_ref::Vm::Name(vm.to_owned()),
    };
    VmRef { vm: Some(vm) }
}

/// The console of this alias, or the VM's first if it is empty.
pub(crate) fn console(vm: &str, alias: &str) -> ConsoleRef {
    let vm = match uuid(vm) {
        Some(uuid) => console_ref::Vm::VmUuid(uuid),
        None => console_ref::Vm::VmName(vm.to_owned()),
    };
    ConsoleRef {
        vm: Some(vm),
        alias: alias.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_is_meant_by_uuid_only_in_the_form_with_hyphens() {
        let shown = "6F1F7F32-0000-4000-8000-00000000000A";
        let lower = shown.to_ascii_lowercase();
        assert_eq!(vm(shown).vm, Some(vm_ref::Vm::Uuid(lower.clone())));
        let of_console = console(shown, "serial1");
        assert_eq!(of_console.vm, Some(console_ref::Vm::VmUuid(lower)));
        assert_eq!(of_console.alias, "serial1");
        for name in [shown.replace('-', "").as_str(), "web"] {
            assert_eq!(vm(name).vm, Some(vm_ref::Vm::Name(name.into())));
            let of_console = console(name, "");
            assert_eq!(of_console.vm, Some(console_ref::Vm::VmName(name.into())));
        }
    }
}
