//! Who listens where the agent is to listen.
//!
//! From `/proc`: the sockets that listen, and which process has one open. Of other users'
//! processes only root sees that; then the socket's owner has to do.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use super::access::{AGENT_USER, user_name};
use super::finding::Finding;

/// The state of a TCP socket that listens, as `/proc/net/tcp` has it.
const LISTENS: &str = "0A";

/// The agent's name as `/proc` has it: at most 15 bytes.
const AGENT: &str = "vmconsole-agent";

/// The most sockets that are looked at.
const MAX_SOCKETS: usize = 100_000;

const CODE: &str = "port";

/// A socket that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listener {
    address: SocketAddr,
    user: u32,
    inode: String,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Process {
    id: u32,
    name: String,
}

/// What is to be said of each address, by what the file system at `root` has in `proc`.
pub(super) fn look(root: &Path, wanted: &[SocketAddr]) -> Vec<Finding> {
    let listeners = listeners(root);
    let findings = wanted.iter().map(|address| {
        if address.port() == 0 {
            let summary = format!("the agent takes any free port of {}", address.ip());
            return Finding::note(CODE, summary).next("its log says which (\"serving gRPC\")");
        }
        let there: Vec<_> = listeners
            .iter()
            .filter(|listener| meets(*address, listener.address))
            .collect();
        judge(root, *address, &there)
    });
    findings.collect()
}

fn listeners(root: &Path) -> Vec<Listener> {
    let read =
        |name: &str| fs::read_to_string(root.join("proc/net").join(name)).unwrap_or_default();
    let (four, six) = (read("tcp"), read("tcp6"));
    let lines = four.lines().chain(six.lines());
    lines.take(MAX_SOCKETS).filter_map(listener).collect()
}

/// One line, as proc(5) describes it: number, local address, remote address, state, queues,
/// timers, retransmits, user, timeouts, inode.
fn listener(line: &str) -> Option<Listener> {
    let fields: Vec<_> = line.split_whitespace().take(10).collect();
    let [_, local, _, LISTENS, _, _, _, user, _, inode] = fields[..] else {
        return None;
    };
    Some(Listener {
        address: address(local)?,
        user: user.parse().ok()?,
        inode: inode.to_owned(),
    })
}

/// An address in the kernel's form: words of 32 bits in the host's byte order, a colon, and
/// the port, all hexadecimal.
fn address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |index: usize| {
        let digits = host.get(index * 8..index * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let host: IpAddr = match host.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut bytes = [0; 16];
            for (index, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(index)?);
            }
            Ipv6Addr::from(bytes).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(host, port))
}

/// Whether one that listens at `there` stands where `wanted` is to listen.
fn meets(wanted: SocketAddr, there: SocketAddr) -> bool {
    let (wanted_ip, there_ip) = (wanted.ip().to_canonical(), there.ip().to_canonical());
    let every = |ip: IpAddr| ip.is_unspecified();
    let same_family = wanted_ip.is_ipv4() == there_ip.is_ipv4();
    // The agent's IPv6 wildcard takes IPv4 too, and so does most others'.
    let covers = |wide: IpAddr| every(wide) && (same_family || wide.is_ipv6());
    wanted.port() == there.port()
        && (wanted_ip == there_ip || covers(wanted_ip) || covers(there_ip))
}

fn judge(root: &Path, address: SocketAddr, there: &[&Listener]) -> Finding {
    if there.is_empty() {
        return Finding::problem(CODE, format!("nobody listens on {address}: the agent does not run"))
            .next("start it: systemctl start vmconsole-agent; if it does not stay up: journalctl -u vmconsole-agent");
    }
    let holders: Vec<_> = there
        .iter()
        .map(|listener| (*listener, process(root, &listener.inode)))
        .collect();
    let other = holders
        .iter()
        .find(|(_, process)| process.as_ref().is_some_and(|one| one.name != AGENT));
    if let Some((listener, Some(process))) = other {
        return taken(address, listener, process);
    }
    match holders.iter().find_map(|(_, process)| process.as_ref()) {
        Some(agent) => Finding::ok(CODE, format!("vmconsole-agent listens on {address}"))
            .evidence(format!("process {}", agent.id)),
        None => by_owner(address, there),
    }
}

fn taken(address: SocketAddr, listener: &Listener, process: &Process) -> Finding {
    let Process { id, name } = process;
    let summary = format!("{name} listens on {address}, not vmconsole-agent");
    let hint = if name.starts_with("sshd") {
        "this may be the sshd of ovirt-vmconsole-host, whose port is 2223 too (systemctl status ovirt-vmconsole-host-sshd): "
    } else {
        ""
    };
    let port = address.port();
    Finding::problem(CODE, summary)
        .evidence(format!(
            "process {id} of user {}, on {}",
            user_name(listener.user),
            listener.address
        ))
        .next(format!(
            "{hint}stop it, or give the agent another port than {port} (grpc.listen) and restart it"
        ))
}

fn by_owner(address: SocketAddr, there: &[&Listener]) -> Finding {
    let owners: Vec<_> = there.iter().map(|one| user_name(one.user)).collect();
    if owners.iter().all(|owner| owner == AGENT_USER) {
        let summary = format!("a process of user {AGENT_USER} listens on {address}");
        return Finding::ok(CODE, summary);
    }
    let summary = format!("somebody listens on {address}, and you may not see who");
    Finding::note(CODE, summary)
        .evidence(format!("owned by user {}", owners.join(", ")))
        .next("run doctor as root to see whether it is the agent")
}

/// The process that has the socket open, as far as we may see.
fn process(root: &Path, inode: &str) -> Option<Process> {
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir(root.join("proc")).ok()?;
    processes.flatten().find_map(|entry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        let mut open = fs::read_dir(entry.path().join("fd")).ok()?.flatten();
        let has = |fd: fs::DirEntry| {
            fs::read_link(fd.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str())
        };
        if !open.any(has) {
            return None;
        }
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        let name = name.trim_end().to_owned();
        Some(Process { id, name })
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::fs::symlink;

    use super::super::finding::Severity;
    use super::*;

    #[test]
    fn the_kernels_form_of_addresses_is_read() {
        let word = |ip: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(ip));
        let four = format!("{}:08AF", word([127, 0, 0, 1]));
        assert_eq!(address(&four), Some("127.0.0.1:2223".parse().unwrap()));
        let six: String = Ipv6Addr::LOCALHOST
            .octets()
            .chunks(4)
            .map(|part| word(part.try_into().unwrap()))
            .collect();
        let six = format!("{six}:08AF");
        assert_eq!(address(&six), Some("[::1]:2223".parse().unwrap()));
        for wrong in ["", ":", "1:2", "0100007F", "0100007Ä:08AF", "GG00007F:08AF"] {
            assert_eq!(address(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn wildcards_meet_what_they_cover() {
        let meets = |a: &str, b: &str| meets(a.parse().unwrap(), b.parse().unwrap());
        assert!(meets("[::]:1", "0.0.0.0:1"));
        assert!(meets("[::]:1", "192.0.2.1:1"));
        assert!(meets("192.0.2.1:1", "[::]:1"));
        assert!(meets("192.0.2.1:1", "192.0.2.1:1"));
        assert!(!meets("192.0.2.1:1", "192.0.2.2:1"));
        assert!(!meets("[::1]:1", "0.0.0.0:1"));
        assert!(!meets("[::]:1", "[::]:2"));
    }

    #[test]
    fn this_very_process_is_found_and_is_not_the_agent() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let finding = &look(Path::new("/"), &[address])[0];
        assert_eq!(finding.severity, Severity::Problem);
        let own = format!("process {} ", std::process::id());
        assert!(finding.evidence.starts_with(&own), "{finding:?}");
        drop(listener);
        let finding = &look(Path::new("/"), &[address])[0];
        assert!(finding.summary.contains("nobody listens"), "{finding:?}");
    }

    /// A `proc` in which inode 77 listens on 127.0.0.1:2223, open in this process, if any.
    fn host(user: u32, name: Option<&str>) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let proc = root.path().join("proc");
        fs::create_dir_all(proc.join("net")).unwrap();
        let local = u32::from_ne_bytes([127, 0, 0, 1]);
        let line = format!(
            "  sl  local_address rem_address   st\n   0: {local:08X}:08AF 00000000:0000 0A 0:0 00:0 0 {user} 0 77 1\n"
        );
        fs::write(proc.join("net/tcp"), line).unwrap();
        if let Some(name) = name {
            fs::create_dir_all(proc.join("812/fd")).unwrap();
            symlink("socket:[77]", proc.join("812/fd/3")).unwrap();
            fs::write(proc.join("812/comm"), format!("{name}\n")).unwrap();
        }
        root
    }

    #[test]
    fn a_port_that_the_kernel_chooses_is_not_looked_for() {
        let finding = &look(Path::new("/"), &["127.0.0.1:0".parse().unwrap()])[0];
        assert_eq!(finding.severity, Severity::Note, "{finding:?}");
    }

    #[test]
    fn the_agent_another_and_the_unseen_are_told_apart() {
        let wanted = ["[::]:2223".parse().unwrap()];
        let look = |host: &tempfile::TempDir| look(host.path(), &wanted).remove(0);
        let agent = look(&host(0, Some("vmconsole-agent")));
        assert_eq!(agent.severity, Severity::Ok);
        let sshd = look(&host(0, Some("sshd")));
        assert_eq!(sshd.severity, Severity::Problem);
        assert!(sshd.next_step.contains("ovirt-vmconsole-host-sshd"));
        let unseen = look(&host(0, None));
        assert_eq!(unseen.severity, Severity::Note);
        assert_eq!(unseen.evidence, "owned by user root");
    }
}
