//! The limits of [`Calls`], with calls that hang until they are told to go on.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::*;

const SHORT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(20);

fn vm(number: u128) -> Option<VmUuid> {
    Some(VmUuid::new(uuid::Uuid::from_u128(number)))
}

fn calls(limit: Duration) -> (Calls, Arc<Counters>) {
    let counters = Arc::new(Counters::default());
    (Calls::new(2, limit, Arc::clone(&counters)), counters)
}

/// A call that hangs until the sender says something.
fn hanging() -> (
    SyncSender<()>,
    impl FnOnce() -> Result<(), LibvirtError> + Send + 'static,
) {
    let (release, released): (_, Receiver<()>) = sync_channel(1);
    (release, move || {
        released.recv_timeout(LONG).unwrap();
        Ok(())
    })
}

#[tokio::test]
async fn a_stuck_vm_times_out_and_holds_back_no_other() {
    let (calls, counters) = calls(SHORT);
    let (release, stuck) = hanging();
    let error = calls.call(vm(1), "read a VM", stuck).await.unwrap_err();
    assert!(
        matches!(
            error,
            CallError::TimedOut {
                what: "read a VM",
                ..
            }
        ),
        "{error}"
    );
    // More calls for the stuck VM wait for their turn, without a permit.
    let again = calls.call(vm(1), "read a VM", || Ok(())).await;
    assert!(matches!(again, Err(CallError::NotInTime { .. })));
    for other in 2..20 {
        assert_eq!(
            calls
                .call(vm(other), "read a VM", move || Ok(other))
                .await
                .unwrap(),
            other
        );
    }
    assert_eq!(counters.calls_timed_out.load(Ordering::Relaxed), 2);
    assert_eq!(counters.calls_in_flight.load(Ordering::Relaxed), 1);
    release.send(()).unwrap();
    let (calls_done, limit) = (&calls, LONG);
    let freed = tokio::time::timeout(limit, async {
        while calls_done
            .call(vm(1), "read a VM", || Ok(()))
            .await
            .is_err()
        {}
    });
    freed.await.unwrap();
}

#[tokio::test]
async fn no_more_than_the_limit_run_at_once() {
    let (calls, counters) = calls(SHORT);
    let (release_one, one) = hanging();
    let (release_two, two) = hanging();
    let stuck = tokio::join!(
        calls.call(vm(1), "wait", one),
        calls.call(vm(2), "wait", two)
    );
    assert!(stuck.0.is_err() && stuck.1.is_err());
    let third = calls.call(vm(3), "wait", || Ok(())).await;
    assert!(matches!(third, Err(CallError::NotInTime { .. })));
    assert_eq!(counters.calls_in_flight.load(Ordering::Relaxed), 2);
    release_one.send(()).unwrap();
    release_two.send(()).unwrap();
}

#[tokio::test]
async fn a_call_that_panics_gives_its_permit_back() {
    let (calls, counters) = calls(LONG);
    for _ in 0..5 {
        let broken = calls
            .call(vm(1), "wait", || -> Result<(), _> { panic!("on purpose") })
            .await;
        assert!(matches!(broken, Err(CallError::Broken { what: "wait" })));
    }
    calls.call(vm(1), "wait", || Ok(())).await.unwrap();
    assert_eq!(counters.calls_in_flight.load(Ordering::Relaxed), 0);
}
