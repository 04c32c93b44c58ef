//! What becomes of each byte that is typed, whatever happens meanwhile: the real console and
//! pump, on a line that takes bytes late, in part, or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::console::scripted::SlowLine;
use crate::core::lease::Epoch;

/// The most bytes that one of the two sessions types, so that a byte tells whose it is, and
/// which.
const MOST: usize = 128;

#[derive(Clone, Copy, Debug)]
enum Step {
    Type(usize, usize),
    /// Types under an epoch that is over, or never was.
    TypeStale(usize),
    /// The line begins to send what waits.
    Begin,
    /// So many bytes of that are taken.
    Finish(usize),
    /// The line breaks, and so many more get through.
    Break(usize),
    TakeOver(usize),
    Release(usize),
    Resume(usize),
    /// The VM is stopped, and another QEMU started.
    Restart,
    /// The pump has so many turns.
    Turns(usize),
    /// Time passes.
    Sleep,
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..2_usize;
    prop_oneof![
        4 => (who.clone(), 1..12_usize).prop_map(|(who, count)| Step::Type(who, count)),
        1 => who.clone().prop_map(Step::TypeStale),
        4 => Just(Step::Begin),
        4 => (0..12_usize).prop_map(Step::Finish),
        1 => (0..12_usize).prop_map(Step::Break),
        1 => who.clone().prop_map(Step::TakeOver),
        1 => who.clone().prop_map(Step::Release),
        1 => who.prop_map(Step::Resume),
        1 => Just(Step::Restart),
        8 => (1..6_usize).prop_map(Step::Turns),
        1 => Just(Step::Sleep),
    ]
}

struct Typist {
    who: usize,
    request: JoinRequest,
    viewer: Viewer,
    stream: StreamId,
    typed: usize,
    /// Under which epoch each byte was typed.
    epochs: Vec<Epoch>,
    done: u64,
    /// What was refused, and why.
    refused: BTreeMap<u64, Reason>,
}

impl Typist {
    fn byte(&self, offset: usize) -> u8 {
        (self.who * MOST + offset) as u8
    }

    fn type_in(&mut self, console: &Console, count: usize, epoch: Epoch) {
        let end = (self.typed + count).min(MOST);
        let bytes: Vec<u8> = (self.typed..end).map(|at| self.byte(at)).collect();
        let offset = self.typed as u64;
        console
            .input(self.stream, offset, epoch, &bytes)
            .expect("by the rules");
        self.epochs.resize(end, epoch);
        self.typed = end;
    }

    fn hear(&mut self) {
        // The answer to input may wait for output to go with it, unless there is no room for any.
        while let Some(item) = self
            .viewer
            .poll(Room::ALL)
            .or_else(|| self.viewer.poll(Room::NONE))
        {
            match item {
                Item::InputDone(done) => {
                    assert!(done >= self.done, "it goes back");
                    self.done = done;
                }
                Item::InputRefused(Refused { from, to, reason }) => {
                    for offset in from..to {
                        let before = *self.refused.entry(offset).or_insert(reason);
                        assert_eq!(before, reason, "told otherwise before");
                    }
                }
                _ => {}
            }
        }
    }

    fn resume(&mut self, console: &Arc<Console>) {
        self.stream.number += 1;
        console.fence(self.stream);
        let rejoined = console.rejoin(&RejoinRequest {
            stream: self.stream,
            start: Start::Live,
            claim: Some(Claim::IfFree),
            end_when_stopped: false,
        });
        let rejoined = rejoined.expect("it is there");
        assert_eq!(rejoined.next_input, self.typed as u64);
        self.viewer = rejoined.viewer;
    }

    /// Each of its bytes was written once or refused once, and is said to be; where nobody could
    /// know, either.
    fn check(&self, sent: &[u8]) {
        for offset in 0..self.typed {
            let byte = self.byte(offset);
            let at: Vec<usize> = (0..sent.len()).filter(|at| sent[*at] == byte).collect();
            let offset = offset as u64;
            match self.refused.get(&offset) {
                None if offset < self.done => assert_eq!(at.len(), 1, "{offset} acknowledged"),
                None | Some(Reason::EndpointLost) => assert!(at.len() <= 1, "{offset} twice"),
                Some(reason) => assert!(at.is_empty(), "{offset} refused: {reason:?}"),
            }
        }
    }
}

struct Model {
    host: Host,
    line: Arc<SlowLine>,
    console: Arc<Console>,
    typists: [Typist; 2],
    instance: u64,
}

impl Model {
    async fn start() -> Self {
        let mut host = Host::start(Some(1), 1024);
        let line = Arc::new(SlowLine::default());
        *host.script.slow.lock() = Some(line.clone());
        let console = host.console().await;
        host.script.attached().await;
        let join = |who, claim| {
            let request = request(claim);
            let viewer = console.join(request.clone()).expect("joins");
            Typist {
                who,
                stream: StreamId::first(request.participant.session),
                request,
                viewer,
                typed: 0,
                epochs: Vec::new(),
                done: 0,
                refused: BTreeMap::new(),
            }
        };
        let typists = [join(0, Some(Claim::IfFree)), join(1, None)];
        Self {
            host,
            line,
            console,
            typists,
            instance: 1,
        }
    }

    async fn step(&mut self, step: Step) {
        let console = &self.console;
        match step {
            Step::Type(who, count) => {
                let typist = &mut self.typists[who];
                let epoch = typist.viewer.writer().epoch;
                typist.type_in(console, count, epoch);
            }
            Step::TypeStale(who) => self.typists[who].type_in(console, 1, Epoch(0)),
            Step::Begin => self.line.begin(),
            Step::Finish(count) => self.line.finish(count),
            Step::Break(count) => {
                self.line.break_down(count);
                let sink = self.host.script.sink.lock().clone().expect("attached once");
                sink.ended(EndpointEnd::Lost("it broke".to_owned()));
            }
            Step::TakeOver(who) => {
                let typist = &self.typists[who];
                console.request_writer(typist.stream, Claim::Takeover, "it is mine");
            }
            Step::Release(who) => {
                console.release(self.typists[who].stream, Reason::ClientDetached);
            }
            Step::Resume(who) => self.typists[who].resume(&self.console),
            Step::Restart => {
                self.instance += 1;
                self.host.inventory.send_replace(inventory([vm(None)]));
                self.turns(20).await;
                let vm = vm(Some(self.instance));
                self.host.inventory.send_replace(inventory([vm]));
            }
            Step::Turns(count) => self.turns(count).await,
            Step::Sleep => tokio::time::sleep(Duration::from_secs(10)).await,
        }
        self.hear();
    }

    async fn turns(&self, count: usize) {
        for _ in 0..count {
            tokio::task::yield_now().await;
        }
    }

    fn hear(&mut self) {
        let sent = self.line.sent();
        for typist in &mut self.typists {
            typist.hear();
            typist.check(&sent);
        }
    }

    /// Has the line take all that is left.
    async fn finish(&mut self) {
        for _ in 0..50 {
            tokio::time::sleep(Duration::from_secs(10)).await;
            self.line.begin();
            self.line.finish(MOST);
        }
        self.hear();
        for typist in &self.typists {
            assert_eq!(typist.done, typist.typed as u64, "all is accounted for");
        }
        // In the order in which it was accepted.
        let (sent, mut last) = (self.line.sent(), (Epoch(0), [0; 2]));
        for byte in sent {
            let (who, offset) = (usize::from(byte) / MOST, usize::from(byte) % MOST);
            let epoch = self.typists[who].epochs[offset];
            assert!(epoch >= last.0, "a former writer's after a later one's");
            assert!(offset >= last.1[who], "out of order");
            last.0 = epoch;
            last.1[who] = offset + 1;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn every_byte_is_written_once_or_refused_once_or_told_to_be_in_doubt(
        steps in prop::collection::vec(step(), 1..120)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut model = Model::start().await;
            for step in steps {
                model.step(step).await;
            }
            model.finish().await;
        });
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_on_its_way_when_the_writer_changes_is_neither_refused_nor_overtaken() {
    let mut model = Model::start().await;
    for step in [
        Step::Type(0, 3),
        Step::Turns(5),
        Step::Begin,
        Step::Type(0, 2),
        Step::TakeOver(1),
        Step::Turns(5),
    ] {
        model.step(step).await;
    }
    let first = &model.typists[0];
    assert_eq!(first.refused.keys().copied().collect::<Vec<_>>(), [3, 4]);
    assert_eq!(first.done, 0, "nobody knows yet");
    for step in [
        Step::Type(1, 1),
        Step::Turns(5),
        Step::Finish(2),
        Step::Turns(5),
        Step::Begin,
        Step::Finish(1),
        Step::Turns(5),
    ] {
        model.step(step).await;
    }
    assert_eq!(model.line.sent(), [0, 1, MOST as u8]);
    let first = &model.typists[0];
    assert_eq!(first.done, 5);
    assert_eq!(first.refused.keys().copied().collect::<Vec<_>>(), [2, 3, 4]);
    assert!(first.refused.values().all(|why| *why == Reason::TakenOver));
    assert_eq!(model.typists[1].request.takeover_reason, "it is mine");
}

#[tokio::test(start_paused = true)]
async fn a_line_that_breaks_leaves_in_doubt_what_was_on_its_way_alone() {
    let mut model = Model::start().await;
    for step in [
        Step::Type(0, 4),
        Step::Turns(5),
        Step::Begin,
        Step::Type(0, 3),
        Step::Break(2),
        Step::Turns(5),
    ] {
        model.step(step).await;
    }
    let doubtful: Vec<u64> = model.typists[0].refused.keys().copied().collect();
    assert_eq!(doubtful, [0, 1, 2, 3]);
    assert_eq!(model.typists[0].done, 4);
    model.finish().await;
    assert_eq!(model.line.sent(), [0, 1, 4, 5, 6]);
}
