//! Drives one console: attaches its endpoint whenever there is a QEMU to attach to,
//! writes what the writer types, and tries again when something breaks.
//!
//! Draining is not done here: the endpoint appends to the output log from wherever it
//! reads. So nothing that this task waits for can hold up a guest.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::live::Console;
use super::state::{Availability, Target};
use crate::core::id::SessionId;
use crate::endpoint::{
    Attachment, Claim, Endpoint, EndpointEnd, EndpointError, OutputSink, Source,
};
use crate::hypervisor::Instance;

/// The pause before the first new try after a failure.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause between tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long an attachment has to last for the next pause to be the first again.
const STEADY: Duration = Duration::from_secs(5);

/// How long a QEMU that is gone may take to be read to its end.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The most bytes of input that are handed to an endpoint at once.
const MAX_WRITE: usize = 4096;

/// Takes an attachment's output to its console.
struct Sink {
    console: Arc<Console>,
    attachment: u64,
    ended: Mutex<Option<oneshot::Sender<EndpointEnd>>>,
}

impl OutputSink for Sink {
    fn output(&self, bytes: &[u8]) {
        self.console.output(self.attachment, bytes);
    }

    fn ended(&self, end: EndpointEnd) {
        if let Some(tell) = self.ended.lock().take() {
            // The pump may have let go already.
            let _ = tell.send(end);
        }
    }
}

/// Why an attached console is let go.
enum LetGo {
    /// The pump is to stop.
    Cancelled,
    /// The endpoint ended by itself.
    Ended(EndpointEnd),
    /// The VM's QEMU is another one, or gone.
    OtherInstance,
}

/// Drives `console` until `token` is cancelled, and then lets its endpoint go.
pub(super) async fn run(
    console: Arc<Console>,
    endpoint: Arc<dyn Endpoint>,
    target: watch::Receiver<Target>,
    token: CancellationToken,
) {
    let mut pump = Pump {
        console: console.clone(),
        endpoint,
        target,
        pause: FIRST_PAUSE,
    };
    tokio::select! {
        () = pump.drive(&token) => {}
        () = show_gathered(&console) => {}
    }
}

/// Shows output that was held back, when it is due. Never returns.
async fn show_gathered(console: &Console) {
    loop {
        console.gathering.notified().await;
        while let Some(due) = console.gather_due() {
            tokio::time::sleep_until(due.into()).await;
            console.show_gathered();
        }
    }
}

struct Pump {
    console: Arc<Console>,
    endpoint: Arc<dyn Endpoint>,
    target: watch::Receiver<Target>,
    pause: Duration,
}

impl Pump {
    async fn drive(&mut self, token: &CancellationToken) {
        while !token.is_cancelled() {
            let target = self.target.borrow_and_update().clone();
            self.console.set_target(&target);
            let wait = match self.find_instance(&target) {
                Some(instance) => self.serve(instance, token).await,
                None => None,
            };
            tokio::select! {
                biased; // to stop comes before everything
                () = token.cancelled() => return,
                changed = self.target.changed() => {
                    if changed.is_err() { return }
                    self.pause = FIRST_PAUSE;
                }
                () = sleep(wait) => {}
            }
        }
    }

    /// The QEMU to attach to, or the reason why there is none, told as the state.
    fn find_instance(&self, target: &Target) -> Option<Instance> {
        let set = |availability, detail: &str| {
            self.console.set_availability(availability, detail, None);
        };
        if !target.connected {
            set(Availability::Lost, &target.trouble);
            return None;
        }
        let instance = target.instance.filter(|_| target.vm_state.has_console());
        if instance.is_none() {
            self.console.instance_ended();
        }
        if let Source::Unserved(why) = &target.device.source {
            set(Availability::Unsupported, why);
            return None;
        }
        if instance.is_none() {
            set(Availability::Waiting, "the VM is off");
        }
        instance
    }

    /// Attaches and serves until that ends. Returns how long to wait before the next try.
    async fn serve(&mut self, instance: Instance, token: &CancellationToken) -> Option<Duration> {
        let (tell, ended) = oneshot::channel();
        let attachment = self.console.enter(instance);
        let sink = Sink {
            console: self.console.clone(),
            attachment,
            ended: Mutex::new(Some(tell)),
        };
        let attached = tokio::select! {
            biased; // to stop comes before everything
            () = token.cancelled() => return None,
            attached = self.endpoint.attach(Arc::new(sink), Claim::IfFree) => attached,
        };
        match attached {
            Ok(attachment) => self.attached(instance, attachment, ended, token).await,
            Err(error) => Some(self.refused(&error)),
        }
    }

    async fn attached(
        &mut self,
        instance: Instance,
        mut attachment: Box<dyn Attachment>,
        mut ended: oneshot::Receiver<EndpointEnd>,
        token: &CancellationToken,
    ) -> Option<Duration> {
        info!(console = %self.console.id(), "attached");
        self.console.metrics.attached.inc();
        self.console.attached();
        self.console
            .set_availability(Availability::Attached, "", None);
        let since = Instant::now();
        let let_go = loop {
            tokio::select! {
                biased; // to stop comes first, and an end before more is written
                () = token.cancelled() => break LetGo::Cancelled,
                end = &mut ended => break LetGo::Ended(end.unwrap_or(EndpointEnd::Eof)),
                other = instance_changed(&self.console, &mut self.target, instance) => {
                    if other { break LetGo::OtherInstance }
                }
                error = write_input(&self.console, attachment.as_mut()) => {
                    break LetGo::Ended(EndpointEnd::Lost(error.to_string()));
                }
            }
        };
        let end = match &let_go {
            LetGo::Cancelled => None,
            LetGo::Ended(end) => Some(end.clone()),
            // The news of a QEMU's end may overtake its last words.
            LetGo::OtherInstance => timeout(LAST_WORDS, ended).await.ok().and_then(Result::ok),
        };
        if end == Some(EndpointEnd::Eof) {
            self.console.output_complete();
        }
        attachment.detach().await;
        if since.elapsed() >= STEADY {
            self.pause = FIRST_PAUSE;
        }
        self.let_go(&let_go)
    }

    fn let_go(&mut self, why: &LetGo) -> Option<Duration> {
        let pause = self.next_pause();
        let next_try = Some(SystemTime::now() + pause);
        let id = self.console.id();
        let (availability, detail) = match why {
            LetGo::Cancelled => return None,
            LetGo::OtherInstance => {
                let detail = "the VM's QEMU is another one, or gone";
                self.console
                    .set_availability(Availability::Waiting, detail, None);
                return Some(Duration::ZERO);
            }
            LetGo::Ended(EndpointEnd::Eof) => (
                Availability::Waiting,
                "QEMU closed the console: the VM is stopping".to_owned(),
            ),
            LetGo::Ended(EndpointEnd::Displaced) => (
                Availability::HeldByOther,
                "another client of libvirt took the console".to_owned(),
            ),
            LetGo::Ended(EndpointEnd::Lost(how)) => (Availability::Lost, how.clone()),
        };
        info!(console = %id, detail, "let go");
        self.console
            .set_availability(availability, &detail, next_try);
        Some(pause)
    }

    fn refused(&mut self, error: &EndpointError) -> Duration {
        let pause = self.next_pause();
        let availability = match error {
            EndpointError::NotRunning | EndpointError::NotReady(_) | EndpointError::NotFound(_) => {
                Availability::Waiting
            }
            EndpointError::HeldByOther(_) => Availability::HeldByOther,
            EndpointError::Denied(_) => Availability::Denied,
            EndpointError::Unsupported(_) => Availability::Unsupported,
            EndpointError::Unreachable(_) => Availability::Lost,
        };
        self.console.metrics.attach_failed(error);
        if availability == Availability::Waiting {
            debug!(console = %self.console.id(), %error, "not attached");
        } else {
            warn!(console = %self.console.id(), %error, "not attached");
        }
        let next_try = Some(SystemTime::now() + pause);
        self.console
            .set_availability(availability, &error.to_string(), next_try);
        pause
    }

    /// Twice as long each time, and never twice the same, so that the consoles of a host do
    /// not try all at once.
    fn next_pause(&mut self) -> Duration {
        let pause = self.pause.mul_f64(rand::random_range(0.8..=1.2));
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        pause
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// Waits for news of the VM; tells whether its QEMU is another one now, or known to be gone.
async fn instance_changed(
    console: &Console,
    target: &mut watch::Receiver<Target>,
    instance: Instance,
) -> bool {
    if target.changed().await.is_err() {
        return true;
    }
    let target = target.borrow_and_update().clone();
    console.set_target(&target);
    if target.connected {
        console.set_availability(Availability::Attached, "", None);
        target.instance != Some(instance)
    } else {
        // A hypervisor that hangs says nothing on its streams: nobody knows if this one is
        // alive. One that is gone ends its attachments itself.
        console.set_availability(Availability::Lost, &target.trouble, None);
        false
    }
}

/// Puts back what was being written, unless it was settled.
struct InFlight<'a> {
    console: &'a Console,
    session: SessionId,
}

impl InFlight<'_> {
    fn settle(self, written: usize, lost: bool) {
        self.console.settle_write(self.session, written, lost);
        std::mem::forget(self);
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.console.settle_write(self.session, 0, false);
    }
}

/// Writes what the writer types until the endpoint fails.
///
/// # Cancel safety
/// What was being written and was not taken waits again.
async fn write_input(console: &Console, attachment: &mut dyn Attachment) -> EndpointError {
    loop {
        let Some((session, bytes)) = console.begin_write(MAX_WRITE) else {
            tokio::select! {
                () = console.input_ready.notified() => {}
                () = console.writer_changed.notified() => {}
            }
            continue;
        };
        let in_flight = InFlight { console, session };
        tokio::select! {
            biased; // what a former writer typed is not written once the lease has changed
            () = console.writer_changed.notified() => {}
            written = attachment.write(&bytes) => match written {
                Ok(written) => in_flight.settle(written, false),
                Err(error) => {
                    in_flight.settle(0, true);
                    return error;
                }
            }
        }
    }
}
