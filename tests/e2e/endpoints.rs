//! A real guest behind each kind of endpoint: through each somebody logs in and runs a
//! command, and the list says how the console is reached.

use vmconsole_proto::v1;
use vmconsole_proto::v1::EndpointKind::{LibvirtStream, Pty, TcpSocket, UnixSocket};
use vmconsole_tests::client::{Client, open};
use vmconsole_tests::guest::{CHANNEL, CONSOLE1, Guest, GuestOptions, SERIAL0, Serial};
use vmconsole_tests::qemu::{CONSOLE0, Chardev, QemuOptions};

use crate::host::{BOUND, Host, QemuHost, Serving, run, tail};

/// Logs in at a console that is reached so, and asks the guest which terminal that is.
async fn reaches_a_shell(
    serving: &Serving,
    vm: &str,
    (alias, kind): (&str, v1::EndpointKind),
    tty: &str,
) {
    let client = serving.client().await;
    let mut attached = serving.shell_on(&client, vm, alias).await;
    let said = run(&mut attached.send, &mut attached.receive, "tty").await;
    assert!(said.contains(&format!("\r\n{tty}\r\n")), "{said:?}");
    assert_eq!(attached.receive.lost(), []);
    listed_as(&client, vm, (alias, kind)).await;
    attached.detach(BOUND).await;
    serving.settled().await;
}

async fn listed_as(client: &Client, vm: &str, (alias, kind): (&str, v1::EndpointKind)) {
    let consoles = client.list().await.unwrap();
    let found = consoles
        .iter()
        .find(|console| console.vm_name == vm && console.alias == alias);
    let console = found.unwrap_or_else(|| panic!("no {alias} of {vm} among {consoles:?}"));
    assert_eq!(console.endpoint(), kind, "{console:?}");
    let state = console.state.as_ref().unwrap();
    assert_eq!(
        state.availability(),
        v1::Availability::Attached,
        "{state:?}"
    );
}

async fn libvirt_serial(serial: Serial, kind: v1::EndpointKind) {
    let host = Host::start();
    let mut options = GuestOptions::named("endpoint");
    options.serial = serial;
    let guest = Guest::define_and_start(&host.libvirtd, options);
    reaches_a_shell(&host, guest.name(), (SERIAL0, kind), "/dev/ttyS0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn through_libvirt_a_terminal_and_a_virtio_console() {
    let host = Host::start();
    let guest = host.guest("endpoint");
    for (alias, tty) in [(SERIAL0, "/dev/ttyS0"), (CONSOLE1, "/dev/hvc0")] {
        reaches_a_shell(&host, guest.name(), (alias, LibvirtStream), tty).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_libvirt_a_unix_socket() {
    libvirt_serial(Serial::Unix, UnixSocket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_libvirt_a_tcp_port() {
    libvirt_serial(Serial::Tcp, TcpSocket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_libvirt_a_telnet_port() {
    libvirt_serial(Serial::Telnet, TcpSocket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn through_libvirt_a_channel() {
    let host = Host::start();
    let mut options = GuestOptions::named("endpoint");
    options.channel = true;
    let guest = Guest::define_and_start(&host.libvirtd, options);
    let client = host.client().await;
    let mut request = open(guest.name(), v1::Mode::WriteIfFree);
    request.start = tail(1 << 20);
    request.console.as_mut().unwrap().alias = CHANNEL.to_owned();
    let mut attached = host.attach(&client, request).await;
    let (send, receive) = (&mut attached.send, &mut attached.receive);
    // No terminal: nothing is echoed, and lines end as the guest's programs end them.
    receive.read_until(b"login: ", BOUND).await;
    send.type_bytes("root\n").await;
    receive.read_until(b"Password: ", BOUND).await;
    send.type_bytes("console\n").await;
    receive.read_until(b"# ", BOUND).await;
    send.type_bytes("tty; echo $((6 * 7))\n").await;
    let said = receive.read_until(b"42\n", BOUND).await;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("not a tty\n"), "{said:?}");
    listed_as(&client, guest.name(), (CHANNEL, LibvirtStream)).await;
    attached.detach(BOUND).await;
    host.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_libvirt_a_terminal_a_unix_socket_and_a_virtio_console() {
    let host = QemuHost::start();
    let mut options = QemuOptions::named("endpoint");
    options.serial1 = Some(Chardev::Unix);
    options.console0 = Some(Chardev::Pty);
    let guest = host.guest(options);
    for (alias, kind, tty) in [
        ("serial0", Pty, "/dev/ttyS0"),
        ("serial1", UnixSocket, "/dev/ttyS1"),
        (CONSOLE0, Pty, "/dev/hvc0"),
    ] {
        reaches_a_shell(&host, guest.name(), (alias, kind), tty).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_libvirt_a_tcp_port_a_telnet_port_and_a_virtio_console_on_a_socket() {
    let host = QemuHost::start();
    let mut options = QemuOptions::named("endpoint");
    options.serial0 = Some(Chardev::Tcp);
    options.serial1 = Some(Chardev::Telnet);
    options.console0 = Some(Chardev::Unix);
    let guest = host.guest(options);
    for (alias, kind, tty) in [
        ("serial0", TcpSocket, "/dev/ttyS0"),
        ("serial1", TcpSocket, "/dev/ttyS1"),
        (CONSOLE0, UnixSocket, "/dev/hvc0"),
    ] {
        reaches_a_shell(&host, guest.name(), (alias, kind), tty).await;
    }
}
