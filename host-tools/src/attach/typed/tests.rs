//! Typed bytes against an agent whose streams break wherever they can.

use proptest::prelude::*;

use super::*;

fn typed(text: &'static [u8], window: u64) -> Typed {
    let mut typed = Typed::new(0, window);
    typed.push(Bytes::from_static(text));
    typed
}

#[test]
fn what_did_not_arrive_is_sent_again_and_nothing_else() {
    let mut typed = typed(b"abcdef", 4);
    assert_eq!(typed.next(), Some((0, Bytes::from_static(b"abcd"))));
    assert_eq!(typed.next(), None);
    assert_eq!(typed.acked(1, 4), Ok(true));
    assert_eq!(typed.resumed(3, 9), Ok(()));
    let in_doubt = 2;
    let unsent = 3;
    assert_eq!(typed.undelivered(), Undelivered { in_doubt, unsent });
    assert_eq!(typed.next(), Some((3, Bytes::from_static(b"d"))));
    assert_eq!(typed.next(), Some((4, Bytes::from_static(b"ef"))));
    assert_eq!(typed.acked(6, 9), Ok(true));
    assert!(typed.delivered());
    assert_eq!(typed.undelivered(), Undelivered::default());
}

#[test]
fn an_offset_that_was_never_sent_is_a_fault_and_changes_nothing() {
    let mut typed = typed(b"abcd", 9);
    typed.next();
    typed.acked(2, 9).unwrap();
    for next in [1, 5] {
        let fault = typed.resumed(next, 9).unwrap_err();
        assert!(matches!(fault, Fault::NextInput { offset, .. } if offset == next));
    }
    assert_eq!(typed.undelivered().in_doubt, 2);
}

#[test]
fn another_session_is_sent_what_waits_only_if_nothing_before_it_is_in_doubt() {
    let mut doubtful = typed(b"abcd", 2);
    doubtful.next();
    let in_doubt = 2;
    let unsent = 2;
    assert_eq!(doubtful.anew(0, 9), Undelivered { in_doubt, unsent });
    assert!(doubtful.delivered());

    let mut sure = typed(b"abcd", 2);
    sure.next();
    sure.acked(2, 2).unwrap();
    assert_eq!(sure.anew(0, 9), Undelivered::default());
    assert_eq!(sure.next(), Some((0, Bytes::from_static(b"cd"))));
}

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    Type(u8),
    Send,
    /// The agent takes so many of the messages that are on their way.
    Arrive(usize),
    /// The endpoint takes so many bytes, and the acknowledgement arrives.
    Ack(u64),
    /// The stream breaks, and the session is taken up again.
    Resume,
    /// The stream breaks, and the agent has forgotten the session.
    Anew,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u8..40).prop_map(Step::Type),
        4 => Just(Step::Send),
        3 => (1usize..4).prop_map(Step::Arrive),
        3 => (0u64..60).prop_map(Step::Ack),
        2 => Just(Step::Resume),
        1 => Just(Step::Anew),
    ]
}

/// An agent, what is on its way to it, and all that its guest was ever given.
#[derive(Default)]
struct Agent {
    way: VecDeque<(u64, Bytes)>,
    guest: Vec<u8>,
    /// Where the session's input begins in `guest`.
    base: usize,
    acked: u64,
}

const WINDOW: u64 = 50;

impl Agent {
    fn received(&self) -> u64 {
        (self.guest.len() - self.base) as u64
    }

    fn arrive(&mut self, messages: usize) {
        for _ in 0..messages {
            if let Some((offset, data)) = self.way.pop_front() {
                assert_eq!(offset, self.received(), "input is not contiguous");
                self.guest.extend_from_slice(&data);
                assert!(self.received() <= self.acked + WINDOW, "window");
            }
        }
    }

    fn ack(&mut self, bytes: u64, typed: &mut Typed) {
        self.acked = (self.acked + bytes).min(self.received());
        typed.acked(self.acked, WINDOW).unwrap();
    }

    fn resume(&mut self, typed: &mut Typed) {
        self.way.clear();
        let window = self.acked + WINDOW - self.received();
        typed.resumed(self.received(), window).unwrap();
    }
}

proptest! {
    /// Over any sequence of breaks, a session that is taken up again is given each byte once
    /// and in order; where one is begun anew, none is given twice, and no fewer are told to be
    /// in doubt or dropped than are missing.
    #[test]
    fn bytes_are_sent_once_and_in_order(steps in proptest::collection::vec(step(), 1..200)) {
        let mut typed = Typed::new(0, WINDOW);
        let mut agent = Agent::default();
        // Each byte is another one.
        let mut numbers = 0..=u8::MAX;
        let mut told = 0usize;
        for step in steps {
            match step {
                Step::Type(many) => {
                    let bytes: Vec<_> = numbers.by_ref().take(many.into()).collect();
                    if !bytes.is_empty() {
                        typed.push(bytes.into());
                    }
                }
                Step::Send => agent.way.extend(typed.next()),
                Step::Arrive(messages) => agent.arrive(messages),
                Step::Ack(bytes) => agent.ack(bytes, &mut typed),
                Step::Resume => agent.resume(&mut typed),
                Step::Anew => {
                    agent.way.clear();
                    agent.base = agent.guest.len();
                    agent.acked = 0;
                    let lost = typed.anew(0, WINDOW);
                    told += lost.in_doubt + lost.unsent;
                }
            }
        }
        agent.resume(&mut typed);
        while !typed.delivered() {
            agent.way.extend(typed.next());
            agent.arrive(1);
            agent.ack(WINDOW, &mut typed);
        }
        let typed = u8::MAX as usize + 1 - numbers.count();
        let guest = agent.guest;
        prop_assert!(guest.windows(2).all(|pair| pair[0] < pair[1]), "{guest:?}");
        prop_assert!(guest.len() + told >= typed, "{} of {typed}, {told} told", guest.len());
        prop_assert!(told > 0 || guest.len() == typed);
    }
}
