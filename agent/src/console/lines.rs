//! Finds where a viewer's last lines begin, a piece of the ring at a time, so that no lock is held
//! for longer than one copy of 64 KiB.

use super::live::Console;
use crate::core::output::{LineScan, OutputLog, Start};

impl Console {
    /// The same start, with lines found. What is written meanwhile comes after them.
    pub(super) fn find_start(&self, start: Start) -> Start {
        let Start::TailLines(lines) = start else {
            return start;
        };
        let Some(mut scan) = self.output_of(|output| Some(LineScan::new(output, lines))) else {
            return Start::Live;
        };
        let mut piece = Vec::new();
        while self
            .output_of(|output| scan.copy(output, &mut piece).then_some(()))
            .is_some()
        {
            scan.look(&piece);
        }
        Start::TailFrom(scan.position())
    }

    fn output_of<T>(&self, look: impl FnOnce(&OutputLog) -> Option<T>) -> Option<T> {
        look(self.shared.lock().output.as_ref()?)
    }
}
