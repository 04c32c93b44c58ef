//! What the tests with other programs on the agent's sides share: where the repository's
//! files are, and the wait until a console is there to be used.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use vmconsole_proto::v1;
use vmconsole_tests::guest::Guest;

use crate::host::{BOUND, Host, Serving};

/// A file of this repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    top.expect("the crate lies in the workspace").join(path)
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
