//! What each endpoint loses, stalls and reports, without any agent: ARCHITECTURE's table,
//! measured. The agent's promises are made on these facts.
//!
//! What is asserted holds on any machine; the figures are printed.

mod rig;
mod virtio;

use std::time::Duration;

use vmconsole_tests::qemu::{CONSOLE0, Chardev, SERIAL1};
use vmconsole_tests::wire::Wire;

use rig::{BOUND, Ended, LINE_BYTES, Received, Rig, drain};

/// What is written to a 16550, which under emulation sends some 200 kB a second.
const SERIAL_LINES: usize = 16 * 1024;
/// What is written to one on TCP: the kernel keeps some megabytes of a connection.
const TCP_LINES: usize = 512 * 1024;
/// What is written to a virtio console.
const VIRTIO_LINES: usize = 256 * 1024;
/// What is written while nobody is connected.
const UNHEARD_LINES: usize = 4 * 1024;

/// A 16550, its port and its far end.
fn serial(far: Chardev) -> Rig {
    Rig::boot("table", far, SERIAL1, "/dev/ttyS1")
}

/// A virtio console and its far end.
fn virtio_console(far: Chardev) -> Rig {
    Rig::boot("table", far, CONSOLE0, "/dev/hvc0")
}

/// What is written while nobody is connected is lost, and nobody is waited for. Whoever then
/// connects gets what comes from then on.
fn nobody_connected(rig: &mut Rig) -> Wire {
    println!("  query-chardev: {}", rig.named_by_qemu());
    let answered = rig.first_answer();
    assert_eq!(rig.write(UNHEARD_LINES, BOUND), Ended::Yes);
    let mut wire = rig.open();
    let (kept, after) = rig.first_mark(&mut wire);
    println!(
        "  nobody connected: the guest does not wait, {kept} bytes are kept; then the first \
         output comes after {after:?} and the first input is answered after {answered:?}"
    );
    assert_eq!(kept, 0);
    wire
}

fn serial_facts(far: Chardev, unread_lines: usize) {
    println!("16550, {far:?}");
    let mut rig = serial(far);
    let mut wire = nobody_connected(&mut rig);

    // Connected, and not reading.
    rig.write(unread_lines, Duration::ZERO);
    if far == Chardev::Telnet {
        println!("  not reading: as on TCP, and so not waited for again");
    } else {
        let sent = rig.stands_still();
        assert_eq!(rig.ended(Duration::ZERO), Ended::No);
        println!("  not reading: the guest blocks after {sent} bytes");
    }
    let received = rig.read_lines(&mut wire, unread_lines);
    assert_eq!(received, Received::whole(unread_lines));
    assert_eq!(rig.ended(BOUND), Ended::Yes);

    // Reading.
    let (received, rate) = rig.write_and_read(&mut wire, SERIAL_LINES);
    assert_eq!(received, Received::whole(SERIAL_LINES));
    println!("  reading: all arrives, {:.0} kB/s", rate / 1000.0);
    println!("  query-chardev while connected: {}", rig.named_by_qemu());
    rig.killed(wire);
}

#[test]
fn a_16550_on_a_terminal() {
    serial_facts(Chardev::Pty, SERIAL_LINES);
}

#[test]
fn a_16550_on_a_unix_socket() {
    serial_facts(Chardev::Unix, SERIAL_LINES);
}

#[test]
fn a_16550_on_a_tcp_port() {
    serial_facts(Chardev::Tcp, TCP_LINES);
}

#[test]
fn a_16550_on_a_telnet_port() {
    serial_facts(Chardev::Telnet, SERIAL_LINES);
}

fn virtio_facts(far: Chardev) {
    println!("virtio console, {far:?}");
    let mut rig = virtio_console(far);
    rig.opened_by_the_guest();
    let mut wire = nobody_connected(&mut rig);

    // Connected, and not reading: the guest is never held up, and so bytes are lost.
    assert_eq!(rig.write(VIRTIO_LINES, BOUND), Ended::Yes);
    let received = Received::of(&drain(&mut wire));
    println!("  not reading: the guest goes on, {received}");
    assert!(received.bytes < VIRTIO_LINES * LINE_BYTES, "{received}");
    assert!(received.bytes > 0);

    // Reading, as fast as can be: mostly all of it, and no promise.
    let (received, rate) = rig.write_and_read_rest(&mut wire, VIRTIO_LINES);
    println!(
        "  reading: {} of {} bytes lost, {:.1} MB/s",
        VIRTIO_LINES * LINE_BYTES - received.bytes,
        VIRTIO_LINES * LINE_BYTES,
        rate / 1_000_000.0
    );
    println!("  query-chardev while connected: {}", rig.named_by_qemu());
    rig.killed(wire);
}

#[test]
fn a_virtio_console_on_a_terminal() {
    virtio_facts(Chardev::Pty);
}

#[test]
fn a_virtio_console_on_a_unix_socket() {
    virtio_facts(Chardev::Unix);
}
