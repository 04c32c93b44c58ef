use std::time::Duration;

use tokio::time::timeout;
use uuid::Uuid;

use super::scripted::{Asked, Deeds, effects, proxy};
use super::*;
use crate::console::scripted::{BOUND, Does, Host, id, inventory, vm};
use crate::console::{Availability, Item, JoinRequest, Participant, Viewer};
use crate::core::id::SessionId;
use crate::core::keys::Key;
use crate::core::output::Start;
use crate::core::window::Room;
use crate::endpoint::EndpointEnd;
use crate::hypervisor::{Inventory, Vm};

struct Desk {
    host: Host,
    effects: Effects,
    deeds: Arc<Deeds>,
    console: Arc<Console>,
}

impl Desk {
    async fn open() -> Self {
        let mut host = Host::start(Some(1), 1024);
        let console = host.console().await;
        host.script.attached().await;
        let (effects, deeds) = effects(&host);
        Self {
            host,
            effects,
            deeds,
            console,
        }
    }

    fn viewer(&self) -> Viewer {
        let participant = Participant {
            session: SessionId::random(),
            proxy: proxy(),
            since: SystemTime::now(),
            away: None,
        };
        let joined = self.console.join(JoinRequest {
            participant,
            start: Start::Live,
            claim: None,
            takeover_reason: String::new(),
            view_otherwise: false,
            wait_for_start: false,
            end_when_stopped: false,
            alone: None,
        });
        joined.expect("attaches")
    }

    fn counted(&self, kind: &str, result: &str, times: u32) -> bool {
        self.host.metric(&format!(
            "vmconsole_side_effects_total{{kind=\"{kind}\",result=\"{result}\"}} {times}"
        ))
    }

    async fn send_break(&self, character: Option<u8>) -> Result<(), EffectRefused> {
        let sent = self.effects.send_break(&self.console, character, proxy());
        sent.await
    }

    async fn nmi(&self) -> Result<(), EffectRefused> {
        self.effects.inject_nmi(id().vm, proxy()).await
    }
}

/// The side effects that a viewer has not been told of yet.
fn told(viewer: &mut Viewer) -> Vec<SideEffectKind> {
    let room = Room {
        output: 4096,
        state: true,
        roster: true,
    };
    let items = std::iter::from_fn(|| viewer.poll(room));
    let effect = |item| match item {
        Item::Effect(effect) => {
            assert_eq!(effect.proxy, proxy());
            Some(effect.kind)
        }
        _ => None,
    };
    items.filter_map(effect).collect()
}

fn delete() -> KeyPress {
    let keys = ["ctrl", "alt", "delete"].map(|name| Key::named(name).unwrap());
    KeyPress::new(keys.to_vec(), Duration::from_millis(7)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_is_done_is_asked_for_once_told_and_counted() {
    let desk = Desk::open().await;
    let mut viewer = desk.viewer();
    let effects = &desk.effects;
    effects.send_keys(id().vm, delete(), proxy()).await.unwrap();
    desk.nmi().await.unwrap();
    let held = effects.screenshot(id().vm, 3, proxy()).await.unwrap();
    assert_eq!((held.picture.width, held.picture.height), (2, 1));
    let asked = desk.deeds.asked.lock().clone();
    let vm = id().vm;
    assert_eq!(
        asked,
        [
            Asked::Keys(vm, delete()),
            Asked::Nmi(vm),
            Asked::Screenshot(vm, 3)
        ]
    );
    assert_eq!(
        told(&mut viewer),
        [
            SideEffectKind::Keys,
            SideEffectKind::Nmi,
            SideEffectKind::Screenshot
        ]
    );
    for kind in ["keys", "nmi", "screenshot"] {
        assert!(desk.counted(kind, "OK", 1), "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_not_done_is_counted_by_its_reason_and_told_to_nobody() {
    let desk = Desk::open().await;
    let mut viewer = desk.viewer();
    for (refusal, result) in [
        (EffectError::NotRunning, "NOT_RUNNING"),
        (EffectError::NotFound("gone".to_owned()), "NOT_FOUND"),
        (EffectError::Denied("polkit".to_owned()), "DENIED"),
        (EffectError::Unsupported("no NMI".to_owned()), "UNSUPPORTED"),
        (EffectError::Busy("much waits"), "LIMIT_REACHED"),
        (
            EffectError::NotDone("libvirtd is gone".to_owned()),
            "ENDPOINT_LOST",
        ),
    ] {
        *desk.deeds.refusal.lock() = Some(refusal.clone());
        let refused = desk.nmi().await.unwrap_err();
        assert_eq!(refused.reason().name(), result);
        assert_eq!(refused.to_string(), refusal.to_string());
        assert!(desk.counted("nmi", result, 1), "{result}");
    }
    assert_eq!(told(&mut viewer), []);
    assert!(desk.counted("nmi", "OK", 0));
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_done_is_told_but_for_a_picture() {
    let desk = Desk::open().await;
    let mut viewer = desk.viewer();
    *desk.deeds.refusal.lock() = Some(EffectError::Unreachable("no answer".to_owned()));
    let refused = desk.nmi().await.unwrap_err();
    assert_eq!(refused.reason(), Reason::EndpointLost);
    let taken = desk.effects.screenshot(id().vm, 0, proxy()).await;
    assert_eq!(taken.unwrap_err().reason(), Reason::EndpointLost);
    assert_eq!(told(&mut viewer), [SideEffectKind::Nmi]);
    assert!(desk.counted("nmi", "ENDPOINT_LOST", 1));
}

#[tokio::test(start_paused = true)]
async fn a_hypervisor_that_never_answers_is_given_up() {
    let desk = Desk::open().await;
    let mut viewer = desk.viewer();
    desk.deeds.turns.forget_permits(1000);
    let begun = tokio::time::Instant::now();
    let refused = desk.nmi().await.unwrap_err();
    assert!(matches!(refused, EffectRefused::Late), "{refused}");
    assert_eq!(begun.elapsed(), LONGEST);
    assert_eq!(told(&mut viewer), [SideEffectKind::Nmi]);
}

#[tokio::test(start_paused = true)]
async fn a_hypervisor_that_cannot_be_asked_is_not() {
    let desk = Desk::open().await;
    let mut viewer = desk.viewer();
    let mut stale = Inventory::clone(&inventory([vm(Some(1))]));
    stale.stale.insert(id().vm, "libvirtd is gone".into());
    desk.host.inventory.send_replace(Arc::new(stale));
    let refused = desk.nmi().await.unwrap_err();
    assert_eq!(refused.reason(), Reason::EndpointLost);
    assert!(refused.to_string().contains("libvirtd is gone"));
    assert_eq!(*desk.deeds.asked.lock(), []);
    assert_eq!(told(&mut viewer), []);
    assert!(desk.counted("nmi", "ENDPOINT_LOST", 1));
}

#[tokio::test(start_paused = true)]
async fn what_has_begun_goes_on_without_its_caller() {
    let desk = Desk::open().await;
    let mut viewer = desk.viewer();
    desk.deeds.turns.forget_permits(1000);
    let left = timeout(Duration::from_millis(1), desk.nmi()).await;
    assert!(left.is_err(), "nothing answers yet");
    assert_eq!(told(&mut viewer), []);
    desk.deeds.turns.add_permits(1);
    assert!(desk.host.tasks.running().contains_key("effect"));
    let gone = async {
        while desk.host.tasks.running().contains_key("effect") {
            tokio::task::yield_now().await;
        }
    };
    timeout(BOUND, gone).await.expect("it ends");
    assert_eq!(told(&mut viewer), [SideEffectKind::Nmi]);
    assert!(desk.counted("nmi", "OK", 1));
}

#[tokio::test(start_paused = true)]
async fn one_vm_has_no_more_than_its_places_and_gets_them_back() {
    let desk = Desk::open().await;
    desk.deeds.turns.forget_permits(1000);
    let mut waiting = Vec::new();
    for _ in 0..MAX_EFFECTS_PER_VM {
        let mut one = Box::pin(desk.nmi());
        assert!(timeout(Duration::from_millis(1), &mut one).await.is_err());
        waiting.push(one);
    }
    let refused = desk.nmi().await.unwrap_err();
    assert_eq!(refused.reason(), Reason::LimitReached);
    assert!(desk.counted("nmi", "LIMIT_REACHED", 1));
    desk.deeds.turns.add_permits(1000);
    for one in waiting {
        one.await.unwrap();
    }
    desk.nmi().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn screenshots_are_few_until_they_are_let_go() {
    let desk = Desk::open().await;
    let take = || desk.effects.screenshot(id().vm, 0, proxy());
    let mut held = Vec::new();
    for _ in 0..MAX_SCREENSHOTS {
        held.push(take().await.unwrap());
    }
    assert_eq!(take().await.unwrap_err().reason(), Reason::LimitReached);
    desk.nmi().await.unwrap();
    held.pop();
    take().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_no_picture_is_not_given_out() {
    let desk = Desk::open().await;
    let mut viewer = desk.viewer();
    *desk.deeds.picture.lock() = b"GIF89a".to_vec();
    let refused = desk.effects.screenshot(id().vm, 0, proxy()).await;
    assert!(matches!(refused.unwrap_err(), EffectRefused::Picture(_)));
    assert_eq!(told(&mut viewer), []);
    *desk.deeds.picture.lock() = super::scripted::PPM.to_vec();
    desk.effects.screenshot(id().vm, 0, proxy()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn viewers_of_other_vms_are_told_nothing() {
    let desk = Desk::open().await;
    let mut viewer = desk.viewer();
    let other = VmUuid::new(Uuid::from_u128(2));
    let two = Vm {
        uuid: other,
        name: "two".into(),
        ..vm(Some(2))
    };
    let mut directory = desk.host.directory.clone();
    desk.host
        .inventory
        .send_replace(inventory([vm(Some(1)), two]));
    let known = directory.wait_for(|directory| directory.vm(other).is_some());
    timeout(BOUND, known).await.unwrap().unwrap();
    desk.effects.inject_nmi(other, proxy()).await.unwrap();
    assert_eq!(told(&mut viewer), []);
}

#[tokio::test(start_paused = true)]
async fn a_break_is_put_on_its_line_and_told() {
    let desk = Desk::open().await;
    let mut viewer = desk.viewer();
    *desk.host.script.line_breaks.lock() = Does::It;
    desk.host.appetite.add_permits(10);
    desk.send_break(Some(b'h')).await.unwrap();
    assert_eq!(*desk.host.script.breaks.lock(), [0]);
    assert_eq!(*desk.host.script.written.lock(), b"h");
    assert_eq!(told(&mut viewer), [SideEffectKind::Break]);
    assert!(desk.counted("break", "OK", 1));

    *desk.host.script.line_breaks.lock() = Does::NotAtAll;
    let refused = desk.send_break(None).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::Unsupported);
    assert_eq!(told(&mut viewer), []);
}

#[tokio::test(start_paused = true)]
async fn a_break_that_may_have_been_sent_is_told_and_one_that_cannot_have_been_is_not() {
    let desk = Desk::open().await;
    let mut viewer = desk.viewer();
    *desk.host.script.line_breaks.lock() = Does::Hang;
    let refused = desk.send_break(None).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::EndpointLost);
    assert_eq!(told(&mut viewer), [], "the line takes nothing");
    *desk.host.script.line_breaks.lock() = Does::NotAtAll;
    *desk.host.script.monitor_breaks.lock() = Does::Hang;
    let refused = desk.send_break(None).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::EndpointLost);
    assert_eq!(told(&mut viewer), [SideEffectKind::Break]);

    let sink = desk.host.script.sink.lock().clone().expect("attached");
    sink.ended(EndpointEnd::Lost("gone".to_owned()));
    let attached = || desk.console.status().state.availability == Availability::Attached;
    let lost = async {
        while attached() {
            tokio::task::yield_now().await;
        }
    };
    timeout(BOUND, lost).await.expect("it is lost");
    let refused = desk.send_break(None).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::EndpointLost);
    assert_eq!(told(&mut viewer), []);
    assert!(desk.counted("break", "ENDPOINT_LOST", 3));
}
