//! Waiting for a console to be listed in some way.

use std::time::Duration;

use vmconsole_proto::v1;
use vmconsole_proto::v1::watch_consoles_response::Event;

use super::Client;

impl Client {
    /// Waits, `bound` at most, until the console `alias` of the VM named `vm` is listed so.
    ///
    /// # Panics
    /// When it is not in that time, with how it was listed last.
    pub async fn shows(
        &self,
        (vm, alias): (&str, &str),
        bound: Duration,
        wanted: impl Fn(&v1::ConsoleState) -> bool,
    ) -> v1::ConsoleState {
        let request = v1::WatchConsolesRequest::default();
        let watch = self.service().watch_consoles(request).await;
        let mut watch = watch.expect("it may be watched").into_inner();
        let mut last = None;
        let shown = async {
            loop {
                let told = watch.message().await.expect("the watch goes on");
                let told = told.expect("the watch goes on").event;
                if let Some(Event::Changed(console)) = told
                    && console.vm_name == vm
                    && console.alias == alias
                    && let Some(state) = console.state
                {
                    if wanted(&state) {
                        return state;
                    }
                    last = Some(state);
                }
            }
        };
        match tokio::time::timeout(bound, shown).await {
            Ok(state) => state,
            Err(_) => panic!("{alias} of {vm} after {bound:?}: {last:?}"),
        }
    }
}
