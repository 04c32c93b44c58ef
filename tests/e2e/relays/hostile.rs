//! Displays that are none, and callers that mean no good. Real QEMUs do not misbehave, so that
//! what answers in their place is made here.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use vmconsole_proto::v1;
use vmconsole_tests::client::relay_open;
use vmconsole_tests::qemu::{Boot, Vnc};
use vmconsole_tests::random::Random;
use vmconsole_tests::rfb;
use vmconsole_tests::scrape::Scrape;
use vmconsole_tests::usage;

use super::{firmware, looks, ready, showing};
use crate::host::{BOUND, QemuHost, reason};

/// What a hostile display does to whoever connects.
type Deed = fn(&mut UnixStream) -> std::io::Result<()>;

fn speaks(display: &mut UnixStream) -> std::io::Result<()> {
    display.write_all(rfb::V3_8)?;
    display.read_exact(&mut [0; 12])
}

/// Reads until the agent has gone.
fn waits(display: &mut UnixStream) -> std::io::Result<()> {
    std::io::copy(display, &mut std::io::sink()).map(drop)
}

fn four_gibibytes_of_reason(display: &mut UnixStream) -> std::io::Result<()> {
    speaks(display)?;
    display.write_all(&[0])?;
    display.write_all(&u32::MAX.to_be_bytes())?;
    loop {
        display.write_all(&[b'x'; 4096])?;
    }
}

fn endless_types(display: &mut UnixStream) -> std::io::Result<()> {
    speaks(display)?;
    display.write_all(&[255])?;
    loop {
        display.write_all(&[77; 4096])?;
    }
}

fn another_protocol(display: &mut UnixStream) -> std::io::Result<()> {
    display.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")?;
    waits(display)
}

fn silence(display: &mut UnixStream) -> std::io::Result<()> {
    waits(display)
}

fn half_a_server_init(display: &mut UnixStream) -> std::io::Result<()> {
    rfb::let_in(display)?;
    display.write_all(&[2, 128, 1, 224, 32, 24])?;
    waits(display)
}

fn a_name_without_end(display: &mut UnixStream) -> std::io::Result<()> {
    rfb::let_in(display)?;
    display.write_all(&[0; 20])?;
    display.write_all(&u32::MAX.to_be_bytes())?;
    loop {
        display.write_all(&[b'x'; 4096])?;
    }
}

fn types_that_nobody_may_take(display: &mut UnixStream) -> std::io::Result<()> {
    speaks(display)?;
    display.write_all(&[2, 5, 30])?;
    waits(display)
}

/// Puts a display that does so in the place of a socket.
fn in_place_of(socket: &Path, deed: Deed) {
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket).unwrap();
    let user = vmconsole_tests::user::lookup();
    nix::unistd::chown(socket, Some(user.uid), Some(user.gid)).unwrap();
    std::thread::spawn(move || {
        let (mut display, _) = listener.accept().unwrap();
        // Whatever it does, the agent hangs up at last.
        let _ = deed(&mut display);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn displays_that_misbehave_are_refused_and_told_of() {
    let host = QemuHost::with(|options| {
        options.more = "[graphics]\nreach = [\"unix\"]\nopen_seconds = 2\n".to_owned();
    });
    let mut options = firmware("hostile", Vnc::Unix);
    options.boot = Boot::Nothing;
    let guest = host.guest(options);
    let client = host.client().await;
    ready(&client, "hostile").await;
    let (socket, real) = (
        guest.vnc_socket(),
        guest.vnc_socket().with_extension("real"),
    );
    std::fs::rename(&socket, &real).unwrap();
    let resident = |host: &QemuHost| usage::memory(host.agent.pid().as_raw()).rss;
    let before = resident(&host);
    let deeds: [(Deed, &str, v1::Availability); 7] = [
        (
            four_gibibytes_of_reason,
            "ENDPOINT_LOST",
            v1::Availability::Lost,
        ),
        (endless_types, "DENIED", v1::Availability::Denied),
        (another_protocol, "ENDPOINT_LOST", v1::Availability::Lost),
        (silence, "ENDPOINT_LOST", v1::Availability::Lost),
        (half_a_server_init, "ENDPOINT_LOST", v1::Availability::Lost),
        (a_name_without_end, "ENDPOINT_LOST", v1::Availability::Lost),
        (
            types_that_nobody_may_take,
            "DENIED",
            v1::Availability::Denied,
        ),
    ];
    for (number, (deed, expected, availability)) in deeds.into_iter().enumerate() {
        in_place_of(&socket, deed);
        let begun = Instant::now();
        let refused = client.relay(relay_open("hostile", v1::Mode::View)).await;
        let refused = refused.unwrap_err();
        assert_eq!(reason(&refused), expected, "{number}: {refused:?}");
        assert!(refused.message().len() < 2048, "{number}: it is cut");
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{number}: it is waited for"
        );
        let is = |state: &v1::ConsoleState| state.availability() == availability;
        client.shows(("hostile", "vnc0"), BOUND, is).await;
    }
    let grown = resident(&host) - before;
    assert!(grown < 16.0 * 1024.0, "{grown} KiB more");

    std::fs::rename(&real, &socket).unwrap();
    let (relay, _) = showing(&client, relay_open("hostile", v1::Mode::View)).await;
    drop(relay);
    host.settled().await;
}

/// So many a connection: after a thousand streams that were dropped in the midst of what the agent
/// sent, the client's own library gives its connection up.
const PER_CONNECTION: usize = 200;

/// Some more than may open the same VM's displays at once.
const AT_ONCE: usize = 12;

/// Opens displays and breaks the handshake, in one way after the other.
async fn callers_break(count: usize) {
    let host = QemuHost::start();
    let mut options = firmware("besieged", Vnc::Unix);
    options.boot = Boot::Nothing;
    let mut guest = host.guest(options);
    let mut client = host.client().await;
    drop(showing(&client, relay_open("besieged", v1::Mode::View)).await);
    let begun = Instant::now();
    let mut random = Random::default();
    let mut tries = 0;
    let mut at_once = tokio::task::JoinSet::new();
    while tries < count || !at_once.is_empty() {
        while tries < count && at_once.len() < AT_ONCE {
            tries += 1;
            if tries.is_multiple_of(PER_CONNECTION) {
                client = host.client().await;
            }
            let (client, deed) = (client.clone(), random.below(5));
            at_once.spawn(async move {
                let mut relay = loop {
                    let opened = client.relay(relay_open("besieged", v1::Mode::View)).await;
                    match opened {
                        Ok(relay) => break relay,
                        // More at once than may be: whoever is refused tries again.
                        Err(status) => assert_eq!(reason(&status), "LIMIT_REACHED", "{status:?}"),
                    }
                };
                match deed {
                    // Nothing at all.
                    0 => {}
                    // Half a version.
                    1 => relay.send(b"RFB 0".as_slice(), BOUND).await,
                    // None.
                    2 => {
                        relay
                            .send(b"GET / HTTP/1.1\r\n\r\n".as_slice(), BOUND)
                            .await
                    }
                    // A type that was not offered.
                    3 => {
                        relay.send(rfb::V3_8.as_slice(), BOUND).await;
                        relay.send([16].as_slice(), BOUND).await;
                        let (closed, _) = relay.closed(BOUND).await;
                        assert_eq!(closed.reason(), v1::Reason::BadRequest, "{closed:?}");
                    }
                    // All of it, and away.
                    _ => drop(rfb::greet(&mut relay, BOUND).await),
                }
            });
        }
        if let Some(ended) = at_once.join_next().await {
            ended.unwrap();
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("{count} handshakes broken in {seconds:.0} s");
    let (mut relay, mut screen) = showing(&client, relay_open("besieged", v1::Mode::View)).await;
    looks(&mut relay, &mut screen).await;
    guest.monitor().run("query-status", &serde_json::json!({}));
    let scrape = Scrape::take(host.agent.http()).await.unwrap();
    let failed = scrape.sum("vmconsole_relay_caller_handshakes_failed_total", "");
    assert!(failed > 0.0, "none was counted");
    drop(relay);
    host.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_qemu_outlives_two_hundred_callers_that_break_the_handshake() {
    callers_break(200).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make long TESTS=callers"]
async fn a_qemu_outlives_ten_thousand_callers_that_break_the_handshake() {
    callers_break(10_000).await;
}
