//! virsh and the agent want the same console.

use std::process::{Command, Stdio};
use std::time::Instant;

use vmconsole_agent::endpoint::{Claim, EndpointEnd, EndpointError};
use vmconsole_tests::console::VirshConsole;
use vmconsole_tests::dialogue::{Line, PROMPT};
use vmconsole_tests::guest::{GuestOptions, SERIAL0};

use super::{BOUND, Ear, Rig, send};

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_a_console_keeps_it_until_it_is_taken_on_purpose() {
    let rig = Rig::start();
    let (guest, vm) = rig.guest(GuestOptions::named("turns"), "").await;
    let (_, endpoint) = rig.endpoint(vm, SERIAL0);

    // The agent has it: virsh is refused.
    let ear = Ear::new();
    let mut ours = endpoint.attach(ear.clone(), Claim::IfFree).await.unwrap();
    ear.hears("login: ", 1).await;
    let why = refused(&rig.libvirtd.uri(), guest.name());
    assert!(why.contains("Active console session exists"), "{why}");
    send(&mut *ours, "\r").await;
    ear.hears("login: ", 2).await;

    // virsh takes it by force, and the agent is told so and leaves it alone.
    let mut theirs = VirshConsole::open_with(&rig.libvirtd, &guest, SERIAL0, &["--force"]);
    assert_eq!(ear.end().await, EndpointEnd::Displaced);
    theirs.login(BOUND);
    assert_eq!(theirs.run("echo a$((1+1))b", BOUND), "a2b\n");
    ours.detach().await;
    for round in 0..5 {
        let ear = Ear::new();
        let refused = endpoint.attach(ear.clone(), Claim::IfFree).await.err();
        let held = matches!(refused, Some(EndpointError::HeldByOther(_)));
        assert!(held, "{refused:?}");
        let said = theirs.run(&format!("echo round $(({round}+10))"), BOUND);
        assert_eq!(said, format!("round {}\n", round + 10));
    }
    let holder = endpoint.holder().await.unwrap();
    assert_eq!(holder.process, theirs.line().pid());
    assert_eq!((holder.command.as_str(), holder.user), ("virsh", 0));

    // The agent takes it back, when it is told to.
    let ear = Ear::new();
    let mut ours = endpoint.attach(ear.clone(), Claim::Displace).await.unwrap();
    let why = thrown_out(&mut theirs);
    println!("virsh that was displaced says: {why}");
    send(&mut *ours, "echo o$((1+1))s\r").await;
    // The prompt too: virsh would take it for the end of what it types.
    ear.hears(&format!("o2s\r\n{PROMPT}"), 1).await;
    ours.detach().await;

    // virsh had it first, and leaves: the agent has it at once.
    let mut theirs = VirshConsole::open(&rig.libvirtd, &guest, SERIAL0);
    let refused = endpoint.attach(Ear::new(), Claim::IfFree).await.err();
    assert!(matches!(refused, Some(EndpointError::HeldByOther(_))));
    assert_eq!(theirs.run("echo t$((1+1))s", BOUND), "t2s\n");
    theirs.send("\u{1d}");
    let left = Instant::now();
    let ours = loop {
        match endpoint.attach(Ear::new(), Claim::IfFree).await {
            Ok(attached) => break attached,
            Err(EndpointError::HeldByOther(_)) => assert!(left.elapsed() < BOUND),
            Err(error) => panic!("{error}"),
        }
    };
    println!(
        "attached {:?} after virsh was told to leave",
        left.elapsed()
    );
    assert_eq!(endpoint.holder().await, None);
    ours.detach().await;
    rig.stop().await;
}

/// What a `virsh console` says that is refused. It wants a terminal, which script gives it.
pub(crate) fn refused(uri: &str, guest: &str) -> String {
    let virsh = format!("virsh --connect '{uri}' console {guest}");
    let said = Command::new("timeout")
        .args(["60", "script", "--quiet", "--command", &virsh, "/dev/null"])
        .stdin(Stdio::null())
        .output();
    String::from_utf8_lossy(&said.unwrap().stdout).into_owned()
}

/// What virsh says, which ends because it does not have the console.
pub(crate) fn thrown_out(virsh: &mut VirshConsole) -> String {
    loop {
        match virsh.line().receive(BOUND) {
            Ok(said) => assert!(!said.is_empty(), "virsh goes on"),
            Err(why) => return why,
        }
    }
}
