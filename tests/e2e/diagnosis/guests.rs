//! Guests that boot, and what each of them writes, does not write and does not read.

use serde_json::json;
use vmconsole_proto::v1;
use vmconsole_tests::client::{Attached, open};
use vmconsole_tests::image::{Kernel, Logins};
use vmconsole_tests::qemu::{Boot, Chardev, Qemu, QemuOptions, SERIAL0};

use super::{Code, Doctor, Severity, diagnosed, found, reported, says};
use crate::host::{BOUND, QemuHost};

/// More than a serial port and the socket's reader in QEMU take when nobody reads.
const MUCH: usize = 4096;

fn boots(host: &QemuHost, name: &str, firmware_on_serial: bool, boot: Boot) -> Qemu {
    let mut options = QemuOptions::named(name);
    options.serial0 = Some(Chardev::Unix);
    options.firmware_on_serial = firmware_on_serial;
    options.boot = boot;
    host.guest(options)
}

/// A kernel that writes to the serial port or not, with no login.
fn quiet(serial_console: bool, more: &str) -> Boot {
    Boot::Linux(Kernel {
        serial_console,
        logins: Logins::Nowhere,
        more: more.to_owned(),
    })
}

/// Somebody who types so much and stays: what waits goes with whoever typed it.
async fn types(host: &QemuHost, vm: &str, bytes: Vec<u8>) -> Attached {
    let client = host.client().await;
    let open = open(vm, v1::Mode::WriteIfFree);
    let mut attached = host.attach(&client, open).await;
    attached.send.type_bytes(bytes).await;
    attached
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_guest_writes_and_reads_tells_what_is_wrong_with_it() {
    let host = QemuHost::start();
    let client = host.client().await;
    let mut firmware = boots(&host, "firmware", true, quiet(false, ""));
    let _no_login = boots(&host, "no-login", false, quiet(true, ""));
    let _silent = boots(&host, "silent", false, quiet(false, ""));
    let panic = boots(
        &host,
        "panic",
        false,
        quiet(true, "panic=0 rdinit=/nowhere"),
    );
    let mut diskless = boots(&host, "diskless", true, Boot::Firmware);
    let mut works = boots(&host, "works", false, Boot::Linux(Kernel::default()));

    // What firmware writes at once may have been written before anybody was attached.
    for qemu in [&mut firmware, &mut diskless] {
        let is = |state: &v1::ConsoleState| state.availability() == v1::Availability::Attached;
        client.shows((qemu.name(), SERIAL0), BOUND, is).await;
        qemu.monitor().run("system_reset", &json!({}));
    }

    let problem = Severity::Problem;
    let nothing = (Code::FirmwareOnly, problem);
    let found_nothing = found(&client, ("diskless", SERIAL0), nothing).await;
    says(&found_nothing.summary, "nothing to boot from");
    drop(diskless);

    let died = found(&client, ("panic", SERIAL0), (Code::GuestPanic, problem)).await;
    says(&died.evidence, "Kernel panic - not syncing");
    assert!(!died.evidence.contains("---[ end"), "{died:?}");
    // It would go round and round.
    drop(panic);

    let good = (Code::ConsoleWorks, Severity::Good);
    let well = found(&client, ("works", SERIAL0), good).await;
    says(
        &well.summary,
        "nothing stands between the guest and its viewers",
    );
    let doctor = Doctor::new(&host.pki);
    let (_, findings) = doctor.asks(&host.agent, &["works"]);
    let well = reported(&findings, "console_works");
    assert_eq!(
        (&well["console"], &well["severity"]),
        (&"serial0".into(), &"ok".into())
    );

    // A QEMU that hangs reads nothing.
    works.stop();
    let at_works = types(&host, "works", vec![b'\r'; MUCH]).await;
    // Nor does a guest whose serial port nobody has open.
    let unheard = found(
        &client,
        ("silent", SERIAL0),
        (Code::GuestSilent, Severity::Warning),
    );
    let unheard = unheard.await;
    says(&unheard.summary, "nothing was seen of the guest");
    says(&unheard.next_step, "console=ttyS0");
    let at_silent = types(&host, "silent", vec![b'\r'; MUCH]).await;
    for vm in ["works", "silent"] {
        let wedged = found(&client, (vm, SERIAL0), (Code::InputWedged, problem)).await;
        says(&wedged.summary, "input makes no progress");
        says(
            &wedged.next_step,
            &format!("vmconsolectl break {vm} --sysrq h"),
        );
        assert!(wedged.since.is_some());
    }
    let both = diagnosed(&client, "silent", SERIAL0).await.unwrap();
    let silence = both.iter().find(|one| one.code() == Code::GuestSilent);
    let silence = silence.unwrap_or_else(|| panic!("{both:?}"));
    says(&silence.summary, "does not answer what was typed");
    works.cont();
    drop((at_works, at_silent));
    found(&client, ("works", SERIAL0), good).await;

    let warning = Severity::Warning;
    let asks_not = found(&client, ("no-login", SERIAL0), (Code::NoLogin, warning)).await;
    says(&asks_not.summary, "nothing has asked for a login");
    says(&asks_not.next_step, "serial-getty@ttyS0.service");
    let elsewhere = (Code::FirmwareOnly, warning);
    let elsewhere = found(&client, ("firmware", SERIAL0), elsewhere).await;
    says(&elsewhere.evidence, "Probing EDD");
    says(&elsewhere.next_step, "console=ttyS0");
}
