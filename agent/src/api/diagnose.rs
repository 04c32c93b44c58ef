//! `DiagnoseConsole` and `DiagnoseHost`: a reference checked, findings as messages.

use tonic::Status;
use vmconsole_proto::v1;

use super::convert;
use super::open;
use super::refusal::status;
use crate::console::{Console, Directory, default_alias};
use crate::core::id::{Alias, ConsoleId};
use crate::core::reason::Reason;
use crate::diagnosis::{Code, Diagnosis, DiagnosisError, Finding, Severity, Usage};

/// Diagnoses one console.
///
/// # Errors
/// BAD_REQUEST for a malformed reference, NOT_FOUND for a VM that is not known, ENDPOINT_LOST
/// while the hypervisor was not read yet, LIMIT_REACHED for too many diagnoses at once.
pub(super) async fn console(
    diagnosis: &Diagnosis,
    directory: &Directory,
    request: v1::DiagnoseConsoleRequest,
) -> Result<v1::DiagnoseConsoleResponse, Status> {
    let bad = |message: &str| status(Reason::BadRequest, message);
    let reference = request.console.ok_or_else(|| bad("console is not set"))?;
    let vm = reference.vm.ok_or_else(|| bad("console.vm is not set"))?;
    let vm = open::known(directory, &vm).map_err(|(_, refusal)| refusal)?;
    let alias = match reference.alias.as_str() {
        "" => None,
        text => Some(Alias::new(text).map_err(|error| bad(&error.to_string()))?),
    };
    let found = diagnosis.console(directory, &vm, alias.clone()).await;
    let findings = found.map_err(|error| refused(&error))?;
    let alias = alias.or_else(|| default_alias(&vm).cloned());
    let id = alias.map(|alias| ConsoleId { vm: vm.uuid, alias });
    let console = id.and_then(|id| directory.console(&id).map(|console| shown(console)));
    Ok(v1::DiagnoseConsoleResponse {
        findings: findings.into_iter().map(finding).collect(),
        console,
    })
}

/// Diagnoses the host.
///
/// # Errors
/// LIMIT_REACHED for too many diagnoses at once.
pub(super) async fn host(
    diagnosis: &Diagnosis,
    usages: &[Usage],
) -> Result<v1::DiagnoseHostResponse, Status> {
    let findings = diagnosis.host(usages).await;
    let findings = findings.map_err(|error| refused(&error))?;
    Ok(v1::DiagnoseHostResponse {
        findings: findings.into_iter().map(finding).collect(),
    })
}

fn shown(console: &Console) -> v1::Console {
    convert::console(&console.status())
}

fn refused(error: &DiagnosisError) -> Status {
    status(Reason::LimitReached, error.to_string())
}

fn finding(finding: Finding) -> v1::Finding {
    v1::Finding {
        code: code(finding.code).into(),
        severity: severity(finding.severity).into(),
        summary: finding.summary,
        evidence: finding.evidence,
        next_step: finding.next_step,
        since: finding.since.and_then(convert::time),
    }
}

const fn severity(severity: Severity) -> v1::Severity {
    match severity {
        Severity::Good => v1::Severity::Good,
        Severity::Note => v1::Severity::Note,
        Severity::Warning => v1::Severity::Warning,
        Severity::Problem => v1::Severity::Problem,
    }
}

const fn code(code: Code) -> v1::FindingCode {
    match code {
        Code::ConsoleWorks => v1::FindingCode::ConsoleWorks,
        Code::NoConsoleDevice => v1::FindingCode::NoConsoleDevice,
        Code::NoSuchConsole => v1::FindingCode::NoSuchConsole,
        Code::TypeUnsupported => v1::FindingCode::TypeUnsupported,
        Code::VmOff => v1::FindingCode::VmOff,
        Code::VmPaused => v1::FindingCode::VmPaused,
        Code::Permission => v1::FindingCode::Permission,
        Code::UnsafePath => v1::FindingCode::UnsafePath,
        Code::HeldByOther => v1::FindingCode::HeldByOther,
        Code::EndpointLost => v1::FindingCode::EndpointLost,
        Code::GuestSilent => v1::FindingCode::GuestSilent,
        Code::NotCaptured => v1::FindingCode::NotCaptured,
        Code::FirmwareOnly => v1::FindingCode::FirmwareOnly,
        Code::NoLogin => v1::FindingCode::NoLogin,
        Code::GuestPanic => v1::FindingCode::GuestPanic,
        Code::InputWedged => v1::FindingCode::InputWedged,
        Code::HypervisorConnected => v1::FindingCode::HypervisorConnected,
        Code::HypervisorLost => v1::FindingCode::HypervisorLost,
        Code::HypervisorRights => v1::FindingCode::HypervisorRights,
        Code::IdentityConflict => v1::FindingCode::IdentityConflict,
        Code::CertificateInvalid => v1::FindingCode::CertificateInvalid,
        Code::CertificateExpires => v1::FindingCode::CertificateExpires,
        Code::CertificateGood => v1::FindingCode::CertificateGood,
        Code::Clock => v1::FindingCode::Clock,
        Code::Disk => v1::FindingCode::Disk,
        Code::Limit => v1::FindingCode::Limit,
    }
}

#[cfg(test)]
mod tests;
