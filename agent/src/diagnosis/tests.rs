use std::sync::mpsc::sync_channel;

use super::*;
use crate::console::scripted::{BOUND, Host, id, vm};
use crate::console::{MAX_BEGINNING, MAX_NEWEST};

const LOGIN: &[u8] = include_bytes!("captures/linux-login.bin");

fn diagnosis(host: &Host) -> Diagnosis {
    let text = "[grpc]\ncertificate = \"/nowhere/a.crt\"\nprivate_key = \"/nowhere/a.key\"\n\
                client_ca = \"/nowhere/ca.crt\"\n[access]\nallowed_clients = [\"a.example\"]\n";
    let config = Config::parse(text, "test".as_ref()).expect("valid");
    Diagnosis::new(&config, host.inventory.subscribe())
}

async fn console(host: &mut Host, diagnosis: &Diagnosis) -> Vec<Finding> {
    host.console().await;
    let directory = host.directory.borrow().clone();
    let vm = directory.vm(id().vm).expect("known");
    let found = diagnosis.console(&directory, vm, None);
    found.await.expect("there is room")
}

#[tokio::test]
async fn a_live_console_is_judged_by_what_its_guest_wrote() {
    let mut host = Host::start(Some(1), 1 << 20);
    let diagnosis = diagnosis(&host);
    let sink = host.script.attached().await;
    sink.output(LOGIN);
    let findings = console(&mut host, &diagnosis).await;
    assert_eq!(findings[0].code, Code::ConsoleWorks, "{findings:?}");
    sink.output(b"root\r\n[    9.000000] Kernel panic - not syncing: for a test\r\n");
    let findings = console(&mut host, &diagnosis).await;
    assert_eq!(findings[0].code, Code::GuestPanic, "{findings:?}");
    // Both took and gave back a cursor: what they read is forgotten as ever.
    assert_eq!(diagnosis.places.available_permits(), MAX_AT_ONCE);
}

#[tokio::test]
async fn a_console_that_is_refused_is_examined_at_its_path() {
    let mut host = Host::start(Some(1), 1024);
    let mut diagnosis = diagnosis(&host);
    Arc::get_mut(&mut diagnosis.rules).expect("one").directories = vec!["/elsewhere".into()];
    let denied = crate::endpoint::EndpointError::Denied("no".to_owned());
    // Each try is refused.
    host.script.refusals.lock().extend(vec![denied; 64]);
    let known = host.console().await;
    let denied = || known.status().state.availability == crate::console::Availability::Denied;
    let wait = async {
        while !denied() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(BOUND, wait).await.expect("refused");
    let findings = console(&mut host, &diagnosis).await;
    assert_eq!(findings[0].code, Code::UnsafePath, "{findings:?}");
    assert!(findings[0].evidence.contains("the agent runs as user"));
}

#[tokio::test]
async fn a_vm_that_is_off_is_told_without_a_console() {
    let mut host = Host::start(None, 1024);
    let diagnosis = diagnosis(&host);
    let findings = console(&mut host, &diagnosis).await;
    assert_eq!(findings[0].code, Code::VmOff, "{findings:?}");
    let directory = host.directory.borrow().clone();
    let other = Alias::new("serial9").expect("an alias");
    let vm = Arc::new(vm(None));
    let found = diagnosis.console(&directory, &vm, Some(other)).await;
    assert_eq!(found.expect("room")[0].code, Code::NoSuchConsole);
}

#[tokio::test]
async fn a_host_is_told_of_in_the_order_of_severity() {
    let host = Host::start(None, 1024);
    let findings = diagnosis(&host).host(&[]).await.expect("there is room");
    let severities: Vec<_> = findings.iter().map(|f| f.severity).collect();
    assert!(severities.is_sorted_by(|a, b| a >= b), "{findings:?}");
    let of = |code| findings.iter().filter(|f| f.code == code).count();
    assert_eq!(of(Code::CertificateInvalid), 2);
    assert_eq!(of(Code::Clock), 1);
    assert!(of(Code::Disk) >= 1);
    assert_eq!(of(Code::Limit), 1);
}

#[tokio::test]
async fn more_than_a_few_at_once_are_refused_and_one_that_hangs_keeps_its_place() {
    let host = Host::start(None, 1024);
    let diagnosis = diagnosis(&host);
    let (release, hang) = sync_channel::<()>(0);
    let permit = diagnosis.permit().expect("there is room");
    let (tell, _told) = mpsc::channel::<()>(1);
    spawn(permit, tell, move |_| hang.recv().unwrap_or_default()).expect("a thread");
    let others: Vec<_> = (1..MAX_AT_ONCE)
        .map(|_| diagnosis.permit().expect("there is room"))
        .collect();
    assert_eq!(
        diagnosis.host(&[]).await.expect_err("full"),
        DiagnosisError::Busy
    );
    drop(others);
    diagnosis.host(&[]).await.expect("there is room again");
    drop(release);
    let all = u32::try_from(MAX_AT_ONCE).expect("few");
    let free = tokio::time::timeout(BOUND, diagnosis.places.acquire_many(all));
    free.await.expect("given back").expect("open").forget();
}

#[tokio::test]
async fn what_is_kept_of_a_ring_is_its_beginning_and_its_newest() {
    let mut host = Host::start(Some(1), 256 * 1024);
    let console = host.console().await;
    let sink = host.script.attached().await;
    assert!(console.recent(MAX_NEWEST).newest.is_empty());
    sink.output(b"the first line\n");
    let recent = console.recent(MAX_NEWEST);
    assert_eq!(recent.newest, b"the first line\n");
    assert!(recent.whole && recent.beginning.is_empty());

    sink.output(&vec![b'x'; 100 * 1024]);
    sink.output(b"the last line\n");
    let recent = console.recent(usize::MAX);
    assert!(recent.beginning.starts_with(b"the first line\n"));
    assert_eq!(recent.beginning.len(), MAX_BEGINNING);
    assert!(recent.newest.ends_with(b"the last line\n"));
    assert_eq!(recent.newest.len(), MAX_NEWEST);
    assert!(!recent.whole);
    // The two do not overlap.
    let short = console.recent(100 * 1024 + 20);
    assert_eq!(short.newest.len(), MAX_NEWEST);

    // What the ring has forgotten is no beginning.
    sink.output(&vec![b'y'; 300 * 1024]);
    let recent = console.recent(10);
    assert_eq!(recent.newest, b"yyyyyyyyyy");
    assert!(recent.beginning.is_empty() && !recent.whole);
}
