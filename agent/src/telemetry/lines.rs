//! The queue between those who log and the one thread that writes.
//!
//! Whoever logs copies a line under a short lock and goes on. When the queue is full the
//! line is lost; how many were is counted, and written as a line of its own as soon as
//! there is room.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use prometheus::IntCounter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::LogFormat;

/// How many lines are queued at most.
const MAX_LINES: usize = 1024;
/// The longest line, in bytes; a longer one is cut. With [`MAX_LINES`] it bounds the
/// queue's memory at 8 MiB, and as much again while that is being written.
const MAX_LINE_BYTES: usize = 8192;

/// A handle on the queue. The thread ends with the process.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// Signalled when a line was queued.
    filled: Condvar,
    /// Signalled when all lines are written.
    emptied: Condvar,
    lost: IntCounter,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    /// Lost since the last line that told of it.
    untold: u64,
    /// Whether the thread holds lines that it has not written yet.
    is_writing: bool,
}

impl Lines {
    /// Starts a thread that writes to `to`.
    ///
    /// # Errors
    /// The thread could not be started.
    pub(super) fn start<W>(to: W, format: LogFormat) -> io::Result<Self>
    where
        W: Write + Send + 'static,
    {
        let name = "vmconsole_log_lines_lost_total";
        let help = "Log lines that were lost because nobody read them fast enough.";
        let lost = IntCounter::new(name, help).map_err(io::Error::other)?;
        let (queue, filled, emptied) = (Mutex::default(), Condvar::new(), Condvar::new());
        let shared = Arc::new(Shared {
            queue,
            filled,
            emptied,
            lost,
        });
        let lines = Self {
            shared: Arc::clone(&shared),
        };
        std::thread::Builder::new()
            .name("log".into())
            .spawn(move || drain(&shared, to, format))?;
        Ok(lines)
    }

    /// The count of lost lines.
    pub(super) fn lost(&self) -> &IntCounter {
        &self.shared.lost
    }

    /// Waits until what is queued is written, or until `patience` ends; says which.
    pub(super) fn flush(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let mut queue = self.shared.queue.lock();
        while !queue.lines.is_empty() || queue.is_writing {
            if self
                .shared
                .emptied
                .wait_until(&mut queue, until)
                .timed_out()
            {
                return false;
            }
        }
        true
    }
}

impl Write for Lines {
    /// Takes one event, whole: the layer above writes each with one call. Never blocks on
    /// whoever reads the log, and never fails.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut copy = line[..line.len().min(MAX_LINE_BYTES)].to_vec();
        if copy.len() < line.len() {
            copy.pop();
            copy.push(b'\n');
        }
        let mut queue = self.shared.queue.lock();
        if queue.lines.len() < MAX_LINES {
            queue.lines.push_back(copy);
            self.shared.filled.notify_one();
        } else {
            queue.untold += 1;
            self.shared.lost.inc();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Writes whatever is queued, as long as the process lives.
fn drain(shared: &Shared, mut to: impl Write, format: LogFormat) {
    loop {
        let (lines, lost) = {
            let mut queue = shared.queue.lock();
            queue.is_writing = false;
            while queue.lines.is_empty() {
                shared.emptied.notify_all();
                shared.filled.wait(&mut queue);
            }
            queue.is_writing = true;
            (
                std::mem::take(&mut queue.lines),
                std::mem::take(&mut queue.untold),
            )
        };
        for line in lines {
            if to.write_all(&line).is_err() {
                shared.lost.inc();
            }
        }
        // These lines were lost after the ones above were queued.
        if lost > 0 && to.write_all(notice(lost, format).as_bytes()).is_err() {
            shared.lost.inc();
        }
    }
}

/// A line that tells of lost ones.
fn notice(lost: u64, format: LogFormat) -> String {
    let message = "log lines were lost here: stderr was not read fast enough";
    let target = module_path!();
    match format {
        LogFormat::Text => format!("WARN {target}: {message} lines={lost}\n"),
        LogFormat::Json => format!(
            "{{\"level\":\"WARN\",\"message\":\"{message}\",\"lines\":{lost},\"target\":\"{target}\"}}\n"
        ),
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// Keeps what is written to it.
    #[derive(Clone, Default)]
    pub(in super::super) struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        pub(in super::super) fn text(&self) -> String {
            String::from_utf8(self.0.lock().clone()).expect("UTF-8")
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::testing::Captured;
    use super::*;

    const BOUND: Duration = Duration::from_secs(30);

    /// Says when it is written to, and waits until it may go on.
    struct Gate {
        reached: SyncSender<()>,
        open: Receiver<()>,
        to: Captured,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.reached.try_send(());
            // An error means that the gate stays open from now on.
            let _ = self.open.recv();
            self.to.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_reader_costs_lines_and_no_time_and_is_told_of() {
        let (reached, is_reached) = sync_channel(1);
        let (opener, open) = sync_channel(1);
        let captured = Captured::default();
        let gate = Gate {
            reached,
            open,
            to: captured.clone(),
        };
        let mut lines = Lines::start(gate, LogFormat::Json).expect("a thread");
        lines.write_all(b"first\n").expect("queued");
        is_reached
            .recv_timeout(BOUND)
            .expect("the thread is stuck with it");

        for number in 0..MAX_LINES + 7 {
            lines
                .write_all(format!("{number}\n").as_bytes())
                .expect("queued or lost");
        }
        assert_eq!(lines.lost().get(), 7);
        assert!(!Lines::flush(&lines, Duration::ZERO), "nothing moves");

        drop(opener);
        assert!(Lines::flush(&lines, BOUND));
        let text = captured.text();
        let seen: Vec<&str> = text.lines().collect();
        assert_eq!(seen.len(), 1 + MAX_LINES + 1);
        assert_eq!((seen[0], seen[1], seen[MAX_LINES]), ("first", "0", "1023"));
        assert!(
            seen[MAX_LINES + 1].contains("\"lines\":7,"),
            "{}",
            seen[MAX_LINES + 1]
        );
        assert_eq!(lines.lost().get(), 7);
    }

    #[test]
    fn a_line_is_cut_where_it_is_too_long() {
        let captured = Captured::default();
        let mut lines = Lines::start(captured.clone(), LogFormat::Text).expect("a thread");
        let mut long = vec![b'x'; 2 * MAX_LINE_BYTES];
        long.push(b'\n');
        lines.write_all(&long).expect("queued");
        lines.write_all(b"next\n").expect("queued");
        assert!(Lines::flush(&lines, BOUND));
        let text = captured.text();
        let seen: Vec<usize> = text.lines().map(str::len).collect();
        assert_eq!(seen, [MAX_LINE_BYTES - 1, 4]);
    }
}
