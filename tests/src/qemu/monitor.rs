//! QEMU's monitor (QMP) on its standard input and output: one command at a time, and the
//! events between them kept. Every wait has a bound.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long QEMU may take to answer.
const BOUND: Duration = Duration::from_secs(30);

/// Messages that may wait to be looked at.
const MESSAGES: usize = 1024;

/// Why there is no answer.
#[derive(Debug)]
pub enum MonitorError {
    /// QEMU refused, in these words.
    Refused(String),
    /// QEMU said nothing in time.
    Silent,
    /// QEMU has ended.
    Ended,
}

impl std::fmt::Display for MonitorError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(said) => write!(f, "QEMU refused: {said}"),
            Self::Silent => write!(f, "QEMU did not answer within {} s", BOUND.as_secs()),
            Self::Ended => f.write_str("QEMU has ended"),
        }
    }
}

impl std::error::Error for MonitorError {}

/// A monitor that speaks QMP.
#[derive(Debug)]
pub struct Monitor {
    input: ChildStdin,
    messages: Receiver<Value>,
    events: VecDeque<Value>,
}

impl Monitor {
    /// Waits for QEMU's greeting and answers it.
    pub(super) fn greet(input: ChildStdin, output: ChildStdout) -> Result<Self, MonitorError> {
        let mut monitor = Self {
            input,
            messages: listen(output),
            events: VecDeque::new(),
        };
        monitor.next(Instant::now() + BOUND)?;
        monitor.try_run("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    /// Runs a command and returns what QEMU answers.
    ///
    /// # Panics
    /// When it fails, saying why.
    #[track_caller]
    pub fn run(&mut self, command: &str, arguments: &Value) -> Value {
        self.try_run(command, arguments)
            .unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    /// As [`Monitor::run`].
    ///
    /// # Errors
    /// Why there is no answer.
    pub fn try_run(&mut self, command: &str, arguments: &Value) -> Result<Value, MonitorError> {
        let mut line = json!({"execute": command, "arguments": arguments}).to_string();
        line.push('\n');
        let sent = self.input.write_all(line.as_bytes());
        sent.map_err(|_| MonitorError::Ended)?;
        let deadline = Instant::now() + BOUND;
        loop {
            let mut message = self.next(deadline)?;
            if let Some(error) = message.get("error") {
                return Err(MonitorError::Refused(error["desc"].to_string()));
            }
            if let Some(answer) = message.get_mut("return") {
                return Ok(answer.take());
            }
            self.events.push_back(message);
        }
    }

    /// The next event of this name that nobody has been given yet, as it came or comes;
    /// those before it are given up.
    ///
    /// # Panics
    /// When none comes within `bound`.
    #[track_caller]
    pub fn event(&mut self, name: &str, bound: Duration) -> Value {
        let deadline = Instant::now() + bound;
        loop {
            let event = match self.events.pop_front() {
                Some(event) => event,
                None => self
                    .next(deadline)
                    .unwrap_or_else(|error| panic!("waited {bound:?} in vain for {name}: {error}")),
            };
            if event["event"] == name {
                return event;
            }
        }
    }

    fn next(&self, deadline: Instant) -> Result<Value, MonitorError> {
        let left = deadline.saturating_duration_since(Instant::now());
        self.messages
            .recv_timeout(left)
            .map_err(|error| match error {
                RecvTimeoutError::Timeout => MonitorError::Silent,
                RecvTimeoutError::Disconnected => MonitorError::Ended,
            })
    }
}

/// What QEMU says, a message a line, from a thread that ends with QEMU.
fn listen(output: ChildStdout) -> Receiver<Value> {
    let (send, receive) = sync_channel(MESSAGES);
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            // What is no JSON is for people: QEMU says here where its terminals are.
            let Ok(message) = serde_json::from_str(&line) else {
                continue;
            };
            if send.send(message).is_err() {
                return;
            }
        }
    });
    receive
}
