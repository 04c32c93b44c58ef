use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::shutdown::Tasks;

struct Running {
    addr: SocketAddr,
    readiness: watch::Sender<Readiness>,
    token: CancellationToken,
    task: AbortOnDropHandle<()>,
}

async fn start() -> Running {
    let metrics = Metrics::new().expect("registers");
    let (readiness, receiver) = watch::channel(Readiness::Ready);
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = HttpServer::bind(any, metrics, receiver)
        .await
        .expect("a free port");
    let (addr, token) = (server.local_addr(), CancellationToken::new());
    let task = Tasks::new().spawn_owned("http", server.run(token.clone()));
    Running {
        addr,
        readiness,
        token,
        task,
    }
}

async fn connect(addr: SocketAddr) -> TcpStream {
    TcpStream::connect(addr).await.expect("connects")
}

/// Sends `request` and reads until the server closes.
async fn exchange(addr: SocketAddr, request: &str) -> String {
    let mut stream = connect(addr).await;
    stream.write_all(request.as_bytes()).await.expect("sends");
    let mut answer = String::new();
    let bound = timeout(Duration::from_secs(30), stream.read_to_string(&mut answer)).await;
    bound.expect("within the bound").expect("closed in order");
    answer
}

async fn request(addr: SocketAddr, line: &str) -> String {
    exchange(
        addr,
        &format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
    )
    .await
}

fn is(answer: &str, status: u16, body: &str) -> bool {
    answer.starts_with(&format!("HTTP/1.1 {status} "))
        && answer.ends_with(&format!("\r\n\r\n{body}"))
}

#[tokio::test]
async fn metrics_are_served_as_prometheus_wants_them() {
    let server = start().await;
    let answer = request(server.addr, "GET /metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(
        answer.contains("content-type: text/plain; version=0.0.4"),
        "{answer}"
    );
    assert!(
        answer.contains("\nvmconsole_build_info{version="),
        "{answer}"
    );
}

#[tokio::test]
async fn health_is_a_line_of_text() {
    let server = start().await;
    assert!(is(&request(server.addr, "GET /livez").await, 200, "ok\n"));
    assert!(is(&request(server.addr, "GET /readyz").await, 200, "ok\n"));

    server
        .readiness
        .send_replace(Readiness::NotReady("libvirt is\ndown".into()));
    let answer = request(server.addr, "GET /readyz").await;
    assert!(is(&answer, 503, "not ready: libvirt is down\n"), "{answer}");
    assert!(
        is(&request(server.addr, "GET /livez").await, 200, "ok\n"),
        "it lives all the same"
    );

    server.readiness.send_replace(Readiness::Ready);
    assert!(is(&request(server.addr, "GET /readyz").await, 200, "ok\n"));
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let server = start().await;
    let hint = "try /metrics, /livez or /readyz\n";
    assert!(is(&request(server.addr, "GET /").await, 404, hint));
    assert!(is(&request(server.addr, "GET /metrics/x").await, 404, hint));
    let answer = request(server.addr, "DELETE /metrics").await;
    assert!(is(&answer, 405, "only GET\n"), "{answer}");
    assert!(answer.contains("\r\nallow: GET,HEAD\r\n"), "{answer}");
    assert!(is(&request(server.addr, "HEAD /livez").await, 200, ""));
    assert!(
        exchange(server.addr, "no HTTP\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 400 ")
    );
    let long = format!("GET /{}", "x".repeat(2 * MAX_HEAD_BYTES));
    let mut stream = connect(server.addr).await;
    // It may be refused, and the connection reset, before it is sent whole.
    let _ = stream
        .write_all(format!("{long} HTTP/1.1\r\n\r\n").as_bytes())
        .await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    assert!(
        is(&request(server.addr, "GET /livez").await, 200, "ok\n"),
        "and it goes on"
    );
}

#[tokio::test]
async fn a_connection_serves_one_request_after_the_other() {
    let server = start().await;
    let first = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";
    let last = "GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answers = exchange(server.addr, &format!("{first}{first}{last}")).await;
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 3, "{answers}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_ends_its_request_is_cut_off() {
    let server = start().await;
    let start = Instant::now();
    exchange(server.addr, "GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: ").await;
    assert!(
        (HEADER_TIMEOUT..LIFETIME).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_on_and_on_is_cut_off() {
    let server = start().await;
    let start = Instant::now();
    let mut stream = connect(server.addr).await;
    let mut byte = [0];
    let mut ticks = tokio::time::interval(HEADER_TIMEOUT / 2);
    let ended = loop {
        tokio::select! {
            read = stream.read(&mut byte) => match read {
                Ok(0) | Err(_) => break start.elapsed(),
                Ok(_) => {}
            },
            _ = ticks.tick() => {
                let _ = stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await;
            }
        }
    };
    assert!(
        (LIFETIME..=LIFETIME + GRACE + HEADER_TIMEOUT).contains(&ended),
        "{ended:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn silent_connections_keep_others_waiting_only_until_they_time_out() {
    let server = start().await;
    let start = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        silent.push(connect(server.addr).await);
    }
    assert!(is(&request(server.addr, "GET /livez").await, 200, "ok\n"));
    assert!(
        (HEADER_TIMEOUT..LIFETIME).contains(&start.elapsed()),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn it_stops_when_told_and_the_port_is_free_again() {
    let server = start().await;
    let mut idle = connect(server.addr).await;
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .expect("sends");
    let mut first = [0; 15];
    idle.read_exact(&mut first).await.expect("answers");
    assert_eq!(&first, b"HTTP/1.1 200 OK");

    server.token.cancel();
    timeout(Duration::from_secs(30), server.task)
        .await
        .expect("in time")
        .expect("no panic");
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.expect("closed in order");
    TcpStream::connect(server.addr)
        .await
        .expect_err("nobody listens");
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error_that_names_it() {
    let server = start().await;
    let metrics = Metrics::new().expect("registers");
    let error = HttpServer::bind(server.addr, metrics, server.readiness.subscribe())
        .await
        .expect_err("taken");
    assert!(
        error
            .to_string()
            .starts_with(&format!("cannot listen on {}", server.addr))
    );
}
