//! Whether QEMU knows each key by the name that the agent has for it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use vmconsole_agent::core::keys::Key;
use vmconsole_tests::setup;

/// QEMU without a guest, whose monitor this is. It ends with its standard input.
struct Monitor {
    qemu: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Monitor {
    fn start() -> Self {
        let machine = ["-machine", "none", "-nodefaults", "-display", "none", "-S"];
        let mut qemu = Command::new(setup::program("qemu-system-x86_64"))
            .args(machine)
            .args(["-qmp", "stdio"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("QEMU starts");
        let asks = qemu.stdin.take().expect("a pipe");
        let answers = BufReader::new(qemu.stdout.take().expect("a pipe"));
        Self {
            qemu,
            asks,
            answers,
        }
    }

    /// The next thing that QEMU says, events left out.
    fn said(&mut self) -> Value {
        loop {
            let mut line = String::new();
            let bytes = self.answers.read_line(&mut line).expect("QEMU speaks");
            assert!(bytes > 0, "QEMU ended");
            let said: Value = serde_json::from_str(&line).expect("JSON");
            if said.get("event").is_none() {
                return said;
            }
        }
    }

    fn ask(&mut self, question: &Value) -> Value {
        writeln!(self.asks, "{question}").expect("QEMU listens");
        self.said()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // Both are so only where QEMU has ended already.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

#[test]
fn qemu_knows_every_key_by_the_agents_name() {
    let mut monitor = Monitor::start();
    let greeting = monitor.said();
    let major = greeting["QMP"]["version"]["qemu"]["major"].as_u64();
    let major = major.expect("a version");
    let ready = monitor.ask(&json!({"execute": "qmp_capabilities"}));
    assert_eq!(ready, json!({"return": {}}));
    for key in Key::ALL {
        let keys = json!([{"type": "qcode", "data": key.name}]);
        let pressed = monitor.ask(&json!({
            "execute": "send-key",
            "arguments": {"keys": keys, "hold-time": 1},
        }));
        // f13 to f24 came with QEMU 8.0.
        let since_8 = (183..=194).contains(&key.linux);
        let known = pressed == json!({"return": {}});
        assert_eq!(known, major >= 8 || !since_8, "{}: {pressed}", key.name);
    }
}
