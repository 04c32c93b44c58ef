//! libvirt's VMs: definitions that lack something, states, holders, rights, and libvirt's end.

use vmconsole_tests::console::VirshConsole;
use vmconsole_tests::guest::{Guest, GuestOptions, SERIAL0, Serial};

use super::{Code, Doctor, Severity, found, found_of_host, of_host, reported, says};
use crate::host::{BOUND, Host, Serving};

/// Leaves `virsh console`.
const ESCAPE: &str = "\u{1d}";

fn with_one_console(name: &str, serial: Serial) -> GuestOptions {
    let mut options = GuestOptions::named(name);
    options.serial = serial;
    options.second_serial = false;
    options.virtio_console = false;
    options
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_states_holders_and_rights_are_told_and_that_libvirt_is_gone() {
    let host = Host::start();
    let guest = Guest::define_and_start(&host.libvirtd, with_one_console("held", Serial::Pty));
    let define = |name: &str, serial| {
        let options = with_one_console(name, serial);
        Guest::define(&host.libvirtd, options)
    };
    define("bare", Serial::None);
    define("null", Serial::Null);
    define("off", Serial::Pty);
    define("paused", Serial::Pty);
    let virsh = |arguments: &[&str]| host.libvirtd.virsh(arguments).unwrap();
    virsh(&["start", "paused", "--paused"]);

    let client = host.client().await;
    let problem = Severity::Problem;
    let bare = found(&client, ("bare", ""), (Code::NoConsoleDevice, problem)).await;
    says(&bare.next_step, "virsh edit bare");
    says(&bare.next_step, "<serial type='pty'/>");
    let off = found(&client, ("off", SERIAL0), (Code::VmOff, problem)).await;
    says(&off.next_step, "virsh start off");
    let missing = found(&client, ("off", "serial4"), (Code::NoSuchConsole, problem)).await;
    says(&missing.evidence, "it has: serial0");
    let paused = found(&client, ("paused", SERIAL0), (Code::VmPaused, problem)).await;
    says(&paused.next_step, "virsh resume paused");
    let unserved = (Code::TypeUnsupported, problem);
    let null = found(&client, ("null", SERIAL0), unserved).await;
    says(&null.summary, "type \"null\"");
    says(&null.next_step, "<serial type='pty'/>");

    held_by_virsh(&host, &guest).await;
    found_of_host(&client, Code::HypervisorConnected, Severity::Good).await;
    read_only(&host, &guest).await;

    let doctor = Doctor::new(&host.pki);
    let (code, findings) = doctor.asks(&host.agent, &["off", "--console", SERIAL0]);
    assert_eq!(code, Some(11));
    let off = reported(&findings, "vm_off");
    assert_eq!(
        (&off["vm"], &off["console"]),
        (&"off".into(), &"serial0".into())
    );
    let socket = reported(&findings, "libvirt_socket")["evidence"].to_string();
    says(&socket, "group libvirt, mode 0770");

    host.libvirtd.kill();
    let lost = found_of_host(&client, Code::HypervisorLost, problem).await;
    says(&lost.summary, "libvirt");
    assert!(!lost.evidence.is_empty(), "{lost:?}");
    says(&lost.next_step, "systemctl status libvirtd");
    let lost = found(
        &client,
        (guest.name(), SERIAL0),
        (Code::HypervisorLost, problem),
    )
    .await;
    says(&lost.summary, "as last known");
    let (_, findings) = doctor.asks(&host.agent, &[]);
    let socket = reported(&findings, "libvirt_socket");
    assert_eq!(socket["severity"], "problem", "{socket}");
    reported(&findings, "hypervisor_lost");
}

/// virsh takes the console from the agent, and leaves it.
async fn held_by_virsh(host: &Host, guest: &Guest) {
    let client = host.client().await;
    let console = (guest.name(), SERIAL0);
    let good = (Code::ConsoleWorks, Severity::Good);
    found(&client, console, good).await;
    let mut virsh = VirshConsole::open_with(&host.libvirtd, guest, SERIAL0, &["--force"]);
    let held = (Code::HeldByOther, Severity::Problem);
    let process = virsh.line().pid();
    let named = format!("virsh (process {process} of user 0)");
    let asking = async {
        while found(&client, console, held).await.evidence != named {
            tokio::task::yield_now().await;
        }
    };
    let told = tokio::time::timeout(BOUND, asking).await;
    told.expect("virsh is named");
    let finding = found(&client, console, held).await;
    says(&finding.summary, "virsh holds the console");
    says(
        &finding.next_step,
        "vmconsolectl attach held serial0 --displace",
    );
    virsh.send(ESCAPE);
    found(&client, console, good).await;
}

/// An agent that is given libvirt's other socket can look and not touch.
async fn read_only(host: &Host, guest: &Guest) {
    let socket = host.libvirtd.dir().join("libvirt-sock-ro");
    let serving = Serving::start(|options| {
        let uri = format!("qemu:///system?socket={}", socket.display());
        options.libvirt_uri = Some(uri);
    });
    let client = serving.client().await;
    let rights = found_of_host(&client, Code::HypervisorRights, Severity::Warning).await;
    says(&rights.evidence, "read-only socket");
    assert!(of_host(&client, Code::HypervisorLost).await.is_empty());
    let denied = (Code::Permission, Severity::Problem);
    let denied = found(&client, (guest.name(), SERIAL0), denied).await;
    says(&denied.summary, "libvirt does not let the agent open");
    says(&denied.next_step, "have libvirt.uri name the one");
}
