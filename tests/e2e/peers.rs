//! What the tests with other programs on the agent's sides share: where the repository's
//! files are, what Python clients run in, and the wait until a console is there to be used.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use vmconsole_proto::v1;
use vmconsole_tests::guest::Guest;

use crate::host::{BOUND, Host, Serving};

/// A file of this repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    top.expect("the crate lies in the workspace").join(path)
}

/// Where the Python environment for `tests/NAME` is; it is made where it is not there.
pub(crate) fn python_environment(name: &str) -> PathBuf {
    let mut script = Command::new(repository("tests/venv.sh"));
    let made = script.arg(name).output().unwrap();
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{said}");
    String::from_utf8(made.stdout).unwrap().trim().into()
}

/// A directory with what a proxy needs, as `vmconsolectl pki init` names it: `ca.crt`,
/// `proxy.crt` and `proxy.key`.
pub(crate) fn proxy_files(host: &Serving) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ca.crt"), host.pki.ca_pem()).unwrap();
    host.pki.proxy().write(dir.path(), "proxy");
    dir
}

/// Waits until the agent holds this console.
pub(crate) async fn attached(host: &Host, guest: &Guest, alias: &str) {
    let client = host.client().await;
    let is = |state: &v1::ConsoleState| state.availability() == v1::Availability::Attached;
    client.shows((guest.name(), alias), BOUND, is).await;
}
