//! `pki init` as a command: what it leaves on disk, and what it refuses.

use std::os::unix::fs::PermissionsExt as _;

use crate::program::{Piped, bare};

#[test]
fn keys_are_for_the_owner_alone_and_nothing_is_overwritten() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("new/pki");
    let init = || Piped::start(bare().args(["pki", "init"]).arg(&directory)).end();
    let ended = init();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let text = String::from_utf8(ended.stdout).unwrap();
    assert!(
        text.contains("allowed_clients = [\"spiffe://vmconsole.local/proxy/dev\"]"),
        "{text}"
    );
    let key = format!("private_key = \"{}/agent.key\"", directory.display());
    assert!(text.contains(&key), "{text}");
    let line = format!("export VMCONSOLE_PKI='{}'", directory.display());
    assert!(text.contains(&line), "{text}");
    let mode = |name: &str| {
        std::fs::metadata(directory.join(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!(mode(""), 0o700);
    for name in ["ca", "agent", "proxy"] {
        assert_eq!(mode(&format!("{name}.key")), 0o600);
        assert!(directory.join(format!("{name}.crt")).is_file());
    }
    let before = std::fs::read(directory.join("ca.key")).unwrap();
    let again = init();
    assert_eq!(again.code, Some(1));
    assert!(
        again.stderr.contains("already has ca.key, agent.key"),
        "{}",
        again.stderr
    );
    assert_eq!(std::fs::read(directory.join("ca.key")).unwrap(), before);
}

#[test]
fn a_name_that_is_none_is_a_wrong_command_line() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("pki");
    let mut command = bare();
    let command = command
        .args(["pki", "init", "--agent-name", "host:2223"])
        .arg(&directory);
    let ended = Piped::start(command).end();
    assert_eq!(ended.code, Some(2));
    assert!(!directory.exists());
}
