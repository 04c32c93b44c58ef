//! Whether libvirt's socket is there and lets the agent's user in.
//!
//! Refuses to connect: where systemd listens for it, that would start libvirt.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::access::{AGENT_USER, Person, WRITE, described, group_name};
use super::finding::Finding;

/// Where libvirtd and virtqemud listen, below the file system's root.
const SOCKETS: [&str; 2] = ["run/libvirt/libvirt-sock", "run/libvirt/virtqemud-sock"];

/// The flag of a unix socket that listens, in `/proc/net/unix`.
const LISTENS: u32 = 0x1_0000;

const CODE: &str = "libvirt_socket";

/// Which socket a URI leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    /// One of those of the system.
    System,
    /// This one.
    Socket(PathBuf),
    /// None of this host.
    None,
}

/// What is to be said of the socket that `uri` leads to. `agent` is the agent's user.
pub(super) fn look(root: &Path, uri: &str, agent: Option<&Person>) -> Finding {
    let candidates = match way(uri) {
        Way::System => SOCKETS.map(|path| root.join(path)).to_vec(),
        Way::Socket(path) => vec![path],
        Way::None => {
            let summary = "libvirt is reached by no socket of this host, so nothing is looked at";
            return Finding::note(CODE, summary).evidence(format!("libvirt.uri = \"{uri}\""));
        }
    };
    let there = || candidates.iter().filter(|path| path.exists());
    // What a daemon that is not used any more has left lies beside that of the one that is.
    let used = there().find(|path| listens(root, path) == Some(true));
    match used.or_else(|| there().next()) {
        Some(path) => judge(root, path, agent),
        None => {
            let tried: Vec<_> = candidates
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            Finding::problem(CODE, "libvirt's socket is not there")
                .evidence(format!("looked for {}", tried.join(", ")))
                .next("start it: systemctl start libvirtd, or virtqemud.socket; where no VM is libvirt's, set libvirt.enabled = false")
        }
    }
}

/// By <https://libvirt.org/uri.html>: driver, perhaps with a transport, host, path, parameters.
fn way(uri: &str) -> Way {
    let Some((scheme, rest)) = uri.split_once("://") else {
        return Way::None;
    };
    let transport = scheme.split_once('+').map(|(_, transport)| transport);
    if !matches!(transport, None | Some("unix")) {
        return Way::None;
    }
    let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let socket = parameters
        .split('&')
        .find_map(|parameter| parameter.strip_prefix("socket="));
    match (socket, place) {
        (Some(path), _) => Way::Socket(PathBuf::from(path)),
        (None, "/system") => Way::System,
        _ => Way::None,
    }
}

fn judge(root: &Path, path: &Path, agent: Option<&Person>) -> Finding {
    let place = path.display();
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(error) => {
            return Finding::note(CODE, "libvirt's socket cannot be looked at")
                .evidence(format!("{place}: {error}"))
                .next("run doctor as root");
        }
    };
    let evidence = described(path, &metadata);
    if !metadata.file_type().is_socket() {
        return Finding::problem(CODE, "where libvirt's socket should be is something else")
            .evidence(evidence)
            .next("remove it and restart libvirt");
    }
    if listens(root, path) == Some(false) {
        return Finding::problem(CODE, "nobody listens on libvirt's socket")
            .evidence(evidence)
            .next("start it: systemctl start libvirtd, or virtqemud.socket");
    }
    let Some(agent) = agent else {
        let summary = format!(
            "libvirt's socket is there; whether the agent may use it is not known: there is no user {AGENT_USER}"
        );
        return Finding::note(CODE, summary).evidence(evidence);
    };
    match agent.barred(path, WRITE) {
        Ok(None) => Finding::ok(CODE, format!("user {} may connect to libvirt", agent.name))
            .evidence(evidence),
        Ok(Some(at)) => barred(agent, &at, metadata.gid(), metadata.mode()).evidence(evidence),
        Err(error) => Finding::note(CODE, "the way to libvirt's socket cannot be looked at")
            .evidence(format!("{place}: {error}"))
            .next("run doctor as root"),
    }
}

fn barred(agent: &Person, at: &Path, group: u32, mode: u32) -> Finding {
    let name = &agent.name;
    let summary = format!("user {name} may not connect to libvirt");
    let group = group_name(group);
    let next = if at.is_dir() {
        format!(
            "{} keeps it out: setfacl -m u:{name}:x {}",
            at.display(),
            at.display()
        )
    } else if mode & 0o020 != 0 && group != "root" {
        format!(
            "add it to the group: usermod -a -G {group} {name}; then: systemctl restart vmconsole-agent"
        )
    } else {
        format!(
            "set unix_sock_group = \"libvirt\" and unix_sock_rw_perms = \"0770\" in libvirtd.conf (virtqemud.conf; \
             SocketGroup= and SocketMode= where systemd listens), restart it, and usermod -a -G libvirt {name}"
        )
    };
    Finding::problem(CODE, summary).next(next)
}

/// Whether somebody listens at `path`; `None` if that cannot be told.
fn listens(root: &Path, path: &Path) -> Option<bool> {
    let table = fs::read_to_string(root.join("proc/net/unix")).ok()?;
    // It may have been bound by another name of the same directory, such as /var/run.
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let wanted = real(path);
    let is_there = |line: &str| {
        let flags = line.split_whitespace().nth(3);
        let flags = flags.and_then(|flags| u32::from_str_radix(flags, 16).ok());
        let bound = line.find('/').and_then(|at| line.get(at..));
        flags.is_some_and(|flags| flags & LISTENS != 0)
            && bound.is_some_and(|bound| real(Path::new(bound)) == wanted)
    };
    Some(table.lines().any(is_there))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixListener;

    use super::super::finding::Severity;
    use super::*;

    #[test]
    fn uris_lead_to_the_systems_socket_a_named_one_or_none() {
        for (uri, wanted) in [
            ("qemu:///system", Way::System),
            ("qemu+unix:///system", Way::System),
            (
                "qemu+unix:///system?mode=legacy&socket=/run/x",
                Way::Socket("/run/x".into()),
            ),
            ("qemu:///session", Way::None),
            ("qemu+ssh://host/system", Way::None),
            ("qemu:///embed?root=/x", Way::None),
            ("what", Way::None),
        ] {
            assert_eq!(way(uri), wanted, "{uri}");
        }
    }

    fn person(groups: &[u32]) -> Person {
        Person {
            name: "vmconsole".into(),
            user: 4_000_000,
            groups: groups.to_vec(),
        }
    }

    #[test]
    fn each_state_of_the_socket_is_told() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().canonicalize().unwrap();
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755)).unwrap();
        let socket = directory.join("sock");
        let uri = format!("qemu+unix:///system?socket={}", socket.display());
        let look = |person: Option<&Person>| super::look(Path::new("/"), &uri, person);
        let stranger = person(&[]);

        assert!(look(None).summary.contains("not there"));
        fs::write(&socket, "").unwrap();
        assert!(look(None).summary.contains("something else"));
        fs::remove_file(&socket).unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        assert_eq!(look(None).severity, Severity::Note);

        let metadata = socket.metadata().unwrap();
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o770)).unwrap();
        let member = person(&[metadata.gid()]);
        assert_eq!(look(Some(&member)).severity, Severity::Ok);
        let barred = look(Some(&stranger));
        assert_eq!(barred.severity, Severity::Problem);
        assert!(barred.evidence.contains("mode 0770"), "{barred:?}");
        assert!(barred.next_step.contains("vmconsole"), "{barred:?}");
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o700)).unwrap();
        assert!(look(Some(&stranger)).next_step.contains("setfacl"));

        drop(listener);
        assert!(look(Some(&member)).summary.contains("nobody listens"));
    }

    #[test]
    fn the_socket_of_the_daemon_that_listens_is_the_one_that_is_judged() {
        let root = tempfile::tempdir().unwrap();
        let [left, used] = SOCKETS.map(|path| root.path().join(path));
        fs::create_dir_all(left.parent().unwrap()).unwrap();
        fs::create_dir_all(root.path().join("proc/net")).unwrap();
        drop(UnixListener::bind(&left).unwrap());
        let _listener = UnixListener::bind(&used).unwrap();
        // As by another name, with a blank in it.
        let other = root.path().join("another name");
        std::os::unix::fs::symlink(root.path(), &other).unwrap();
        let bound = other.join(SOCKETS[1]);
        let table = format!(
            "Num RefCount Protocol Flags Type St Inode Path\n\
             0: 00000002 00000000 00010000 0001 01 77 {}\n",
            bound.display()
        );
        fs::write(root.path().join("proc/net/unix"), table).unwrap();
        let finding = look(root.path(), "qemu:///system", None);
        assert_eq!(finding.severity, Severity::Note, "{finding:?}");
        assert!(finding.evidence.contains("virtqemud-sock"), "{finding:?}");
        fs::write(root.path().join("proc/net/unix"), "").unwrap();
        let finding = look(root.path(), "qemu:///system", None);
        assert!(finding.summary.contains("nobody listens"), "{finding:?}");
        assert!(finding.evidence.contains("libvirt-sock"), "{finding:?}");
    }

    #[test]
    fn a_host_without_libvirt_is_told_what_was_looked_for() {
        let root = tempfile::tempdir().unwrap();
        let finding = look(root.path(), "qemu:///system", None);
        assert_eq!(finding.severity, Severity::Problem);
        assert!(finding.evidence.contains("virtqemud-sock"), "{finding:?}");
        let elsewhere = look(root.path(), "qemu+tls://h/system", None);
        assert_eq!(elsewhere.severity, Severity::Note);
    }
}
