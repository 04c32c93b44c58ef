//! What every test starts from: a host with libvirt or without, an agent on it, and a proxy's
//! certificate.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use tempfile::TempDir;
use tonic::Status;
use tonic_types::StatusExt as _;
use vmconsole_proto::v1;
use vmconsole_proto::v1::stream_console_response::Message;
use vmconsole_tests::agent::{Agent, AgentOptions};
use vmconsole_tests::client::{Attached, Client, ReceiveHalf, SendHalf, Windows, endpoint, open};
use vmconsole_tests::guest::{Guest, GuestOptions};
use vmconsole_tests::image::CHANNEL_NAME;
use vmconsole_tests::libvirtd::Libvirtd;
use vmconsole_tests::pki::{Credentials, PROXY_NAME, Pki};
use vmconsole_tests::qemu::{Qemu, QemuDir, QemuOptions};
use vmconsole_tests::scrape::sessions_settled;
use vmconsole_tests::wait;

/// Far more than anything takes on an idle machine.
pub(crate) const BOUND: Duration = Duration::from_secs(120);

/// An agent, and whoever may call it.
pub(crate) struct Serving {
    pub(crate) agent: Agent,
    pub(crate) pki: Pki,
    /// Holds the certificates; goes with the agent.
    _dir: TempDir,
}

/// A libvirtd, and an agent that serves its VMs.
pub(crate) struct Host {
    pub(crate) serving: Serving,
    pub(crate) libvirtd: Libvirtd,
}

/// A host without libvirt, and an agent that serves its QEMUs.
pub(crate) struct QemuHost {
    pub(crate) serving: Serving,
    pub(crate) dir: QemuDir,
}

impl Host {
    pub(crate) fn start() -> Self {
        Self::configured("")
    }

    /// With further tables of configuration.
    pub(crate) fn configured(more: &str) -> Self {
        Self::with(|options| more.clone_into(&mut options.more))
    }

    /// With an agent that is not as usual.
    pub(crate) fn with(change: impl FnOnce(&mut AgentOptions)) -> Self {
        Self::on(Libvirtd::start(), change)
    }

    /// With an agent that comes to a libvirtd which may have guests already.
    pub(crate) fn on(libvirtd: Libvirtd, change: impl FnOnce(&mut AgentOptions)) -> Self {
        let serving = Serving::start(|options| {
            options.libvirt_uri = Some(libvirtd.uri());
            options.channels = vec![CHANNEL_NAME.to_owned()];
            options.console_directories = vec![libvirtd.dir().to_owned()];
            change(options);
        });
        wait::until("the agent has read the VMs", BOUND, || {
            serving.agent.log().contains("every VM was read")
        });
        Self { serving, libvirtd }
    }

    pub(crate) fn guest(&self, name: &str) -> Guest {
        Guest::define_and_start(&self.libvirtd, GuestOptions::named(name))
    }
}

impl QemuHost {
    pub(crate) fn start() -> Self {
        Self::with(|_| {})
    }

    /// With an agent that is not as usual.
    pub(crate) fn with(change: impl FnOnce(&mut AgentOptions)) -> Self {
        Self::on(QemuDir::new(), change)
    }

    /// With an agent that finds QEMUs there that run already.
    pub(crate) fn on(dir: QemuDir, change: impl FnOnce(&mut AgentOptions)) -> Self {
        let serving = Serving::start(|options| {
            options.serve_qemus(&dir);
            change(options);
        });
        Self { serving, dir }
    }

    pub(crate) fn guest(&self, options: QemuOptions) -> Qemu {
        Qemu::start(&self.dir, options)
    }
}

impl Deref for Host {
    type Target = Serving;

    fn deref(&self) -> &Serving {
        &self.serving
    }
}

impl DerefMut for Host {
    fn deref_mut(&mut self) -> &mut Serving {
        &mut self.serving
    }
}

impl Deref for QemuHost {
    type Target = Serving;

    fn deref(&self) -> &Serving {
        &self.serving
    }
}

impl DerefMut for QemuHost {
    fn deref_mut(&mut self) -> &mut Serving {
        &mut self.serving
    }
}

impl Serving {
    /// An agent of no VM, but for what the options then say.
    pub(crate) fn start(options: impl FnOnce(&mut AgentOptions)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::new(dir.path());
        let mut of_no_vm = AgentOptions::without_libvirt(dir.path(), &[PROXY_NAME]);
        options(&mut of_no_vm);
        Self {
            agent: Agent::start(&of_no_vm),
            pki,
            _dir: dir,
        }
    }

    pub(crate) async fn client(&self) -> Client {
        self.client_with(&self.pki.proxy(), Windows::default())
            .await
    }

    pub(crate) async fn client_with(&self, credentials: &Credentials, windows: Windows) -> Client {
        let ca = self.pki.ca_pem();
        let way = endpoint(self.agent.grpc(), &ca, Some(credentials), windows);
        Client::connect(&way.unwrap()).await.unwrap()
    }

    /// A connection for services that the client does not know.
    pub(crate) async fn channel(&self) -> tonic::transport::Channel {
        let (ca, proxy) = (self.pki.ca_pem(), self.pki.proxy());
        let way = endpoint(self.agent.grpc(), &ca, Some(&proxy), Windows::default());
        way.unwrap().connect().await.unwrap()
    }

    /// Attaches as soon as the agent knows the VM and it runs.
    pub(crate) async fn attach(&self, client: &Client, request: v1::Open) -> Attached {
        let trying = async {
            loop {
                match client.attach(request.clone()).await {
                    Ok(attached) => return attached,
                    Err(status) => {
                        let code = status.code();
                        let soon = [
                            tonic::Code::NotFound,
                            tonic::Code::FailedPrecondition,
                            tonic::Code::Unavailable,
                        ];
                        assert!(soon.contains(&code), "{status:?}");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
        };
        tokio::time::timeout(BOUND, trying)
            .await
            .expect("the console opens in time")
    }

    /// A writer who has logged in and sees the shell's prompt.
    pub(crate) async fn shell(&self, client: &Client, guest: &str) -> Attached {
        self.shell_on(client, guest, "").await
    }

    /// The same on the console of this alias.
    pub(crate) async fn shell_on(&self, client: &Client, guest: &str, alias: &str) -> Attached {
        let mut request = open(guest, v1::Mode::WriteIfFree);
        request.start = tail(1 << 20);
        if let Some(console) = &mut request.console {
            alias.clone_into(&mut console.alias);
        }
        let mut attached = self.attach(client, request).await;
        login(&mut attached.send, &mut attached.receive).await;
        attached
    }

    /// Every session that was opened has been closed.
    pub(crate) async fn settled(&self) {
        assert!(sessions_settled(self.agent.http(), BOUND).await > 0.0);
    }
}

/// A message that tells the console's state, if it is this one.
pub(crate) fn told_state(
    wanted: v1::Availability,
) -> impl FnMut(Message) -> Option<v1::ConsoleState> {
    move |message| match message {
        Message::ConsoleState(state) if state.availability() == wanted => Some(state),
        _ => None,
    }
}

/// The reason that goes with a refusal.
pub(crate) fn reason(status: &Status) -> String {
    let info = status.get_details_error_info();
    info.map(|info| info.reason).unwrap_or_default()
}

pub(crate) fn tail(bytes: u64) -> Option<v1::Start> {
    Some(v1::Start {
        from: Some(v1::start::From::TailBytes(bytes)),
    })
}

pub(crate) async fn login(send: &mut SendHalf, receive: &mut ReceiveHalf) {
    receive.read_until(b"login: ", BOUND).await;
    send.type_bytes("root\n").await;
    receive.read_until(b"Password: ", BOUND).await;
    send.type_bytes("console\n").await;
    receive.read_until(b"# ", BOUND).await;
}

/// Types a command and returns what came up to the next prompt.
pub(crate) async fn run(send: &mut SendHalf, receive: &mut ReceiveHalf, command: &str) -> String {
    // The echo has the quotes, the output does not: only the latter is waited for.
    let ask = format!("{command}; echo en''d\n");
    send.type_bytes(ask).await;
    let seen = receive.read_until(b"end\r\n", BOUND).await;
    String::from_utf8_lossy(&seen).into_owned()
}
