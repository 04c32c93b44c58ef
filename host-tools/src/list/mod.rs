//! `vmconsolectl list`: the consoles of one host.
//!
//! Refuses to page without end: an agent that repeats itself is an error, not a loop.

mod json;
mod table;

use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Request, Status};
use vmconsole_proto::v1::console_service_client::ConsoleServiceClient;
use vmconsole_proto::v1::{Console, ConsoleFilter, ListConsolesRequest};

use crate::output::print;
use crate::refusal::Refusal;

/// How many consoles are asked for at a time.
const PAGE_SIZE: u32 = 500;

/// How many pages are read at most.
const MAX_PAGES: usize = 1000;

/// How long one page may take.
const PAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// How the list is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// A table for people.
    Table,
    /// A JSON array for programs.
    Json,
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListError {
    /// The agent refused.
    #[error("the agent refused to list its consoles")]
    Refused(#[source] Refusal),
    /// The agent's pages do not end.
    #[error(
        "the agent's list does not end after {MAX_PAGES} pages: report this as a bug of the agent"
    )]
    Endless,
    /// JSON.
    #[error("cannot write the list as JSON")]
    Json(#[from] serde_json::Error),
    /// Stdout.
    #[error("cannot write to standard output")]
    Stdout(#[source] std::io::Error),
}

/// Reads all pages and prints them.
///
/// # Errors
/// [`ListError`]; nothing is printed then, save for [`ListError::Stdout`].
pub(crate) async fn run(
    channel: Channel,
    vms: Vec<String>,
    format: Format,
) -> Result<(), ListError> {
    let consoles = read_all(channel, vms).await?;
    let text = match format {
        Format::Table => table::render(&consoles),
        Format::Json => json::render(&consoles)?,
    };
    print(&text).map_err(ListError::Stdout)
}

/// All consoles of these VMs, or of all.
///
/// # Errors
/// [`ListError::Refused`] and [`ListError::Endless`].
pub(crate) async fn read_all(
    channel: Channel,
    vms: Vec<String>,
) -> Result<Vec<Console>, ListError> {
    let mut client = ConsoleServiceClient::new(channel);
    let filter = Some(ConsoleFilter {
        vms,
        ..Default::default()
    });
    let mut consoles = Vec::new();
    let mut page_token = String::new();
    for _ in 0..MAX_PAGES {
        let mut request = Request::new(ListConsolesRequest {
            filter: filter.clone(),
            page_size: PAGE_SIZE,
            page_token: page_token.clone(),
        });
        request.set_timeout(PAGE_TIMEOUT);
        let answer = tokio::time::timeout(PAGE_TIMEOUT, client.list_consoles(request)).await;
        let page = answer
            .unwrap_or_else(|_| {
                Err(Status::deadline_exceeded(
                    "the agent did not answer in time",
                ))
            })
            .map_err(|status| ListError::Refused(Refusal::new(&status)))?
            .into_inner();
        consoles.extend(page.consoles);
        if page.next_page_token.is_empty() {
            return Ok(consoles);
        }
        if page.next_page_token == page_token {
            return Err(ListError::Endless);
        }
        page_token = page.next_page_token;
    }
    Err(ListError::Endless)
}
