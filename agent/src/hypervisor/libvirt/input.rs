//! Input on its way to a guest: how much of it may be under way. Pure.
//!
//! libvirt tells nobody when a guest has read its input, and takes any amount. So input is
//! sent in pieces, and after a number of them libvirtd is asked something: it answers only
//! once it has read them all, and it stops reading when a guest has left five messages unread.
//! What a guest that reads nothing has under way is therefore bounded: what its PTY holds,
//! five messages in libvirtd, and [`PROBE_BYTES`] in the socket.

/// The most bytes that are sent at once, and that wait to be sent.
pub(super) const MAX_SEND_BYTES: usize = 4096;
/// libvirtd is asked after so many bytes,
const PROBE_BYTES: usize = 16 << 10;
/// or after so many messages.
const PROBE_MESSAGES: usize = 32;

/// Bytes that wait to be sent, and what was sent since libvirtd last answered.
#[derive(Debug, Default)]
pub(super) struct Input {
    waiting: Vec<u8>,
    bytes: usize,
    messages: usize,
    /// Whether somebody is at sending them.
    sending: bool,
}

impl Input {
    /// Appends the beginning of `bytes`, as much as there is room for, and tells how much.
    pub(super) fn append(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes
            .len()
            .min(MAX_SEND_BYTES.saturating_sub(self.waiting.len()));
        self.waiting.extend_from_slice(&bytes[..taken]);
        taken
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
        Some(std::mem::take(&mut self.waiting))
    }

    /// Takes back what could not be sent now. Whoever was at sending still is.
    pub(super) fn put_back(&mut self, rest: &[u8]) {
        // What came meanwhile follows. At most twice the limit, and only for as long as the
        // stream is full.
        self.waiting.splice(..0, rest.iter().copied());
    }

    /// Notes that a message was sent, and tells whether libvirtd has to be asked before the
    /// next one.
    pub(super) fn sent(&mut self, bytes: usize) -> bool {
        self.bytes += bytes;
        self.messages += 1;
        self.bytes >= PROBE_BYTES || self.messages >= PROBE_MESSAGES
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

    proptest! {
        #[test]
        fn nothing_is_lost_and_what_is_under_way_is_bounded(
            pieces in prop::collection::vec((1_usize..6000, any::<bool>()), 1..200)
        ) {
            let mut input = Input::default();
            let (mut taken, mut sent, mut unread) = (0, 0, 0);
            for (length, flush) in pieces {
                taken += input.append(&vec![b'x'; length]);
                prop_assert!(taken - sent <= MAX_SEND_BYTES);
                if !flush {
                    continue;
                }
                prop_assert!(input.start());
                prop_assert!(!input.start());
                while let Some(bytes) = input.next() {
                    sent += bytes.len();
                    unread += bytes.len();
                    if input.sent(bytes.len()) {
                        input.answered();
                        unread = 0;
                    }
                    prop_assert!(unread < PROBE_BYTES);
                }
            }
            while let Some(bytes) = input.next() {
                sent += bytes.len();
            }
            prop_assert_eq!(taken, sent);
        }
    }

    #[test]
    fn keystrokes_are_probed_too() {
        let mut input = Input::default();
        let probes = (0..PROBE_MESSAGES * 2).filter(|_| {
            let probe = input.sent(1);
            if probe {
                input.answered();
            }
            probe
        });
        assert_eq!(probes.count(), 2);
    }
}
