//! A proxy as a process of its own, which takes one session up and keeps a journal of what it
//! was sent, so that it can be killed at any moment and what it had is still known.
//!
//! It refuses to do anything again: the next proxy goes on where the journal ends.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use bytes::Buf as _;
use prost::Message as _;
use vmconsole_proto::v1;
use vmconsole_proto::v1::stream_console_response::Message;

use crate::client::{Client, Windows, endpoint};
use crate::pki::{Credentials, Pki};
use crate::process::{Process, tied};

/// How long a killed proxy may take to be gone.
const END_BOUND: Duration = Duration::from_secs(10);

/// A proxy that runs. It finds its certificates and its `Open` in a directory, and keeps its
/// journal there.
#[derive(Debug)]
pub struct ProxyProcess {
    process: Process,
    journal: PathBuf,
}

impl ProxyProcess {
    /// Starts `program`, which calls [`serve`], in `dir`, of the agent at `address`. Its first
    /// message is `open`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(
        program: &str,
        dir: &Path,
        address: SocketAddr,
        pki: &Pki,
        open: &v1::Open,
    ) -> Self {
        pki.proxy().write(dir, "proxy");
        std::fs::write(dir.join("ca.crt"), pki.ca_pem()).expect("the directory takes files");
        std::fs::write(dir.join("open"), open.encode_to_vec()).expect("the directory takes files");
        let journal = dir.join("journal");
        std::fs::write(&journal, []).expect("the directory takes files");
        let mut command = tied(program);
        command.arg(dir).arg(address.to_string());
        Self {
            process: Process::spawn("proxy", command),
            journal,
        }
    }

    /// Kills it with SIGKILL.
    ///
    /// # Panics
    /// When it had ended by itself, with what it said.
    pub fn kill(&mut self) {
        if let Some(status) = self.ended() {
            panic!("the proxy {status}: {}", self.process.stderr());
        }
        self.process.kill();
        self.process.wait(END_BOUND);
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait()
    }

    /// All that it was sent and could write down: whole messages, in order.
    ///
    /// # Panics
    /// When what it wrote is no journal.
    pub fn journal(&self) -> Vec<Message> {
        let written = std::fs::read(&self.journal).expect("the journal can be read");
        let (mut rest, mut messages) = (&written[..], Vec::new());
        while !rest.is_empty() {
            let Ok(length) = prost::decode_length_delimiter(rest) else {
                break;
            };
            let delimiter = prost::length_delimiter_len(length);
            // The last one may be cut short.
            if rest.len() < delimiter + length {
                break;
            }
            rest.advance(delimiter);
            let (message, after) = rest.split_at(length);
            rest = after;
            let message = v1::StreamConsoleResponse::decode(message).expect("a whole message");
            messages.push(message.message.expect("no message is empty"));
        }
        messages
    }
}

/// The proxy itself, in its own process: attaches and writes down what comes, each message
/// before it asks for the next. Nothing is sent to the agent before `Opened` is written down.
///
/// # Errors
/// Whatever ends it, which is not supposed to happen.
pub async fn serve(dir: &Path, address: SocketAddr) -> Result<(), Box<dyn std::error::Error>> {
    let credentials = Credentials {
        certificate: std::fs::read_to_string(dir.join("proxy.crt"))?,
        key: std::fs::read_to_string(dir.join("proxy.key"))?,
    };
    let ca = std::fs::read_to_string(dir.join("ca.crt"))?;
    let open = v1::Open::decode(&std::fs::read(dir.join("open"))?[..])?;
    let journal = dir.join("journal");
    let mut journal = std::fs::OpenOptions::new().append(true).open(journal)?;
    let mut note = |message: Message| -> io::Result<()> {
        let message = Some(message);
        let response = v1::StreamConsoleResponse { message };
        // In one piece, with no buffer that dies with the process.
        journal.write_all(&response.encode_length_delimited_to_vec())
    };
    let way = endpoint(address, &ca, Some(&credentials), Windows::default())?;
    let mut attached = Client::connect(&way).await?.attach(open).await?;
    note(Message::Opened(attached.opened.clone()))?;
    while let Some(message) = attached.receive.next().await? {
        note(message)?;
    }
    Err("the stream ended".into())
}
