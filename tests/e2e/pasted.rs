//! A paste through a session whose streams break again and again: it arrives at a program in
//! the guest that reads the raw terminal, once, whole and in order.

use std::time::{Duration, Instant};

use vmconsole_proto::v1;
use vmconsole_proto::v1::stream_console_response::Message;
use vmconsole_tests::client::{Attached, Client, open};
use vmconsole_tests::random::Random;

use crate::host::{BOUND, Host, run};

/// How long each stream lasts before it is cut, from the first of these to the last.
const SHORTEST: u64 = 5;
const SPREAD: u64 = 400;

/// Text of lines, each different, so that whatever is lost, doubled or swapped shows.
fn text(bytes: usize) -> Vec<u8> {
    let lines = (0u64..).flat_map(|number| format!("{number:015x}\n").into_bytes());
    lines.take(bytes).collect()
}

/// A client that types as far as its window goes, and forgets nothing before it is done with.
struct Paste<'a> {
    client: &'a Client,
    text: &'a [u8],
    open: v1::Open,
    sent: u64,
    limit: u64,
    session: String,
}

impl Paste<'_> {
    /// The next stream of the session.
    async fn again(&mut self, token: Vec<u8>) -> Attached {
        self.open.resume_token = token;
        let attached = self.client.attach(self.open.clone()).await.unwrap();
        let opened = &attached.opened;
        assert_eq!(opened.session_id, self.session);
        assert_eq!(opened.mode(), v1::Mode::WriteIfFree, "it kept its lease");
        self.sent = opened.next_input_offset.expect("it is known");
        self.limit = self.sent + opened.input_window;
        attached
    }

    /// Types until `until`, or until all of it is taken. Returns whether it is.
    async fn on(&mut self, attached: &mut Attached, until: tokio::time::Instant) -> bool {
        let end = self.text.len() as u64;
        loop {
            let to = end.min(self.limit);
            if self.sent < to {
                let piece = &self.text[self.sent as usize..to as usize];
                attached.send.type_bytes(piece.to_vec()).await;
                self.sent = to;
            }
            let message = tokio::time::timeout_at(until, attached.receive.next()).await;
            let Ok(message) = message else {
                return false;
            };
            match message.unwrap().expect("it goes on") {
                Message::InputAck(ack) => {
                    self.limit = ack.offset + ack.window;
                    if ack.offset == end {
                        return true;
                    }
                }
                Message::InputRefused(refused) => panic!("{refused:?}"),
                _ => {}
            }
        }
    }
}

async fn pasted(bytes: usize, breaks: usize) {
    let host = Host::start();
    let guest = host.guest("pasted");
    let client = host.client().await;
    let mut attached = host.shell(&client, guest.name()).await;
    let (send, receive) = (&mut attached.send, &mut attached.receive);
    send.type_bytes(format!(
        "stty raw -echo; echo re''ady; head -c {bytes} > /tmp/pasted; stty sane; echo ta''ken\n"
    ))
    .await;
    receive.read_until(b"ready", BOUND).await;

    let text = text(bytes);
    // What the shell was typed counts.
    let before = attached.send.offset() as usize;
    let padded = [vec![0; before], text.clone()].concat();
    let mut paste = Paste {
        client: &client,
        text: &padded,
        open: open(guest.name(), v1::Mode::WriteIfFree),
        sent: before as u64,
        limit: 0,
        session: attached.opened.session_id.clone(),
    };
    let (mut random, begun) = (Random::default(), Instant::now());
    let mut done = false;
    for _ in 0..breaks {
        let token = std::mem::take(&mut attached.opened.resume_token);
        // The stream before is cut, or lives on and is fenced, in turn.
        let fenced = (random.below(2) == 0).then_some(attached);
        attached = paste.again(token).await;
        drop(fenced);
        let lasts = SHORTEST + random.below(SPREAD);
        let until = tokio::time::Instant::now() + Duration::from_millis(lasts);
        done = paste.on(&mut attached, until).await;
    }
    while !done {
        let taken = paste.limit;
        let until = tokio::time::Instant::now() + BOUND;
        done = paste.on(&mut attached, until).await;
        assert!(done || paste.limit > taken, "no more is taken");
    }
    attached.receive.read_until(b"taken\r\n", BOUND).await;
    println!(
        "{bytes} bytes through {breaks} streams in {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    let said = run(
        &mut attached.send,
        &mut attached.receive,
        "sha256sum /tmp/pasted; wc -c /tmp/pasted",
    )
    .await;
    let sum = sha256(&text);
    assert!(said.contains(&sum), "{said} instead of {sum}");
    attached.detach(BOUND).await;
}

/// The sum as the tool of that name prints it.
fn sha256(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let hex = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
    hex.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paste_survives_its_streams() {
    pasted(48 * 1024, 8).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make long TESTS=pasted"]
async fn a_paste_of_a_mebibyte_survives_fifty_streams() {
    pasted(1024 * 1024, 50).await;
}
