//! The calls for side effects: `SendBreak`, `SendKeys`, `InjectNmi`, `CaptureScreenshot`.
//!
//! What a call asks for is checked here and turned into our words; what it means is in
//! `session::effects`. Refuses to let a caller that does not read keep a picture.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, Stream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Response, Status};
use vmconsole_proto::v1;
use vmconsole_proto::v1::capture_screenshot_response::Part;

use super::open::{self, Refusal, refuse};
use super::refusal::status;
use crate::console::{Directory, SideEffectKind};
use crate::core::id::PeerIdentity;
use crate::core::keys::{DEFAULT_HOLD, Key, KeyPress, MAX_KEYS};
use crate::core::reason::Reason;
use crate::session::effects::{EffectRefused, Effects, HeldPicture};
use crate::shutdown::Tasks;

/// The most bytes of a picture in one message.
const MAX_PIECE: usize = 64 * 1024;

/// How long a caller may take to read its picture. One that has stopped would keep it, and
/// its place among the screenshots, for good.
const READ_WITHIN: Duration = Duration::from_secs(30);

/// How many pieces wait for a caller beside the picture itself.
const PIECES_AHEAD: usize = 1;

/// The longest key's name that a refusal repeats, in characters.
const MAX_NAME_TOLD: usize = 32;

/// One call for a side effect, and who makes it.
pub(super) struct Caller<'a, T> {
    pub(super) request: T,
    pub(super) proxy: PeerIdentity,
    pub(super) directory: Arc<Directory>,
    pub(super) effects: &'a Effects,
}

impl<T> Caller<'_, T> {
    /// Counts and logs what was refused here, before anything was asked of a VM.
    fn checked<C>(&self, kind: SideEffectKind, checked: Result<C, Refusal>) -> Result<C, Status> {
        checked.map_err(|(reason, refusal)| {
            self.effects
                .refused(kind, reason, refusal.message(), &self.proxy);
            refusal
        })
    }
}

impl Caller<'_, v1::SendBreakRequest> {
    pub(super) async fn send_break(self) -> Result<Response<v1::SendBreakResponse>, Status> {
        let request = &self.request;
        let checked = character(&request.character).and_then(|character| {
            let console = open::console(&self.directory, request.console.as_ref())?;
            Ok((console, character))
        });
        let (console, character) = self.checked(SideEffectKind::Break, checked)?;
        let done = self
            .effects
            .send_break(&console, character, self.proxy)
            .await;
        answer(done, v1::SendBreakResponse {})
    }
}

impl Caller<'_, v1::SendKeysRequest> {
    pub(super) async fn send_keys(self) -> Result<Response<v1::SendKeysResponse>, Status> {
        let request = &self.request;
        let checked = keys(request).and_then(|keys| {
            let vm = open::vm(&self.directory, request.vm.as_ref())?;
            Ok((vm, keys))
        });
        let (vm, keys) = self.checked(SideEffectKind::Keys, checked)?;
        let done = self.effects.send_keys(vm.uuid, keys, self.proxy).await;
        answer(done, v1::SendKeysResponse {})
    }
}

impl Caller<'_, v1::InjectNmiRequest> {
    pub(super) async fn inject_nmi(self) -> Result<Response<v1::InjectNmiResponse>, Status> {
        let vm = open::vm(&self.directory, self.request.vm.as_ref());
        let vm = self.checked(SideEffectKind::Nmi, vm)?;
        let done = self.effects.inject_nmi(vm.uuid, self.proxy).await;
        answer(done, v1::InjectNmiResponse {})
    }
}

impl Caller<'_, v1::CaptureScreenshotRequest> {
    pub(super) async fn screenshot(self) -> Result<HeldPicture, Status> {
        let vm = open::vm(&self.directory, self.request.vm.as_ref());
        let vm = self.checked(SideEffectKind::Screenshot, vm)?;
        let screen = self.request.screen;
        let taken = self.effects.screenshot(vm.uuid, screen, self.proxy).await;
        taken.map_err(|refused| effect_refused(&refused))
    }
}

fn answer<T>(done: Result<(), EffectRefused>, response: T) -> Result<Response<T>, Status> {
    match done {
        Ok(()) => Ok(Response::new(response)),
        Err(refused) => Err(effect_refused(&refused)),
    }
}

fn effect_refused(refused: &EffectRefused) -> Status {
    let message = match refused.source() {
        Some(cause) => format!("{refused}: {cause}"),
        None => refused.to_string(),
    };
    status(refused.reason(), message)
}

fn character(bytes: &[u8]) -> Result<Option<u8>, Refusal> {
    match *bytes {
        [] => Ok(None),
        [character] => Ok(Some(character)),
        _ => {
            let message = "character is to be empty, or one byte";
            Err(refuse(Reason::BadRequest, message))
        }
    }
}

fn keys(request: &v1::SendKeysRequest) -> Result<KeyPress, Refusal> {
    let bad = |message: String| refuse(Reason::BadRequest, message);
    let named = |name: &String| {
        Key::named(name).ok_or_else(|| {
            let told: String = name.chars().take(MAX_NAME_TOLD).collect();
            bad(format!(
                "no key is named {told:?}: give QEMU's name for it, such as ctrl, alt, delete or f1"
            ))
        })
    };
    // One more than may be pressed is enough to be refused.
    let keys = request.keys.iter().take(MAX_KEYS + 1).map(named);
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    let hold = match request.hold {
        None => DEFAULT_HOLD,
        Some(hold) => Duration::try_from(hold)
            .map_err(|_| bad("hold is negative, or no duration".to_owned()))?,
    };
    KeyPress::new(keys, hold).map_err(|error| bad(error.to_string()))
}

/// What the caller of `CaptureScreenshot` hears. The picture is with a task, since a stream
/// whose caller does not read is not asked for more, and so could not end.
pub(super) fn pieces(
    held: HeldPicture,
    tasks: &Tasks,
) -> impl Stream<Item = Result<v1::CaptureScreenshotResponse, Status>> + Send + use<> {
    let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
    let sending = tasks.spawn_owned("screenshot", send_all(held, sender));
    stream::unfold(Some((receiver, sending)), |state| async move {
        let (mut receiver, sending) = state?;
        if let Some(part) = receiver.recv().await {
            let message = v1::CaptureScreenshotResponse { part: Some(part) };
            return Some((Ok(message), Some((receiver, sending))));
        }
        let refusal = ended(sending).await.err()?;
        Some((Err(refusal), None))
    })
}

/// How the sending ended that sends no more.
async fn ended(sending: AbortOnDropHandle<Result<(), Late>>) -> Result<(), Status> {
    match sending.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Late)) => {
            let seconds = READ_WITHIN.as_secs();
            let message = format!("the picture was not read within {seconds} s: read it at once");
            Err(status(Reason::MaxDuration, message))
        }
        Err(_panicked) => Err(status(Reason::Internal, "the agent failed")),
    }
}

/// The caller did not read in time.
struct Late;

async fn send_all(held: HeldPicture, sender: mpsc::Sender<Part>) -> Result<(), Late> {
    let picture = &held.picture;
    let info = Part::Info(v1::ScreenshotInfo {
        width: picture.width,
        height: picture.height,
        size: picture.png.len() as u64,
    });
    // Copies: a piece that waits must not keep the whole of the picture.
    let data = picture.png.chunks(MAX_PIECE);
    let parts = std::iter::once(info).chain(data.map(|piece| Part::Data(piece.to_vec())));
    let all = async {
        for part in parts {
            if sender.send(part).await.is_err() {
                return; // the caller has left
            }
        }
    };
    timeout(READ_WITHIN, all).await.map_err(|_| Late)
}

#[cfg(test)]
mod tests;
