//! What tells VMs, and the runs of their QEMUs, apart where QEMU says nothing of it. Pure.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use uuid::{Builder, Uuid};

use crate::core::id::VmUuid;
use crate::hypervisor::Instance;

/// The namespace of the UUIDs that are made from sockets' paths. Drawn once at random; never
/// to be changed, since grants and logs name VMs by what comes of it.
pub(super) const PATH_NAMESPACE: Uuid = Uuid::from_u128(0x8fb1_9c52_5e06_4d0f_9d83_74f2_1a6e_c0b7);

/// How many bits of an instance's number a process's id takes: Linux's largest is 2^22.
const PROCESS_BITS: u32 = 22;
/// Set in an instance's number that was not made from a process.
const NO_PROCESS: u64 = 1 << 63;

/// The identity of a QEMU without a UUID, from its socket's absolute path: a UUID of version 5
/// (RFC 9562), as `uuidgen --sha1 --namespace 8fb19c52-5e06-4d0f-9d83-74f21a6ec0b7 --name PATH`
/// prints it.
pub(super) fn of_path(path: &Path) -> VmUuid {
    // Version 5 is defined over SHA-1. Nothing is protected by it: a peer may claim any UUID.
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    context.update(PATH_NAMESPACE.as_bytes());
    context.update(path.as_os_str().as_bytes());
    let digest = context.finish();
    let mut first = [0; 16];
    for (to, from) in first.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    VmUuid::new(Builder::from_sha1_bytes(first).into_uuid())
}

/// The run of a QEMU that is this process: the time at which it started, in clock ticks since
/// boot, above the 22 bits of its id. Two processes with one id never start in one tick.
pub(super) const fn of_process(process: u32, started: u64) -> Instance {
    let started = (started << PROCESS_BITS) & !NO_PROCESS;
    Instance(started | process as u64)
}

/// The process's id and start that a run's number was made from.
pub(super) const fn process_of(instance: Instance) -> Option<(u32, u64)> {
    if instance.0 & NO_PROCESS != 0 {
        return None;
    }
    let id = instance.0 & ((1 << PROCESS_BITS) - 1);
    Some((id as u32, instance.0 >> PROCESS_BITS))
}

/// The run of a QEMU whose process is not known (it is of another PID namespace, say), by its
/// socket, which QEMU makes anew each time: the socket's inode and when that was last changed,
/// in nanoseconds.
pub(super) const fn of_socket(inode: u64, changed: u64) -> Instance {
    Instance(NO_PROCESS | (inode.rotate_left(40) ^ changed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_gives_the_uuid_that_others_compute() {
        let uuid = of_path(Path::new("/run/vmconsole/qmp/a.sock"));
        assert_eq!(uuid.to_string(), "306bc7cf-c0bd-5cc5-9f1f-7d9c4ea35bc3");
        assert_ne!(uuid, of_path(Path::new("/run/vmconsole/qmp/b.sock")));
    }

    #[test]
    fn runs_are_told_apart() {
        let largest = (1 << PROCESS_BITS) - 1;
        let runs = [
            of_process(1, 100),
            of_process(1, 101),
            of_process(2, 100),
            of_process(largest, 99),
            of_socket(7, 1_700_000_000_000_000_000),
            of_socket(8, 1_700_000_000_000_000_000),
            of_socket(7, 1_700_000_000_000_000_001),
        ];
        let mut numbers: Vec<u64> = runs.map(|run| run.0).into();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), runs.len());
        assert_eq!(process_of(of_process(largest, 99)), Some((largest, 99)));
        assert_eq!(process_of(of_socket(7, 1)), None);
    }
}
