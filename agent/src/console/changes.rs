//! The book of what changed in what lists show, for all consoles of the host together.
//!
//! Who changes a console notes it here, once, however many watch. A version is told to
//! clients as text that another agent, and this one after a restart, knows not to be its own.

use parking_lot::Mutex;
use tokio::sync::watch;

use super::metrics::ConsoleMetrics;
use crate::core::changes::{Changes, Follower, Step};
use crate::core::id::ConsoleId;

/// The most consoles that are remembered after they went. A watcher that was not told of
/// one by the time that it is forgotten begins anew.
pub const MAX_TOMBSTONES: usize = 4096;

/// One watcher's place in the book.
#[derive(Debug)]
pub struct Place(Follower<ConsoleId>);

/// What changed in what lists show.
#[derive(Debug)]
pub struct ChangeBook {
    /// A random number that stands for this book, and no other.
    run: u64,
    changes: Mutex<Changes<ConsoleId>>,
    /// Wakes the watchers.
    news: watch::Sender<u64>,
    metrics: ConsoleMetrics,
}

impl ChangeBook {
    pub(super) fn new(metrics: ConsoleMetrics) -> Self {
        Self {
            run: rand::random(),
            changes: Mutex::new(Changes::new(MAX_TOMBSTONES)),
            news: watch::Sender::new(0),
            metrics,
        }
    }

    /// Something that lists show of this console has changed: all but output, input and
    /// their times. To be called after the console's lock is let go.
    pub(super) fn changed(&self, console: &ConsoleId) {
        if self.changes.lock().change(console) {
            self.wake();
        }
    }

    /// These consoles are new, those are gone, and whether that is all there is. The
    /// directory is to say so already.
    pub(super) fn published(&self, new: &[ConsoleId], gone: &[&ConsoleId], all: bool) {
        let mut changes = self.changes.lock();
        new.iter().for_each(|console| changes.add(console.clone()));
        gone.iter().for_each(|console| changes.remove(console));
        if all {
            changes.complete();
        }
        self.metrics.tombstones.set(changes.tombstones() as i64);
        drop(changes);
        self.wake();
    }

    fn wake(&self) {
        self.news.send_modify(|count| *count += 1);
    }

    /// Changes whenever there may be something to tell.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// The place of a watcher that goes on after `version`, as [`ChangeBook::next`] gave it;
    /// empty: it knows nothing. With any other text it is told to begin anew.
    pub fn place(&self, version: &str) -> Place {
        let changes = self.changes.lock();
        if version.is_empty() {
            return Place(Follower::fresh(&changes));
        }
        Place(match self.parse(version) {
            Some(version) => Follower::after(&changes, version),
            None => Follower::unknown(&changes),
        })
    }

    /// Has what changed meanwhile told too.
    pub fn renew(&self, place: &mut Place) {
        place.0.renew(&self.changes.lock());
    }

    /// What a watcher at this place is to be told next, and the version after which it can go
    /// on then; empty: there is none yet. How a console is now, its directory says.
    pub fn next(&self, place: &mut Place) -> (Step<ConsoleId>, String) {
        let step = place.0.next(&self.changes.lock());
        if let Step::Reset(why) = &step {
            self.metrics.watch_reset(*why);
        }
        let version = place.0.version();
        (step, version.map(|it| self.text(it)).unwrap_or_default())
    }

    fn text(&self, version: u64) -> String {
        format!("{:016x}-{version:x}", self.run)
    }

    fn parse(&self, text: &str) -> Option<u64> {
        let (run, version) = text.split_once('-')?;
        let version = u64::from_str_radix(version, 16).ok()?;
        let run = u64::from_str_radix(run, 16).ok()?;
        (run == self.run).then_some(version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::scripted::id;
    use crate::metrics::Metrics;

    fn book() -> (ChangeBook, Metrics) {
        let registry = Metrics::new().unwrap();
        let metrics = ConsoleMetrics::register(registry.registry()).unwrap();
        (ChangeBook::new(metrics), registry)
    }

    fn synced(book: &ChangeBook, version: &str) -> (Vec<Step<ConsoleId>>, String) {
        let (mut place, mut steps) = (book.place(version), Vec::new());
        loop {
            let (step, version) = book.next(&mut place);
            steps.push(step.clone());
            if step == Step::Synced {
                return (steps, version);
            }
            assert!(steps.len() < 9, "{steps:?}");
        }
    }

    #[test]
    fn a_version_is_good_for_the_book_that_gave_it_alone() {
        let (book, registry) = book();
        book.published(&[id()], &[], true);
        let (_, version) = synced(&book, "");
        assert_eq!(synced(&book, &version).0, [Step::Synced]);
        let (another, _registry) = self::book();
        another.published(&[id()], &[], true);
        let foreign = synced(&another, "").1;
        for unknown in [
            foreign.as_str(),
            "0",
            "-",
            "ff-ff",
            &"9".repeat(9999),
            "é-1",
        ] {
            let (steps, _) = synced(&book, unknown);
            assert!(
                matches!(steps[..], [Step::Reset(_), _, Step::Synced]),
                "{steps:?}"
            );
        }
        let text = String::from_utf8(registry.render().unwrap()).unwrap();
        let line = "vmconsole_watch_resets_total{reason=\"unknown\"} 6\n";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn consoles_that_went_are_counted_up_to_their_limit() {
        let (book, registry) = book();
        let many = |number: usize| ConsoleId {
            alias: crate::core::id::Alias::new(&format!("serial{number}")).unwrap(),
            ..id()
        };
        let all: Vec<_> = (0..=MAX_TOMBSTONES).map(many).collect();
        book.published(&all, &[], true);
        book.published(&[], &all.iter().collect::<Vec<_>>(), true);
        let text = String::from_utf8(registry.render().unwrap()).unwrap();
        let line = format!("vmconsole_watch_tombstones {MAX_TOMBSTONES}\n");
        assert!(text.contains(&line), "{text}");
    }
}
