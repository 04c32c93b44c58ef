//! As much of the agent's configuration as doctor needs.
//!
//! Read leniently: a fault that the agent refuses is a finding here, and the rest is looked
//! at all the same. Refuses to judge values that it does not use: `check-config` does.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use toml::{Table, Value};

use super::finding::Finding;
use super::program;

/// Where packages put it.
pub(super) const DEFAULT_PATH: &str = "/etc/vmconsole-agent/config.toml";

/// The longest file that is read, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// The most that is kept of what `check-config` says.
const MAX_SAID: u64 = 4096;

/// What holds where the configuration is silent.
const DEFAULT_LISTEN: &str = "[::]:2223";
const DEFAULT_URI: &str = "qemu:///system";

/// The keys without which the agent does not start.
const NEEDED: [(&str, &str); 4] = [
    ("grpc", "certificate"),
    ("grpc", "private_key"),
    ("grpc", "client_ca"),
    ("access", "allowed_clients"),
];

const CODE: &str = "config";

/// What doctor goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    /// Where the agent listens.
    pub(super) listen: Vec<SocketAddr>,
    /// Its certificate, if that is set.
    pub(super) certificate: Option<PathBuf>,
    /// Its key.
    pub(super) private_key: Option<PathBuf>,
    /// The CA of its clients.
    pub(super) client_ca: Option<PathBuf>,
    /// libvirt's URI; `None` where libvirt is not asked.
    pub(super) libvirt: Option<String>,
}

impl Settings {
    fn of(table: &Table) -> Self {
        let listen = match get(table, "grpc", "listen") {
            Some(Value::Array(addresses)) => addresses
                .iter()
                .filter_map(|one| one.as_str()?.parse().ok())
                .collect(),
            _ => DEFAULT_LISTEN.parse().into_iter().collect(),
        };
        let path = |key| {
            let value = get(table, "grpc", key)?;
            value.as_str().map(PathBuf::from)
        };
        let enabled = get(table, "libvirt", "enabled").and_then(Value::as_bool);
        let uri = get(table, "libvirt", "uri").and_then(Value::as_str);
        Self {
            listen,
            certificate: path("certificate"),
            private_key: path("private_key"),
            client_ca: path("client_ca"),
            libvirt: enabled
                .unwrap_or(true)
                .then(|| uri.unwrap_or(DEFAULT_URI).to_owned()),
        }
    }

    /// A file that the agent reads and the caller may not.
    fn closed(&self) -> Option<&Path> {
        let files = [&self.certificate, &self.private_key, &self.client_ca];
        let denied = |path: &&PathBuf| {
            let opened = File::open(path);
            opened.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
        };
        let closed = files.into_iter().flatten().find(denied);
        closed.map(PathBuf::as_path)
    }
}

fn get<'a>(table: &'a Table, section: &str, key: &str) -> Option<&'a Value> {
    table.get(section)?.as_table()?.get(key)
}

/// Reads the file, and tells what is wrong with it. Where it cannot be read, what holds
/// without it is gone by.
pub(super) fn read(path: &Path) -> (Settings, Vec<Finding>) {
    let defaults = || Settings::of(&Table::new());
    let place = path.display();
    let text = match read_text(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let finding = Finding::problem(CODE, "the agent has no configuration")
                .evidence(format!("{place} is not there"))
                .next("copy the sample that comes with the package and fill in certificates and allowed_clients, or name the file with --config");
            return (defaults(), vec![finding]);
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let finding = Finding::note(
                CODE,
                "the agent's configuration may not be read by you: defaults are gone by",
            )
            .evidence(place.to_string())
            .next("run doctor as root");
            return (defaults(), vec![finding]);
        }
        Err(error) => {
            let finding = Finding::problem(CODE, "the agent's configuration cannot be read")
                .evidence(format!("{place}: {error}"))
                .next("replace it by a text file in TOML");
            return (defaults(), vec![finding]);
        }
    };
    match text.parse::<Table>() {
        Ok(table) => {
            let findings = missing(&table, path);
            (Settings::of(&table), findings)
        }
        Err(error) => {
            let finding = Finding::problem(CODE, "the agent's configuration is not TOML")
                .evidence(format!("{place}: {}", error.message()))
                .next("correct it; vmconsole-agent check-config names the line");
            (defaults(), vec![finding])
        }
    }
}

fn read_text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not text"))
}

fn missing(table: &Table, path: &Path) -> Vec<Finding> {
    let unset = NEEDED
        .iter()
        .filter(|(section, key)| get(table, section, key).is_none());
    let names: Vec<_> = unset
        .map(|(section, key)| format!("{section}.{key}"))
        .collect();
    if names.is_empty() {
        return Vec::new();
    }
    let finding = Finding::problem(
        CODE,
        "the agent's configuration lacks keys that must be set",
    )
    .evidence(format!("{}: {}", path.display(), names.join(", ")))
    .next("set them as in the sample configuration");
    vec![finding]
}

/// What the agent itself says of the file. It reads what the file names too, so that a caller
/// who may not is told nothing of the agent: its user may.
///
/// # Cancel safety
/// If dropped, the agent's program is killed.
pub(super) async fn checked_by_agent(path: &Path, settings: &Settings) -> Finding {
    if let Some(closed) = settings.closed().filter(|_| !geteuid().is_root()) {
        let summary = "the agent's configuration is checked only as root";
        return Finding::note(CODE, summary)
            .evidence(format!("{} may not be read by you", closed.display()))
            .next("run doctor as root");
    }
    let arguments = [
        "--config".as_ref(),
        path.as_os_str(),
        "check-config".as_ref(),
    ];
    match program::ask("vmconsole-agent", arguments, MAX_SAID).await {
        Ok(said) if said.success => Finding::ok(CODE, "the agent accepts its configuration")
            .evidence(path.display().to_string()),
        Ok(said) => Finding::problem(CODE, "the agent refuses its configuration")
            .evidence(said.errors.trim())
            .next("correct what it says, then: systemctl restart vmconsole-agent"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Finding::note(
            CODE,
            "vmconsole-agent is not on PATH, so its configuration was not checked by it",
        )
        .next("install the agent's package on this host, if it is to run here"),
        Err(error) => Finding::warning(CODE, "vmconsole-agent check-config could not be run")
            .evidence(error.to_string())
            .next("run it by hand"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;

    fn of(text: &str) -> (Settings, Vec<Finding>) {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    const GOOD: &str = "[grpc]\nlisten = [\"192.0.2.1:1\", \"x\", \"[::1]:2\"]\ncertificate = \"/a\"\n\
                        private_key = \"/b\"\nclient_ca = \"/c\"\n[access]\nallowed_clients = [\"d\"]\n\
                        [libvirt]\nuri = \"qemu:///x\"\n[what]\nis = \"new\"\n";

    #[test]
    fn what_is_needed_is_read_and_the_rest_passed_over() {
        let (settings, findings) = of(GOOD);
        assert_eq!(findings, []);
        let expected = Settings {
            listen: vec!["192.0.2.1:1".parse().unwrap(), "[::1]:2".parse().unwrap()],
            certificate: Some("/a".into()),
            private_key: Some("/b".into()),
            client_ca: Some("/c".into()),
            libvirt: Some("qemu:///x".into()),
        };
        assert_eq!(settings, expected);
    }

    #[test]
    fn the_shipped_sample_has_all_that_is_needed() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/config.toml");
        let (settings, findings) = read(&path);
        assert_eq!(findings, []);
        assert_eq!(settings.listen, [DEFAULT_LISTEN.parse().unwrap()]);
        assert_eq!(settings.libvirt.as_deref(), Some(DEFAULT_URI));
    }

    #[test]
    fn faults_are_findings_and_defaults_hold() {
        let missing = read(Path::new("/nowhere/config.toml"));
        for (settings, findings) in [of("[grpc"), of("[grpc]\n"), missing] {
            assert_eq!(findings.len(), 1);
            assert_eq!(findings[0].severity, Severity::Problem);
            assert_eq!(settings.listen, [DEFAULT_LISTEN.parse().unwrap()]);
        }
        let (_, findings) = of("[grpc]\ncertificate = \"/a\"\n");
        let unset = "grpc.private_key, grpc.client_ca, access.allowed_clients";
        assert!(findings[0].evidence.ends_with(unset), "{findings:?}");
        let (settings, _) = of("[libvirt]\nenabled = false\n");
        assert_eq!(settings.libvirt, None);
    }
}
