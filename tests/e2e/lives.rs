//! One stream through what may happen to its VM: suspended, let go on, killed, started again, and
//! at last no more. Each is told as a state with the generation that it belongs to.

use nix::sys::signal::{Signal, kill};
use serde_json::json;
use vmconsole_proto::v1;
use vmconsole_proto::v1::VmState::{Crashed, Off, Paused, Running};
use vmconsole_proto::v1::stream_console_response::Message;
use vmconsole_tests::client::{ReceiveHalf, open};
use vmconsole_tests::qemu::QemuOptions;

use crate::host::{BOUND, Host, QemuHost, Serving};

/// What is done to the VM.
#[derive(Clone, Copy, Debug)]
enum Act {
    Suspend,
    GoOn,
    Kill,
    Start,
    Remove,
}

/// The generation that goes with the next state in which the VM is one of `wanted`.
async fn told(receive: &mut ReceiveHalf, wanted: &[v1::VmState]) -> u64 {
    let state = |message| match message {
        Message::ConsoleState(state) if wanted.contains(&state.vm_state()) => {
            Some(state.generation)
        }
        _ => None,
    };
    receive.wait_for(&format!("{wanted:?}"), BOUND, state).await
}

async fn one_stream(serving: &Serving, name: &str, mut act: impl FnMut(Act)) {
    let client = serving.client().await;
    let mut viewer = serving.attach(&client, open(name, v1::Mode::View)).await;
    let first = viewer.opened.position.unwrap().generation;
    let receive = &mut viewer.receive;
    assert_eq!(told(receive, &[Running]).await, first);
    act(Act::Suspend);
    assert_eq!(told(receive, &[Paused]).await, first);
    act(Act::GoOn);
    assert_eq!(told(receive, &[Running]).await, first);
    act(Act::Kill);
    assert_eq!(told(receive, &[Off, Crashed]).await, first);
    act(Act::Start);
    let (mut started, mut running) = (None, None);
    let both = |message| {
        match message {
            Message::GenerationStarted(begun) => started = begun.position,
            Message::ConsoleState(state) if state.vm_state() == Running => {
                running = Some(state.generation);
            }
            _ => {}
        }
        let second = started?.generation;
        (running == Some(second)).then_some(second)
    };
    let second = receive.wait_for("its second life", BOUND, both).await;
    assert_ne!(second, first);
    act(Act::Remove);
    let (closed, status) = receive.closed(BOUND).await;
    assert_eq!(closed.reason(), v1::Reason::VmGone);
    assert_eq!(status.map(|it| it.code()), Some(tonic::Code::NotFound));
    assert_eq!(closed.resume.unwrap().generation, second);
    serving.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_vm_of_libvirt() {
    let host = Host::start();
    let guest = host.guest("lively");
    let virsh = |words: &[&str]| {
        host.libvirtd.virsh(words).unwrap();
    };
    one_stream(&host, guest.name(), |act| match act {
        Act::Suspend => virsh(&["suspend", guest.name()]),
        Act::GoOn => virsh(&["resume", guest.name()]),
        Act::Kill => kill(guest.pid(), Signal::SIGKILL).unwrap(),
        Act::Start => guest.start(),
        Act::Remove => {
            guest.destroy();
            virsh(&["undefine", guest.name()]);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_qemu_without_libvirt() {
    let host = QemuHost::start();
    let mut guest = host.guest(QemuOptions::named("lively"));
    let name = guest.name().to_owned();
    one_stream(&host, &name, |act| match act {
        Act::Suspend => {
            guest.monitor().run("stop", &json!({}));
        }
        Act::GoOn => {
            guest.monitor().run("cont", &json!({}));
        }
        Act::Kill => {
            guest.kill();
        }
        Act::Start => guest.restart(),
        Act::Remove => {
            guest.kill();
            std::fs::remove_file(guest.qmp()).unwrap();
        }
    })
    .await;
}
