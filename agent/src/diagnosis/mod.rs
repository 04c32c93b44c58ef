//! Why nothing is to be seen on a console, and what is wrong with the host.
//!
//! ```text
//!  directory, inventory, ring ──▶ facts ──▶ rules (pure) ──▶ findings, each with what to do
//!  paths, certificates, disks ─────▲  read on a thread of its own, under a deadline
//! ```
//! It changes nothing, asks no hypervisor and writes to no guest: it judges what is known. At
//! most [`MAX_AT_ONCE`] diagnoses run, and one whose reading hangs keeps its place.

mod examine;
mod facts;
mod finding;
mod host;
mod path;
mod rules;
mod transcript;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, timeout_at};

use crate::config::Config;
use crate::console::{Directory, default_alias};
use crate::core::id::{Alias, ConsoleId};
use crate::hypervisor::{Inventory, Vm};
use examine::Rules;
use facts::ConsoleFacts;
use host::HostConfig;

pub use finding::{Code, Finding, Severity};
pub use host::Usage;
pub use transcript::{LoaderState, MAX_QUOTE, Stage, Transcript};

/// The most diagnoses at once.
pub const MAX_AT_ONCE: usize = 4;
/// The most findings about one console.
pub const MAX_CONSOLE_FINDINGS: usize = 32;
/// The most findings about the host.
pub const MAX_HOST_FINDINGS: usize = 128;
/// How long files and file systems may take to be looked at.
const READING: Duration = Duration::from_secs(5);
/// The agent's own directories, and those that everything else needs.
const DIRECTORIES: [&str; 4] = ["/", "/var/log", "/var/lib/vmconsole-agent", "/run"];
/// Where terminals are.
const TERMINALS: &str = "/dev/pts";

/// Why there is no diagnosis.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiagnosisError {
    /// As many run as may.
    #[error("{MAX_AT_ONCE} diagnoses run, the most at once: try again in a moment")]
    Busy,
    /// No thread can be started.
    #[error(
        "no thread can be started for a diagnosis: see the host's and the service's limits of tasks"
    )]
    NoThread,
}

/// Diagnoses consoles and the host.
#[derive(Debug)]
pub struct Diagnosis {
    inventory: watch::Receiver<Arc<Inventory>>,
    places: Arc<Semaphore>,
    rules: Arc<Rules>,
    host: Arc<HostConfig>,
}

impl Diagnosis {
    /// Diagnoses by the configuration that the agent runs with.
    pub fn new(config: &Config, inventory: watch::Receiver<Arc<Inventory>>) -> Self {
        let mut directories = config.endpoints.directories.clone();
        directories.push(PathBuf::from(TERMINALS));
        Self {
            inventory,
            places: Arc::new(Semaphore::new(MAX_AT_ONCE)),
            rules: Arc::new(Rules {
                directories,
                owners: config.endpoints.owners.clone(),
            }),
            host: Arc::new(HostConfig {
                certificate: config.grpc.certificate.clone(),
                client_ca: config.grpc.client_ca.clone(),
                directories: DIRECTORIES.iter().map(PathBuf::from).collect(),
                root: PathBuf::from("/"),
            }),
        }
    }

    /// What is to be said of the console `alias` of `vm`, or of its first one: 1 to
    /// [`MAX_CONSOLE_FINDINGS`] findings, the likeliest cause first. Takes [`READING`] at most.
    ///
    /// # Errors
    /// See [`DiagnosisError`].
    ///
    /// # Cancel safety
    /// If dropped, what is being read is read to its end and thrown away.
    pub async fn console(
        &self,
        directory: &Directory,
        vm: &Arc<Vm>,
        alias: Option<Alias>,
    ) -> Result<Vec<Finding>, DiagnosisError> {
        let permit = self.permit()?;
        let alias = alias.or_else(|| default_alias(vm).cloned());
        let id = alias.clone().map(|alias| ConsoleId { vm: vm.uuid, alias });
        let console = id.and_then(|id| directory.console(&id).cloned());
        let mut facts = ConsoleFacts {
            now: SystemTime::now(),
            vm: Arc::clone(vm),
            trouble: self.inventory.borrow().stale.get(&vm.uuid).cloned(),
            wanted: alias,
            seen: console.map(|console| examine::seen(&console)),
            agent: String::new(),
        };
        let (rules, mut examined) = (Arc::clone(&self.rules), facts.clone());
        let (tell, mut told) = mpsc::channel(1);
        facts.agent = "vmconsole".to_owned();
        spawn(permit, tell, move |tell| {
            examine::complete(&mut examined, &rules);
            // Whoever asked may have left.
            let _ = tell.try_send(examined);
        })?;
        let deadline = Instant::now() + READING;
        // Where the path hangs, or its thread panicked, the rest is known all the same.
        while let Ok(Some(examined)) = timeout_at(deadline, told.recv()).await {
            facts = examined;
        }
        let mut findings = rules::console(&facts);
        findings.truncate(MAX_CONSOLE_FINDINGS);
        Ok(findings)
    }

    /// What is to be said of the host and the agent: at most [`MAX_HOST_FINDINGS`] findings,
    /// the most severe first. Takes [`READING`] at most.
    ///
    /// # Errors
    /// See [`DiagnosisError`].
    ///
    /// # Cancel safety
    /// As [`Diagnosis::console`].
    pub async fn host(&self, usages: &[Usage]) -> Result<Vec<Finding>, DiagnosisError> {
        let permit = self.permit()?;
        let mut findings = host::in_memory(&self.inventory.borrow().clone(), usages);
        let config = Arc::clone(&self.host);
        let (tell, mut told) = mpsc::channel(host::STEPS.len());
        spawn(permit, tell, move |tell| {
            let now = SystemTime::now();
            for (_, look) in host::STEPS {
                // There is room for each step.
                if tell.try_send(look(&config, now)).is_err() {
                    return;
                }
            }
        })?;
        let deadline = Instant::now() + READING;
        for (what, _) in host::STEPS {
            match timeout_at(deadline, told.recv()).await {
                Ok(Some(found)) => findings.extend(found),
                Ok(None) | Err(_) => {
                    findings.push(not_read(what));
                    break;
                }
            }
        }
        // Its place is free when nothing more can come.
        let _ = timeout_at(deadline, told.recv()).await;
        finding::order(&mut findings);
        findings.truncate(MAX_HOST_FINDINGS);
        Ok(findings)
    }

    /// Why a hypervisor is not connected now, for the operator; `None` if all are, or none has
    /// said why.
    pub fn not_connected(&self) -> Option<String> {
        host::not_connected(&self.inventory.borrow())
    }

    fn permit(&self) -> Result<OwnedSemaphorePermit, DiagnosisError> {
        let places = Arc::clone(&self.places);
        places.try_acquire_owned().map_err(|_| DiagnosisError::Busy)
    }
}

fn not_read(what: &str) -> Finding {
    let seconds = READING.as_secs();
    Finding::problem(
        Code::Disk,
        format!("{what} could not be looked at within {seconds} s"),
    )
    .next("see which file system hangs (df, mount); nothing after it was looked at")
}

/// Runs what may block on a thread, which keeps `permit` until it is done, and then gives up
/// its place and `tell`, in this order. It is not one of the runtime's threads: those are
/// waited for when the agent stops.
fn spawn<T: Send + 'static>(
    permit: OwnedSemaphorePermit,
    tell: mpsc::Sender<T>,
    work: impl FnOnce(&mpsc::Sender<T>) + Send + 'static,
) -> Result<(), DiagnosisError> {
    let run = move || {
        work(&tell);
        drop(permit);
        drop(tell);
    };
    let thread = std::thread::Builder::new().name("diagnosis".to_owned());
    thread.spawn(run).map_err(|_| DiagnosisError::NoThread)?;
    Ok(())
}

#[cfg(test)]
mod tests;
