//! What the agent tells monitoring: promtool finds no fault in it, and a real Prometheus
//! reads it.

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::chown;
use tempfile::TempDir;
use vmconsole_proto::v1;
use vmconsole_tests::client::open;
use vmconsole_tests::process::Process;
use vmconsole_tests::{scrape, setup, user, wait};

use crate::host::{BOUND, Host, run};

/// Sessions that the test opens.
const SESSIONS: f64 = 3.0;

/// How often Prometheus asks the agent.
const CONFIG: &str = "\
global:
  scrape_interval: 1s
  scrape_timeout: 1s
scrape_configs:
  - job_name: vmconsole-agent
    static_configs:
      - targets: [\"AGENT\"]
";

/// A Prometheus with a configuration and a storage of its own, on the loopback.
struct Prometheus {
    process: Process,
    api: SocketAddr,
    _dir: TempDir,
}

impl Prometheus {
    /// Starts one that scrapes `agent`, and waits until it listens.
    fn start(agent: SocketAddr) -> Self {
        let dir = tempfile::Builder::new()
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir()
            .unwrap();
        let (config, storage) = (dir.path().join("config.yml"), dir.path().join("storage"));
        std::fs::write(&config, CONFIG.replace("AGENT", &agent.to_string())).unwrap();
        std::fs::create_dir(&storage).unwrap();
        let user = user::lookup();
        chown(&storage, Some(user.uid), Some(user.gid)).unwrap();
        let mut process = Process::spawn("prometheus", command(&config, &storage));
        let api = wait::value("Prometheus to listen", BOUND, || {
            assert!(process.try_wait().is_none(), "{}", process.stderr());
            listening(&process.stderr())
        });
        Self {
            process,
            api,
            _dir: dir,
        }
    }

    /// The value of the one series that `query` yields; `None` where there is none yet.
    async fn value(&self, query: &str) -> Option<f64> {
        let path = format!("/api/v1/query?query={query}");
        let (head, body) = scrape::get(self.api, &path).await.ok()?;
        if !head.starts_with("HTTP/1.1 200") {
            return None;
        }
        let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(answer["status"], "success", "{body}");
        let series = answer["data"]["result"].as_array().unwrap();
        assert!(series.len() <= 1, "{body}");
        let value = series.first()?["value"][1].as_str().unwrap();
        Some(value.parse().unwrap())
    }

    /// Waits until `query` yields `wanted`.
    async fn shows(&self, query: &str, wanted: f64) {
        let mut last = None;
        let waiting = async {
            while last != Some(wanted) {
                last = self.value(query).await;
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        };
        if tokio::time::timeout(BOUND, waiting).await.is_err() {
            let log = self.process.stderr();
            panic!("{query} is {last:?} and not {wanted}\n{log}");
        }
    }
}

fn command(config: &Path, storage: &Path) -> Command {
    let mut command = user::command_as(setup::program("prometheus"));
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", storage.display()))
        .arg("--web.listen-address=127.0.0.1:0")
        .current_dir("/");
    command
}

/// The address of the log line in which Prometheus tells where it listens.
fn listening(log: &str) -> Option<SocketAddr> {
    let line = log.lines().find(|line| line.contains("\"Listening on\""))?;
    let (_, address) = line.rsplit_once("address=")?;
    address.trim().parse().ok()
}

/// Hands the agent's metrics to promtool, which is to be silent.
async fn assert_promtool_is_content(host: &Host) {
    let (head, metrics) = scrape::get(host.agent.http(), "/metrics").await.unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(metrics.contains("\nvmconsole_sessions_opened_total"));
    let mut promtool = Command::new(setup::program("promtool"))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = promtool.stdin.take().unwrap();
    stdin.write_all(metrics.as_bytes()).unwrap();
    drop(stdin);
    let ended = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{}: {said}", ended.status);
    assert_eq!(said, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_sees_every_session_opened_and_closed() {
    let host = Host::start();
    let prometheus = Prometheus::start(host.agent.http());
    let guest = host.guest("monitored");
    let client = host.client().await;
    assert_promtool_is_content(&host).await;

    let mut writer = host.shell(&client, guest.name()).await;
    let mut viewers = Vec::new();
    for _ in 1..SESSIONS as usize {
        let viewer = open(guest.name(), v1::Mode::View);
        viewers.push(host.attach(&client, viewer).await);
    }
    run(&mut writer.send, &mut writer.receive, "seq 1 100").await;
    assert_promtool_is_content(&host).await;
    prometheus.shows("up", 1.0).await;
    let (opened, closed) = (
        "sum(vmconsole_sessions_opened_total)",
        "sum(vmconsole_sessions_closed_total)",
    );
    prometheus.shows(opened, SESSIONS).await;
    prometheus
        .shows("sum(vmconsole_sessions_active)", SESSIONS)
        .await;
    prometheus.shows(closed, 0.0).await;

    writer.detach(BOUND).await;
    for viewer in viewers {
        viewer.detach(BOUND).await;
    }
    host.settled().await;
    assert_promtool_is_content(&host).await;
    prometheus.shows(closed, SESSIONS).await;
    prometheus.shows(opened, SESSIONS).await;
    prometheus
        .shows("sum(vmconsole_sessions_active)", 0.0)
        .await;
    let detached = "sum(vmconsole_sessions_closed_total{reason=\"CLIENT_DETACHED\"})";
    let detached = detached
        .replace('"', "%22")
        .replace('{', "%7B")
        .replace('}', "%7D");
    prometheus.shows(&detached, SESSIONS).await;
}
