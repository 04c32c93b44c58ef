//! The first client in Rust that the documentation shows does what it says.

use std::process::Stdio;

use vmconsole_tests::agent::program;
use vmconsole_tests::process::{Captured, Process, tied};
use vmconsole_tests::wait;

use crate::host::{BOUND, Host};
use crate::peers::proxy_files;

#[tokio::test(flavor = "multi_thread")]
async fn the_first_client_in_rust_types_a_line_and_prints_what_the_guest_says() {
    let mut host = Host::start();
    let guest = host.guest("first-rust");
    let client = host.client().await;
    host.shell(&client, guest.name()).await.detach(BOUND).await;

    let pki = proxy_files(&host);
    let (said, stdout) = Captured::new();
    let mut command = tied(program("examples/first_client"));
    command
        .arg(host.agent.grpc().to_string())
        .arg(pki.path())
        .args([guest.name(), "uname -a"])
        .stdin(Stdio::null())
        .stdout(stdout);
    let mut first = Process::spawn("first_client", command);
    wait::until("the guest's answer", BOUND, || {
        assert!(first.try_wait().is_none(), "it ended: {}", first.stderr());
        said.text().contains("\nLinux guest 6.")
    });
    // The status with which a stop ends the stream is its error.
    host.agent.signal(nix::sys::signal::Signal::SIGTERM);
    let ended = first.wait(BOUND);
    assert_eq!(ended.code(), Some(1));
    assert!(first.stderr().contains("Unavailable"), "{}", first.stderr());
}
