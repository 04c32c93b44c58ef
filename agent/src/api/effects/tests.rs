use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::Instant;
use tonic::Code;
use tonic_types::StatusExt as _;
use vmconsole_proto::v1::vm_ref::Vm as VmName;

use super::*;
use crate::console::scripted::{BOUND, Host, id, inventory, vm};
use crate::hypervisor::{EffectError, Vm};
use crate::picture::Picture;
use crate::session::effects::MAX_SCREENSHOTS;
use crate::session::effects::scripted::{Asked, Deeds, effects, proxy};

struct Desk {
    host: Host,
    effects: Effects,
    deeds: Arc<Deeds>,
}

impl Desk {
    async fn open() -> Self {
        let mut host = Host::start(Some(1), 1024);
        host.console().await;
        host.script.attached().await;
        let (effects, deeds) = effects(&host);
        Self {
            host,
            effects,
            deeds,
        }
    }

    fn caller<T>(&self, request: T) -> Caller<'_, T> {
        Caller {
            request,
            proxy: proxy(),
            directory: self.host.directory.borrow().clone(),
            effects: &self.effects,
        }
    }

    async fn keys(
        &self,
        names: &[&str],
        hold: Option<prost_types::Duration>,
    ) -> Result<(), Status> {
        let request = v1::SendKeysRequest {
            vm: named("one"),
            keys: names.iter().map(|name| (*name).to_owned()).collect(),
            hold,
        };
        self.caller(request).send_keys().await.map(|_| ())
    }

    async fn nmi(&self, vm: Option<v1::VmRef>) -> Result<(), Status> {
        let request = v1::InjectNmiRequest { vm };
        self.caller(request).inject_nmi().await.map(|_| ())
    }

    async fn screenshot(&self) -> Result<HeldPicture, Status> {
        let request = v1::CaptureScreenshotRequest {
            vm: named("one"),
            screen: 0,
        };
        self.caller(request).screenshot().await
    }

    async fn send_break(&self, alias: &str, character: &[u8]) -> Result<(), Status> {
        let request = v1::SendBreakRequest {
            console: Some(v1::ConsoleRef {
                vm: Some(v1::console_ref::Vm::VmName("one".to_owned())),
                alias: alias.to_owned(),
            }),
            character: character.to_vec(),
        };
        self.caller(request).send_break().await.map(|_| ())
    }

    fn counted(&self, kind: &str, result: &str, times: u32) -> bool {
        self.host.metric(&format!(
            "vmconsole_side_effects_total{{kind=\"{kind}\",result=\"{result}\"}} {times}"
        ))
    }
}

fn named(name: &str) -> Option<v1::VmRef> {
    let vm = Some(VmName::Name(name.to_owned()));
    Some(v1::VmRef { vm })
}

fn by_uuid(uuid: &str) -> Option<v1::VmRef> {
    let vm = Some(VmName::Uuid(uuid.to_owned()));
    Some(v1::VmRef { vm })
}

/// The reason of a refusal, as a client reads it.
fn reason(refused: Result<(), Status>) -> String {
    let status = refused.expect_err("refused");
    let info = status.get_details_error_info().expect("a reason");
    assert_eq!(info.domain, "vmconsole");
    info.reason
}

#[tokio::test(start_paused = true)]
async fn a_vm_is_named_as_a_console_is() {
    let desk = Desk::open().await;
    desk.nmi(named("one")).await.unwrap();
    let uuid = id().vm.to_string();
    desk.nmi(by_uuid(&uuid.to_uppercase())).await.unwrap();
    assert_eq!(
        *desk.deeds.asked.lock(),
        [Asked::Nmi(id().vm), Asked::Nmi(id().vm)]
    );
    for (vm, why) in [
        (None, "BAD_REQUEST"),
        (Some(v1::VmRef { vm: None }), "BAD_REQUEST"),
        (by_uuid("one"), "BAD_REQUEST"),
        (named("two"), "NOT_FOUND"),
        (by_uuid("00000000-0000-0000-0000-000000000009"), "NOT_FOUND"),
    ] {
        assert_eq!(reason(desk.nmi(vm.clone()).await), why, "{vm:?}");
    }
    assert!(desk.counted("nmi", "BAD_REQUEST", 3) && desk.counted("nmi", "NOT_FOUND", 2));
    assert_eq!(desk.deeds.asked.lock().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_two_bear_and_a_host_that_was_not_read_are_refused() {
    let desk = Desk::open().await;
    let twin = Vm {
        uuid: crate::core::id::VmUuid::new(uuid::Uuid::from_u128(2)),
        ..vm(Some(2))
    };
    let twins = inventory([vm(Some(1)), twin.clone()]);
    desk.host.inventory.send_replace(twins);
    let mut directory = desk.host.directory.clone();
    let known = directory.wait_for(|directory| directory.vm(twin.uuid).is_some());
    timeout(BOUND, known).await.unwrap().unwrap();
    assert_eq!(reason(desk.nmi(named("one")).await), "BAD_REQUEST");

    let unread = Caller {
        request: v1::InjectNmiRequest { vm: named("one") },
        proxy: proxy(),
        directory: Arc::default(),
        effects: &desk.effects,
    };
    let refused = unread.inject_nmi().await.map(|_| ());
    assert_eq!(reason(refused), "ENDPOINT_LOST");
}

#[tokio::test(start_paused = true)]
async fn keys_are_pressed_in_order_and_held_as_asked() {
    let desk = Desk::open().await;
    desk.keys(&["ctrl", "alt", "del"], None).await.unwrap();
    let hold = prost_types::Duration {
        seconds: 5,
        nanos: 0,
    };
    desk.keys(&["f1"], Some(hold)).await.unwrap();
    let press = |names: &[&str], hold| {
        let keys = names.iter().map(|name| Key::named(name).unwrap());
        Asked::Keys(id().vm, KeyPress::new(keys.collect(), hold).unwrap())
    };
    let expected = [
        press(&["ctrl", "alt", "delete"], Duration::from_millis(100)),
        press(&["f1"], Duration::from_secs(5)),
    ];
    assert_eq!(*desk.deeds.asked.lock(), expected);
}

#[tokio::test(start_paused = true)]
async fn keys_that_cannot_be_pressed_are_refused_by_name() {
    let desk = Desk::open().await;
    let hold = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
    assert_eq!(reason(desk.keys(&[], None).await), "BAD_REQUEST");
    assert_eq!(reason(desk.keys(&["a"; 17], None).await), "BAD_REQUEST");
    assert_eq!(reason(desk.keys(&["a"], hold(5, 1)).await), "BAD_REQUEST");
    assert_eq!(reason(desk.keys(&["a"], hold(-1, 0)).await), "BAD_REQUEST");
    let long = "x".repeat(1000);
    for name in ["Ctrl", "hyper", &long] {
        let refused = desk.keys(&["a", name], None).await.unwrap_err();
        assert!(refused.message().starts_with("no key is named \""));
        assert!(refused.message().len() < 200, "{}", refused.message());
    }
    assert!(desk.counted("keys", "BAD_REQUEST", 7));
    assert_eq!(*desk.deeds.asked.lock(), []);
}

#[tokio::test(start_paused = true)]
async fn what_a_hypervisor_refuses_has_its_reason_and_code() {
    let desk = Desk::open().await;
    for (refusal, why, code) in [
        (
            EffectError::NotRunning,
            "NOT_RUNNING",
            Code::FailedPrecondition,
        ),
        (
            EffectError::NotFound("x".into()),
            "NOT_FOUND",
            Code::NotFound,
        ),
        (
            EffectError::Denied("x".into()),
            "DENIED",
            Code::PermissionDenied,
        ),
        (
            EffectError::Unsupported("x".into()),
            "UNSUPPORTED",
            Code::Unimplemented,
        ),
        (
            EffectError::Unreachable("x".into()),
            "ENDPOINT_LOST",
            Code::Unavailable,
        ),
    ] {
        *desk.deeds.refusal.lock() = Some(refusal.clone());
        let refused = desk.nmi(named("one")).await.unwrap_err();
        assert_eq!(refused.code(), code);
        assert_eq!(refused.message(), refusal.to_string());
        assert_eq!(reason(Err(refused)), why);
    }
}

#[tokio::test(start_paused = true)]
async fn a_break_names_its_console_and_at_most_one_byte() {
    let desk = Desk::open().await;
    assert_eq!(
        reason(desk.send_break("serial0", b"ab").await),
        "BAD_REQUEST"
    );
    assert_eq!(reason(desk.send_break("serial9", b"").await), "NOT_FOUND");
    assert_eq!(
        reason(desk.send_break("no alias", b"").await),
        "BAD_REQUEST"
    );
    assert!(desk.counted("break", "BAD_REQUEST", 2));
}

/// A picture of so many bytes, which are none of a PNG.
async fn held(desk: &Desk, bytes: usize) -> HeldPicture {
    let mut held = desk.screenshot().await.unwrap();
    held.picture = Picture {
        png: (0..bytes).map(|at| at as u8).collect::<Vec<_>>().into(),
        ..held.picture
    };
    held
}

#[tokio::test(start_paused = true)]
async fn a_picture_comes_with_its_size_first_and_whole() {
    let desk = Desk::open().await;
    for bytes in [1, MAX_PIECE, 3 * MAX_PIECE + 1] {
        let held = held(&desk, bytes).await;
        let png = held.picture.png.clone();
        let mut parts = Box::pin(pieces(held, &desk.host.tasks));
        let info = v1::ScreenshotInfo {
            width: 2,
            height: 1,
            size: bytes as u64,
        };
        let first = parts.next().await.unwrap().unwrap();
        assert_eq!(first.part, Some(Part::Info(info)));
        let mut data = Vec::new();
        while let Some(part) = parts.next().await {
            match part.unwrap().part {
                Some(Part::Data(piece)) if (1..=MAX_PIECE).contains(&piece.len()) => {
                    data.extend(piece)
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(data, png);
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_does_not_read_gives_its_place_up() {
    let desk = Desk::open().await;
    let mut stopped = Vec::new();
    for _ in 0..MAX_SCREENSHOTS {
        let held = held(&desk, 9 * MAX_PIECE).await;
        stopped.push(Box::pin(pieces(held, &desk.host.tasks)));
    }
    let refused = desk.screenshot().await.map(|_| ());
    assert_eq!(reason(refused), "LIMIT_REACHED");
    let begun = Instant::now();
    let free = async {
        while desk.host.tasks.running().contains_key("screenshot") {
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    };
    timeout(BOUND, free).await.expect("they are given up");
    let waited = begun.elapsed();
    assert!(
        (READ_WITHIN..2 * READ_WITHIN).contains(&waited),
        "{waited:?}"
    );
    desk.screenshot().await.unwrap();
    let mut rest = stopped.pop().unwrap();
    let mut last = None;
    while let Some(part) = rest.next().await {
        last = Some(part);
    }
    let refused = last.unwrap().map(|_| ());
    assert_eq!(reason(refused), "MAX_DURATION");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_gives_its_place_up_at_once() {
    let desk = Desk::open().await;
    let one = desk.screenshot().await.unwrap();
    let held = held(&desk, 9 * MAX_PIECE).await;
    drop(pieces(held, &desk.host.tasks));
    let free = async {
        while desk.host.tasks.running().contains_key("screenshot") {
            tokio::task::yield_now().await;
        }
    };
    timeout(BOUND, free).await.expect("it ends");
    desk.screenshot().await.unwrap();
    drop(one);
}
