//! Displays, relayed: through the agent to the screen of a real QEMU.

mod clients;
mod hostile;
mod rules;
mod stopped;
mod ways;
mod writers;

use vmconsole_proto::v1;
use vmconsole_tests::client::{Client, Relay, relay_open};
use vmconsole_tests::qemu::{Boot, QemuOptions, Vnc};
use vmconsole_tests::rfb::{self, Screen};

use crate::host::BOUND;

/// A guest that costs little: its firmware has written on the screen that it found nothing to
/// boot, and does nothing more.
fn firmware(name: &str, vnc: Vnc) -> QemuOptions {
    let mut options = QemuOptions::named(name);
    options.boot = Boot::Firmware;
    (options.vga, options.vnc) = (true, Some(vnc));
    options
}

/// Waits until the display of this VM is there to be opened.
async fn ready(client: &Client, vm: &str) {
    let is = |state: &v1::ConsoleState| state.availability() == v1::Availability::Ready;
    client.shows((vm, "vnc0"), BOUND, is).await;
}

/// Opens a relay once the agent knows that the VM, which is named, runs.
async fn opened(client: &Client, open: v1::RelayOpen) -> Relay {
    let console = open.console.clone().unwrap_or_default();
    let Some(v1::console_ref::Vm::VmName(vm)) = console.vm else {
        panic!("{console:?} is named")
    };
    // Whatever the last try left: another may be made.
    let there = |state: &v1::ConsoleState| state.availability() != v1::Availability::Waiting;
    client.shows((&vm, "vnc0"), BOUND, there).await;
    client.relay(open).await.unwrap()
}

/// A relay that is greeted and shows raw pixels.
async fn showing(client: &Client, open: v1::RelayOpen) -> (Relay, Screen) {
    let mut relay = opened(client, open).await;
    let mut screen = rfb::greet(&mut relay, BOUND).await;
    relay.send(rfb::set_pixel_format(), BOUND).await;
    // Raw, and told when the size changes.
    relay.send(rfb::set_encodings(&[0, -223]), BOUND).await;
    looks(&mut relay, &mut screen).await;
    (relay, screen)
}

/// Asks for all of the screen and gets it.
async fn looks(relay: &mut Relay, screen: &mut Screen) {
    let ask = rfb::update_request(screen, false);
    relay.send(ask, BOUND).await;
    let mut pixels = rfb::update(relay, screen, BOUND).await;
    while pixels < u64::from(screen.width) * u64::from(screen.height) {
        // Its size has changed, or it came in parts.
        relay.send(rfb::update_request(screen, false), BOUND).await;
        pixels = rfb::update(relay, screen, BOUND).await;
    }
}

fn writing(vm: &str) -> v1::RelayOpen {
    relay_open(vm, v1::Mode::WriteIfFree)
}
