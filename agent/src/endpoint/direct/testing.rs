//! What the tests of direct endpoints share: a sink that shows what came, and far sides.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::geteuid;
use tokio::sync::watch;

use super::{DirectRules, TcpRule};
use crate::endpoint::{EndpointEnd, OutputSink};

/// How long anything may take on a busy machine.
pub(super) const SOON: Duration = Duration::from_secs(20);

/// What came of an attachment.
#[derive(Clone, Debug, Default)]
pub(super) struct Came {
    pub(super) bytes: Vec<u8>,
    pub(super) ends: Vec<EndpointEnd>,
}

/// A sink that shows what came.
pub(super) struct Shown(watch::Sender<Came>);

impl Shown {
    pub(super) fn new() -> (Arc<Self>, watch::Receiver<Came>) {
        let (sender, receiver) = watch::channel(Came::default());
        (Arc::new(Self(sender)), receiver)
    }
}

impl OutputSink for Shown {
    fn output(&self, bytes: &[u8]) {
        self.0.send_modify(|came| came.bytes.extend(bytes));
    }

    fn ended(&self, end: EndpointEnd) {
        self.0.send_modify(|came| came.ends.push(end));
    }
}

/// Waits until what came is as `wanted`, and returns it.
pub(super) async fn until(
    came: &mut watch::Receiver<Came>,
    wanted: impl FnMut(&Came) -> bool,
) -> Came {
    soon(came.wait_for(wanted)).await.unwrap().clone()
}

/// Awaits what comes soon.
pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future)
        .await
        .expect("it comes soon")
}

/// Rules that allow `directory` and ourselves.
pub(super) fn rules(directory: &Path) -> DirectRules {
    DirectRules {
        directories: vec![directory.to_owned()],
        owners: vec![geteuid().as_raw()],
        tcp: TcpRule::Loopback,
    }
}
