//! A console on demand: `virsh console` has it while nobody views it through the agent, who
//! opens it meanwhile is told, and once it is let go virsh has it again.

use vmconsole_proto::v1;
use vmconsole_proto::v1::Availability::{Attached, HeldByOther, Ready};
use vmconsole_tests::client::open;
use vmconsole_tests::console::VirshConsole;
use vmconsole_tests::guest::{Guest, GuestOptions, SERIAL0};
use vmconsole_tests::libvirtd::Libvirtd;

use crate::host::{BOUND, Host, reason, run};
use crate::libvirt::turns::{refused, thrown_out};

/// The key that makes virsh leave.
const LEAVE: &str = "\x1d";

#[tokio::test(flavor = "multi_thread")]
async fn virsh_has_a_console_that_nobody_views_and_the_agent_has_it_while_somebody_does() {
    let libvirtd = Libvirtd::start();
    let mut options = GuestOptions::named("on-demand");
    (options.second_serial, options.virtio_console) = (false, false);
    let guest = Guest::define_and_start(&libvirtd, options);
    let host = Host::on(libvirtd, |options| {
        options.capture = None;
        "[capture]\nlinger_seconds = 1\n".clone_into(&mut options.more);
    });
    let client = host.client().await;
    let shows = async |availability| {
        let is = |state: &v1::ConsoleState| state.availability() == availability;
        client.shows((guest.name(), SERIAL0), BOUND, is).await
    };
    let state = shows(Ready).await;
    assert!(state.checked.is_some(), "{state:?}");

    let mut virsh = VirshConsole::open(&host.libvirtd, &guest, SERIAL0);
    virsh.login(BOUND);
    shows(Ready).await;
    let status = client
        .attach(open(guest.name(), v1::Mode::View))
        .await
        .unwrap_err();
    assert_eq!(reason(&status), "HELD_BY_OTHER");
    let named = format!("virsh (process {}", virsh.line().pid());
    assert!(status.message().contains(&named), "{status:?}");
    let known = shows(HeldByOther).await;
    assert!(known.holder.contains("virsh"), "{known:?}");
    assert_eq!(virsh.run("echo u$((1+1))d", BOUND), "u2d\n");
    virsh.send(LEAVE);
    thrown_out(&mut virsh);

    let open = open(guest.name(), v1::Mode::WriteIfFree);
    let mut writer = host.attach(&client, open).await;
    // A ring of its own; the guest may have written since it was attached.
    assert_eq!(writer.opened.oldest.unwrap().offset, 0);
    let said = run(&mut writer.send, &mut writer.receive, "echo t$((1+1))t").await;
    assert!(said.contains("t2t\r\n"), "{said:?}");
    shows(Attached).await;
    let why = refused(&host.libvirtd.uri(), guest.name());
    assert!(why.contains("Active console session exists"), "{why}");
    writer.detach(BOUND).await;

    shows(Ready).await;
    let mut virsh = VirshConsole::open(&host.libvirtd, &guest, SERIAL0);
    assert_eq!(virsh.run("echo b$((1+1))k", BOUND), "b2k\n");
    virsh.send(LEAVE);
    thrown_out(&mut virsh);
    host.settled().await;
}
