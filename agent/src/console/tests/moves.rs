//! A VM that goes on to another host.

use super::*;
use crate::console::scripted;
use crate::hypervisor::Vm;

fn moved(instance: Option<u64>) -> Vm {
    let mut vm = scripted::vm(instance);
    vm.state = VmState::Moved;
    vm
}

async fn told(viewer: &mut Viewer) -> Option<String> {
    find(viewer, |item| match item {
        Item::Moved(host) => Some(host.map(|host| host.to_string())),
        _ => None,
    })
    .await
}

async fn ended(viewer: &mut Viewer) -> Reason {
    find(viewer, |item| match item {
        Item::Ended(reason) => Some(reason),
        _ => None,
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn viewers_stay_until_they_know_where_to_go_and_get_the_last_words() {
    let mut host = Host::start(Some(1), 1024);
    let console = host.console().await;
    let sink = host.script.attached().await;
    let mut viewer = console.join(request(None)).expect("joins");
    host.inventory.send_replace(inventory([moved(Some(1))]));
    assert_eq!(told(&mut viewer).await, None);
    assert!(
        console.join(request(None)).is_ok(),
        "there may be last words"
    );
    sink.output(b"bye");
    assert_eq!(console.announce_move(Some(&"kvm2".into())), 1);
    assert_eq!(told(&mut viewer).await.as_deref(), Some("kvm2"));
    assert_eq!(bytes(output(&mut viewer).await), b"bye");
    assert_eq!(ended(&mut viewer).await, Reason::Moved);
    let refused = console.join(request(None)).expect_err("it went on");
    assert_eq!(refused.to_string(), "the VM went on to kvm2");
    assert!(matches!(refused, JoinError::Moved(Some(_))));
}

#[tokio::test(start_paused = true)]
async fn a_move_without_a_word_ends_with_the_qemu_and_a_start_here_ends_the_move() {
    let mut host = Host::start(Some(1), 1024);
    let console = host.console().await;
    host.script.attached().await;
    let mut viewer = console.join(request(None)).expect("joins");
    host.inventory.send_replace(inventory([moved(None)]));
    assert_eq!(told(&mut viewer).await, None);
    assert_eq!(ended(&mut viewer).await, Reason::Moved);
    drop(viewer);
    console.announce_move(Some(&"kvm2".into()));
    host.inventory.send_replace(inventory([vm(Some(2))]));
    host.script.attached().await;
    let mut viewer = console.join(request(None)).expect("it is here again");
    host.inventory.send_replace(inventory([]));
    assert_eq!(ended(&mut viewer).await, Reason::VmGone);
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_is_gone_went_where_it_was_announced_or_as_its_hypervisor_says() {
    for announced in [true, false] {
        let mut host = Host::start(Some(1), 1024);
        let console = host.console().await;
        host.script.attached().await;
        let mut viewer = console.join(request(None)).expect("joins");
        let mut gone = Inventory::clone(&inventory([]));
        if announced {
            console.announce_move(Some(&"kvm2".into()));
        } else {
            gone.moved.insert(scripted::id().vm);
        }
        host.inventory.send_replace(gone.into());
        assert_eq!(ended(&mut viewer).await, Reason::Moved);
    }
}

#[tokio::test(start_paused = true)]
async fn who_comes_after_the_announcement_is_told_and_who_waits_for_its_return_waits() {
    let mut host = Host::start(Some(1), 1024);
    let console = host.console().await;
    host.script.attached().await;
    console.announce_move(Some(&"kvm2".into()));
    let mut viewer = console.join(request(None)).expect("joins");
    assert_eq!(told(&mut viewer).await.as_deref(), Some("kvm2"));
    host.inventory.send_replace(inventory([moved(None)]));
    assert_eq!(ended(&mut viewer).await, Reason::Moved);
    drop(viewer);
    let mut waiting = request(None);
    waiting.wait_for_start = true;
    let mut viewer = console.join(waiting).expect("it waits");
    while let Some(item) = viewer.poll(Room::ALL) {
        assert!(!matches!(item, Item::Ended(_)), "{item:?}");
    }
    host.inventory.send_replace(inventory([vm(Some(2))]));
    let sink = host.script.attached().await;
    sink.output(b"hello");
    loop {
        if let Next::Output { bytes, .. } = output(&mut viewer).await {
            assert_eq!(&bytes[..], b"hello");
            break;
        }
    }
}
