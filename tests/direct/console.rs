//! A QEMU with one chardev, and what comes of attaching to it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use vmconsole_agent::endpoint::{
    Attachment, Direct, DirectEndpoints, DirectRules, EndpointEnd, EndpointError, OutputSink,
    TcpAddress, TcpRule,
};
use vmconsole_agent::shutdown::Tasks;
use vmconsole_tests::process::{Process, tied};
use vmconsole_tests::{setup, wait};

/// How long anything may take on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// What came of an attachment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Came {
    pub(crate) bytes: Vec<u8>,
    pub(crate) ends: Vec<EndpointEnd>,
}

struct Shown(watch::Sender<Came>);

impl OutputSink for Shown {
    fn output(&self, bytes: &[u8]) {
        self.0.send_modify(|came| came.bytes.extend(bytes));
    }

    fn ended(&self, end: EndpointEnd) {
        self.0.send_modify(|came| came.ends.push(end));
    }
}

/// An attached console and what came of it.
pub(crate) struct Console {
    pub(crate) attachment: Box<dyn Attachment>,
    pub(crate) came: watch::Receiver<Came>,
}

impl Console {
    /// Writes all of `bytes`.
    pub(crate) async fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let written = timeout(SOON, self.attachment.write(bytes)).await;
            bytes = &bytes[written.expect("it is taken soon").unwrap()..];
        }
    }

    /// Waits until what came is as `wanted`.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&Came) -> bool) -> Came {
        let Ok(came) = timeout(SOON, self.came.wait_for(wanted)).await else {
            let came = self.came.borrow();
            let text = String::from_utf8_lossy(&came.bytes);
            panic!("waited in vain; {:?} after {text:?}", came.ends);
        };
        came.unwrap().clone()
    }

    /// Waits until `text` has come.
    pub(crate) async fn says(&mut self, text: &str) -> Came {
        self.until(|came| String::from_utf8_lossy(&came.bytes).contains(text))
            .await
    }
}

/// A directory that the rules allow, and the endpoints that obey them.
pub(crate) struct Site {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) endpoints: Arc<DirectEndpoints>,
}

impl Site {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rules = DirectRules {
            directories: vec![dir.path().to_owned()],
            owners: Vec::new(),
            tcp: TcpRule::Loopback,
        };
        let endpoints = DirectEndpoints::new(rules, Tasks::new());
        Self { dir, endpoints }
    }

    pub(crate) async fn try_attach(&self, direct: &Direct) -> Result<Console, EndpointError> {
        let (sender, came) = watch::channel(Came::default());
        let attached = self.endpoints.attach(direct, Arc::new(Shown(sender)));
        let attachment = timeout(SOON, attached).await.expect("it answers soon")?;
        Ok(Console { attachment, came })
    }

    pub(crate) async fn attach(&self, direct: &Direct) -> Console {
        match self.try_attach(direct).await {
            Ok(console) => console,
            Err(error) => panic!("{direct}: {error}"),
        }
    }

    /// A socket's path that is free.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("console.sock")
    }
}

fn qemu(chardev: &str, rest: &[&str]) -> Process {
    let mut command = tied(setup::program("qemu-system-x86_64"));
    command
        .args(["-nodefaults", "-display", "none", "-chardev", chardev])
        .args(rest)
        .stdout(Stdio::piped());
    Process::spawn("qemu", command)
}

/// A QEMU whose chardev this is, with its monitor on it.
pub(crate) fn monitor(chardev: &str) -> Process {
    qemu(
        chardev,
        &["-machine", "none", "-S", "-mon", "chardev=c0,mode=readline"],
    )
}

/// A machine that writes to its serial port as fast as the port takes it, each byte one more
/// than the one before.
pub(crate) fn flooding(dir: &Path, chardev: &str) -> Process {
    // cli; set COM1's FIFO control to 1; then wait for LSR.THRE and send BL, adding 1 to it.
    let code = [
        0xfa, 0x31, 0xc0, 0xba, 0xfa, 0x03, 0xb0, 0x01, 0xee, 0x30, 0xdb, // prepare
        0xba, 0xfd, 0x03, 0xec, 0xa8, 0x20, 0x74, 0xf8, // until it takes one
        0xba, 0xf8, 0x03, 0x88, 0xd8, 0xee, 0xfe, 0xc3, 0xeb, 0xee, // send it
    ];
    let mut sector = [0; 512];
    sector[..code.len()].copy_from_slice(&code);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    let image = dir.join("flood.img");
    std::fs::write(&image, sector).unwrap();
    let drive = format!("file={},format=raw,if=ide", image.display());
    let machine = ["-machine", "pc", "-accel", "tcg", "-m", "16"];
    qemu(
        chardev,
        &[&machine[..], &["-drive", &drive, "-serial", "chardev:c0"]].concat(),
    )
}

/// The chardev for a unix socket at `path`.
pub(crate) fn on_unix(path: &Path) -> String {
    format!("socket,id=c0,path={},server=on,wait=off", path.display())
}

/// Waits until QEMU listens at `path`.
pub(crate) fn listens(path: &Path) {
    wait::until("QEMU listens", SOON, || path.exists());
}

/// Where the chardev that QEMU says it made is.
pub(crate) fn terminal_of(qemu: &mut Process) -> PathBuf {
    use std::io::{BufRead as _, BufReader};
    let stdout = qemu.take_stdout().unwrap();
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    let path = line.strip_prefix("char device redirected to ");
    let path = path.and_then(|rest| rest.split_whitespace().next());
    PathBuf::from(path.unwrap_or_else(|| panic!("{line}: {}", qemu.stderr())))
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A TCP console's chardev, and how it is reached.
pub(crate) fn on_tcp(telnet: bool) -> (String, Direct) {
    let port = free_port();
    let kind = if telnet { "on" } else { "off" };
    let chardev =
        format!("socket,id=c0,host=127.0.0.1,port={port},server=on,wait=off,telnet={kind}");
    let host = "localhost".to_owned();
    let address = TcpAddress { host, port, telnet };
    (chardev, Direct::Tcp(address))
}

/// A process that is connected to `address`, as socat writes it, until it is dropped.
pub(crate) fn client(address: &str) -> Process {
    let mut command = tied(setup::program("socat"));
    command.args(["-u", address, "OPEN:/dev/null"]);
    Process::spawn("client", command)
}
