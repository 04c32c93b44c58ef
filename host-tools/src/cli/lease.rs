//! How `attach`, `vnc` and `relay` ask for the writer's lease.
//!
//! Refuses to say who only watches: that option is each command's own.

use clap::Args;

use crate::attach::Wish;

/// The longest reason for a takeover, in bytes, by the interface.
pub(super) const MAX_REASON_BYTES: usize = 256;

/// How the lease is asked for.
#[derive(Args, Debug)]
pub(super) struct LeaseArgs {
    /// Wait for the writer's lease until whoever holds it gives it back
    #[arg(long, conflicts_with = "takeover")]
    queue: bool,
    /// Take the writer's lease from whoever holds it
    #[arg(long)]
    takeover: bool,
    /// Why, as told to whoever loses the lease; at most 256 bytes
    #[arg(long, value_name = "TEXT", requires = "takeover", value_parser = reason)]
    reason: Option<String>,
}

impl LeaseArgs {
    /// What is wanted, of which there is nothing to ask for if one only watches.
    pub(super) fn wish(self, only_watches: bool) -> Wish {
        if only_watches {
            Wish::View
        } else if self.queue {
            Wish::Queue
        } else if self.takeover {
            Wish::TakeOver(self.reason.unwrap_or_default())
        } else {
            Wish::Write
        }
    }
}

/// The reason of a takeover.
fn reason(text: &str) -> Result<String, String> {
    match text.len() {
        0..=MAX_REASON_BYTES => Ok(text.to_owned()),
        len => Err(format!(
            "{len} bytes are too many: {MAX_REASON_BYTES} at most"
        )),
    }
}
