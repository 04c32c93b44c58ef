//! What the agent itself finds.
//!
//! Refuses to fail: an agent that cannot be reached, or refuses, is a finding.

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use vmconsole_proto::v1::console_service_client::ConsoleServiceClient;
use vmconsole_proto::v1::{
    Console, ConsoleFilter, DiagnoseConsoleRequest, DiagnoseHostRequest, ListConsolesRequest,
};

use super::finding::{Finding, Origin};
use crate::output::chain;
use crate::reference;
use crate::refusal::Refusal;

/// How long the agent may take for one answer: it gives up reading files after 5 s.
const ANSWER: Duration = Duration::from_secs(15);

/// The most consoles of one VM that are looked at.
const MAX_CONSOLES: u32 = 64;

/// The agent cannot be reached, or did not answer.
const UNREACHABLE: &str = "agent_unreachable";
/// The agent refused to answer.
const REFUSED: &str = "agent_refused";

/// Which consoles are asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The VM, by name or UUID.
    pub(super) vm: String,
    /// Its console; all of them if empty.
    pub(super) console: String,
}

/// No connection was made.
pub(super) fn not_connected(address: &str, error: &dyn Error) -> Finding {
    Finding::problem(UNREACHABLE, format!("the agent at {address} cannot be asked"))
        .evidence(chain(error))
        .next("what is found of the host, below and above, may say why; --agent, --certificate, --key and --ca say how to reach it")
}

/// What the agent says of its host and of what is wanted.
///
/// # Cancel safety
/// If dropped, the call that is under way is given up.
pub(super) async fn ask(channel: Channel, wanted: Option<&Wanted>) -> Vec<Finding> {
    let mut client = ConsoleServiceClient::new(channel);
    let host = answered(client.diagnose_host(Request::new(DiagnoseHostRequest {}))).await;
    let mut findings: Vec<_> = match host {
        Ok(answer) => {
            let of = |finding| Finding::of_agent(Origin::Agent, finding);
            answer.findings.into_iter().map(of).collect()
        }
        Err(finding) => return vec![finding],
    };
    if let Some(wanted) = wanted {
        match aliases(&mut client, wanted).await {
            Ok(aliases) => {
                for alias in aliases {
                    findings.extend(console(&mut client, &wanted.vm, &alias).await);
                }
            }
            Err(finding) => {
                // Where it lists nothing since one of its hypervisors is away, it may know the
                // VM all the same, and what keeps it from it.
                if finding.code == REFUSED {
                    findings.extend(console(&mut client, &wanted.vm, "").await);
                }
                findings.push(finding);
            }
        }
    }
    findings
}

/// The consoles to ask about; one without a name where the VM has none, or is not known.
async fn aliases(
    client: &mut ConsoleServiceClient<Channel>,
    wanted: &Wanted,
) -> Result<Vec<String>, Finding> {
    if !wanted.console.is_empty() {
        return Ok(vec![wanted.console.clone()]);
    }
    let filter = ConsoleFilter {
        vms: vec![wanted.vm.clone()],
        ..Default::default()
    };
    let request = ListConsolesRequest {
        filter: Some(filter),
        page_size: MAX_CONSOLES,
        page_token: String::new(),
    };
    let answer = answered(client.list_consoles(Request::new(request))).await?;
    let mut aliases: Vec<_> = answer.consoles.into_iter().map(|one| one.alias).collect();
    aliases.truncate(MAX_CONSOLES as usize);
    if aliases.is_empty() {
        aliases.push(String::new());
    }
    Ok(aliases)
}

async fn console(
    client: &mut ConsoleServiceClient<Channel>,
    vm: &str,
    alias: &str,
) -> Vec<Finding> {
    let request = DiagnoseConsoleRequest {
        console: Some(reference::console(vm, alias)),
    };
    match answered(client.diagnose_console(Request::new(request))).await {
        Ok(answer) => {
            let (vm, alias) = shown(answer.console.as_ref(), vm, alias);
            let of = |finding| {
                let origin = Origin::Console(vm.clone(), alias.clone());
                Finding::of_agent(origin, finding)
            };
            answer.findings.into_iter().map(of).collect()
        }
        Err(finding) => vec![finding],
    }
}

/// The console's own name for itself, or else what was asked for.
fn shown(console: Option<&Console>, vm: &str, alias: &str) -> (String, String) {
    match console {
        Some(console) => (console.vm_name.clone(), console.alias.clone()),
        None => (vm.to_owned(), alias.to_owned()),
    }
}

/// The answer, or a finding that tells why there is none.
async fn answered<T>(
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Finding> {
    let late = || {
        Err(Status::deadline_exceeded(
            "the agent did not answer in time",
        ))
    };
    let answer = tokio::time::timeout(ANSWER, call).await;
    let status = match answer.unwrap_or_else(|_| late()) {
        Ok(answer) => return Ok(answer.into_inner()),
        Err(status) => status,
    };
    let refusal = Refusal::new(&status);
    let finding = match refusal.reason() {
        Some(_) => Finding::problem(REFUSED, "the agent refused to answer")
            .next("what it says is why; see also its log (journalctl -u vmconsole-agent)"),
        None => Finding::problem(UNREACHABLE, "the agent did not answer")
            .next("see its log (journalctl -u vmconsole-agent); one of an older version cannot answer this"),
    };
    let hint = refusal.hint_before_open();
    let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
    Err(finding.evidence(format!("{refusal}{hint}")))
}
