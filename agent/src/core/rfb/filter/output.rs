//! What the display is to get of one piece of the client's bytes: slices of it where they are
//! long or all of it passes, copies where much would be cut up.

use bytes::{Bytes, BytesMut};

/// Runs from this length on are passed as slices, in bytes: below it a copy costs less than a
/// slice does on the way.
const SLICED_FROM: usize = 1024;

/// What ends a message that the client did not end.
static ZEROS: [u8; 16 * 1024] = [0; 16 * 1024];

/// See the module.
pub(super) struct Output<'a> {
    bytes: Bytes,
    /// What passes as it is and was not put out yet: from, to.
    run: (usize, usize),
    copied: BytesMut,
    out: &'a mut Vec<Bytes>,
}

impl<'a> Output<'a> {
    pub(super) fn new(bytes: Bytes, out: &'a mut Vec<Bytes>) -> Self {
        Self {
            bytes,
            run: (0, 0),
            copied: BytesMut::new(),
            out,
        }
    }

    /// How many bytes came.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// What came.
    pub(super) fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }

    /// Passes `len` bytes of what came.
    pub(super) fn pass(&mut self, at: usize, len: usize) {
        if self.run.1 != at {
            self.end_run();
            self.run = (at, at);
        }
        self.run.1 = at + len;
    }

    /// Writes something else.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.end_run();
        self.copied.extend_from_slice(bytes);
    }

    pub(super) fn finish(mut self) {
        let (from, to) = self.run;
        if self.copied.is_empty() && from < to {
            self.out.push(self.bytes.slice(from..to));
            return;
        }
        self.end_run();
        self.end_copied();
    }

    fn end_run(&mut self) {
        let (from, to) = self.run;
        if to - from >= SLICED_FROM {
            self.end_copied();
            self.out.push(self.bytes.slice(from..to));
        } else {
            self.copied.extend_from_slice(&self.bytes[from..to]);
        }
        self.run = (0, 0);
    }

    fn end_copied(&mut self) {
        if !self.copied.is_empty() {
            self.out.push(self.copied.split().freeze());
        }
    }
}

/// Appends `count` zeros, which take no memory.
pub(super) fn zeros(mut count: u64, out: &mut Vec<Bytes>) {
    while count > 0 {
        let some = usize::try_from(count).map_or(ZEROS.len(), |count| count.min(ZEROS.len()));
        out.push(Bytes::from_static(&ZEROS[..some]));
        count -= some as u64;
    }
}
