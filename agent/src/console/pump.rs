//! Drives one console: attaches its endpoint whenever it is wanted and there is a QEMU to
//! attach to, writes what the writer types, and tries again when something breaks.
//!
//! Draining is not done here: the endpoint appends to the output log from wherever it
//! reads. So nothing that this task waits for can hold up a guest.

mod attend;
mod input;
mod news;
mod pauses;
mod send_break;
mod sink;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::attend::unwanted;
use self::input::InputLine;
use self::news::{Moved, Place};
use self::pauses::Pauses;
use self::sink::Sink;
use super::live::Console;
use super::state::{Availability, Target};
use crate::clock::at;
use crate::endpoint::{Attachment, Endpoint, EndpointEnd, EndpointError, Source};
use crate::hypervisor::{Hypervisor, Instance};

/// How long an attachment has to last for the next pause to be the first again.
const STEADY: Duration = Duration::from_secs(5);

/// How long one attempt to attach may take. Endpoints have limits of their own, which say more:
/// libvirt's may be set to a minute.
const ATTACH_WITHIN: Duration = Duration::from_secs(75);

/// How long a QEMU that is gone may take to be read to its end.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How long it may take to find out who holds a console.
const HOLDER_TIMEOUT: Duration = Duration::from_secs(1);

/// After so many tries at a console that stays held it is found out again by whom, and until
/// then only if it is not known: that may mean a look at every process of the host.
const HOLDER_EVERY: u32 = 10;

/// Why an attached console is let go.
enum LetGo {
    /// The pump is to stop.
    Cancelled,
    /// The endpoint ended by itself.
    Ended(EndpointEnd),
    /// It is not the console's place any more.
    Moved(Moved),
    /// Nobody wants it any more.
    Unwanted,
}

/// Drives `console` until `token` is cancelled, and then lets its endpoint go.
pub(super) async fn run(
    console: Arc<Console>,
    endpoint: Arc<dyn Endpoint>,
    hypervisor: Arc<dyn Hypervisor>,
    target: watch::Receiver<Target>,
    token: CancellationToken,
) {
    let mut pump = Pump {
        console: console.clone(),
        endpoint: endpoint.clone(),
        hypervisor,
        target,
        pauses: Pauses::new(),
        tries_held: 0,
        failed: None,
        given_up: None,
    };
    tokio::select! {
        () = pump.drive(&token) => {}
        () = show_gathered(&console) => {}
        () = console.linger() => {}
        () = find_holder(&console, endpoint.as_ref()) => {}
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

/// Finds out who holds the console, each time that it is asked for, while the pump tries on.
/// Never returns.
async fn find_holder(console: &Console, endpoint: &dyn Endpoint) {
    loop {
        console.held.notified().await;
        let holder = timeout(HOLDER_TIMEOUT, endpoint.holder()).await;
        console.set_holder(holder.unwrap_or_default());
    }
}

struct Pump {
    console: Arc<Console>,
    endpoint: Arc<dyn Endpoint>,
    hypervisor: Arc<dyn Hypervisor>,
    target: watch::Receiver<Target>,
    pauses: Pauses,
    /// Tries since somebody else was first found to hold the console.
    tries_held: u32,
    /// Where the last try, or attachment, came to a bad end, if it did, and nothing was heard
    /// since that may have mended it.
    failed: Option<Place>,
    /// Where the last try was given up, if it was.
    given_up: Option<Place>,
}

impl Pump {
    async fn drive(&mut self, token: &CancellationToken) {
        while !token.is_cancelled() {
            let target = self.target.borrow_and_update().clone();
            self.console.set_target(&target);
            let wanted = self.console.keep_or_forget();
            let wait = match self.find_instance(&target) {
                Some(instance) => {
                    let source = target.device.source;
                    self.attend(Place { instance, source }, wanted, token).await
                }
                None => {
                    self.failed = None;
                    None
                }
            };
            let next_try = wait.map(|wait| (Instant::now() + wait).into_std());
            tokio::select! {
                biased; // to stop comes before everything
                () = token.cancelled() => return,
                changed = self.target.changed() => {
                    if changed.is_err() { return }
                    self.pauses.start_anew();
                }
                () = self.console.wanted_changed.notified() => {}
                () = self.console.displace_asked.notified() => {}
                () = at(next_try) => {}
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
    async fn serve(&mut self, place: &Place, token: &CancellationToken) -> Option<Duration> {
        let (attachment, claim) = self.console.enter(place.instance);
        let (sink, ended) = Sink::new(self.console.clone(), attachment);
        let attached = tokio::select! {
            biased; // to stop comes before everything
            () = token.cancelled() => return None,
            // Of a copy: the news are seen again by whoever waits for them next.
            () = news::overtaken(&self.console, self.target.clone(), place) => {
                self.console.displacing_ended();
                return None;
            }
            () = unwanted(&self.console) => {
                self.console.displacing_ended();
                self.given_up = Some(place.clone());
                return Some(Duration::ZERO);
            }
            attached = timeout(ATTACH_WITHIN, self.endpoint.attach(sink, claim)) => attached,
        };
        let attached = attached.unwrap_or_else(|_| {
            let detail = format!("it was not attached within {ATTACH_WITHIN:?}");
            Err(EndpointError::Unreachable(detail))
        });
        match attached {
            Ok(attachment) => {
                info!(console = %self.console.id(), ?claim, "attached");
                self.console.attached();
                self.failed = None;
                self.attached(place, attachment, ended, token).await
            }
            Err(error) => {
                let pause = self.refused(&error);
                self.console.displacing_ended();
                Some(pause)
            }
        }
    }

    async fn attached(
        &mut self,
        place: &Place,
        mut attachment: Box<dyn Attachment>,
        mut ended: oneshot::Receiver<EndpointEnd>,
        token: &CancellationToken,
    ) -> Option<Duration> {
        let since = Instant::now();
        let let_go = {
            let line = InputLine::new(&self.console, attachment.as_mut());
            let carry = carry(line, self.hypervisor.as_ref());
            tokio::pin!(carry);
            loop {
                tokio::select! {
                    biased; // to stop comes first, and an end before more is written
                    () = token.cancelled() => break LetGo::Cancelled,
                    end = &mut ended => break LetGo::Ended(end.unwrap_or_else(|_| silent())),
                    moved = news::of_attached(&self.console, &mut self.target, place) => {
                        if let Some(moved) = moved { break LetGo::Moved(moved) }
                    }
                    () = unwanted(&self.console) => break LetGo::Unwanted,
                    error = &mut carry => {
                        break LetGo::Ended(EndpointEnd::Lost(error.to_string()));
                    }
                }
            }
        };
        let end = match &let_go {
            LetGo::Cancelled | LetGo::Unwanted | LetGo::Moved(Moved::OtherSource) => None,
            LetGo::Ended(end) => Some(end.clone()),
            // The news of a QEMU's end may overtake its last words.
            LetGo::Moved(Moved::OtherInstance) => {
                timeout(LAST_WORDS, ended).await.ok().and_then(Result::ok)
            }
        };
        if end == Some(EndpointEnd::Eof) {
            self.console.output_complete();
        }
        attachment.detach().await;
        self.console.detached();
        if since.elapsed() >= STEADY {
            self.pauses.start_anew();
        }
        self.let_go(&let_go)
    }

    fn let_go(&mut self, why: &LetGo) -> Option<Duration> {
        let id = self.console.id();
        let (availability, detail) = match why {
            LetGo::Cancelled => return None,
            LetGo::Unwanted => {
                info!(console = %id, "let go: nobody views it");
                return Some(Duration::ZERO);
            }
            LetGo::Moved(moved) => {
                let detail = match moved {
                    Moved::OtherInstance => "the VM's QEMU is another one, or gone",
                    Moved::OtherSource => "the console is another device of the VM now",
                };
                self.console
                    .set_availability(Availability::Waiting, detail, None);
                return Some(Duration::ZERO);
            }
            LetGo::Ended(EndpointEnd::Eof | EndpointEnd::HungUp) => (
                Availability::Waiting,
                "QEMU closed the console: the VM is stopping".to_owned(),
            ),
            LetGo::Ended(EndpointEnd::Displaced) => (
                Availability::HeldByOther,
                "another process took the console; it is taken up again when it is free".to_owned(),
            ),
            LetGo::Ended(EndpointEnd::Lost(how)) => (Availability::Lost, how.clone()),
        };
        info!(console = %id, detail, "let go");
        Some(self.pause(availability, &detail))
    }

    fn refused(&mut self, error: &EndpointError) -> Duration {
        let availability = Availability::after(error);
        self.console.metrics.attach_failed(error);
        let known = self.console.availability() == availability;
        if known || availability == Availability::Waiting {
            debug!(console = %self.console.id(), %error, "not attached");
        } else {
            warn!(console = %self.console.id(), %error, "not attached");
        }
        self.pause(availability, &error.to_string())
    }

    /// Tells the state, and how long to wait before the next try.
    fn pause(&mut self, availability: Availability, detail: &str) -> Duration {
        let held = availability == Availability::HeldByOther;
        let newly = held && self.console.availability() != availability;
        self.tries_held = if newly {
            0
        } else {
            self.tries_held.wrapping_add(1)
        };
        let pause = self.pauses.next(availability);
        let next_try = Some(SystemTime::now() + pause);
        self.console
            .set_availability(availability, detail, next_try);
        let unknown = || self.console.status().state.holder.is_none();
        if held
            && (self.tries_held.is_multiple_of(HOLDER_EVERY)
                || self.tries_held < HOLDER_EVERY && unknown())
        {
            self.console.held.notify_one();
        }
        pause
    }
}

/// Writes what the writer types, and the breaks that are asked for, until the endpoint fails.
async fn carry(mut line: InputLine<'_>, hypervisor: &dyn Hypervisor) -> EndpointError {
    let console = line.console;
    loop {
        let carried = tokio::select! {
            biased; // a break does not wait for a guest that takes no input
            () = console.break_asked.notified() => line.send_breaks(hypervisor).await,
            written = line.write_next() => written,
        };
        if let Err(error) = carried {
            return error;
        }
    }
}

/// How an attachment ended that did not say so.
fn silent() -> EndpointEnd {
    let detail =
        "the console's reader ended without a word, a fault in the agent; its log says more";
    EndpointEnd::Lost(detail.to_owned())
}
