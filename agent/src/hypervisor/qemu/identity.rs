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

/// The identity of a QEMU without a UUID, from its socket's absolute path without symbolic links
/// among its directories: a UUID of version 5 (RFC 9562), as `uuidgen --sha1 --namespace 8fb19c52-5e06-4d0f-9d83-74f21a6ec0b7 --name PATH`
/// prints it.
pub(super) fn of_path(path: &Path) -> VmUuid {
    // Version 5 is defined over SHA-1. Nothing is protected by it: a peer may claim any UUID.
    let first = digest([PATH_NAMESPACE.as_bytes(), path.as_os_str().as_bytes()]);
    VmUuid::new(Builder::from_sha1_bytes(first).into_uuid())
}

/// The first bytes of the SHA-1 of these parts.
fn digest<'a, const BYTES: usize>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; BYTES] {
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    for part in parts {
        context.update(part);
    }
    let mut first = [0; BYTES];
    for (to, from) in first.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    first
}

/// What a run of a QEMU is told from others by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The id of the process that listens on its socket, and when that started, in clock ticks
    /// since boot; `None` if it cannot be seen (it is of another PID namespace, say). It may be
    /// a process that made the socket for QEMU, and then lives on when QEMU has ended.
    pub(super) process: Option<(u32, u64)>,
    /// The socket's device and inode.
    pub(super) place: (u64, u64),
    /// When the socket was made, in nanoseconds: the time of its last modification, which no
    /// change of its owner, mode or name moves.
    pub(super) made: u64,
}

/// A run's number, the same to whoever computes it.
pub(super) fn of_run(run: Run) -> Instance {
    let (id, started) = run.process.unwrap_or_default();
    let facts = [u64::from(id), started, run.place.0, run.place.1, run.made];
    let facts = facts.map(u64::to_be_bytes);
    Instance(u64::from_be_bytes(digest(
        facts.iter().map(<[u8; 8]>::as_slice),
    )))
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
    fn runs_are_told_apart_by_each_of_their_facts() {
        let run = Run {
            process: Some((1, 100)),
            place: (3, 7),
            made: 1_700_000_000_000_000_000,
        };
        let runs = [
            run,
            Run {
                process: Some((1, 101)),
                ..run
            },
            Run {
                process: Some((2, 100)),
                ..run
            },
            Run {
                process: None,
                ..run
            },
            Run {
                place: (3, 8),
                ..run
            },
            Run {
                place: (4, 7),
                ..run
            },
            Run {
                made: run.made + 1,
                ..run
            },
        ];
        let mut numbers = runs.map(|run| of_run(run).0);
        numbers.sort_unstable();
        assert!(numbers.windows(2).all(|two| two[0] != two[1]));
        assert_eq!(of_run(run), of_run(run));
    }
}
