//! Opens VMs' displays, one at a time of each VM: a QEMU died of handshakes that overlapped
//! (GHSA-vhf9-5f69-9hjm). It shows nobody anything.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::error::HandshakeError;
use super::handshake::{OpenDisplay, greet};
use super::load::DisplayTerms;
use super::metrics::RelayMetrics;
use crate::config::GraphicsTerms;
use crate::console::Console;
use crate::core::id::VmUuid;
use crate::core::reason::Reason;
use crate::endpoint::EndpointError;
use crate::hypervisor::{Hypervisor, Instance};

/// The most openings of one VM's displays that are under way or wait for their turn.
pub const MAX_OPENING: usize = 8;

/// Why a display could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DisplayError {
    /// There was no way there.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// What was there did not do its part of the handshake.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// It took too long.
    #[error("the display was not open within {} s: see if its QEMU hangs", .0.as_secs())]
    Late(Duration),
    /// Too many open it at once, or one for too long.
    #[error("other sessions are opening displays of this VM: try again in a moment")]
    Busy,
}

impl DisplayError {
    /// The reason that goes with it.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Endpoint(error) => match error {
                EndpointError::NotRunning | EndpointError::NotReady(_) => Reason::NotRunning,
                EndpointError::HeldByOther(_) => Reason::HeldByOther,
                EndpointError::Denied(_) => Reason::Denied,
                EndpointError::Unsupported(_) => Reason::Unsupported,
                EndpointError::NotFound(_) => Reason::NotFound,
                EndpointError::Unreachable(_) => Reason::EndpointLost,
            },
            Self::Handshake(error) => error.reason(),
            Self::Late(_) => Reason::EndpointLost,
            Self::Busy => Reason::LimitReached,
        }
    }

    /// What it says of the display; `None` if it says something of the callers.
    fn as_endpoint(&self) -> Option<EndpointError> {
        let text = || self.to_string();
        match self {
            Self::Endpoint(error) => Some(error.clone()),
            Self::Handshake(error) if error.reason() == Reason::Denied => {
                Some(EndpointError::Denied(text()))
            }
            Self::Handshake(_) | Self::Late(_) => Some(EndpointError::Unreachable(text())),
            Self::Busy => None,
        }
    }
}

/// Opens displays.
pub struct Displays {
    hypervisor: Arc<dyn Hypervisor>,
    terms: DisplayTerms,
    /// Whose turn it is, of each VM of which a display is being opened.
    turns: Mutex<HashMap<VmUuid, Weak<Semaphore>>>,
    metrics: RelayMetrics,
}

/// One opening; as many as there are of its VM hold the same.
struct Turn(Arc<Semaphore>);

impl Displays {
    /// Opens the displays of `hypervisor`'s VMs on these terms.
    pub fn new(
        hypervisor: Arc<dyn Hypervisor>,
        terms: DisplayTerms,
        metrics: RelayMetrics,
    ) -> Self {
        Self {
            hypervisor,
            terms,
            turns: Mutex::default(),
            metrics,
        }
    }

    /// What holds for this display, whatever a caller wants.
    pub fn terms(&self, console: &Console) -> &GraphicsTerms {
        let name = console.vm_name();
        self.terms.of(console.id().vm, &name)
    }

    /// What relays count.
    pub const fn metrics(&self) -> &RelayMetrics {
        &self.metrics
    }

    /// Opens the display `console`. That it cannot be opened is noted of `instance`, the run of the
    /// VM's QEMU that was asked for. With `shared`, other viewers stay as they are; without, the
    /// display is asked to disconnect those that it has.
    ///
    /// # Errors
    /// See [`DisplayError`]; the display's state tells it too.
    ///
    /// # Cancel safety
    /// If dropped, nothing stays open.
    pub async fn open(
        &self,
        console: &Arc<Console>,
        instance: Option<Instance>,
        shared: bool,
    ) -> Result<OpenDisplay, DisplayError> {
        let deadline = Instant::now() + self.terms.open;
        let opened = match self.turn(console.id().vm) {
            None => Err(DisplayError::Busy),
            Some(turn) => {
                let opening = self.open_in(turn, console, shared, deadline);
                // The handshake has the same deadline, and says more: it is given a moment.
                let late = deadline + Duration::from_millis(100);
                match timeout_at(late, opening).await {
                    Ok(opened) => opened,
                    Err(_) => Err(DisplayError::Late(self.terms.open)),
                }
            }
        };
        self.metrics.opened(opened.as_ref().err());
        if let Err(error) = &opened
            && let Some(of_display) = error.as_endpoint()
        {
            console.not_shown(instance, &of_display, &error.to_string());
        }
        opened
    }

    async fn open_in(
        &self,
        turn: Turn,
        console: &Arc<Console>,
        shared: bool,
        deadline: Instant,
    ) -> Result<OpenDisplay, DisplayError> {
        // It is never closed. Whoever waits in vain says nothing of the display.
        let _turn = timeout_at(deadline, turn.0.acquire())
            .await
            .map_err(|_| DisplayError::Busy)?;
        let line = self.hypervisor.open_display(console.id()).await?;
        debug!(console = %console.id(), way = ?line.way, "connected to the display");
        let terms = &self.terms.handshake;
        Ok(greet(line.stream, &line.access, terms, shared, deadline).await?)
    }

    /// A place among those who open a display of this VM, unless there are too many.
    fn turn(&self, vm: VmUuid) -> Option<Turn> {
        let mut turns = self.turns.lock();
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = turns.get(&vm).and_then(Weak::upgrade);
        let turn = turn.unwrap_or_else(|| {
            let turn = Arc::new(Semaphore::new(1));
            turns.insert(vm, Arc::downgrade(&turn));
            turn
        });
        (Arc::strong_count(&turn) <= MAX_OPENING).then_some(Turn(turn))
    }
}

impl std::fmt::Debug for Displays {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Displays").finish_non_exhaustive()
    }
}
