//! Several at one display: who writes, who is alone, and what ends a relay.

use vmconsole_proto::v1;
use vmconsole_proto::v1::relay_graphics_request::Message as Request;
use vmconsole_proto::v1::relay_graphics_response::Message;
use vmconsole_tests::client::{Relay, open, relay_open};
use vmconsole_tests::qemu::{Boot, Vnc};

use super::{firmware, looks, showing, writing};
use crate::host::{BOUND, QemuHost, reason};

async fn hears_writer(relay: &mut Relay) -> v1::WriterChanged {
    let wanted = |message: &Message| match message {
        Message::WriterChanged(changed) => Some(changed.clone()),
        _ => None,
    };
    relay.hears(BOUND, wanted).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_viewers_writes_until_the_other_takes_over() {
    let host = QemuHost::start();
    let _guest = host.guest(firmware("two", Vnc::Unix));
    let client = host.client().await;
    let (mut first, mut screen) = showing(&client, writing("two")).await;
    let refused = client.relay(writing("two")).await.unwrap_err();
    assert_eq!(reason(&refused), "LEASE_HELD", "{refused:?}");
    let mut open = writing("two");
    open.view_otherwise = true;
    let (mut second, mut seen) = showing(&client, open).await;
    assert_eq!(second.opened.mode(), v1::Mode::View);
    let mode = v1::Mode::WriteTakeover.into();
    let takeover_reason = "night shift".to_owned();
    let ask = v1::RequestWriter {
        mode,
        takeover_reason,
    };
    second.say(Request::RequestWriter(ask)).await;
    assert!(hears_writer(&mut second).await.you_write);
    let told = hears_writer(&mut first).await;
    assert_eq!(told.reason(), v1::Reason::TakenOver);
    assert_eq!(
        (told.takeover_reason.as_str(), told.you_write),
        ("night shift", false)
    );
    looks(&mut first, &mut screen).await;
    looks(&mut second, &mut seen).await;
    drop((first, second));
    host.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_a_display_alone_has_it_alone() {
    let host = QemuHost::start();
    let _guest = host.guest(firmware("alone", Vnc::Unix));
    let client = host.client().await;
    let (mut before, _) = showing(&client, writing("alone")).await;
    let mut alone = writing("alone");
    alone.exclusive = true;
    let refused = client.relay(alone.clone()).await.unwrap_err();
    assert_eq!(reason(&refused), "LEASE_HELD", "{refused:?}");
    alone.mode = v1::Mode::WriteTakeover.into();
    let (mut owner, mut screen) = showing(&client, alone.clone()).await;
    let (closed, status) = before.closed(BOUND).await;
    assert_eq!(closed.reason(), v1::Reason::TakenOver);
    assert_eq!(reason(&status.unwrap()), "TAKEN_OVER");
    let refused = client.relay(relay_open("alone", v1::Mode::View)).await;
    assert_eq!(reason(&refused.unwrap_err()), "LEASE_HELD");
    looks(&mut owner, &mut screen).await;
    // The next who takes it over need not want to be alone.
    let taking = relay_open("alone", v1::Mode::WriteTakeover);
    let (mut next, mut screen) = showing(&client, taking).await;
    assert_eq!(owner.closed(BOUND).await.0.reason(), v1::Reason::TakenOver);
    looks(&mut next, &mut screen).await;
    drop(next);
    host.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_outlives_a_reset_and_ends_with_its_qemu() {
    let host = QemuHost::start();
    let mut guest = host.guest(firmware("mortal", Vnc::Unix));
    let client = host.client().await;
    let (mut relay, mut screen) = showing(&client, writing("mortal")).await;
    guest.monitor().run("system_reset", &serde_json::json!({}));
    let booted = |message: &Message| match message {
        Message::ConsoleState(state) => state.booted,
        _ => None,
    };
    relay.hears(BOUND, booted).await;
    looks(&mut relay, &mut screen).await;
    guest.kill();
    let (closed, status) = relay.closed(BOUND).await;
    assert_eq!(closed.reason(), v1::Reason::VmStopped, "{closed:?}");
    assert!(status.is_none(), "{status:?}");
    assert!(closed.resume.is_none(), "{closed:?}");
    let refused = client.relay(writing("mortal")).await.unwrap_err();
    assert_eq!(reason(&refused), "NOT_RUNNING", "{refused:?}");
    host.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_display_and_a_serial_console_are_not_taken_for_each_other() {
    let host = QemuHost::start();
    let mut options = firmware("both", Vnc::Unix);
    options.boot = Boot::Nothing;
    let _guest = host.guest(options);
    let client = host.client().await;
    let (relay, _) = showing(&client, writing("both")).await;
    let mut display = open("both", v1::Mode::View);
    display.console.as_mut().unwrap().alias = "vnc0".to_owned();
    let refused = client.attach(display).await.unwrap_err();
    assert_eq!(reason(&refused), "UNSUPPORTED", "{refused:?}");
    assert!(refused.message().contains("RelayGraphics"), "{refused:?}");
    let mut serial = writing("both");
    serial.console.as_mut().unwrap().alias = "serial0".to_owned();
    let refused = client.relay(serial).await.unwrap_err();
    assert_eq!(reason(&refused), "UNSUPPORTED", "{refused:?}");
    assert!(refused.message().contains("StreamConsole"), "{refused:?}");
    drop(relay);
    host.settled().await;
}
