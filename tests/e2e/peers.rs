//! What the tests with other programs on the agent's sides share: where the repository's
//! files are, and the wait until a console is there to be used.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use vmconsole_proto::v1;
use vmconsole_tests::guest::Guest;

use crate::host::{BOUND, Host};

/// A file of this repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    top.expect("the crate lies in the workspace").join(path)
}

/// A directory with what a proxy needs, as `vmconsolectl pki init` names it: `ca.crt`,
/// `proxy.crt` and `proxy.key`.
pub(crate) fn proxy_files(host: &Host) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ca.crt"), host.pki.ca_pem()).unwrap();
    host.pki.proxy().write(dir.path(), "proxy");
    dir
}

/// Waits until the agent holds this console.
pub(crate) async fn attached(host: &Host, guest: &Guest, alias: &str) {
    let mut service = host.client().await.service();
    let watch = service.watch_consoles(v1::WatchConsolesRequest::default());
    let mut watch = watch.await.unwrap().into_inner();
    let told = async {
        while let Some(told) = watch.message().await.unwrap() {
            let Some(v1::watch_consoles_response::Event::Changed(console)) = told.event else {
                continue;
            };
            let state = console.state.unwrap_or_default();
            let ours = console.vm_name == guest.name() && console.alias == alias;
            if ours && state.availability() == v1::Availability::Attached {
                return;
            }
        }
        panic!("the watch ended");
    };
    let waited = tokio::time::timeout(BOUND, told).await;
    waited.unwrap_or_else(|_| panic!("{alias} is not attached after {BOUND:?}"));
}
