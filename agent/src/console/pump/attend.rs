//! Whether a console whose VM runs is served or left alone. It attaches nothing itself.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Pump;
use super::news::Place;
use crate::console::live::Console;

impl Pump {
    /// Serves the console if it is wanted, and leaves it alone if not.
    pub(super) async fn attend(
        &mut self,
        place: Place,
        wanted: bool,
        token: &CancellationToken,
    ) -> Option<Duration> {
        if !wanted {
            self.pauses.start_anew();
            self.tries_held = 0;
            let failed = self.failed.as_ref() == Some(&place);
            let given_up = self.given_up.take().as_ref() == Some(&place);
            self.console.let_alone(failed, given_up);
            return None;
        }
        let wait = self.serve(&place, token).await;
        // A try that was given up says nothing of how the console is.
        if wait.is_some_and(|wait| !wait.is_zero()) {
            self.failed = Some(place);
        }
        wait
    }
}

/// Waits until nobody wants the console.
///
/// # Cancel safety
/// Nothing is lost.
pub(super) async fn unwanted(console: &Console) {
    while console.is_wanted() {
        console.wanted_changed.notified().await;
    }
}
