//! Whoever may not, or asks for what is not there, is told so; everybody else goes on.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tonic::{Code, Status};
use vmconsole_proto::v1;
use vmconsole_proto::v1::stream_console_request::Message as Request;
use vmconsole_tests::agent::program;
use vmconsole_tests::client::{Client, Windows, open};
use vmconsole_tests::guest::{Guest, GuestOptions};
use vmconsole_tests::pki::{ClientCert, Credentials, Issuer, PROXY_NAME};
use vmconsole_tests::scrape::Scrape;
use vmconsole_tests::setup;

use crate::host::{BOUND, Host, reason};

async fn handshakes(host: &Host, result: &str) -> f64 {
    let scrape = Scrape::take(host.agent.http()).await.unwrap();
    scrape.sum(
        "vmconsole_tls_handshakes_total",
        &format!("result=\"{result}\""),
    )
}

/// What openssl says of a connection that the agent refuses.
fn openssl(host: &Host, credentials: Option<&Credentials>, more: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(setup::program("openssl"));
    command.args(["s_client", "-ign_eof", "-alpn", "h2", "-connect"]);
    command
        .arg(host.agent.grpc().to_string())
        .arg("-CAfile")
        .arg(host.pki.ca_file())
        .args(more);
    if let Some(credentials) = credentials {
        let (certificate, key) = credentials.write(dir.path(), "client");
        command.arg("-cert").arg(certificate).arg("-key").arg(key);
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A proxy's certificate that a CA of another name issued.
fn another_ca() -> Credentials {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(program("vmconsolectl"));
    command
        .args(["pki", "init", "--proxy-name", PROXY_NAME])
        .arg(dir.path().join("pki"));
    assert!(command.stdout(Stdio::null()).status().unwrap().success());
    let read = |file| std::fs::read_to_string(dir.path().join("pki").join(file)).unwrap();
    Credentials {
        certificate: read("proxy.crt"),
        key: read("proxy.key"),
    }
}

async fn attach_quickly(host: &Host, guest: &str) -> Duration {
    let client = host.client().await;
    let begin = Instant::now();
    let attached = client.attach(open(guest, v1::Mode::View)).await.unwrap();
    let took = begin.elapsed();
    attached.detach(BOUND).await;
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_do_not_do_are_refused_by_an_alert() {
    let host = Host::start();
    let names = &[PROXY_NAME][..];
    let stranger = ClientCert {
        issuer: Issuer::Stranger,
        ..ClientCert::named(names)
    };
    let expired = ClientCert {
        expired: true,
        ..ClientCert::named(names)
    };
    let cases = [
        (
            "no_certificate",
            None,
            &[][..],
            "alert certificate required",
        ),
        (
            "unknown_ca",
            Some(another_ca()),
            &[][..],
            "alert unknown ca",
        ),
        // A CA that bears the name of the right one, and has another key.
        (
            "bad_certificate",
            Some(host.pki.issue(stranger)),
            &[][..],
            "alert decrypt error",
        ),
        (
            "expired",
            Some(host.pki.issue(expired)),
            &[][..],
            "alert certificate expired",
        ),
        (
            "tls_version",
            Some(host.pki.proxy()),
            &["-tls1_2"][..],
            "alert protocol version",
        ),
    ];
    for (result, credentials, more, alert) in cases {
        let before = handshakes(&host, result).await;
        let said = openssl(&host, credentials.as_ref(), more);
        assert!(said.contains(alert), "{result}: {said}");
        assert_eq!(handshakes(&host, result).await, before + 1.0, "{result}");
        let logged = format!("\"reason\":\"{result}\"");
        assert!(
            host.agent.log().contains(&logged),
            "{result}: {}",
            host.agent.log()
        );
    }
    assert_eq!(host.client().await.list().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_not_allowed_is_denied_every_call() {
    let host = Host::start();
    let unknown = host
        .pki
        .issue(ClientCert::named(&["spiffe://test/somebody-else"]));
    let client = host.client_with(&unknown, Windows::default()).await;
    for status in [
        client.list().await.unwrap_err(),
        client
            .attach(open("any", v1::Mode::View))
            .await
            .unwrap_err(),
    ] {
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::PermissionDenied, "DENIED")
        );
    }
    let scrape = Scrape::take(host.agent.http()).await.unwrap();
    assert_eq!(scrape.sum("vmconsole_calls_denied_total", ""), 2.0);
    assert!(host.agent.log().contains("spiffe://test/somebody-else"));
    assert_eq!(host.client().await.list().await.unwrap(), []);
}

async fn first(client: &Client, message: Request) -> Status {
    let request = v1::StreamConsoleRequest {
        message: Some(message),
    };
    let stream = tokio_stream::once(request);
    client.service().stream_console(stream).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_or_makes_no_sense_is_refused_with_its_reason() {
    let host = Host::start();
    let guest = host.guest("sensible");
    let off = Guest::define(&host.libvirtd, GuestOptions::named("off"));
    let client = host.client().await;
    host.attach(&client, open(guest.name(), v1::Mode::View))
        .await
        .detach(BOUND)
        .await;

    let input = |bytes: usize| {
        let data = vec![b'x'; bytes].into();
        Request::Input(v1::Input {
            offset: 0,
            write_epoch: 1,
            data,
        })
    };
    let alias = |alias: &str| {
        let mut request = open(guest.name(), v1::Mode::View);
        alias.clone_into(&mut request.console.as_mut().unwrap().alias);
        request
    };
    let mut uuid = open("", v1::Mode::View);
    let nobody = "00000000-0000-4000-8000-000000000000".to_owned();
    uuid.console.as_mut().unwrap().vm = Some(v1::console_ref::Vm::VmUuid(nobody));
    let mut no_uuid = uuid.clone();
    let nonsense = "not a uuid".to_owned();
    no_uuid.console.as_mut().unwrap().vm = Some(v1::console_ref::Vm::VmUuid(nonsense));
    let mut resume = alias("");
    resume.resume_token = vec![1];
    let mut window = alias("");
    window.output_window = 1;
    let view = |vm: &str| open(vm, v1::Mode::View);
    let cases = [
        (
            Request::Ping(v1::Ping { nonce: 1 }),
            Code::InvalidArgument,
            "BAD_REQUEST",
        ),
        (input(1), Code::InvalidArgument, "BAD_REQUEST"),
        (input(5 << 20), Code::InvalidArgument, "BAD_REQUEST"),
        (Request::Open(view("nobody")), Code::NotFound, "NOT_FOUND"),
        (Request::Open(uuid), Code::NotFound, "NOT_FOUND"),
        (Request::Open(no_uuid), Code::InvalidArgument, "BAD_REQUEST"),
        (
            Request::Open(v1::Open::default()),
            Code::InvalidArgument,
            "BAD_REQUEST",
        ),
        (Request::Open(alias("serial7")), Code::NotFound, "NOT_FOUND"),
        (
            Request::Open(alias("no such alias")),
            Code::InvalidArgument,
            "BAD_REQUEST",
        ),
        (
            Request::Open(view(off.name())),
            Code::FailedPrecondition,
            "NOT_RUNNING",
        ),
        (
            Request::Open(resume),
            Code::FailedPrecondition,
            "RESUME_REFUSED",
        ),
        (Request::Open(window), Code::InvalidArgument, "BAD_REQUEST"),
    ];
    for (message, code, wanted) in cases {
        let refused = Scrape::take(host.agent.http()).await.unwrap();
        let labels = format!("reason=\"{wanted}\"");
        let before = refused.sum("vmconsole_sessions_refused_total", &labels);
        let what = format!("{message:?}").chars().take(100).collect::<String>();
        let status = first(&client, message).await;
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (code, wanted),
            "{what}: {status:?}"
        );
        let refused = Scrape::take(host.agent.http()).await.unwrap();
        let after = refused.sum("vmconsole_sessions_refused_total", &labels);
        assert_eq!(after, before + 1.0, "{what}");
    }
    attach_quickly(&host, guest.name()).await;
    host.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_message_in_a_running_stream_ends_that_stream_alone() {
    let host = Host::start();
    let guest = host.guest("patient");
    let client = host.client().await;
    let mut good = host
        .attach(&client, open(guest.name(), v1::Mode::View))
        .await;
    let big = vec![b'x'; 5 << 20].into();
    let bad = [
        Request::Open(v1::Open::default()),
        Request::Input(v1::Input {
            offset: 0,
            write_epoch: 1,
            data: big,
        }),
        Request::Input(v1::Input {
            offset: 9,
            write_epoch: 1,
            data: "x".into(),
        }),
        Request::OutputAck(v1::OutputAck::default()),
    ];
    for message in bad {
        let mut attached = client
            .attach(open(guest.name(), v1::Mode::View))
            .await
            .unwrap();
        attached.send.send(message).await;
        let (closed, status) = attached.receive.closed(BOUND).await;
        assert_eq!(closed.reason(), v1::Reason::BadRequest);
        assert!(!closed.retryable);
        assert_eq!(status.unwrap().code(), Code::InvalidArgument);
    }
    good.receive.read_until(b"login: ", BOUND).await;
    good.detach(BOUND).await;
    host.settled().await;
}

/// Connects and says nothing, or something that is no TLS.
fn half_open(address: SocketAddr, says: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(says).unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_half_open_handshakes_keep_nobody_out() {
    let host = Host::start();
    let guest = host.guest("reachable");
    let client = host.client().await;
    host.attach(&client, open(guest.name(), v1::Mode::View))
        .await
        .detach(BOUND)
        .await;

    let mut garbage = half_open(host.agent.grpc(), &[0xA5; 4096]);
    garbage.set_read_timeout(Some(BOUND)).unwrap();
    let mut answer = Vec::new();
    // Closed or reset: either way it is over.
    let _ = garbage.read_to_end(&mut answer);
    assert_eq!(handshakes(&host, "not_tls").await, 1.0);

    // The beginning of a TLS record that never comes to its end.
    let begun = [0x16, 3, 1, 2, 0, 1];
    let idle: Vec<_> = (0..200)
        .map(|number| {
            half_open(
                host.agent.grpc(),
                if number % 2 == 0 { &begun } else { &[] },
            )
        })
        .collect();
    let took = attach_quickly(&host, guest.name()).await;
    println!("attach beside 200 half-open handshakes: {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    let begin = Instant::now();
    let fresh = host.client().await;
    fresh
        .attach(open(guest.name(), v1::Mode::View))
        .await
        .unwrap()
        .detach(BOUND)
        .await;
    println!("with a connection of its own: {:?}", begin.elapsed());
    drop(idle);
    host.settled().await;
}
