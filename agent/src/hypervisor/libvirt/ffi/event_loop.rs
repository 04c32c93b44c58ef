//! libvirt's default event loop, on a thread of its own for as long as the process lives.
//! It runs callbacks and must never wait: whatever is given to it returns at once.

use std::ffi::{c_int, c_void};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::error::{LibvirtError, silence};
use super::pace::Pace;
use super::registry::{Key, Registry};
use super::stream::sweep;

/// How often the loop turns with nothing to do, in milliseconds. A timer must be registered
/// so that the loop has something to wait for; nothing depends on its pace.
const IDLE_TURN_MS: c_int = 60_000;
/// How long the loop's thread rests after a failed turn, so that a lasting failure does not
/// take up a core.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);
/// How long [`barrier`] waits for the loop at most.
const BARRIER_LIMIT: Duration = Duration::from_secs(5);

/// A closure for the loop's next turn, taken when it runs.
struct Once {
    work: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    key: OnceLock<Key>,
}

static SOON: Registry<Once> = Registry::new();

/// Starts the loop, if it does not run yet.
///
/// # Errors
/// libvirt could not be initialised, or the thread could not be started; the same error
/// again on every later call.
pub(crate) fn start() -> Result<(), LibvirtError> {
    static STARTED: OnceLock<Result<(), LibvirtError>> = OnceLock::new();
    STARTED.get_or_init(start_once).clone()
}

fn start_once() -> Result<(), LibvirtError> {
    // SAFETY: called once, before any other call into libvirt that could register a handle;
    // none of the three takes a pointer that has to stay valid.
    let initialised = unsafe {
        silence();
        virt_sys::virInitialize() >= 0
            && virt_sys::virEventRegisterDefaultImpl() >= 0
            && virt_sys::virEventAddTimeout(IDLE_TURN_MS, Some(turn), std::ptr::null_mut(), None)
                >= 0
    };
    if !initialised {
        return Err(LibvirtError::last());
    }
    thread::Builder::new()
        .name("libvirt-events".to_owned())
        .spawn(run)
        .map(drop)
        .map_err(|error| LibvirtError::local(&format!("no thread for libvirt's events: {error}")))
}

fn run() {
    let mut pace = Pace::new();
    let mut before = Instant::now();
    loop {
        // SAFETY: the implementation was registered; only this thread runs it.
        let turned = unsafe { virt_sys::virEventRunDefaultImpl() };
        if turned < 0 {
            tracing::error!(error = %LibvirtError::last(), "libvirt's event loop failed a turn");
            thread::park_timeout(PAUSE_AFTER_FAILURE);
        }
        let now = Instant::now();
        if let Some(pause) = pace.turned(now - before) {
            thread::park_timeout(pause);
            sweep();
        }
        before = now;
    }
}

unsafe extern "C" fn turn(_timer: c_int, _opaque: *mut c_void) {}

unsafe extern "C" fn run_once(timer: c_int, opaque: *mut c_void) {
    // SAFETY: `timer` is this timer's own number; removing it inside its callback is allowed.
    unsafe { virt_sys::virEventRemoveTimeout(timer) };
    SOON.with(opaque, |once| {
        if let Some(key) = once.key.get() {
            SOON.remove(*key);
        }
        if let Some(work) = once.work.lock().take() {
            work();
        }
    });
}

/// Runs `work` on the loop's thread, on its next turn. `work` must not wait.
///
/// # Errors
/// libvirt could not add a timer; `work` is dropped without having run.
pub(crate) fn run_soon(work: impl FnOnce() + Send + 'static) -> Result<(), LibvirtError> {
    run_after(Duration::ZERO, work)
}

/// Runs `work` on the loop's thread, once `delay` is over. `work` must not wait.
///
/// # Errors
/// libvirt could not add a timer; `work` is dropped without having run.
pub(crate) fn run_after(
    delay: Duration,
    work: impl FnOnce() + Send + 'static,
) -> Result<(), LibvirtError> {
    start()?;
    let delay = c_int::try_from(delay.as_millis()).unwrap_or(c_int::MAX);
    let once = Arc::new(Once {
        work: Mutex::new(Some(Box::new(work))),
        key: OnceLock::new(),
    });
    let key = SOON.insert(Arc::clone(&once));
    // Set before libvirt knows the timer: it may fire at once.
    let _first = once.key.set(key);
    // SAFETY: `run_once` treats its opaque argument as a number.
    let timer = unsafe { virt_sys::virEventAddTimeout(delay, Some(run_once), key.opaque(), None) };
    if timer < 0 {
        let error = LibvirtError::last();
        SOON.remove(key);
        return Err(error);
    }
    Ok(())
}

/// Waits until every callback that was running when this was called has returned. Not to be
/// called on the loop's own thread.
///
/// Answers whether that was seen within five seconds.
pub(crate) fn barrier() -> bool {
    let passed = Arc::new((Mutex::new(false), Condvar::new()));
    let signal = Arc::clone(&passed);
    let queued = run_soon(move || {
        *signal.0.lock() = true;
        signal.1.notify_all();
    });
    if queued.is_err() {
        return false;
    }
    let mut done = passed.0.lock();
    !passed
        .1
        .wait_while_for(&mut done, |done| !*done, BARRIER_LIMIT)
        .timed_out()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_runs_on_the_loops_thread_and_the_barrier_follows_it() {
        let name = Arc::new(Mutex::new(None));
        let seen = Arc::clone(&name);
        run_soon(move || *seen.lock() = thread::current().name().map(str::to_owned)).unwrap();
        assert!(barrier());
        assert_eq!(name.lock().as_deref(), Some("libvirt-events"));
    }

    #[test]
    fn a_panic_does_not_end_the_loop() {
        run_soon(|| panic!("on purpose")).unwrap();
        assert!(barrier());
    }
}
