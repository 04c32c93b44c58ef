//! Connects to the sockets and ports on which QEMU listens for viewers of a display, by the rules
//! for consoles' sockets and ports, save that QEMU serves any number of viewers. It says nothing
//! on them.

use super::taken::Clients;
use super::{DirectEndpoints, tcp, unix_socket};
use crate::endpoint::display::{DisplaySource, DisplayStream, Reach};
use crate::endpoint::{EndpointError, TcpAddress};

impl DirectEndpoints {
    /// Connects to where QEMU listens for viewers of `source`: [`Reach::Unix`] or [`Reach::Tcp`].
    ///
    /// # Errors
    /// [`EndpointError`]; [`EndpointError::Denied`] for what the rules do not allow, and
    /// [`EndpointError::Unsupported`] for a way that the display does not have.
    ///
    /// # Cancel safety
    /// If dropped, nothing stays connected.
    pub(crate) async fn connect_display(
        &self,
        source: &DisplaySource,
        way: Reach,
    ) -> Result<DisplayStream, EndpointError> {
        let (rules, unverified) = (&self.rules, &self.counters.unverified);
        match (way, &source.socket, &source.address) {
            (Reach::Unix, Some(path), _) => {
                let socket =
                    unix_socket::open(rules, path, &self.recent, unverified, Clients::Many);
                DisplayStream::unix(socket.await?.0)
            }
            (Reach::Tcp, _, Some(address)) => {
                let address = TcpAddress {
                    telnet: false,
                    ..address.clone()
                };
                let socket = tcp::open(rules, &address, Clients::Many);
                DisplayStream::tcp(socket.await?.0)
            }
            _ => {
                let detail = "the display is not reached so";
                Err(EndpointError::Unsupported(detail.to_owned()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::endpoint::DisplayHandle;
    use crate::endpoint::direct::testing::{rules, soon};
    use crate::endpoint::direct::{DirectRules, TcpRule};
    use crate::shutdown::Tasks;

    fn source(socket: Option<std::path::PathBuf>, port: Option<u16>) -> DisplaySource {
        DisplaySource {
            number: 0,
            handle: DisplayHandle::Libvirt(0),
            socket,
            address: port.map(|port| TcpAddress {
                host: "localhost".to_owned(),
                port,
                telnet: false,
            }),
            reach: Reach::ALL.to_vec(),
        }
    }

    /// Says `!` to each of two viewers, and hears one byte of each.
    fn serve<S: std::io::Read + std::io::Write>(accept: impl Fn() -> S) {
        let mut viewers = [accept(), accept()];
        for viewer in &mut viewers {
            viewer.write_all(b"!").unwrap();
        }
        for viewer in &mut viewers {
            viewer.read_exact(&mut [0]).unwrap();
        }
    }

    async fn two_viewers(direct: &DirectEndpoints, source: &DisplaySource, way: Reach) {
        let mut one = soon(direct.connect_display(source, way)).await.unwrap();
        let mut other = soon(direct.connect_display(source, way)).await.unwrap();
        for viewer in [&mut one, &mut other] {
            assert_eq!(soon(viewer.read_u8()).await.unwrap(), b'!');
            soon(viewer.write_all(b"?")).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_display_has_several_viewers() {
        let dir = tempfile::tempdir().unwrap();
        let direct = DirectEndpoints::new(rules(dir.path()), Tasks::new());
        let path = dir.path().join("vnc");
        let unix = UnixListener::bind(&path).unwrap();
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        let source = source(Some(path), Some(port));
        let server = std::thread::spawn(move || serve(|| unix.accept().unwrap().0));
        two_viewers(&direct, &source, Reach::Unix).await;
        server.join().unwrap();
        let server = std::thread::spawn(move || serve(|| tcp.accept().unwrap().0));
        two_viewers(&direct, &source, Reach::Tcp).await;
        server.join().unwrap();
        let none = direct.connect_display(&source, Reach::Descriptor).await;
        assert!(
            matches!(none, Err(EndpointError::Unsupported(_))),
            "{none:?}"
        );
    }

    #[tokio::test]
    async fn what_no_console_may_be_no_display_is() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let path = outside.path().join("vnc");
        let _listener = UnixListener::bind(&path).unwrap();
        let closed = DirectRules {
            tcp: TcpRule::Off,
            ..rules(dir.path())
        };
        let direct = DirectEndpoints::new(closed, Tasks::new());
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for (place, way) in [
            (source(Some(path), None), Reach::Unix),
            (source(Some(link), None), Reach::Unix),
            (source(None, Some(5900)), Reach::Tcp),
        ] {
            let denied = soon(direct.connect_display(&place, way)).await;
            assert!(
                matches!(denied, Err(EndpointError::Denied(_))),
                "{denied:?}"
            );
        }
        let absent = source(Some(dir.path().join("none")), None);
        let absent = soon(direct.connect_display(&absent, Reach::Unix)).await;
        assert!(
            matches!(absent, Err(EndpointError::NotReady(_))),
            "{absent:?}"
        );
    }
}
