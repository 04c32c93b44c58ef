use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tonic::Code as StatusCode;
use tonic_types::StatusExt as _;
use v1::console_ref::Vm as VmRef;

use super::*;
use crate::config::Config;
use crate::console::scripted::{Host, id};
use crate::diagnosis::MAX_AT_ONCE;

fn diagnosis(host: &Host) -> Diagnosis {
    diagnosis_with(host, "/nowhere/a.crt")
}

fn diagnosis_with(host: &Host, certificate: &str) -> Diagnosis {
    let text = format!(
        "[grpc]\ncertificate = \"{certificate}\"\nprivate_key = \"/nowhere/a.key\"\n\
         client_ca = \"/nowhere/ca.crt\"\n[access]\nallowed_clients = [\"a.example\"]\n"
    );
    let config = Config::parse(&text, "test".as_ref()).expect("valid");
    Diagnosis::new(&config, host.inventory.subscribe())
}

fn request(vm: Option<VmRef>, alias: &str) -> v1::DiagnoseConsoleRequest {
    let alias = alias.to_owned();
    v1::DiagnoseConsoleRequest {
        console: Some(v1::ConsoleRef { vm, alias }),
    }
}

fn named(name: &str) -> Option<VmRef> {
    Some(VmRef::VmName(name.to_owned()))
}

async fn directory(host: &mut Host) -> Arc<Directory> {
    host.console().await;
    host.directory.borrow().clone()
}

#[tokio::test]
async fn a_console_is_answered_with_its_findings_and_itself() {
    let mut host = Host::start(None, 1024);
    let (directory, diagnosis) = (directory(&mut host).await, diagnosis(&host));
    let uuid = Some(VmRef::VmUuid(id().vm.to_string()));
    for vm in [named("one"), uuid] {
        let asked = console(&diagnosis, &directory, request(vm, ""));
        let answer = asked.await.expect("answered");
        assert_eq!(answer.findings[0].code(), v1::FindingCode::VmOff);
        assert_eq!(answer.findings[0].severity(), v1::Severity::Problem);
        assert_eq!(answer.console.expect("known").alias, "serial0");
    }
    let asked = console(&diagnosis, &directory, request(named("one"), "serial9"));
    let answer = asked.await.expect("a finding, no error");
    assert_eq!(answer.findings[0].code(), v1::FindingCode::NoSuchConsole);
    assert_eq!(answer.console, None);
}

#[tokio::test]
async fn what_names_nothing_is_refused() {
    let mut host = Host::start(None, 1024);
    let (known, diagnosis) = (directory(&mut host).await, diagnosis(&host));
    let unset = v1::DiagnoseConsoleRequest::default();
    for (asked, code) in [
        (unset, StatusCode::InvalidArgument),
        (request(None, ""), StatusCode::InvalidArgument),
        (request(named("one"), "a/b"), StatusCode::InvalidArgument),
        (
            request(Some(VmRef::VmUuid("x".into())), ""),
            StatusCode::InvalidArgument,
        ),
        (request(named("two"), ""), StatusCode::NotFound),
    ] {
        let refused = console(&diagnosis, &known, asked.clone()).await;
        assert_eq!(refused.expect_err("refused").code(), code, "{asked:?}");
    }
    let unread = Directory::default();
    let refused = console(&diagnosis, &unread, request(named("one"), "")).await;
    assert_eq!(
        refused.expect_err("not yet").code(),
        StatusCode::Unavailable
    );
}

#[tokio::test]
async fn a_host_is_answered_with_its_findings() {
    let host = Host::start(None, 1024);
    let diagnosis = diagnosis(&host);
    let full = Usage {
        key: "limits.watchers",
        used: 1,
        limit: 1,
    };
    let answer = super::host(&diagnosis, &[full]).await.expect("answered");
    let limit = answer
        .findings
        .iter()
        .find(|f| f.code() == v1::FindingCode::Limit)
        .expect("told");
    assert_eq!(limit.severity(), v1::Severity::Problem);
}

#[tokio::test]
async fn too_many_diagnoses_at_once_are_refused() {
    let host = Host::start(None, 1024);
    let root = tempfile::tempdir().expect("a directory");
    // Whoever opens it waits for somebody who writes.
    let pipe = root.path().join("agent.crt");
    mkfifo(&pipe, Mode::S_IRWXU).expect("makes");
    let diagnosis = diagnosis_with(&host, &pipe.display().to_string());
    let mut many: FuturesUnordered<_> = (0..=MAX_AT_ONCE)
        .map(|_| super::host(&diagnosis, &[]))
        .collect();
    let first = many.next().await.expect("one of them");
    let refused = first.expect_err("too many");
    let writer = std::fs::File::options().read(true).write(true).open(&pipe);
    drop(many);
    drop(writer.expect("opens"));
    assert_eq!(refused.code(), StatusCode::ResourceExhausted);
    let info = refused.get_details_error_info().expect("a reason");
    assert_eq!(info.reason, "LIMIT_REACHED");
}

#[test]
fn every_code_and_severity_has_its_own_number() {
    let codes = [
        Code::ConsoleWorks,
        Code::NoConsoleDevice,
        Code::NoSuchConsole,
        Code::TypeUnsupported,
        Code::VmOff,
        Code::VmPaused,
        Code::Permission,
        Code::UnsafePath,
        Code::HeldByOther,
        Code::EndpointLost,
        Code::GuestSilent,
        Code::FirmwareOnly,
        Code::NoLogin,
        Code::InputWedged,
        Code::HypervisorConnected,
        Code::HypervisorLost,
        Code::HypervisorRights,
        Code::IdentityConflict,
        Code::CertificateInvalid,
        Code::CertificateExpires,
        Code::CertificateGood,
        Code::Clock,
        Code::Disk,
        Code::Limit,
        Code::GuestPanic,
        Code::NotCaptured,
    ];
    let numbers: Vec<_> = codes.iter().map(|one| code(*one) as i32).collect();
    let all: Vec<_> = (1..)
        .take_while(|number| v1::FindingCode::try_from(*number).is_ok())
        .collect();
    assert_eq!(numbers, all);
}
