//! Side effects: one caller doing one thing to a VM beside typing.
//!
//! ```text
//!  (caller) ─▶ place? ─▶ hypervisor or console ─▶ viewers told ─▶ one line, one count ─▶ (caller)
//!                │ no
//!                ▼
//!          LIMIT_REACHED
//! ```
//! What has begun goes on when its caller leaves: it is announced, logged and counted in any
//! case. What may have been done, as nobody can tell, is announced as done: a word too many is
//! better than an NMI that nobody was told of. A screenshot that was not got is not, nor a break
//! on a console that was not attached.
//!
//! Refuses to resolve names, and to log what was typed: keys may be a password.

mod metrics;
mod places;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tracing::info;

pub use metrics::EffectMetrics;
pub use places::{MAX_EFFECTS, MAX_EFFECTS_PER_VM, MAX_SCREENSHOTS};
use places::{Place, Places};

use crate::console::{Console, Directory, SideEffect, SideEffectKind};
use crate::core::id::{Alias, PeerIdentity, VmUuid};
use crate::core::keys::KeyPress;
use crate::core::reason::Reason;
use crate::hypervisor::{EffectError, Hypervisor};
use crate::picture::{self, Picture, PictureError};
use crate::shutdown::Tasks;

/// How long a side effect may take. Hypervisors have deadlines of their own, which are
/// shorter.
pub const LONGEST: Duration = Duration::from_secs(150);

/// Why a side effect did not happen, or may not have.
#[derive(Debug, thiserror::Error)]
pub enum EffectRefused {
    /// The hypervisor, or the console, did not do it.
    #[error(transparent)]
    Effect(#[from] EffectError),
    /// The VM's hypervisor cannot be asked, and was not.
    #[error("the VM's hypervisor cannot be asked now: {0}")]
    NotConnected(String),
    /// It took longer than [`LONGEST`]. It may still be done.
    #[error("it was not done within {} s, and may still be", LONGEST.as_secs())]
    Late,
    /// As many are under way as may be.
    #[error("{0}: try again in a moment")]
    Limit(&'static str),
    /// What the hypervisor gave is no picture.
    #[error("the hypervisor gave no picture that can be used")]
    Picture(#[from] PictureError),
    /// The agent failed. The log says more.
    #[error("the agent failed (this is a fault in the agent)")]
    Fault,
}

impl EffectRefused {
    /// The reason that goes with it.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Effect(EffectError::NotRunning) => Reason::NotRunning,
            Self::Effect(EffectError::NotFound(_)) => Reason::NotFound,
            Self::Effect(EffectError::Denied(_)) => Reason::Denied,
            Self::Effect(EffectError::Unsupported(_)) => Reason::Unsupported,
            Self::Effect(EffectError::Unreachable(_) | EffectError::NotDone(_))
            | Self::NotConnected(_)
            | Self::Late
            | Self::Picture(_) => Reason::EndpointLost,
            Self::Effect(EffectError::Busy(_)) | Self::Limit(_) => Reason::LimitReached,
            Self::Fault => Reason::Internal,
        }
    }

    /// Whether it may have been done all the same.
    const fn uncertain(&self) -> bool {
        matches!(self, Self::Effect(EffectError::Unreachable(_)) | Self::Late)
    }
}

/// A picture of a screen, with its caller's place among the screenshots: dropping it gives
/// the place to another.
#[derive(Debug)]
pub struct HeldPicture {
    /// The picture.
    pub picture: Picture,
    _place: Place,
}

/// What is done, to what, and for whom.
#[derive(Clone, Debug)]
struct Deed {
    kind: SideEffectKind,
    vm: VmUuid,
    /// The console; `None` for what is done to the whole VM.
    console: Option<Alias>,
    proxy: PeerIdentity,
}

/// Does side effects, a bounded number at a time.
#[derive(Clone)]
pub struct Effects {
    hypervisor: Arc<dyn Hypervisor>,
    directory: watch::Receiver<Arc<Directory>>,
    places: Arc<Places>,
    metrics: EffectMetrics,
    tasks: Tasks,
}

impl std::fmt::Debug for Effects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Effects").finish_non_exhaustive()
    }
}

impl Effects {
    /// Does side effects by `hypervisor`, tells the viewers of the consoles in `directory`,
    /// and is awaited with `tasks`.
    pub fn new(
        hypervisor: Arc<dyn Hypervisor>,
        directory: watch::Receiver<Arc<Directory>>,
        tasks: Tasks,
        metrics: EffectMetrics,
    ) -> Self {
        Self {
            hypervisor,
            directory,
            places: Arc::default(),
            metrics,
            tasks,
        }
    }

    /// Puts a break on a console's line, and types `character` right after it.
    ///
    /// # Errors
    /// See [`EffectRefused`].
    ///
    /// # Cancel safety
    /// If dropped, it goes on.
    pub async fn send_break(
        &self,
        console: &Arc<Console>,
        character: Option<u8>,
        proxy: PeerIdentity,
    ) -> Result<(), EffectRefused> {
        let id = console.id();
        let deed = Deed {
            kind: SideEffectKind::Break,
            vm: id.vm,
            console: Some(id.alias.clone()),
            proxy,
        };
        let place = self.place(&deed)?;
        let console = console.clone();
        self.carry_out(deed, async move {
            let _place = place;
            Ok(console.send_break(character).await?)
        })
        .await
    }

    /// Presses keys of a VM's keyboard.
    ///
    /// # Errors
    /// See [`EffectRefused`].
    ///
    /// # Cancel safety
    /// If dropped, it goes on.
    pub async fn send_keys(
        &self,
        vm: VmUuid,
        keys: KeyPress,
        proxy: PeerIdentity,
    ) -> Result<(), EffectRefused> {
        let (deed, place) = self.to_vm(SideEffectKind::Keys, vm, proxy)?;
        let hypervisor = self.hypervisor.clone();
        self.carry_out(deed, async move {
            let _place = place;
            Ok(hypervisor.send_keys(vm, &keys).await?)
        })
        .await
    }

    /// Sends a VM a non-maskable interrupt.
    ///
    /// # Errors
    /// See [`EffectRefused`].
    ///
    /// # Cancel safety
    /// If dropped, it goes on.
    pub async fn inject_nmi(&self, vm: VmUuid, proxy: PeerIdentity) -> Result<(), EffectRefused> {
        let (deed, place) = self.to_vm(SideEffectKind::Nmi, vm, proxy)?;
        let hypervisor = self.hypervisor.clone();
        self.carry_out(deed, async move {
            let _place = place;
            Ok(hypervisor.inject_nmi(vm).await?)
        })
        .await
    }

    /// Takes a picture of a VM's screen of this number, from 0.
    ///
    /// # Errors
    /// See [`EffectRefused`].
    ///
    /// # Cancel safety
    /// If dropped, it goes on, and the picture is lost.
    pub async fn screenshot(
        &self,
        vm: VmUuid,
        screen: u32,
        proxy: PeerIdentity,
    ) -> Result<HeldPicture, EffectRefused> {
        let (deed, place) = self.to_vm(SideEffectKind::Screenshot, vm, proxy)?;
        let (hypervisor, tasks) = (self.hypervisor.clone(), self.tasks.clone());
        self.carry_out(deed, async move {
            let taken = hypervisor.screenshot(vm, screen).await?;
            // The place goes along, and is not given away while this still computes.
            let held = move || {
                let picture = picture::to_png(taken.0)?;
                Ok(HeldPicture {
                    picture,
                    _place: place,
                })
            };
            let held = tasks.compute("picture", held).await;
            held.unwrap_or(Err(EffectRefused::Fault))
        })
        .await
    }

    /// Counts and logs that a caller was refused before anything was asked of a VM.
    pub fn refused(
        &self,
        kind: SideEffectKind,
        reason: Reason,
        message: &str,
        proxy: &PeerIdentity,
    ) {
        info!(effect = kind.name(), result = %reason, peer.name = %proxy, message, "side effect refused");
        self.metrics.count(kind, Err(reason));
    }

    /// A place for what is done to a whole VM, whose hypervisor can be asked.
    fn to_vm(
        &self,
        kind: SideEffectKind,
        vm: VmUuid,
        proxy: PeerIdentity,
    ) -> Result<(Deed, Place), EffectRefused> {
        let deed = Deed {
            kind,
            vm,
            console: None,
            proxy,
        };
        let trouble = self.hypervisor.inventory().borrow().stale.get(&vm).cloned();
        if let Some(trouble) = trouble {
            return self.fail(&deed, EffectRefused::NotConnected(trouble.to_string()));
        }
        let place = self.place(&deed)?;
        Ok((deed, place))
    }

    fn place(&self, deed: &Deed) -> Result<Place, EffectRefused> {
        let screenshot = deed.kind == SideEffectKind::Screenshot;
        match Places::take(&self.places, deed.vm, screenshot) {
            Ok(place) => Ok(place),
            Err(limit) => self.fail(deed, EffectRefused::Limit(limit)),
        }
    }

    fn fail<T>(&self, deed: &Deed, refused: EffectRefused) -> Result<T, EffectRefused> {
        self.record(deed, Some(&refused));
        Err(refused)
    }

    /// Does it, in a task of its own, so that what has begun is told of in any case.
    async fn carry_out<T: Send + 'static>(
        &self,
        deed: Deed,
        doing: impl Future<Output = Result<T, EffectRefused>> + Send + 'static,
    ) -> Result<T, EffectRefused> {
        let (effects, of_task) = (self.clone(), deed.clone());
        let task = self.tasks.spawn("effect", async move {
            let deed = of_task;
            let done = tokio::time::timeout(LONGEST, doing).await;
            let done = done.unwrap_or(Err(EffectRefused::Late));
            effects.tell(&deed, done.as_ref().err());
            effects.record(&deed, done.as_ref().err());
            done
        });
        match task.await {
            Ok(done) => done,
            Err(_panicked) => self.fail(&deed, EffectRefused::Fault),
        }
    }

    /// Tells the viewers of what was done, or may have been.
    fn tell(&self, deed: &Deed, refused: Option<&EffectRefused>) {
        // A picture that may have been taken was shown to nobody.
        let told_if_uncertain = deed.kind != SideEffectKind::Screenshot;
        let told = refused.is_none_or(|refused| refused.uncertain() && told_if_uncertain);
        if !told {
            return;
        }
        let effect = SideEffect {
            kind: deed.kind,
            proxy: deed.proxy.clone(),
            time: SystemTime::now(),
        };
        let directory = self.directory.borrow().clone();
        let of_vm = directory.consoles().values().filter(|console| {
            let id = console.id();
            id.vm == deed.vm && deed.console.as_ref().is_none_or(|alias| *alias == id.alias)
        });
        for console in of_vm {
            console.announce(effect.clone());
        }
    }

    fn record(&self, deed: &Deed, refused: Option<&EffectRefused>) {
        let reason = refused.map(EffectRefused::reason);
        let result = reason.map_or(metrics::OK, Reason::name);
        info!(
            effect = deed.kind.name(),
            result,
            vm.uuid = %deed.vm,
            console = deed.console.as_ref().map(tracing::field::display),
            peer.name = %deed.proxy,
            error = refused.map(tracing::field::display),
            "side effect"
        );
        self.metrics.count(deed.kind, reason.map_or(Ok(()), Err));
    }
}

#[cfg(test)]
pub(crate) mod scripted;
#[cfg(test)]
mod tests;
