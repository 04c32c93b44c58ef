//! Bytes a second through a console in one process: from a guest's write to one, ten and a
//! hundred viewers' frames, first through ring and cursors alone, then through the console
//! with its lock and its wake-ups. No socket, no TLS, no gRPC.
//!
//! The rate is of bytes delivered: so many viewers, so many times the guest's.
#![allow(missing_docs, reason = "criterion's macro makes a function without")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench ends by panicking"
)]
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use tokio::sync::watch;
use vmconsole_agent::config::{Capture, CaptureMode};
use vmconsole_agent::console::{
    ConsoleMetrics, Item, JoinRequest, MAX_FRAME, Participant, Registry, RegistryConfig, Viewer,
};
use vmconsole_agent::core::id::{Alias, ConsoleId, PeerIdentity, SessionId, VmUuid};
use vmconsole_agent::core::output::{Next, OutputLog, Start};
use vmconsole_agent::core::position::Generation;
use vmconsole_agent::core::stamps::Stamp;
use vmconsole_agent::core::window::Room;
use vmconsole_agent::endpoint::{
    Attachment, Claim, Direct, Endpoint, EndpointError, OutputSink, Source,
};
use vmconsole_agent::hypervisor::{
    ConsoleDevice, ConsoleKind, Hypervisor, Instance, Inventory, Vm, VmState,
};
use vmconsole_agent::metrics::Metrics;
use vmconsole_agent::shutdown::Tasks;

const RING: usize = 1024 * 1024;

/// How many read at once.
const VIEWERS: [usize; 3] = [1, 10, 100];

/// What an endpoint reads at once: as much as it can, and what a busy shell writes.
const READS: [usize; 2] = [MAX_FRAME, 4096];

const ROUNDS: usize = 5;

/// How long a round takes at least.
const ROUND: Duration = Duration::from_millis(200);

fn main() {
    println!("GiB/s delivered              ring and cursors    console and viewers");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for read in READS {
        for viewers in VIEWERS {
            let ring = ring_and_cursors(read, viewers);
            let console = console_and_viewers(&runtime, read, viewers);
            println!("reads of {read:>5}, {viewers:>3} viewers {ring:>15.2} {console:>22.2}");
        }
    }
}

/// The median rate of `step`, which tells how many bytes it delivered, in GiB/s.
fn rate(mut step: impl FnMut() -> usize) -> f64 {
    let mut rates: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let (begun, mut bytes) = (Instant::now(), 0);
            while begun.elapsed() < ROUND {
                bytes += step();
            }
            bytes as f64 / begun.elapsed().as_secs_f64() / f64::from(1 << 30)
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    rates[ROUNDS / 2]
}

fn ring_and_cursors(read: usize, viewers: usize) -> f64 {
    let generation = Generation::new(NonZeroU64::MIN);
    let mut output = OutputLog::new(RING, generation);
    let mut cursors: Vec<_> = (0..viewers).map(|_| output.open(Start::Live)).collect();
    let bytes = vec![b'x'; read];
    rate(|| {
        output.append(&bytes, Stamp(1));
        for cursor in &mut cursors {
            let Next::Output { bytes, .. } = output.next(cursor, MAX_FRAME, 0) else {
                panic!("there is output");
            };
            assert_eq!(bytes.len(), read);
        }
        read * viewers
    })
}

fn console_and_viewers(runtime: &tokio::runtime::Runtime, read: usize, viewers: usize) -> f64 {
    let tasks = Tasks::new();
    let (sink, mut seated) = runtime.block_on(attached(&tasks, viewers));
    let bytes = vec![b'x'; read];
    let rate = rate(|| {
        sink.output(&bytes);
        // Small reads are gathered: not each of them is shown.
        seated.iter_mut().map(take).sum()
    });
    tasks.close();
    rate
}

/// Polls until there is nothing, and tells how many bytes came.
fn take(viewer: &mut Viewer) -> usize {
    let mut taken = 0;
    while let Some(item) = viewer.poll(Room::ALL) {
        match item {
            Item::Output(Next::Output { bytes, .. }) => taken += bytes.len(),
            Item::Output(Next::Gap(gap)) => panic!("it reads all the time: {gap:?}"),
            _ => {}
        }
    }
    taken
}

/// A console whose guest is the bench, with its viewers.
async fn attached(tasks: &Tasks, viewers: usize) -> (Arc<dyn OutputSink>, Vec<Viewer>) {
    let guest = Arc::new(Guest::default());
    let metrics = Metrics::new().unwrap();
    let config = RegistryConfig {
        ring_bytes: RING,
        max_viewers: viewers,
        capture: Capture {
            mode: CaptureMode::Always,
            linger: Duration::ZERO,
            budget_bytes: 1 << 30,
            rules: Vec::new(),
        },
    };
    let metrics = ConsoleMetrics::register(metrics.registry()).unwrap();
    let registry = Registry::new(guest.clone(), config, metrics, tasks.clone());
    let mut directory = registry.directory();
    tasks.spawn("registry", registry.run(tasks.token()));
    directory
        .wait_for(|directory| directory.synced)
        .await
        .unwrap();
    let console = directory.borrow().console(&console_id()).cloned().unwrap();
    let mut sinks = guest.sink.subscribe();
    let sink = sinks
        .wait_for(Option::is_some)
        .await
        .unwrap()
        .clone()
        .unwrap();
    let join = |_| {
        let participant = Participant {
            session: SessionId::random(),
            proxy: PeerIdentity::new("spiffe://test/proxy"),
            since: SystemTime::now(),
            away: None,
        };
        let request = JoinRequest {
            participant,
            start: Start::Live,
            claim: None,
            takeover_reason: String::new(),
            view_otherwise: false,
            wait_for_start: false,
            end_when_stopped: false,
            alone: None,
        };
        console.join(request).unwrap()
    };
    (sink, (0..viewers).map(join).collect())
}

fn console_id() -> ConsoleId {
    ConsoleId {
        vm: vm_uuid(),
        alias: Alias::new("serial0").unwrap(),
    }
}

fn vm_uuid() -> VmUuid {
    "00000000-0000-4000-8000-000000000000".parse().unwrap()
}

/// One VM, whose console's output the bench writes itself.
#[derive(Default)]
struct Guest {
    sink: watch::Sender<Option<Arc<dyn OutputSink>>>,
    inventory: Mutex<Option<watch::Sender<Arc<Inventory>>>>,
}

impl Hypervisor for Guest {
    fn inventory(&self) -> watch::Receiver<Arc<Inventory>> {
        let vm = Vm {
            uuid: vm_uuid(),
            name: "guest".into(),
            state: VmState::Running,
            instance: Some(Instance(1)),
            last_reset: None,
            consoles: vec![ConsoleDevice {
                alias: console_id().alias,
                kind: ConsoleKind::Serial,
                source: Source::Direct(Direct::Unix("/nowhere".into())),
                backend: "unix".to_owned(),
            }],
        };
        let inventory = Inventory {
            connected: true,
            synced: true,
            vms: BTreeMap::from([(vm.uuid, Arc::new(vm))]),
            ..Inventory::default()
        };
        let (sender, receiver) = watch::channel(Arc::new(inventory));
        *self.inventory.lock() = Some(sender);
        receiver
    }

    fn endpoint(&self, _: &ConsoleId) -> Arc<dyn Endpoint> {
        Arc::new(Port(self.sink.clone()))
    }
}

struct Port(watch::Sender<Option<Arc<dyn OutputSink>>>);

#[async_trait::async_trait]
impl Endpoint for Port {
    async fn attach(
        &self,
        sink: Arc<dyn OutputSink>,
        _claim: Claim,
    ) -> Result<Box<dyn Attachment>, EndpointError> {
        self.0.send_replace(Some(sink));
        Ok(Box::new(Held))
    }
}

struct Held;

#[async_trait::async_trait]
impl Attachment for Held {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, EndpointError> {
        Ok(bytes.len())
    }

    async fn detach(self: Box<Self>) {}
}
