//! Reads an agent's HTTP pages, and its metrics as numbers.
//!
//! No more of HTTP than that takes: one request, read to the end.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Pause between two looks at the metrics.
const PAUSE: Duration = Duration::from_millis(20);

/// Gets `path`: status line and headers, and the body.
///
/// # Errors
/// The socket's.
pub async fn get(address: SocketAddr, path: &str) -> io::Result<(String, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| io::Error::other("no HTTP answer"))?;
    Ok((head.to_owned(), body.to_owned()))
}

/// All metrics of an agent at a moment.
#[derive(Clone, Debug)]
pub struct Scrape {
    text: String,
}

impl Scrape {
    /// Reads `/metrics`.
    ///
    /// # Errors
    /// The socket's.
    pub async fn take(address: SocketAddr) -> io::Result<Self> {
        let (_, text) = get(address, "/metrics").await?;
        Ok(Self { text })
    }

    /// The sum of all series of `name` whose labels contain `labels` (`reason="…"`, or
    /// nothing for all); 0 if there is none.
    pub fn sum(&self, name: &str, labels: &str) -> f64 {
        let series = self.text.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let rest = series.strip_prefix(name)?;
            let whole = rest.is_empty() || rest.starts_with('{');
            (whole && rest.contains(labels)).then(|| value.parse::<f64>().ok())?
        });
        series.sum()
    }
}

/// Waits until as many sessions were closed as were opened, and returns how many.
///
/// # Panics
/// When they are not within `bound`, or the metrics cannot be read.
pub async fn sessions_settled(address: SocketAddr, bound: Duration) -> f64 {
    let deadline = Instant::now() + bound;
    loop {
        let late = Instant::now() >= deadline;
        let scrape = Scrape::take(address).await.expect("metrics can be read");
        let opened = scrape.sum("vmconsole_sessions_opened_total", "");
        let closed = scrape.sum("vmconsole_sessions_closed_total", "");
        let active = scrape.sum("vmconsole_sessions_active", "");
        if opened == closed && active == 0.0 {
            return opened;
        }
        assert!(
            !late,
            "{opened} sessions opened, {closed} closed, {active} active after {bound:?}"
        );
        tokio::time::sleep(PAUSE).await;
    }
}
