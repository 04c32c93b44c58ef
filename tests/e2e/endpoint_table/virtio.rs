//! Where a virtio console's bytes are lost: in QEMU, between the guest's driver and the far
//! end. QEMU's own trace tells how much the driver handed over and how much was passed on.

use std::time::Duration;

use vmconsole_tests::qemu::{CHANNEL, CONSOLE0, Chardev};

use super::VIRTIO_LINES;
use super::rig::{BOUND, Ended, LINE_BYTES, Received, Rig, drain};

/// Written by QEMU each time that a port's bytes are passed on, or not.
const EVENT: &str = "virtio_console_flush_buf";

/// Bytes that the guest's driver handed over, and those of them that the far end took.
#[derive(Debug, Default, PartialEq, Eq)]
struct Flushed {
    handed_over: usize,
    passed_on: usize,
}

/// Adds up QEMU's trace of one port: `… port 0, in_len 4096, out_len -1`.
fn flushed(log: &str, port: u32) -> Flushed {
    let mut sum = Flushed::default();
    let ours = format!("{EVENT} port {port}, in_len ");
    for line in log.lines() {
        let Some((_, numbers)) = line.split_once(&ours) else {
            continue;
        };
        let (handed_over, passed_on) = numbers.split_once(", out_len ").unwrap();
        sum.handed_over += handed_over.parse::<usize>().unwrap();
        // -1 for an error, most often that the far end is full.
        sum.passed_on += usize::try_from(passed_on.parse::<i64>().unwrap()).unwrap_or(0);
    }
    sum
}

#[test]
fn what_a_virtio_console_loses_is_lost_in_qemu() {
    let mut rig = Rig::boot_with("cause", CONSOLE0, "/dev/hvc0", |options| {
        options.console0 = Some(Chardev::Unix);
        options.trace = Some(EVENT);
    });
    let mut wire = rig.open();
    rig.first_mark(&mut wire);
    let before = flushed(&rig.qemu.log(), 0);
    assert_eq!(rig.write(VIRTIO_LINES, BOUND), Ended::Yes);
    let received = Received::of(&drain(&mut wire));
    let after = flushed(&rig.qemu.log(), 0);

    let handed_over = after.handed_over - before.handed_over;
    let passed_on = after.passed_on - before.passed_on;
    println!(
        "virtio console, not reading: the program wrote {} bytes, the guest's driver handed \
         over {handed_over}, QEMU passed on {passed_on}, {} came",
        VIRTIO_LINES * LINE_BYTES,
        received.bytes
    );
    assert_eq!(
        handed_over,
        VIRTIO_LINES * LINE_BYTES,
        "the guest lost none"
    );
    assert_eq!(passed_on, received.bytes, "the socket lost none");
    assert!(passed_on < handed_over, "QEMU lost the rest");
}

#[test]
fn a_virtio_channel_on_the_same_far_end_waits_and_loses_nothing() {
    let mut rig = Rig::boot_with("channel", CHANNEL, "/dev/vport0p1", |options| {
        options.channel = Some(Chardev::Unix);
        options.trace = Some(EVENT);
    });
    rig.opened_by_the_guest();
    let mut wire = rig.open();
    rig.first_mark(&mut wire);
    let ended = rig.write(VIRTIO_LINES, Duration::from_secs(3));
    assert_eq!(ended, Ended::No, "the program waits for the reader");
    let received = rig.read_lines(&mut wire, VIRTIO_LINES);
    assert_eq!(received, Received::whole(VIRTIO_LINES));
    assert_eq!(rig.ended(BOUND), Ended::Yes);
    let sum = flushed(&rig.qemu.log(), 1);
    println!("virtio channel, not reading at first: {sum:?}, {received}");
}
