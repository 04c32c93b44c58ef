//! A conversation with a guest over one of its consoles, as a person would have it: type,
//! wait for what is to come, log in, run a command. It interprets no escape sequences.

use std::time::{Duration, Instant};

/// How long a key may go unanswered before it is pressed again.
const ANSWER_BOUND: Duration = Duration::from_secs(2);

/// How long a step of a login may take on a busy machine.
const LOGIN_STEP_BOUND: Duration = Duration::from_secs(60);

/// The prompt of the guest's shell in root's home directory.
pub const PROMPT: &str = "root@guest:~# ";

/// What a conversation goes over.
pub trait Line {
    /// Types `bytes`.
    ///
    /// # Panics
    /// When nobody takes them any more.
    fn send(&mut self, bytes: &[u8]);

    /// What has come, waiting for it for at most `bound`; empty when nothing did.
    ///
    /// # Errors
    /// Nothing will come any more, for this reason.
    fn receive(&mut self, bound: Duration) -> Result<Vec<u8>, String>;
}

/// A conversation, with all that was heard in it.
#[derive(Debug)]
pub struct Dialogue<L> {
    line: L,
    heard: Vec<u8>,
    taken: usize,
}

impl<L: Line> Dialogue<L> {
    /// A new conversation.
    pub const fn over(line: L) -> Self {
        Self {
            line,
            heard: Vec::new(),
            taken: 0,
        }
    }

    /// What it goes over.
    pub const fn line(&mut self) -> &mut L {
        &mut self.line
    }

    /// Types `text`.
    ///
    /// # Panics
    /// When nobody takes it any more.
    pub fn send(&mut self, text: &str) {
        self.line.send(text.as_bytes());
    }

    /// Waits until `text` appears after what was waited for before, and returns
    /// all between, with `text` at its end.
    ///
    /// # Panics
    /// When it does not within `bound` or the line ends, with all that was heard.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str, bound: Duration) -> String {
        match self.try_wait_for(text, bound) {
            Some(found) => found,
            None => panic!(
                "waited {bound:?} in vain for {text:?} after:\n{}",
                self.transcript()
            ),
        }
    }

    /// As [`Self::wait_for`], but `None` when the time is up.
    ///
    /// # Panics
    /// When the line ends, with all that was heard.
    #[track_caller]
    pub fn try_wait_for(&mut self, text: &str, bound: Duration) -> Option<String> {
        let deadline = Instant::now() + bound;
        loop {
            let new = &self.heard[self.taken..];
            let found = new
                .windows(text.len())
                .position(|part| part == text.as_bytes());
            if let Some(at) = found {
                let end = at + text.len();
                let found = String::from_utf8_lossy(&new[..end]).into_owned();
                self.taken += end;
                return Some(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.line.receive(left) {
                Ok(bytes) if bytes.is_empty() => return None,
                Ok(bytes) => self.heard.extend(bytes),
                Err(reason) => panic!("{reason}\nafter:\n{}", self.transcript()),
            }
        }
    }

    /// Logs in at the guest's login prompt, which may still be to come, and
    /// waits for the shell's prompt. `bound` is for the guest to boot.
    ///
    /// # Panics
    /// When the guest does not let us in.
    #[track_caller]
    pub fn login(&mut self, bound: Duration) {
        self.wait_for_login_prompt(bound);
        self.send("root\r");
        self.wait_for("Password:", LOGIN_STEP_BOUND);
        self.send("console\r");
        self.wait_for(PROMPT, LOGIN_STEP_BOUND);
    }

    /// Waits for the login prompt, pressing Enter, as a person would: it may have
    /// been printed before anyone was attached.
    ///
    /// # Panics
    /// When there is none within `bound`.
    #[track_caller]
    pub fn wait_for_login_prompt(&mut self, bound: Duration) {
        let deadline = Instant::now() + bound;
        while self.try_wait_for("guest login:", ANSWER_BOUND).is_none() {
            assert!(
                Instant::now() < deadline,
                "no login prompt after:\n{}",
                self.transcript()
            );
            self.send("\r");
        }
    }

    /// Runs `command` in the guest's shell and returns what it printed.
    ///
    /// # Panics
    /// When the prompt does not come back within `bound`.
    #[track_caller]
    pub fn run(&mut self, command: &str, bound: Duration) -> String {
        self.send(&format!("{command}\r"));
        let said = self.wait_for(PROMPT, bound);
        let said = said.strip_suffix(PROMPT).unwrap_or(&said);
        said.split_once("\r\n")
            .map_or("", |(_echo, output)| output)
            .replace("\r\n", "\n")
    }

    /// All that was heard since it began.
    pub fn transcript(&self) -> String {
        String::from_utf8_lossy(&self.heard).into_owned()
    }
}
