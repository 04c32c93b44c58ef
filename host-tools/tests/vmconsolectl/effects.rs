//! `break`, `keys`, `nmi` and `screenshot`, and `Enter ~ B` while attached.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use vmconsole_proto::v1::capture_screenshot_response::Part;
use vmconsole_proto::v1::stream_console_response::Message as ToClient;
use vmconsole_proto::v1::*;

use crate::fake_agent::{Call, FakeAgent, Script};
use crate::fake_console::ClientStream;
use crate::program::{Ended, OnTerminal, Piped, pki, vmconsolectl};

const UUID: &str = "6f1f7f32-0000-4000-8000-00000000000a";

/// A whole file as far as this program looks.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\nand so on";

fn run(script: Script, words: &[&str]) -> (Ended, FakeAgent) {
    let (_root, pki) = pki();
    let agent = FakeAgent::start(&pki, script);
    let ended = Piped::start(vmconsolectl(&pki, agent.address).args(words)).end();
    (ended, agent)
}

fn done(words: &[&str]) -> Vec<Call> {
    let (ended, agent) = run(Script::default(), words);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!((ended.stdout, ended.stderr.as_str()), (Vec::new(), ""));
    let calls = agent.calls.lock().unwrap();
    calls.clone()
}

fn refusal(code: Code, reason: &str) -> Status {
    let details = ErrorDetails::with_error_info(reason, "vmconsole", HashMap::new());
    Status::with_error_details(code, "said the agent", details)
}

fn vm(name: &str) -> Option<VmRef> {
    let vm = Some(vm_ref::Vm::Name(name.to_owned()));
    Some(VmRef { vm })
}

#[test]
fn a_break_goes_to_the_console_that_was_named() {
    let call = |vm, alias: &str, character: &[u8]| {
        Call::Break(SendBreakRequest {
            console: Some(ConsoleRef {
                vm: Some(vm),
                alias: alias.to_owned(),
            }),
            character: character.to_vec(),
        })
    };
    let by_name = console_ref::Vm::VmName("web-1".to_owned());
    let by_uuid = console_ref::Vm::VmUuid(UUID.to_owned());
    assert_eq!(done(&["break", "web-1"]), [call(by_name, "", b"")]);
    let words = ["break", UUID, "--console", "serial1", "--sysrq", "h"];
    assert_eq!(done(&words), [call(by_uuid, "serial1", b"h")]);
}

#[test]
fn keys_are_pressed_one_after_the_other() {
    let call = |keys: &[&str], nanos: Option<i32>| {
        Call::Keys(SendKeysRequest {
            vm: vm("web-1"),
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            hold: nanos.map(|nanos| prost_types::Duration { seconds: 0, nanos }),
        })
    };
    let calls = done(&["keys", "web-1", "ctrl-alt-del", "f1"]);
    assert_eq!(
        calls,
        [call(&["ctrl", "alt", "del"], None), call(&["f1"], None)]
    );
    let calls = done(&["keys", "web-1", "a", "--hold", "20"]);
    assert_eq!(calls, [call(&["a"], Some(20_000_000))]);
}

#[test]
fn no_key_is_pressed_after_one_that_was_refused() {
    let script = Script {
        effects_refused: Some((1, refusal(Code::InvalidArgument, "BAD_REQUEST"))),
        ..Default::default()
    };
    let (ended, agent) = run(script, &["keys", "web-1", "a", "ctrl-hyper", "b"]);
    assert_eq!(ended.code, Some(1));
    let wanted = "vmconsolectl: the agent did not press ctrl-hyper: BAD_REQUEST: said the agent\n";
    assert_eq!(ended.stderr, wanted);
    assert_eq!(agent.calls.lock().unwrap().len(), 2);
}

#[test]
fn an_nmi_is_sent_to_the_vm() {
    let call = Call::Nmi(InjectNmiRequest { vm: vm("web-1") });
    assert_eq!(done(&["nmi", "web-1"]), [call]);
}

fn part(part: Part) -> Result<CaptureScreenshotResponse, Status> {
    Ok(CaptureScreenshotResponse { part: Some(part) })
}

/// A picture in pieces of ten bytes, said to have `size`.
fn picture(png: &[u8], size: usize) -> Script {
    let info = Part::Info(ScreenshotInfo {
        width: 2,
        height: 1,
        size: size as u64,
    });
    let data = png.chunks(10).map(|piece| Part::Data(piece.to_vec()));
    Script {
        picture: std::iter::once(info).chain(data).map(part).collect(),
        ..Default::default()
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

#[test]
fn a_picture_replaces_the_file_that_was_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("screen.png");
    std::fs::write(&path, "of yesterday").unwrap();
    let words = ["screenshot", "web-1", "--screen", "3", "-o"];
    let words = [&words[..], &[path.to_str().unwrap()]].concat();
    let (ended, agent) = run(picture(PNG, PNG.len()), &words);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!((ended.stdout, ended.stderr.as_str()), (Vec::new(), ""));
    assert_eq!(std::fs::read(&path).unwrap(), PNG);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert_eq!(names(directory.path()), ["screen.png"]);
    let asked = Call::Screenshot(CaptureScreenshotRequest {
        vm: vm("web-1"),
        screen: 3,
    });
    assert_eq!(*agent.calls.lock().unwrap(), [asked]);
}

#[test]
fn a_picture_goes_through_a_pipe_but_not_to_a_terminal() {
    let words = ["screenshot", "web-1", "-o", "-"];
    let (ended, _agent) = run(picture(PNG, PNG.len()), &words);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stdout, PNG);

    let (_root, pki) = pki();
    let agent = FakeAgent::start(&pki, picture(PNG, PNG.len()));
    let mut terminal = OnTerminal::start(vmconsolectl(&pki, agent.address).args(words));
    terminal.sees("a picture is not written to a terminal");
    assert_eq!(terminal.end(), Some(2));
    assert_eq!(*agent.calls.lock().unwrap(), [], "none was taken");
}

#[test]
fn a_picture_that_is_not_whole_is_not_written() {
    let mut broken = picture(&PNG[..10], PNG.len());
    let end = refusal(Code::DeadlineExceeded, "MAX_DURATION");
    broken.picture.push(Err(end));
    for (script, code, why) in [
        (picture(&PNG[..10], PNG.len()), 1, "is not whole"),
        (picture(PNG, 10), 1, "is longer than was said"),
        (picture(PNG, usize::MAX), 1, "is too large"),
        (picture(b"GIF89a", 6), 1, "is no PNG"),
        (Script::default(), 1, "is not whole"),
        (broken, 9, "MAX_DURATION: said the agent"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("screen.png");
        let words = ["screenshot", "web-1", "-o", path.to_str().unwrap()];
        let (ended, _agent) = run(script, &words);
        assert_eq!(ended.code, Some(code), "{why}: {}", ended.stderr);
        assert!(ended.stderr.contains(why), "{}", ended.stderr);
        assert_eq!(names(directory.path()), [""; 0]);
    }
}

#[test]
fn a_file_that_cannot_be_written_is_told() {
    let words = ["screenshot", "web-1", "-o", "/nowhere/screen.png"];
    let (ended, _agent) = run(picture(PNG, PNG.len()), &words);
    assert_eq!(ended.code, Some(1));
    let wanted = "vmconsolectl: cannot write /nowhere/screen.png: No such file";
    assert!(ended.stderr.starts_with(wanted), "{}", ended.stderr);
    let words = ["screenshot", "web-1", "-o", "/dev/null"];
    let (ended, agent) = run(picture(PNG, PNG.len()), &words);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("no regular file"), "{}", ended.stderr);
    assert_eq!(*agent.calls.lock().unwrap(), []);
}

/// `attach web-1` on a terminal, opened for writing, with this script.
fn attached(script: Script) -> (tempfile::TempDir, FakeAgent, OnTerminal, ClientStream) {
    let (root, pki) = pki();
    let agent = FakeAgent::start(&pki, script);
    let mut command = vmconsolectl(&pki, agent.address);
    let mut terminal = OnTerminal::start(command.args(["attach", "web-1"]));
    let mut stream = agent.stream();
    stream.open();
    stream.opened(Mode::WriteIfFree, 1024);
    terminal.sees("attached to web-1/serial0");
    (root, agent, terminal, stream)
}

#[test]
fn the_tilde_escape_sends_a_break_to_the_attached_console() {
    let (_root, agent, mut terminal, mut stream) = attached(Script::default());
    terminal.type_keys(b"~B");
    agent.until_called();
    stream.say(ToClient::SideEffect(SideEffect {
        kind: SideEffectKind::Break.into(),
        by: Some(Participant {
            proxy: "spiffe://x/web".into(),
            ..Default::default()
        }),
        time: None,
    }));
    terminal.sees("a break was sent by spiffe://x/web");
    terminal.type_keys(b"~.");
    // No input comes before it: the guest gets neither ~ nor B.
    stream.detached();
    assert_eq!(terminal.end(), Some(0));
    let break_call = Call::Break(SendBreakRequest {
        console: Some(ConsoleRef {
            vm: Some(console_ref::Vm::VmName("web-1".to_owned())),
            alias: "serial0".to_owned(),
        }),
        character: Vec::new(),
    });
    assert_eq!(*agent.calls.lock().unwrap(), [break_call]);
}

#[test]
fn a_break_that_is_refused_is_told_and_the_session_goes_on() {
    let script = Script {
        effects_refused: Some((0, refusal(Code::Unimplemented, "UNSUPPORTED"))),
        ..Default::default()
    };
    let (_root, _agent, mut terminal, mut stream) = attached(script);
    terminal.type_keys(b"~B");
    terminal.sees("the break was not sent, as far as is known: UNSUPPORTED: said the agent");
    terminal.type_keys(b"~.");
    stream.detached();
    assert_eq!(terminal.end(), Some(0));
}
