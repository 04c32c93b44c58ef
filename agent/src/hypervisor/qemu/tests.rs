//! The whole provider and QMP servers that no QEMU would be. Those of real QEMUs are in
//! `agent/tests/qemu`.

use std::path::Path;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::testing::started;
use super::*;
use crate::hypervisor::VmState;

/// How long anything may take on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// A provider that watches a directory of its own.
struct Host {
    hypervisor: Arc<QemuHypervisor>,
    directory: tempfile::TempDir,
    tasks: Tasks,
}

impl Host {
    /// Watches a directory `qmp` that is not there yet.
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tasks = Tasks::new();
        let hypervisor = started(directory.path().join("qmp"), Vec::new(), &tasks);
        Self {
            hypervisor,
            directory,
            tasks,
        }
    }

    fn make_directory(&self) {
        std::fs::create_dir_all(self.directory.path().join("qmp")).unwrap();
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join("qmp").join(name)
    }

    /// Waits until the inventory is as `wanted`.
    async fn until(&self, wanted: impl Fn(&Inventory) -> bool) -> Arc<Inventory> {
        let mut inventory = self.hypervisor.inventory();
        let found = timeout(SOON, inventory.wait_for(|now| wanted(now))).await;
        match found {
            Ok(found) => Arc::clone(&found.unwrap()),
            Err(_) => panic!(
                "not within {SOON:?}: {:?}",
                self.hypervisor.inventory.borrow()
            ),
        }
    }

    /// Has each connection to a socket of this name served by `serve`.
    fn serve<F, S>(&self, name: &str, serve: S) -> AbortOnDropHandle<()>
    where
        F: Future<Output = std::io::Result<()>> + Send + 'static,
        S: Fn(BufReader<UnixStream>, usize) -> F + Send + 'static,
    {
        let listener = UnixListener::bind(self.at(name)).unwrap();
        self.tasks.spawn_owned("fake QEMU", async move {
            let mut number = 0;
            while let Ok((stream, _)) = listener.accept().await {
                // It ends when the agent has had enough of it.
                let _ = serve(BufReader::new(stream), number).await;
                number += 1;
            }
        })
    }
}

/// What a well-behaved QEMU with one PTY console answers.
fn answer(uuid: u128, command: &str) -> String {
    match command {
        "query-uuid" => format!(r#"{{"UUID": "{}"}}"#, uuid::Uuid::from_u128(uuid)),
        "query-name" => r#"{"name": "fake"}"#.to_owned(),
        "query-status" => r#"{"status": "running", "running": true}"#.to_owned(),
        "query-chardev" => {
            r#"[{"label": "serial0", "filename": "pty:/dev/pts/0", "frontend-open": true}]"#
                .to_owned()
        }
        "qom-list" => "[]".to_owned(),
        _ => "{}".to_owned(),
    }
}

async fn greet(stream: &mut BufReader<UnixStream>) -> std::io::Result<()> {
    let greeting = br#"{"QMP": {"version": {}, "capabilities": []}}"#;
    stream.get_mut().write_all(greeting).await
}

/// The next command's name and number.
async fn hear(stream: &mut BufReader<UnixStream>) -> std::io::Result<(String, serde_json::Value)> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let command: serde_json::Value = serde_json::from_str(&line)?;
    let name = command["execute"].as_str().unwrap().to_owned();
    Ok((name, command["id"].clone()))
}

/// Answers the command of this number.
async fn tell(
    stream: &mut BufReader<UnixStream>,
    answer: &str,
    id: &serde_json::Value,
) -> std::io::Result<()> {
    let reply = format!(r#"{{"return": {answer}, "id": {id}}}"#);
    stream.get_mut().write_all(reply.as_bytes()).await
}

/// Answers one command, and tells which it was.
async fn reply(stream: &mut BufReader<UnixStream>, uuid: u128) -> std::io::Result<String> {
    let (name, id) = hear(stream).await?;
    tell(stream, &answer(uuid, &name), &id).await?;
    Ok(name)
}

async fn behave(mut stream: BufReader<UnixStream>, uuid: u128) -> std::io::Result<()> {
    greet(&mut stream).await?;
    behave_greeted(&mut stream, uuid).await
}

async fn behave_greeted(stream: &mut BufReader<UnixStream>, uuid: u128) -> std::io::Result<()> {
    loop {
        reply(stream, uuid).await?;
    }
}

fn vm(number: u128) -> VmUuid {
    VmUuid::new(uuid::Uuid::from_u128(number))
}

async fn flood(mut stream: BufReader<UnixStream>, what: &str) -> std::io::Result<()> {
    let what = what.repeat(64 * 1024 / what.len() + 1);
    loop {
        stream.get_mut().write_all(what.as_bytes()).await?;
    }
}

async fn greet_and_flood(mut stream: BufReader<UnixStream>, what: &str) -> std::io::Result<()> {
    greet(&mut stream).await?;
    flood(stream, what).await
}

#[tokio::test]
async fn hostile_peers_keep_nobody_from_being_served() {
    let host = Host::start();
    host.make_directory();
    let _peers = (
        host.serve("silent", async |mut stream: BufReader<UnixStream>, _| {
            stream.read_to_end(&mut Vec::new()).await.map(|_| ())
        }),
        host.serve("long", |stream, _| flood(stream, "{\"QMP\": \"x")),
        host.serve("garbage", |stream, _| flood(stream, "\u{0}\u{ff}hello")),
        host.serve("deep", |stream, _| flood(stream, "{\"a\":[")),
        host.serve("unasked", |stream, _| {
            greet_and_flood(stream, "{\"return\": {}, \"id\": 77}\n")
        }),
        host.serve("events", |stream, _| {
            greet_and_flood(stream, "{\"event\": \"STOP\"}\n")
        }),
        host.serve("closes", async |_, _| Ok(())),
    );
    let _good = host.serve("good", |stream, _| behave(stream, 1));
    let served = host
        .until(|now| now.vms.contains_key(&vm(1)) && now.synced)
        .await;
    assert_eq!(served.vms.len(), 1);
    assert!(served.connected);
    assert!(served.stale.is_empty());
    let trouble = &served.providers[0].trouble;
    assert!(trouble.contains("is not served"), "{trouble}");
    assert!(
        host.hypervisor
            .shared
            .counters
            .breaches
            .load(std::sync::atomic::Ordering::Relaxed)
            >= 3
    );
    // Its monitor answers all the while.
    host.hypervisor.inject_nmi(vm(1)).await.unwrap();
}

#[tokio::test]
async fn a_directory_may_come_late_and_go() {
    let host = Host::start();
    let before = host.until(|now| now.connected && now.synced).await;
    assert!(before.vms.is_empty());
    assert!(before.providers[0].trouble.contains("does not exist"));
    host.make_directory();
    let peer = host.serve("a", |stream, _| behave(stream, 1));
    let served = host.until(|now| now.vms.contains_key(&vm(1))).await;
    assert_eq!(served.vms[&vm(1)].name.as_ref(), "fake");
    assert_eq!(served.providers[0].trouble, "");
    std::fs::rename(host.at(""), host.directory.path().join("old")).unwrap();
    let gone = host.until(|now| !now.providers[0].trouble.is_empty()).await;
    assert!(gone.vms.contains_key(&vm(1)), "its QEMU still answers");
    drop(peer);
    let lost = host.until(|now| !now.stale.is_empty()).await;
    assert!(lost.vms.contains_key(&vm(1)), "its process still lives");
}

#[tokio::test]
async fn a_qemu_that_stops_answering_is_stale_until_its_answer_comes() {
    let host = Host::start();
    host.make_directory();
    let (hang, hung) = mpsc::channel::<()>(1);
    let hung = Arc::new(tokio::sync::Mutex::new(hung));
    let _peer = host.serve("a", move |mut stream, _| {
        let hung = Arc::clone(&hung);
        async move {
            greet(&mut stream).await?;
            let mut signal = hung.lock().await;
            loop {
                tokio::select! {
                    done = reply(&mut stream, 1) => { done?; }
                    _ = signal.recv() => {
                        stream.get_mut().write_all(b"{\"event\": \"STOP\"}").await?;
                        signal.recv().await;
                    }
                }
            }
        }
    });
    host.until(|now| now.vms.contains_key(&vm(1))).await;
    hang.send(()).await.unwrap();
    let stale = host.until(|now| now.stale.contains_key(&vm(1))).await;
    let why = &stale.stale[&vm(1)];
    assert!(why.contains("did not answer"), "{why}");
    assert!(stale.vms[&vm(1)].instance.is_some());
    hang.send(()).await.unwrap();
    host.until(|now| now.stale.is_empty()).await;
}

#[tokio::test]
async fn a_peer_may_change_its_mind() {
    let host = Host::start();
    host.make_directory();
    let _peer = host.serve("a", async |mut stream: BufReader<UnixStream>, number| {
        greet(&mut stream).await?;
        let uuid = if number == 0 { 1 } else { 2 };
        // Once the devices were asked for, everything was told.
        let mut lists = 0;
        while number > 0 || lists < 3 {
            lists += usize::from(reply(&mut stream, uuid).await? == "qom-list");
        }
        Ok(())
    });
    host.until(|now| now.vms.contains_key(&vm(1))).await;
    let changed = host
        .until(|now| now.vms.contains_key(&vm(2)) && now.stale.is_empty())
        .await;
    assert_eq!(changed.vms.len(), 1);
    assert_eq!(changed.vms[&vm(2)].state, VmState::Running);
}

#[tokio::test]
async fn what_is_for_one_qemu_is_not_done_to_its_successor() {
    let host = Host::start();
    host.make_directory();
    let (next, step) = mpsc::channel::<()>(4);
    let step = Arc::new(tokio::sync::Mutex::new(step));
    let (asked, mut was_asked) = mpsc::channel::<String>(64);
    let _peer = host.serve("a", move |mut stream, number| {
        let (step, asked) = (Arc::clone(&step), asked.clone());
        async move {
            greet(&mut stream).await?;
            if number == 0 {
                tokio::select! {
                    ended = behave_greeted(&mut stream, 1) => return ended,
                    _ = async { step.lock().await.recv().await } => return Ok(()),
                }
            }
            reply(&mut stream, 2).await?;
            asked.send("greeted".to_owned()).await.unwrap();
            step.lock().await.recv().await;
            loop {
                asked.send(reply(&mut stream, 2).await?).await.unwrap();
            }
        }
    });
    host.until(|now| now.vms.contains_key(&vm(1))).await;
    next.send(()).await.unwrap();
    assert_eq!(was_asked.recv().await.as_deref(), Some("greeted"));
    // The other one is connected, and did not tell yet that it is another.
    let (outcome, _) = tokio::join!(host.hypervisor.inject_nmi(vm(1)), next.send(()));
    assert!(
        matches!(outcome, Err(EffectError::NotDone(_))),
        "{outcome:?}"
    );
    host.until(|now| now.vms.contains_key(&vm(2))).await;
    host.hypervisor.inject_nmi(vm(2)).await.unwrap();
    let mut interrupts = 0;
    while let Ok(command) = was_asked.try_recv() {
        interrupts += usize::from(command == "inject-nmi");
    }
    assert_eq!(interrupts, 1, "its own alone");
}

#[tokio::test]
async fn nothing_is_done_to_a_qemu_that_did_not_tell_what_it_is() {
    let host = Host::start();
    host.make_directory();
    let (asked, mut was_asked) = mpsc::channel::<()>(64);
    let silent = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_silent = Arc::clone(&silent);
    let _peer = host.serve("a", move |mut stream, number| {
        let (silent, asked) = (Arc::clone(&is_silent), asked.clone());
        async move {
            greet(&mut stream).await?;
            reply(&mut stream, 1).await?;
            if number == 0 {
                // Once the devices were asked for, everything was told.
                let mut lists = 0;
                while lists < 3 {
                    lists += usize::from(reply(&mut stream, 1).await? == "qom-list");
                }
                return Ok(());
            }
            let mut line = String::new();
            while stream.read_line(&mut line).await? > 0 {
                if line.contains("inject-nmi") {
                    silent.store(true, std::sync::atomic::Ordering::Relaxed);
                }
                asked.send(()).await.unwrap();
                line.clear();
            }
            Ok(())
        }
    });
    host.until(|now| now.stale.contains_key(&vm(1))).await;
    was_asked.recv().await.unwrap();
    let until_silent = host.until(|now| {
        let why = now.stale.get(&vm(1));
        why.is_some_and(|why| why.contains("did not answer"))
    });
    until_silent.await;
    let outcome = host.hypervisor.inject_nmi(vm(1)).await;
    assert!(
        matches!(outcome, Err(EffectError::NotDone(_))),
        "{outcome:?}"
    );
    assert!(!silent.load(std::sync::atomic::Ordering::Relaxed));
}

#[tokio::test]
async fn who_breaks_the_protocol_again_and_again_is_tried_ever_less_often() {
    let host = Host::start();
    host.make_directory();
    let (connected, mut connections) = mpsc::channel::<std::time::Instant>(64);
    let _peer = host.serve("a", move |mut stream, _| {
        let connected = connected.clone();
        async move {
            connected.send(std::time::Instant::now()).await.unwrap();
            greet(&mut stream).await?;
            // Once the devices were asked for, everything was told.
            let mut lists = 0;
            while lists < 3 {
                lists += usize::from(reply(&mut stream, 1).await? == "qom-list");
            }
            stream.get_mut().write_all(b"nonsense").await
        }
    });
    let mut times = Vec::new();
    while times.len() < 6 {
        let next = timeout(SOON, connections.recv()).await.expect("in time");
        times.push(next.unwrap());
    }
    let between = times[5] - times[0];
    // Of 100, 200, 400, 800 and 1600 ms half at least.
    assert!(between >= Duration::from_millis(1550), "{between:?}");
}

#[tokio::test]
async fn what_lies_at_a_served_sockets_path_is_reported_and_served_next() {
    let host = Host::start();
    host.make_directory();
    let first = host.serve("a", |stream, _| behave(stream, 1));
    host.until(|now| now.vms.contains_key(&vm(1))).await;
    std::fs::remove_file(host.at("a")).unwrap();
    let _second = host.serve("a", |stream, _| behave(stream, 2));
    let both = host.until(|now| !now.providers[0].trouble.is_empty()).await;
    let trouble = &both.providers[0].trouble;
    assert!(trouble.contains("another socket"), "{trouble}");
    assert!(both.stale.is_empty(), "the first one answers");
    host.hypervisor.inject_nmi(vm(1)).await.unwrap();
    drop(first);
    let after = host.until(|now| now.vms.contains_key(&vm(2))).await;
    assert_eq!(after.providers[0].trouble, "");
}

#[tokio::test]
async fn a_property_of_an_unexpected_type_costs_that_console_alone() {
    let host = Host::start();
    host.make_directory();
    let _peer = host.serve("a", async |mut stream: BufReader<UnixStream>, _| {
        greet(&mut stream).await?;
        let mut gets = 0;
        loop {
            let (name, id) = hear(&mut stream).await?;
            let devices = r#"[{"name": "a", "type": "child<pci-serial>"},
                {"name": "b", "type": "child<pci-serial>"},
                {"name": "c", "type": "child<pci-serial>"}]"#;
            let answer = match name.as_str() {
                "qom-list" if gets == 0 => devices.to_owned(),
                "qom-get" => {
                    gets += 1;
                    ["null", "7", r#""serial0""#][(gets - 1) % 3].to_owned()
                }
                _ => answer(1, &name),
            };
            tell(&mut stream, &answer, &id).await?;
        }
    });
    let served = host.until(|now| now.vms.contains_key(&vm(1))).await;
    assert_eq!(served.vms[&vm(1)].consoles.len(), 1);
}

#[tokio::test]
async fn what_is_no_trustworthy_socket_is_reported_and_left_alone() {
    let host = Host::start();
    host.make_directory();
    let peer = host.serve("real", |stream, _| behave(stream, 1));
    host.until(|now| now.vms.contains_key(&vm(1))).await;
    // Swapped while in use.
    std::fs::rename(host.at("real"), host.directory.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(host.directory.path().join("elsewhere"), host.at("real")).unwrap();
    std::fs::write(host.at("file"), "").unwrap();
    drop(peer);
    let lost = host.until(|now| now.stale.contains_key(&vm(1))).await;
    let swapped = host.until(|now| {
        now.stale
            .get(&vm(1))
            .is_some_and(|why| why.contains("symbolic link"))
    });
    swapped.await;
    assert_eq!(lost.vms.len(), 1);
}

#[tokio::test]
async fn a_display_that_takes_no_connection_is_reached_by_nothing_that_stays_behind() {
    let host = Host::start();
    host.make_directory();
    let (asked, mut was_asked) = mpsc::channel::<String>(64);
    let _peer = host.serve("a", move |mut stream, _| {
        let asked = asked.clone();
        async move {
            greet(&mut stream).await?;
            loop {
                let (name, id) = hear(&mut stream).await?;
                let answer = match name.as_str() {
                    "query-vnc-servers" => r#"[{"id": "default", "server": []}]"#.to_owned(),
                    "add_client" => {
                        let error = r#"{"class": "CommandNotFound", "desc": "no such thing"}"#;
                        let reply = format!(r#"{{"error": {error}, "id": {id}}}"#);
                        stream.get_mut().write_all(reply.as_bytes()).await?;
                        continue;
                    }
                    "getfd" | "closefd" => {
                        asked.send(name.clone()).await.unwrap();
                        "{}".to_owned()
                    }
                    _ => answer(1, &name),
                };
                tell(&mut stream, &answer, &id).await?;
            }
        }
    });
    let served = host.until(|now| now.vms.contains_key(&vm(1))).await;
    let consoles = &served.vms[&vm(1)].consoles;
    let aliases: Vec<_> = consoles.iter().map(|it| it.alias.as_str()).collect();
    assert_eq!(aliases, ["serial0", "vnc0"]);
    let display = ConsoleId {
        vm: vm(1),
        alias: consoles[1].alias.clone(),
    };
    let refused = host.hypervisor.open_display(&display).await;
    let expected = EndpointError::Unsupported("no such thing".to_owned());
    assert_eq!(refused.unwrap_err(), expected);
    assert_eq!(was_asked.try_recv().as_deref(), Ok("getfd"));
    assert_eq!(was_asked.try_recv().as_deref(), Ok("closefd"));
    assert!(was_asked.try_recv().is_err());
}

#[tokio::test]
async fn a_stop_ends_everything() {
    let host = Host::start();
    host.make_directory();
    let peer = host.serve("a", |stream, _| behave(stream, 1));
    host.until(|now| now.vms.contains_key(&vm(1))).await;
    drop(peer);
    host.tasks.close();
    assert!(host.tasks.drained(SOON).await);
    let outcome = host.hypervisor.inject_nmi(vm(1)).await;
    assert_eq!(outcome, Err(EffectError::NotRunning));
    assert!(Path::new(&host.at("a")).exists(), "the socket is QEMU's");
}
