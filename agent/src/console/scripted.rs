//! A host with one VM whose endpoint does what a test tells it to: break, refuse, stall. A
//! real one does none of that on demand.

mod slow;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::timeout;
use uuid::Uuid;

pub(crate) use slow::SlowLine;

use super::{ChangeBook, Console, ConsoleMetrics, Directory, Registry, RegistryConfig};
use crate::config::{Capture, CaptureMode};
use crate::core::id::{Alias, ConsoleId, VmUuid};
use crate::endpoint::{
    Abandoned, Attachment, Claim, Direct, DisplayHandle, DisplaySource, Endpoint, EndpointEnd,
    EndpointError, Holder, OutputSink, Reach, Source,
};
use crate::hypervisor::{
    ConsoleDevice, ConsoleKind, EffectError, Hypervisor, Instance, Inventory, Vm, VmState,
};
use crate::metrics::Metrics;
use crate::shutdown::Tasks;

/// Far more than anything takes; time is paused anyway.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

/// How long a console on demand is held after its last viewer.
pub(crate) const LINGER: Duration = Duration::from_secs(300);

/// What one does that may be done at once, or not at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Does {
    It,
    #[default]
    NotAtAll,
    /// Never comes to an end.
    Hang,
}

#[derive(Default)]
pub(crate) struct Script {
    /// What the next attempts to attach meet; then they succeed.
    pub(crate) refusals: Mutex<VecDeque<EndpointError>>,
    /// Whether attempts to attach come to no end.
    pub(crate) hangs: AtomicBool,
    /// How long they take.
    pub(crate) takes: Mutex<Duration>,
    /// Who else holds the console.
    pub(crate) held_by: Mutex<Option<Holder>>,
    /// How they meet being displaced.
    pub(crate) yields: Mutex<Does>,
    /// Whether it can be found out who they are.
    pub(crate) finds_holder: Mutex<Does>,
    /// Every attempt to attach.
    pub(crate) claims: Mutex<Vec<Claim>>,
    pub(crate) sink: Mutex<Option<Arc<dyn OutputSink>>>,
    pub(crate) attached: Notify,
    pub(crate) written: Mutex<Vec<u8>>,
    /// Takes input instead, if it is there.
    pub(crate) slow: Mutex<Option<Arc<SlowLine>>>,
    /// How much of that QEMU has not read, if that can be seen.
    pub(crate) unread: Mutex<Option<usize>>,
    /// How often somebody looked.
    pub(crate) looks: AtomicUsize,
    /// Whether the endpoint, and the monitor, put breaks on the line.
    pub(crate) line_breaks: Mutex<Does>,
    pub(crate) monitor_breaks: Mutex<Does>,
    /// Whether a break that was given up is on its way in part.
    pub(crate) breaking: AtomicBool,
    /// How much was written before each break.
    pub(crate) breaks: Mutex<Vec<usize>>,
    /// Attachments that were let go.
    pub(crate) let_go: AtomicUsize,
}

impl Script {
    fn put_break(&self) {
        let written = self.written.lock().len();
        self.breaks.lock().push(written);
    }

    /// Somebody takes the console by force.
    pub(crate) fn displace(&self, by: &Holder) {
        *self.held_by.lock() = Some(by.clone());
        let sink = self.sink.lock().clone().expect("attached");
        sink.ended(EndpointEnd::Displaced);
    }

    pub(crate) async fn attached(&self) -> Arc<dyn OutputSink> {
        timeout(BOUND, self.attached.notified())
            .await
            .expect("attached in time");
        self.sink.lock().clone().expect("attached")
    }
}

struct Scripted {
    script: Arc<Script>,
    /// Bytes that the guest is willing to read.
    appetite: Arc<Semaphore>,
}

#[async_trait::async_trait]
impl Endpoint for Scripted {
    async fn attach(
        &self,
        sink: Arc<dyn OutputSink>,
        claim: Claim,
    ) -> Result<Box<dyn Attachment>, EndpointError> {
        self.script.claims.lock().push(claim);
        if self.script.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        let takes = *self.script.takes.lock();
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        self.meet_holder(claim).await?;
        if let Some(refusal) = self.script.refusals.lock().pop_front() {
            return Err(refusal);
        }
        *self.script.sink.lock() = Some(sink);
        self.script.attached.notify_one();
        let slow = self.script.slow.lock().clone();
        slow.iter().for_each(|line| line.renew());
        Ok(Box::new(ScriptedAttachment {
            slow,
            script: self.script.clone(),
            appetite: self.appetite.clone(),
        }))
    }

    async fn holder(&self) -> Option<Holder> {
        let finds = *self.script.finds_holder.lock();
        match finds {
            Does::It => self.script.held_by.lock().clone(),
            Does::NotAtAll => None,
            Does::Hang => std::future::pending().await,
        }
    }
}

impl Scripted {
    async fn meet_holder(&self, claim: Claim) -> Result<(), EndpointError> {
        if self.script.held_by.lock().is_none() {
            return Ok(());
        }
        let yields = *self.script.yields.lock();
        match (claim, yields) {
            (Claim::Displace, Does::It) => {
                *self.script.held_by.lock() = None;
                Ok(())
            }
            (Claim::Displace, Does::Hang) => std::future::pending().await,
            _ => Err(EndpointError::HeldByOther("it is in use".to_owned())),
        }
    }
}

struct ScriptedAttachment {
    script: Arc<Script>,
    slow: Option<Arc<SlowLine>>,
    appetite: Arc<Semaphore>,
}

#[async_trait::async_trait]
impl Attachment for ScriptedAttachment {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, EndpointError> {
        if let Some(slow) = &self.slow {
            return slow.write(bytes).await;
        }
        self.appetite.acquire().await.expect("open").forget();
        let more = self.appetite.available_permits().min(bytes.len() - 1);
        self.appetite.forget_permits(more);
        self.script
            .written
            .lock()
            .extend_from_slice(&bytes[..=more]);
        Ok(more + 1)
    }

    fn abandon(&mut self) -> Abandoned {
        self.slow
            .as_ref()
            .map_or_else(Abandoned::default, |slow| slow.abandon())
    }

    async fn settle(&mut self) -> Result<usize, EndpointError> {
        match &self.slow {
            Some(slow) => slow.settle().await,
            None => Ok(0),
        }
    }

    async fn send_break(&mut self) -> Result<(), EndpointError> {
        let does = *self.script.line_breaks.lock();
        match does {
            Does::It => self.script.put_break(),
            Does::NotAtAll => return Err(EndpointError::Unsupported("no break".to_owned())),
            Does::Hang => std::future::pending().await,
        }
        Ok(())
    }

    fn is_breaking(&self) -> bool {
        self.script.breaking.load(Ordering::Relaxed)
    }

    fn unread(&self) -> Option<usize> {
        self.script.looks.fetch_add(1, Ordering::Relaxed);
        *self.script.unread.lock()
    }

    async fn detach(self: Box<Self>) {
        self.slow.iter().for_each(|line| line.renew());
        self.script.let_go.fetch_add(1, Ordering::Relaxed);
    }
}

pub(crate) struct Host {
    pub(crate) script: Arc<Script>,
    pub(crate) appetite: Arc<Semaphore>,
    pub(crate) inventory: watch::Sender<Arc<Inventory>>,
    pub(crate) directory: watch::Receiver<Arc<Directory>>,
    pub(crate) listed: watch::Receiver<u64>,
    pub(crate) book: Arc<ChangeBook>,
    pub(crate) tasks: Tasks,
    pub(crate) metrics: Metrics,
}

struct OneVm {
    script: Arc<Script>,
    appetite: Arc<Semaphore>,
    inventory: watch::Receiver<Arc<Inventory>>,
}

#[async_trait::async_trait]
impl Hypervisor for OneVm {
    fn inventory(&self) -> watch::Receiver<Arc<Inventory>> {
        self.inventory.clone()
    }

    fn endpoint(&self, _: &ConsoleId) -> Arc<dyn Endpoint> {
        Arc::new(Scripted {
            script: self.script.clone(),
            appetite: self.appetite.clone(),
        })
    }

    async fn send_break(&self, console: &ConsoleId) -> Result<(), EffectError> {
        assert_eq!(*console, id());
        let does = *self.script.monitor_breaks.lock();
        match does {
            Does::It => self.script.put_break(),
            Does::NotAtAll => return Err(EffectError::Unsupported("no monitor".to_owned())),
            Does::Hang => std::future::pending().await,
        }
        Ok(())
    }
}

pub(crate) fn id() -> ConsoleId {
    let vm = VmUuid::new(Uuid::from_u128(1));
    ConsoleId {
        vm,
        alias: Alias::new("serial0").expect("an alias"),
    }
}

pub(crate) fn vm(instance: Option<u64>) -> Vm {
    Vm {
        uuid: id().vm,
        name: "one".into(),
        state: if instance.is_some() {
            VmState::Running
        } else {
            VmState::Off
        },
        instance: instance.map(Instance),
        last_reset: None,
        consoles: vec![ConsoleDevice {
            alias: id().alias,
            kind: ConsoleKind::Serial,
            source: Source::Direct(Direct::Unix("/nowhere".into())),
            backend: "unix".to_owned(),
        }],
    }
}

/// The VM with a display in its console's place.
pub(crate) fn shown(instance: Option<u64>) -> Vm {
    let mut vm = vm(instance);
    for device in &mut vm.consoles {
        device.kind = ConsoleKind::Vnc;
        device.source = Source::Display(DisplaySource {
            number: 0,
            handle: DisplayHandle::Qemu("default".to_owned()),
            socket: None,
            address: None,
            reach: Reach::ALL.to_vec(),
        });
    }
    vm
}

pub(crate) fn inventory(vms: impl IntoIterator<Item = Vm>) -> Arc<Inventory> {
    let vms: BTreeMap<_, _> = vms.into_iter().map(|vm| (vm.uuid, Arc::new(vm))).collect();
    Arc::new(Inventory {
        connected: true,
        synced: true,
        trouble: String::new(),
        vms,
        ..Inventory::default()
    })
}

impl Host {
    /// With a console that is held whenever it can be.
    pub(crate) fn start(instance: Option<u64>, ring_bytes: usize) -> Self {
        Self::capturing(instance, ring_bytes, CaptureMode::Always)
    }

    pub(crate) fn capturing(instance: Option<u64>, ring_bytes: usize, mode: CaptureMode) -> Self {
        Self::of(vm(instance), ring_bytes, mode)
    }

    /// Of this VM, as nobody asked it to be held.
    pub(crate) fn showing(vm: Vm) -> Self {
        Self::of(vm, 1024, CaptureMode::OnDemand)
    }

    fn of(vm: Vm, ring_bytes: usize, mode: CaptureMode) -> Self {
        let (script, appetite) = (Arc::new(Script::default()), Arc::new(Semaphore::new(0)));
        let (sender, receiver) = watch::channel(inventory([vm]));
        let hypervisor = OneVm {
            script: script.clone(),
            appetite: appetite.clone(),
            inventory: receiver,
        };
        let (tasks, metrics) = (Tasks::new(), Metrics::new().expect("metrics"));
        let registry = Registry::new(
            Arc::new(hypervisor),
            RegistryConfig {
                ring_bytes,
                max_viewers: 4,
                capture: Capture {
                    mode,
                    linger: LINGER,
                    budget_bytes: 1 << 20,
                    rules: Vec::new(),
                },
            },
            ConsoleMetrics::register(metrics.registry()).expect("metrics"),
            tasks.clone(),
        );
        let (directory, listed) = (registry.directory(), registry.book().news());
        let book = registry.book();
        tasks.spawn("registry", registry.run(tasks.token()));
        Self {
            script,
            appetite,
            inventory: sender,
            directory,
            listed,
            book,
            tasks,
            metrics,
        }
    }

    pub(crate) async fn console(&mut self) -> Arc<Console> {
        let known = |directory: &Arc<Directory>| directory.console(&id()).is_some();
        let directory = timeout(BOUND, self.directory.wait_for(known)).await;
        directory
            .expect("in time")
            .expect("registry runs")
            .console(&id())
            .expect("known")
            .clone()
    }

    /// Waits until the console is no more.
    pub(crate) async fn gone(&mut self) {
        let gone = |directory: &Arc<Directory>| directory.console(&id()).is_none();
        let directory = timeout(BOUND, self.directory.wait_for(gone)).await;
        drop(directory.expect("in time").expect("registry runs"));
    }

    pub(crate) fn metric(&self, line: &str) -> bool {
        let text = String::from_utf8(self.metrics.render().expect("renders")).expect("UTF-8");
        text.lines().any(|have| have == line)
    }
}
