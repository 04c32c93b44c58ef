//! The calls of `SessionService`.

use std::sync::Arc;

use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tracing::info;
use vmconsole_proto::v1;
use vmconsole_proto::v1::session_service_server::SessionService;

use super::open::{self, Refusal, refuse};
use super::service::proxy;
use crate::console::Directory;
use crate::core::reason::Reason;

/// The longest name of a host, in bytes.
const MAX_HOST_BYTES: usize = 256;

/// The calls of `SessionService`.
#[derive(Clone, Debug)]
pub struct SessionApi {
    directory: watch::Receiver<Arc<Directory>>,
}

impl SessionApi {
    /// For the consoles of `directory`.
    pub const fn new(directory: watch::Receiver<Arc<Directory>>) -> Self {
        Self { directory }
    }
}

/// A host's name as it was announced; `None` if it is empty.
fn host(name: &str) -> Result<Option<Arc<str>>, Refusal> {
    if name.len() <= MAX_HOST_BYTES && !name.chars().any(char::is_control) {
        return Ok((!name.is_empty()).then(|| name.into()));
    }
    let message =
        format!("host is to have {MAX_HOST_BYTES} bytes at most, and no control characters");
    Err(refuse(Reason::BadRequest, message))
}

#[tonic::async_trait]
impl SessionService for SessionApi {
    async fn announce_move(
        &self,
        request: Request<v1::AnnounceMoveRequest>,
    ) -> Result<Response<v1::AnnounceMoveResponse>, Status> {
        let proxy = proxy(&request)?;
        let request = request.into_inner();
        let directory = self.directory.borrow().clone();
        let checked = host(&request.host)
            .and_then(|host| Ok((host, open::vm(&directory, request.vm.as_ref())?)));
        let (host, vm) = checked.map_err(|(_, refusal)| refusal)?;
        let consoles = directory.consoles().iter();
        let sessions: usize = consoles
            .filter(|(id, _)| id.vm == vm.uuid)
            .map(|(_, console)| console.announce_move(host.as_ref()))
            .sum();
        info!(vm.uuid = %vm.uuid, peer.name = %proxy, ?host, sessions, "a move was announced");
        let sessions = u32::try_from(sessions).unwrap_or(u32::MAX);
        Ok(Response::new(v1::AnnounceMoveResponse { sessions }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_short_text_on_one_line() {
        let announced = host("kvm-17.example:2223").unwrap();
        assert_eq!(announced.as_deref(), Some("kvm-17.example:2223"));
        assert_eq!(host("").unwrap(), None);
        let long = "x".repeat(MAX_HOST_BYTES + 1);
        for wrong in ["two\nlines", "bell\u{7}", &long] {
            assert_eq!(host(wrong).unwrap_err().0, Reason::BadRequest, "{wrong:?}");
        }
    }
}
