//! A socket that something else takes the place of, before the agent used it and while it
//! does: that is refused and reported, nothing that was put there notices, and another guest
//! of the same agent is served all the while.

mod impostor;

use std::path::PathBuf;

use serde_json::json;
use vmconsole_proto::v1;
use vmconsole_proto::v1::Availability::{Attached, Denied, Lost};
use vmconsole_proto::v1::VmState;
use vmconsole_tests::client::{Attached as Stream, Client, open};
use vmconsole_tests::qemu::{Boot, Chardev, Qemu, QemuDir, QemuOptions, SERIAL0};

use self::impostor::{Impostor, Kind, Relay};
use crate::effects::inject_nmi;
use crate::host::{BOUND, QemuHost, login, reason, run, told_state};

/// An agent, a guest of it that nobody tampers with, and one whose sockets are swapped.
struct Stage {
    host: QemuHost,
    client: Client,
    neighbour: Stream,
    _neighbour: Qemu,
    victim: Qemu,
    /// Where the victim's socket ought to be.
    place: PathBuf,
    /// Where it is.
    moved: PathBuf,
}

impl Stage {
    /// Moves the victim's socket away and puts an impostor there, before there is an agent.
    async fn set(victim: QemuOptions, place: impl FnOnce(&QemuDir) -> PathBuf) -> (Self, Impostor) {
        let dir = QemuDir::new();
        let mut neighbour = QemuOptions::named("neighbour");
        neighbour.serial0 = Some(Chardev::Unix);
        let neighbour = Qemu::start(&dir, neighbour);
        let victim = Qemu::start(&dir, victim);
        let (place, moved) = (place(&dir), dir.path().join("moved"));
        std::fs::rename(&place, &moved).unwrap();
        let impostor = Impostor::put(Kind::Link, &place);
        let host = QemuHost::on(dir, |_| {});
        let client = host.client().await;
        let stage = Self {
            neighbour: host.shell(&client, neighbour.name()).await,
            _neighbour: neighbour,
            client,
            host,
            victim,
            place,
            moved,
        };
        (stage, impostor)
    }

    /// Puts the victim's socket where it ought to be, such that it can be cut.
    fn relay(&self) -> Relay {
        Relay::put(&self.place, &self.moved)
    }

    /// News of a VM have the agent try again at once.
    async fn nudge(&mut self) {
        for (command, state) in [("stop", VmState::Paused), ("cont", VmState::Running)] {
            self.victim.monitor().run(command, &json!({}));
            self.shows(|shown| shown.vm_state() == state).await;
        }
    }

    /// The other guest's console is served, without a gap.
    async fn neighbour_is_served(&mut self) {
        let (send, receive) = (&mut self.neighbour.send, &mut self.neighbour.receive);
        let said = run(send, receive, "echo s$((1+1))d").await;
        assert!(said.contains("s2d\r\n"), "{said:?}");
        assert_eq!(receive.lost(), []);
    }

    /// Waits until the list says so of the victim's console.
    async fn shows(&self, wanted: impl Fn(&v1::ConsoleState) -> bool) -> v1::ConsoleState {
        let console = (self.victim.name(), SERIAL0);
        self.client.shows(console, BOUND, wanted).await
    }

    fn view(&self) -> v1::Open {
        open(self.victim.name(), v1::Mode::View)
    }

    /// The victim's console is refused and says why, and nobody else is worse off.
    async fn refuses(&mut self, impostor: &Impostor) {
        let fault = impostor.kind.fault();
        self.shows(|state| state.availability() == Denied && state.detail.contains(fault))
            .await;
        let status = self.client.attach(self.view()).await.unwrap_err();
        assert_eq!(reason(&status), "DENIED");
        assert!(status.message().contains(fault), "{status:?}");
        let request = v1::DiagnoseConsoleRequest {
            console: self.view().console,
        };
        let diagnosed = self.client.service().diagnose_console(request).await;
        let first = diagnosed.unwrap().into_inner().findings.swap_remove(0);
        println!(
            "{:?}: {} ({})",
            impostor.kind, first.summary, first.evidence
        );
        assert_eq!(first.code(), v1::FindingCode::UnsafePath, "{first:?}");
        assert!(!first.next_step.is_empty());
        self.neighbour_is_served().await;
        impostor.was_left_alone();
    }

    /// What is wrong with the host, by what is told of the victim's place.
    async fn host_finding(&self) -> Option<v1::Finding> {
        let request = v1::DiagnoseHostRequest {};
        let diagnosed = self.client.service().diagnose_host(request).await;
        let place = self.place.display().to_string();
        let about = |finding: &v1::Finding| {
            finding.summary.contains(&place) || finding.evidence.contains(&place)
        };
        diagnosed
            .unwrap()
            .into_inner()
            .findings
            .into_iter()
            .find(about)
    }

    /// The victim's monitor is refused and the host says why, and nobody else is worse off.
    async fn refuses_monitor(&mut self, impostor: &Impostor) {
        let fault = impostor.kind.fault();
        let told = async {
            loop {
                let finding = self.host_finding().await;
                if let Some(finding) = finding.filter(|it| it.evidence.contains(fault)) {
                    return finding;
                }
            }
        };
        let finding = tokio::time::timeout(BOUND, told).await.unwrap();
        println!(
            "{:?}: {} ({})",
            impostor.kind, finding.summary, finding.evidence
        );
        assert!(finding.severity() >= v1::Severity::Warning, "{finding:?}");
        self.neighbour_is_served().await;
        impostor.was_left_alone();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_the_place_of_a_consoles_socket_is_refused_and_harms_nobody() {
    let mut victim = QemuOptions::named("victim");
    victim.serial0 = Some(Chardev::Unix);
    let place = |dir: &QemuDir| dir.consoles().join("victim.serial0");
    let (mut stage, mut impostor) = Stage::set(victim, place).await;

    // Before it was used.
    for kind in Kind::ALL {
        impostor = impostor.replace(kind);
        stage.nudge().await;
        stage.refuses(&impostor).await;
    }

    // While it is used: what is open stays, and what is not is refused.
    let mut relay = stage.relay();
    stage.nudge().await;
    stage.shows(|state| state.availability() == Attached).await;
    let writer = open(stage.victim.name(), v1::Mode::WriteIfFree);
    let mut writer = stage.client.attach(writer).await.unwrap();
    // The prompt was printed before anybody was attached.
    writer.send.type_bytes("\n").await;
    login(&mut writer.send, &mut writer.receive).await;
    for kind in Kind::ALL {
        impostor = Impostor::put(kind, &stage.place);
        let said = run(&mut writer.send, &mut writer.receive, "echo o$((1+1))n").await;
        assert!(said.contains("o2n\r\n"), "{said:?}");
        impostor.was_left_alone();
        relay.cut().await;
        let denied = writer.receive.wait_for("DENIED", BOUND, told_state(Denied));
        assert!(denied.await.detail.contains(kind.fault()));
        stage.refuses(&impostor).await;

        relay = stage.relay();
        stage.nudge().await;
        writer
            .receive
            .wait_for("ATTACHED", BOUND, told_state(Attached))
            .await;
        let said = run(&mut writer.send, &mut writer.receive, "echo b$((1+1))k").await;
        assert!(said.contains("b2k\r\n"), "{said:?}");
    }
    assert_eq!(writer.receive.lost().len(), Kind::ALL.len());
    for attached in [writer, stage.neighbour] {
        attached.detach(BOUND).await;
    }
    stage.host.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_the_place_of_a_monitors_socket_is_refused_and_harms_nobody() {
    let mut victim = QemuOptions::named("victim");
    victim.boot = Boot::Nothing;
    let place = |dir: &QemuDir| dir.qmp().join("victim.qmp");
    let (mut stage, mut impostor) = Stage::set(victim, place).await;

    // Before it was used: there is no such VM.
    for kind in Kind::ALL {
        impostor = impostor.replace(kind);
        stage.refuses_monitor(&impostor).await;
        let status = stage.client.attach(stage.view()).await.unwrap_err();
        assert_eq!(reason(&status), "NOT_FOUND");
    }

    // While it is used: what is open stays, and what is not is refused.
    let mut relay = stage.relay();
    for kind in Kind::ALL {
        stage.shows(|state| state.availability() == Attached).await;
        impostor = Impostor::put(kind, &stage.place);
        inject_nmi(&stage.client, stage.victim.name())
            .await
            .unwrap();
        impostor.was_left_alone();
        relay.cut().await;
        let fault = kind.fault();
        stage
            .shows(|state| state.availability() == Lost && state.detail.contains(fault))
            .await;
        let refused = inject_nmi(&stage.client, stage.victim.name()).await;
        assert_eq!(reason(&refused.unwrap_err()), "ENDPOINT_LOST");
        stage.refuses_monitor(&impostor).await;
        relay = stage.relay();
    }
    stage.shows(|state| state.availability() == Attached).await;
    assert_eq!(stage.host_finding().await, None);
    stage.neighbour.detach(BOUND).await;
    stage.host.settled().await;
}
