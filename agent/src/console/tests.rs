use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::timeout;

use super::scripted::{BOUND, Does, Host, inventory, vm};
use super::*;
use crate::core::id::{PeerIdentity, SessionId, StreamId, VmUuid};
use crate::core::input::Refused;
use crate::core::lease::Claim;
use crate::core::output::{Gap, GapReason, Next, Start};
use crate::core::reason::Reason;
use crate::core::window::Room;
use crate::endpoint::{EndpointEnd, EndpointError, Holder};
use crate::hypervisor::{Inventory, Vm, VmState};

mod accounting;
mod attaching;
mod breaks;
mod capture;
mod displays;
mod effects;
mod first_bytes;
mod flags;
mod held;
mod input;
mod listed;
mod moves;
mod starts;
mod viewers;

fn request(claim: Option<Claim>) -> JoinRequest {
    let participant = Participant {
        session: SessionId::random(),
        proxy: PeerIdentity::new("spiffe://test/proxy"),
        since: SystemTime::now(),
        away: None,
    };
    JoinRequest {
        participant,
        start: Start::Live,
        claim,
        takeover_reason: "it is mine".to_owned(),
        view_otherwise: false,
        wait_for_start: false,
        end_when_stopped: false,
        alone: None,
    }
}

async fn next(viewer: &mut Viewer) -> Item {
    loop {
        match viewer.poll(Room::ALL) {
            Some(item) => return item,
            None => timeout(BOUND, viewer.changed())
                .await
                .expect("news in time"),
        }
    }
}

/// The next item that is `wanted`; those before it are passed over.
async fn find<T>(viewer: &mut Viewer, wanted: impl Fn(Item) -> Option<T>) -> T {
    loop {
        if let Some(found) = wanted(next(viewer).await) {
            return found;
        }
    }
}

async fn state(viewer: &mut Viewer, availability: Availability) -> ConsoleState {
    find(viewer, |item| match item {
        Item::State(state) if state.availability == availability => Some(state),
        _ => None,
    })
    .await
}

async fn output(viewer: &mut Viewer) -> Next {
    find(viewer, |item| match item {
        Item::Output(next) => Some(next),
        _ => None,
    })
    .await
}

fn bytes(next: Next) -> Vec<u8> {
    match next {
        Next::Output { bytes, .. } => bytes.to_vec(),
        other => panic!("not output: {other:?}"),
    }
}

/// The first output of a run, behind the gap that one begins with which ran before it was
/// attached.
async fn first_bytes(viewer: &mut Viewer) -> Vec<u8> {
    let Next::Gap(gap) = output(viewer).await else {
        panic!("no gap")
    };
    assert_eq!((gap.from, gap.to.offset), (gap.to, 0));
    assert_eq!(gap.reason, GapReason::NotAttached);
    bytes(output(viewer).await)
}

/// A run of the VM that is found before it has written anything.
fn unrun(instance: u64) -> Vm {
    Vm {
        state: VmState::Paused,
        ..vm(Some(instance))
    }
}

/// Waits until the console's state is as `wanted`, and gives it.
async fn until(console: &Console, wanted: impl Fn(&ConsoleState) -> bool) -> ConsoleState {
    let become_so = async {
        loop {
            let state = console.status().state;
            if wanted(&state) {
                return state;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(BOUND, become_so).await.expect("in time")
}

async fn until_available(console: &Console, availability: Availability) -> ConsoleState {
    until(console, |state| state.availability == availability).await
}

/// Types `text` as `who`, from `offset` on.
fn type_in(console: &Console, who: &JoinRequest, writer: &Viewer, offset: u64, text: &[u8]) {
    let epoch = writer.writer().epoch;
    console
        .input(
            StreamId::first(who.participant.session),
            offset,
            epoch,
            text,
        )
        .expect("in the window");
}

async fn refused(viewer: &mut Viewer) -> Refused {
    find(viewer, |item| match item {
        Item::InputRefused(refused) => Some(refused),
        _ => None,
    })
    .await
}
