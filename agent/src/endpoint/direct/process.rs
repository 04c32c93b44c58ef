//! Finds the process that has something open, as far as the agent's rights allow: of other
//! users' processes an unprivileged agent sees no descriptors. It reads `/proc` and no more, one
//! look at a time and on a thread for such work.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Mutex as Turn;

use crate::endpoint::Holder;
use crate::shutdown::Tasks;

/// The most processes, and the most descriptors of all of them, that are looked at.
const MAX_PROCESSES: usize = 1 << 16;
const MAX_DESCRIPTORS: usize = 1 << 20;

/// How long one look may take. What was not found until then counts as not open.
const LOOK_WITHIN: Duration = Duration::from_millis(800);

/// The longest name of a command that is told, in bytes.
const MAX_COMMAND: usize = 64;

type Holders = HashMap<PathBuf, Holder>;

/// Looks through the host's processes, for all who ask in one look: hundreds of terminals are
/// attached at once when an agent starts.
#[derive(Debug)]
pub(super) struct Search {
    tasks: Tasks,
    asked: Mutex<Asked>,
    last: Arc<Turn<Look>>,
}

/// What no look was begun for yet.
#[derive(Debug, Default)]
struct Asked {
    targets: HashSet<PathBuf>,
    /// Counts those who asked.
    number: u64,
}

/// A look that came to its end.
#[derive(Debug, Default)]
struct Look {
    /// It was begun after so many had asked.
    asked: u64,
    found: Holders,
}

impl Search {
    /// Looks on threads among `tasks`.
    pub(super) fn new(tasks: Tasks) -> Self {
        Self {
            tasks,
            asked: Mutex::default(),
            last: Arc::default(),
        }
    }

    /// The process other than this one with a descriptor that leads to `target`, as the links in
    /// `/proc/PID/fd` say it: `socket:[INODE]`, or a path. It is looked for after this is called,
    /// within the time of two looks.
    ///
    /// # Cancel safety
    /// Nothing is changed by it. A look that was begun goes on.
    pub(super) async fn with_open(&self, target: &Path) -> Option<Holder> {
        self.found_by(target, look).await
    }

    async fn found_by(
        &self,
        target: &Path,
        look: impl FnOnce(HashSet<PathBuf>) -> Holders + Send + 'static,
    ) -> Option<Holder> {
        let number = {
            let mut asked = self.asked.lock();
            asked.targets.insert(target.to_owned());
            asked.number += 1;
            asked.number
        };
        let mut last = Arc::clone(&self.last).lock_owned().await;
        if last.asked < number {
            let (targets, asked) = {
                let mut asked = self.asked.lock();
                (std::mem::take(&mut asked.targets), asked.number)
            };
            // Its turn goes with it, so that no other begins if nobody waits for it any more.
            let work = move || {
                let found = look(targets);
                *last = Look { asked, found };
                last
            };
            last = self.tasks.compute("holder", work).await.ok()?;
        }
        last.found.get(target).cloned()
    }
}

/// Who has each of `wanted` open.
fn look(mut wanted: HashSet<PathBuf>) -> Holders {
    let begun = Instant::now();
    let in_time = || begun.elapsed() < LOOK_WITHIN;
    let mut found = Holders::new();
    let processes = processes().take(MAX_PROCESSES).take_while(|_| in_time());
    let open = processes.flat_map(open_by).take(MAX_DESCRIPTORS);
    for (process, leads_to) in open.take_while(|_| in_time()) {
        if wanted.contains(&leads_to)
            && let Some(holder) = holder(process)
        {
            wanted.remove(&leads_to);
            found.insert(leads_to, holder);
        }
        if wanted.is_empty() {
            break;
        }
    }
    if !in_time() {
        tracing::warn!("not all processes were looked at within {LOOK_WITHIN:?}");
    }
    found
}

/// What the descriptors of a process lead to; nothing if it ended, or is none of ours to look
/// into.
fn open_by(process: u32) -> impl Iterator<Item = (u32, PathBuf)> {
    let descriptors = fs::read_dir(format!("/proc/{process}/fd"));
    let descriptors = descriptors.into_iter().flatten().flatten();
    descriptors.filter_map(move |it| Some((process, fs::read_link(it.path()).ok()?)))
}

/// The link that a descriptor of the socket with this inode has.
pub(super) fn socket_link(inode: u32) -> PathBuf {
    PathBuf::from(format!("socket:[{inode}]"))
}

fn processes() -> impl Iterator<Item = u32> {
    let own = std::process::id();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(move |process| *process != own)
}

/// What is known of a living process; `None` if there is none of this id.
pub(super) fn holder(process: u32) -> Option<Holder> {
    let place = PathBuf::from(format!("/proc/{process}"));
    let user = fs::metadata(&place).ok()?.uid();
    let command = fs::read(place.join("comm")).unwrap_or_default();
    Some(Holder {
        process,
        command: printable(&command),
        user,
    })
}

/// A name that anybody may choose, fit to be shown.
fn printable(name: &[u8]) -> String {
    let name = name.strip_suffix(b"\n").unwrap_or(name);
    let shown = name.iter().take(MAX_COMMAND).map(|byte| match byte {
        b' '..=b'~' => char::from(*byte),
        _ => '?',
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn names_are_shown_printable_and_short() {
        assert_eq!(printable(b"virsh\n"), "virsh");
        assert_eq!(printable(b"a\x1b[2J\xff\n"), "a?[2J?");
        assert_eq!(printable(&[b'x'; 500]).len(), MAX_COMMAND);
    }

    #[test]
    fn a_process_that_is_not_there_holds_nothing() {
        assert_eq!(holder(u32::MAX), None);
        let own = holder(std::process::id()).unwrap();
        assert_eq!(own.user, nix::unistd::geteuid().as_raw());
        assert!(!own.command.is_empty());
    }

    #[tokio::test]
    async fn a_child_is_found_by_what_it_has_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("open");
        let file = fs::File::create(&path).unwrap();
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .stdout(file)
            .spawn()
            .unwrap();
        let search = Search::new(Tasks::new());
        let found = search.with_open(&path).await;
        drop(child.stdin.take());
        child.wait().unwrap();
        let found = found.unwrap();
        assert_eq!(found.process, child.id());
        assert_eq!(search.with_open(&path).await, None);
    }

    const SOON: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_look_that_takes_its_time_keeps_no_task_from_running() {
        let tasks = Tasks::new();
        let search = Search::new(tasks.clone());
        let (go_on, waits) = std::sync::mpsc::sync_channel(1);
        let look = move |_| {
            waits.recv_timeout(SOON).expect("others run meanwhile");
            Holders::new()
        };
        tasks.spawn("other", async move { go_on.send(()).unwrap() });
        assert_eq!(search.found_by(Path::new("/x"), look).await, None);
        assert!(tasks.drained(SOON).await);
    }

    #[tokio::test]
    async fn those_who_ask_during_a_look_share_the_next_and_no_two_look_at_once() {
        let search = Search::new(Tasks::new());
        let (go_on, waits) = std::sync::mpsc::sync_channel(1);
        let first = move |targets: HashSet<PathBuf>| {
            assert_eq!(targets.len(), 1);
            waits.recv_timeout(SOON).unwrap();
            Holders::new()
        };
        let mut abandoned = Box::pin(search.found_by(Path::new("/first"), first));
        assert!(abandoned.as_mut().now_or_never().is_none());
        drop(abandoned);
        let looks = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let ours = holder(std::process::id()).unwrap();
        let mut asking = Vec::new();
        for number in 0..100 {
            let (looks, ours) = (looks.clone(), ours.clone());
            let look = move |targets: HashSet<PathBuf>| {
                looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let found = targets.into_iter().map(|target| (target, ours.clone()));
                found.collect()
            };
            let (search, path) = (&search, PathBuf::from(format!("/x/{number}")));
            asking.push(async move { search.found_by(&path, look).await });
        }
        let mut asking = Box::pin(futures_util::future::join_all(asking));
        assert!(asking.as_mut().now_or_never().is_none());
        assert_eq!(looks.load(std::sync::atomic::Ordering::Relaxed), 0);
        go_on.send(()).unwrap();
        let found = tokio::time::timeout(SOON, asking).await.unwrap();
        assert!(found.iter().all(|it| it.as_ref() == Some(&ours)));
        assert_eq!(looks.load(std::sync::atomic::Ordering::Relaxed), 1);
    }
}
