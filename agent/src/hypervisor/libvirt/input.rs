//! Input on its way to a guest: how much of it may be under way. Pure.
//!
//! libvirt tells nobody when a guest has read its input, and takes any amount. So input is
//! sent in pieces, and after a number of them libvirtd is asked something: it answers only
//! once it has read them all, and it stops reading when a guest has left five messages unread.
//! What a guest that reads nothing has under way is therefore bounded: what its PTY holds,
//! five messages in libvirtd, and [`PROBE_BYTES`] in the socket.

use crate::endpoint::Abandoned;

/// The most bytes that are sent at once.
pub(super) const MAX_SEND_BYTES: usize = 4096;
/// libvirtd is asked after so many bytes,
const PROBE_BYTES: usize = 16 << 10;
/// or after so many messages.
const PROBE_MESSAGES: usize = 32;

/// The input of one write, and what was sent since libvirtd last answered.
///
/// ```text
///  append ──▶ waiting ──next──▶ under way ──sent──▶ taken ──▶ told
///                │  ▲               │
///        abandon │  └── the rest ───┤
///                ▼                  │ the rest, if abandoned
///             (back) ◀──────────────┘
/// ```
#[derive(Debug, Default)]
pub(super) struct Input {
    waiting: Vec<u8>,
    /// How many bytes are being sent. They stay that where sending fails.
    under_way: usize,
    /// How many were sent and not told yet.
    taken: usize,
    /// Whether what could not be sent is not to be tried again.
    abandoned: bool,
    bytes: usize,
    messages: usize,
    /// Whether somebody is at sending them.
    sending: bool,
}

impl Input {
    /// Takes the beginning of `bytes`, to be sent. What a write before left is abandoned.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.waiting.clear();
        self.waiting
            .extend_from_slice(bytes.get(..MAX_SEND_BYTES).unwrap_or(bytes));
        self.abandoned = false;
    }

    /// Whether the caller has to start sending. If so, it has from now on.
    pub(super) fn start(&mut self) -> bool {
        !std::mem::replace(&mut self.sending, true)
    }

    /// What to send next, by whoever is at sending. Where there is nothing, sending is over.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        if self.waiting.is_empty() {
            self.sending = false;
            return None;
        }
        let next = std::mem::take(&mut self.waiting);
        self.under_way = next.len();
        Some(next)
    }

    /// The first `count` of the bytes under way, `sent`, were taken; the rest waits again,
    /// unless it was abandoned. Tells whether libvirtd has to be asked before more is sent.
    pub(super) fn sent(&mut self, sent: &[u8], count: usize) -> bool {
        self.under_way = 0;
        self.taken += count;
        if !self.abandoned {
            self.waiting.splice(..0, sent.iter().skip(count).copied());
        }
        self.bytes += count;
        self.messages += usize::from(count > 0);
        self.bytes >= PROBE_BYTES || self.messages >= PROBE_MESSAGES
    }

    /// Takes back what was not begun to be sent, and tells of the rest.
    pub(super) fn abandon(&mut self) -> Abandoned {
        self.waiting.clear();
        self.abandoned = true;
        Abandoned {
            taken: std::mem::take(&mut self.taken),
            under_way: self.under_way,
        }
    }

    /// How many bytes were taken, once any were and none is under way. The rest is abandoned.
    pub(super) fn take_taken(&mut self) -> Option<usize> {
        if self.taken == 0 {
            return None;
        }
        // A piece that was sent in part is not waited for: what comes after it may be refused.
        self.waiting.clear();
        self.abandoned = true;
        self.take_settled()
    }

    /// How many bytes were taken, once none is under way.
    pub(super) fn take_settled(&mut self) -> Option<usize> {
        (self.under_way == 0).then(|| std::mem::take(&mut self.taken))
    }

    /// Notes that libvirtd has read all that was sent.
    pub(super) fn answered(&mut self) {
        (self.bytes, self.messages) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(from: usize, length: usize) -> Vec<u8> {
        (from..from + length).map(|at| (at % 251) as u8).collect()
    }

    /// What a writer does, what the thread that sends does.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Write(usize),
        Begin,
        /// So many of the bytes under way are taken; 0 means that the stream is full.
        Send(usize),
        Hear,
        Abandon,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1_usize..6000).prop_map(Step::Write),
            Just(Step::Begin),
            (0_usize..5000).prop_map(Step::Send),
            Just(Step::Hear),
            Just(Step::Abandon),
        ]
    }

    proptest! {
        #[test]
        fn what_is_told_as_taken_was_sent_once_and_in_order(
            steps in prop::collection::vec(step(), 1..300)
        ) {
            let mut input = Input::default();
            // A writer that goes on where it is told that the write before came to an end.
            let (mut told, mut sent, mut unread) = (0, Vec::new(), 0);
            let (mut writes, mut piece) = (false, None::<Vec<u8>>);
            for step in steps {
                match step {
                    Step::Write(length) => {
                        if !writes && input.take_settled().is_some_and(|late| { told += late; true }) {
                            input.append(&bytes(told, length));
                            input.start();
                            writes = true;
                        }
                    }
                    Step::Begin => if piece.is_none() {
                        piece = input.next();
                    },
                    Step::Send(most) => if let Some(bytes) = piece.take() {
                        prop_assert!(bytes.len() <= MAX_SEND_BYTES);
                        let count = bytes.len().min(most);
                        sent.extend_from_slice(&bytes[..count]);
                        unread += count;
                        if input.sent(&bytes, count) {
                            input.answered();
                            unread = 0;
                        }
                        prop_assert!(unread < PROBE_BYTES);
                    },
                    Step::Hear => if writes && let Some(taken) = input.take_taken() {
                        told += taken;
                        writes = false;
                    },
                    Step::Abandon => {
                        let abandoned = input.abandon();
                        told += abandoned.taken;
                        prop_assert_eq!(abandoned.under_way, piece.as_ref().map_or(0, Vec::len));
                        writes = false;
                    }
                }
                prop_assert!(told <= sent.len());
                prop_assert_eq!(&sent, &bytes(0, sent.len()));
            }
            let abandoned = input.abandon();
            prop_assert_eq!(told + abandoned.taken, sent.len());
            prop_assert_eq!(abandoned.under_way, piece.map_or(0, |piece| piece.len()));
            if abandoned.under_way == 0 {
                prop_assert_eq!(input.next(), None, "nothing is sent after it was abandoned");
            }
        }
    }

    #[test]
    fn what_was_begun_when_sending_failed_stays_in_doubt_and_the_rest_does_not() {
        let mut input = Input::default();
        input.append(&bytes(0, 5000));
        assert!(input.start());
        let piece = input.next().unwrap();
        assert!(!input.sent(&piece, 1000));
        assert_eq!(input.next().unwrap().len(), MAX_SEND_BYTES - 1000);
        // No answer comes.
        let doubt = Abandoned {
            taken: 1000,
            under_way: MAX_SEND_BYTES - 1000,
        };
        assert_eq!(input.abandon(), doubt);
        assert_eq!(input.abandon(), Abandoned { taken: 0, ..doubt });
        assert_eq!(input.take_settled(), None);
    }

    #[test]
    fn keystrokes_are_probed_too() {
        let mut input = Input::default();
        let probes = (0..PROBE_MESSAGES * 2).filter(|_| {
            let probe = input.sent(b"x", 1);
            if probe {
                input.answered();
            }
            probe
        });
        assert_eq!(probes.count(), 2);
    }
}
