//! Which ways are tried, and what is said where none of them leads there.

use std::os::unix::net::UnixListener;

use super::*;
use crate::core::id::{Alias, VmUuid};
use crate::endpoint::{Direct, DirectRules, DisplayHandle, EndpointKind, TcpAddress, TcpRule};
use crate::hypervisor::{ConsoleKind, VmState};
use crate::shutdown::Tasks;

const UUID: &str = "c3ca651d-ff60-4eee-8814-66c8ffd2ecec";

/// Sockets may lie in a directory of the test's; no TCP is allowed.
struct Site {
    dir: tempfile::TempDir,
    direct: Arc<DirectEndpoints>,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rules = DirectRules {
            directories: vec![dir.path().to_owned()],
            owners: Vec::new(),
            tcp: TcpRule::Off,
        };
        let direct = DirectEndpoints::new(rules, Tasks::new());
        Self { dir, direct }
    }

    /// A display on socket `s` and port 5900.
    fn source(&self, reach: &[Reach]) -> DisplaySource {
        DisplaySource {
            number: 0,
            handle: DisplayHandle::Libvirt(0),
            socket: Some(self.dir.path().join("s")),
            address: Some(TcpAddress {
                host: "127.0.0.1".to_owned(),
                port: 5900,
                telnet: false,
            }),
            reach: reach.to_vec(),
        }
    }

    /// Has the ways tried, of which the first is `answer`.
    async fn open(
        &self,
        reach: &[Reach],
        running: bool,
        answer: Result<(), EndpointError>,
    ) -> Result<DisplayLine, EndpointError> {
        let descriptor = async {
            answer?;
            let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
            DisplayStream::handed_over(ours.into())
        };
        open(&self.source(reach), &self.direct, running, descriptor).await
    }
}

/// What is said without the directory of the test's.
fn told(site: &Site, error: &EndpointError) -> String {
    let dir = site.dir.path().display().to_string();
    error.to_string().replace(&dir, "DIR")
}

#[tokio::test]
async fn the_first_way_that_is_open_is_taken() {
    let site = Site::new();
    let listener = UnixListener::bind(site.dir.path().join("s")).unwrap();
    let taken = std::thread::spawn({
        let listener = listener.try_clone().unwrap();
        move || listener.accept().unwrap()
    });
    let line = site.open(&Reach::ALL, true, Ok(())).await.unwrap();
    assert_eq!(line.way, EndpointKind::GraphicsFd);
    assert_eq!(line.access, DisplayAccess::Granted);
    let refused = Err(EndpointError::Denied("no".to_owned()));
    let line = site.open(&Reach::ALL, true, refused).await.unwrap();
    assert_eq!(line.way, EndpointKind::UnixSocket);
    assert_eq!(line.access, DisplayAccess::AsAsked { host: None });
    taken.join().unwrap();
}

#[tokio::test]
async fn where_no_way_leads_there_each_of_them_says_why() {
    let site = Site::new();
    let denied = || Err(EndpointError::Denied("access denied".to_owned()));
    let one = site.open(&[Reach::Descriptor], true, denied()).await;
    assert_eq!(one.unwrap_err(), denied().unwrap_err(), "as it is");
    let all = site.open(&Reach::ALL, true, denied()).await.unwrap_err();
    assert!(matches!(all, EndpointError::NotReady(_)), "{all:?}");
    assert_eq!(
        told(&site, &all),
        "the console does not exist yet: a descriptor from libvirt: access denied; \
         socket DIR/s: DIR/s is not there; tcp 127.0.0.1 port 5900: tcp 127.0.0.1 port 5900: \
         endpoints.tcp is \"off\"; \"loopback\" would allow this host's own"
    );
    let unsupported = || Err(EndpointError::Unsupported("no fd".to_owned()));
    let reach = [Reach::Tcp, Reach::Descriptor];
    let two = site.open(&reach, true, unsupported()).await.unwrap_err();
    assert!(matches!(two, EndpointError::Denied(_)), "{two:?}");
    let unreachable = Err(EndpointError::Unreachable("hangs".to_owned()));
    let two = site.open(&reach, true, unreachable).await.unwrap_err();
    assert!(matches!(two, EndpointError::Unreachable(_)), "{two:?}");
}

#[tokio::test]
async fn of_a_vm_that_is_off_no_path_is_touched() {
    let site = Site::new();
    let listener = UnixListener::bind(site.dir.path().join("s")).unwrap();
    listener.set_nonblocking(true).unwrap();
    let off = EndpointError::NotRunning;
    for (reach, running, answer) in [
        (&Reach::ALL[..], true, Err(off.clone())),
        (&[Reach::Unix, Reach::Tcp], false, Ok(())),
        (&[], false, Ok(())),
    ] {
        let opened = site.open(reach, running, answer).await;
        assert_eq!(opened.unwrap_err(), off);
    }
    let came = listener.accept().unwrap_err();
    assert_eq!(came.kind(), std::io::ErrorKind::WouldBlock);
    // The hypervisor knows better than the inventory.
    let line = site.open(&Reach::ALL, false, Ok(())).await.unwrap();
    assert_eq!(line.way, EndpointKind::GraphicsFd);
}

#[tokio::test]
async fn a_way_that_is_named_twice_is_tried_once() {
    let site = Site::new();
    let twice = [Reach::Descriptor, Reach::Descriptor];
    let denied = EndpointError::Denied("no".to_owned());
    let opened = site.open(&twice, true, Err(denied.clone())).await;
    assert_eq!(opened.unwrap_err(), denied);
}

fn device(source: Source) -> ConsoleDevice {
    ConsoleDevice {
        alias: Alias::new("vnc0").unwrap(),
        kind: ConsoleKind::Vnc,
        source,
        backend: "vnc".to_owned(),
    }
}

#[test]
fn a_display_is_listed_by_the_way_that_is_tried_first() {
    let site = Site::new();
    let shown = |reach: &[Reach], running| {
        let device = device(Source::Display(site.source(&Reach::ALL)));
        reached_by(device, reach, running)
    };
    let kind = |reach: &[Reach]| shown(reach, true).endpoint();
    assert_eq!(kind(&Reach::ALL), Some(EndpointKind::GraphicsFd));
    let turned = [Reach::Tcp, Reach::Descriptor];
    assert_eq!(kind(&turned), Some(EndpointKind::TcpSocket));
    assert_eq!(kind(&[]), None);
    assert!(matches!(shown(&[], true).source, Source::Unserved(_)));
    // What a VM that is off has not yet, it may have when it runs.
    assert!(matches!(shown(&[], false).source, Source::Display(_)));

    let second = DisplaySource {
        number: 1,
        handle: DisplayHandle::Qemu("b".to_owned()),
        socket: None,
        address: None,
        reach: Reach::ALL.to_vec(),
    };
    let second = reached_by(device(Source::Display(second)), &Reach::ALL, true);
    let Source::Unserved(why) = second.source else {
        panic!("{second:?}")
    };
    assert!(why.contains("listens nowhere"), "{why}");
}

#[test]
fn only_displays_are_found() {
    let id = |alias: &str| ConsoleId {
        vm: UUID.parse().unwrap(),
        alias: Alias::new(alias).unwrap(),
    };
    let uuid: VmUuid = UUID.parse().unwrap();
    let site = Site::new();
    let mut serial = device(Source::Direct(Direct::Pty("/dev/pts/1".into())));
    serial.alias = Alias::new("serial0").unwrap();
    let mut unserved = device(Source::Unserved("use another".to_owned()));
    unserved.alias = Alias::new("vnc1").unwrap();
    let vm = Vm {
        uuid,
        name: "vm".into(),
        state: VmState::Running,
        instance: None,
        last_reset: None,
        consoles: vec![
            serial,
            device(Source::Display(site.source(&Reach::ALL))),
            unserved,
        ],
    };
    let inventory = Inventory {
        vms: [(uuid, Arc::new(vm))].into(),
        ..Inventory::default()
    };
    let found = locate(&inventory, &id("vnc0")).unwrap();
    assert_eq!(found.1, site.source(&Reach::ALL));
    let refusal = |alias: &str| locate(&inventory, &id(alias)).unwrap_err().to_string();
    assert!(refusal("serial0").ends_with("serial0 is no display: use StreamConsole"));
    assert_eq!(refusal("vnc1"), "not supported: use another");
    assert!(refusal("vnc2").starts_with("no such console"));
    let empty = locate(&Inventory::default(), &id("vnc0")).unwrap_err();
    assert!(matches!(empty, EndpointError::NotFound(_)), "{empty:?}");
}
