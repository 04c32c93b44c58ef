//! Whatever lists show of a console and has changed is noted for who watches.

use super::*;
use crate::core::changes::Step;

/// A watcher that keeps what it is told.
struct Watcher {
    book: Arc<ChangeBook>,
    place: Place,
    console: Arc<Console>,
    told: Option<Status>,
}

fn listed(console: &Console) -> Status {
    Status {
        oldest: None,
        head: None,
        last_output: None,
        last_input: None,
        ..console.status()
    }
}

impl Watcher {
    fn new(host: &Host, console: Arc<Console>) -> Self {
        let book = host.book.clone();
        let place = book.place("");
        Self {
            book,
            place,
            console,
            told: None,
        }
    }

    /// How often it is told of the console until there is nothing more to tell.
    fn hear(&mut self) -> usize {
        self.book.renew(&mut self.place);
        let mut times = 0;
        loop {
            match self.book.next(&mut self.place).0 {
                Step::Nothing => return times,
                Step::Changed { .. } => {
                    self.told = Some(listed(&self.console));
                    times += 1;
                }
                Step::Synced => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Lets everything come about that is under way, listening now and then.
    async fn is_up_to_date(&mut self) {
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            self.hear();
            assert_eq!(self.told, Some(listed(&self.console)));
        }
    }
}

fn is_now(host: &Host, vm: crate::hypervisor::Vm) {
    host.inventory.send_replace(inventory([vm]));
}

#[tokio::test(start_paused = true)]
async fn a_watcher_is_told_whatever_changes_and_nothing_twice() {
    let mut host = Host::start(Some(1), 1024);
    let console = host.console().await;
    let mut watcher = Watcher::new(&host, console.clone());
    let sink = host.script.attached().await;
    watcher.is_up_to_date().await;
    sink.output(b"not silent any more");
    assert_eq!(watcher.hear(), 1);
    sink.output(b"but that is all");
    assert_eq!(watcher.hear(), 0);

    let typist = request(Some(Claim::IfFree));
    let writer = console.join(typist.clone()).expect("joins");
    assert_eq!(watcher.hear(), 1);
    type_in(&console, &typist, &writer, 0, b"wedged");
    tokio::time::sleep(Duration::from_secs(6)).await;
    watcher.is_up_to_date().await;
    host.appetite.add_permits(99);
    watcher.is_up_to_date().await;
    drop(writer);
    watcher.is_up_to_date().await;

    let error = EndpointError::Unreachable("hangs".to_owned());
    host.script.refusals.lock().push_back(error);
    sink.ended(EndpointEnd::Lost("libvirtd went away".to_owned()));
    watcher.is_up_to_date().await;
    is_now(&host, vm(None));
    watcher.is_up_to_date().await;
    host.script
        .hangs
        .store(true, std::sync::atomic::Ordering::Relaxed);
    // The second is new in nothing but its generation.
    for instance in [2, 3] {
        is_now(&host, vm(Some(instance)));
        watcher.is_up_to_date().await;
    }
    let mut renamed = vm(Some(3));
    renamed.name = "another".into();
    is_now(&host, renamed.clone());
    watcher.is_up_to_date().await;
    assert_eq!(watcher.hear(), 0);
    // Lists do not show whether their source is connected.
    let mut stale = Inventory::clone(&inventory([renamed]));
    stale.connected = false;
    host.inventory.send_replace(Arc::new(stale));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(watcher.hear(), 0);
}
