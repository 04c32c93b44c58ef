//! An open console: its descriptor, and telnet where it speaks that. Bytes of the guest go in
//! and out; it keeps nothing but the rest of a telnet command that was sent in part.

use std::io;

use parking_lot::Mutex;

use super::line::Line;
use crate::endpoint::telnet::{Telnet, TelnetError};

/// The most bytes that are put into telnet's form at once.
const PIECE: usize = 4096;

/// Telnet over a console.
struct Spoken {
    telnet: Telnet,
    /// What has to go before anything else: answers, and what a write took in part. An answer
    /// is three bytes, and [`Telnet::receive`] bounds how many there are.
    unsent: Vec<u8>,
}

/// An open console.
pub(super) struct Wire {
    pub(super) line: Line,
    spoken: Option<Mutex<Spoken>>,
}

impl Wire {
    /// A console that carries the guest's bytes as they are.
    pub(super) const fn raw(line: Line) -> Self {
        Self { line, spoken: None }
    }

    /// A console that speaks telnet.
    pub(super) fn telnet(line: Line) -> Self {
        let spoken = Spoken {
            telnet: Telnet::new(),
            unsent: Vec::new(),
        };
        Self {
            line,
            spoken: Some(Mutex::new(spoken)),
        }
    }

    /// Takes what came over the line and hands what the guest wrote to `output`.
    ///
    /// # Errors
    /// [`TelnetError`]: the connection is of no use any more.
    pub(super) fn receive(
        &self,
        came: &[u8],
        output: impl FnOnce(&[u8]),
    ) -> Result<(), TelnetError> {
        let Some(spoken) = &self.spoken else {
            output(came);
            return Ok(());
        };
        let mut guest = Vec::with_capacity(came.len());
        let received = {
            let mut spoken = spoken.lock();
            let Spoken { telnet, unsent } = &mut *spoken;
            let received = telnet.receive(came, &mut guest, unsent);
            // What cannot be sent now goes before what is written next; and a line that is
            // broken shows when it is read.
            let _ = spoken.flush(&self.line);
            received
        };
        if !guest.is_empty() {
            output(&guest);
        }
        received
    }

    /// Writes what is taken at once of `bytes`, and tells how many bytes.
    ///
    /// # Errors
    /// As [`Line::try_write`].
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.spoken {
            None => self.line.try_write(bytes),
            Some(spoken) => spoken.lock().write(&self.line, bytes),
        }
    }

    /// Puts a break on the line at once; `None` if this console knows of none.
    ///
    /// # Errors
    /// As [`Line::try_write`].
    pub(super) fn try_break(&self) -> Option<io::Result<()>> {
        let spoken = self.spoken.as_ref()?;
        Some(spoken.lock().send_break(&self.line))
    }
}

impl Spoken {
    fn flush(&mut self, line: &Line) -> io::Result<()> {
        while !self.unsent.is_empty() {
            let sent = line.try_write(&self.unsent)?;
            self.unsent.drain(..sent);
        }
        Ok(())
    }

    fn write(&mut self, line: &Line, bytes: &[u8]) -> io::Result<usize> {
        self.flush(line)?;
        let bytes = bytes.get(..PIECE).unwrap_or(bytes);
        let mut wire = Vec::with_capacity(bytes.len() + 16);
        Telnet::send(bytes, &mut wire);
        let sent = line.try_write(&wire)?;
        let mut form = Vec::with_capacity(2);
        let mut length = 0;
        for (taken, byte) in bytes.iter().enumerate() {
            if length == sent {
                return Ok(taken);
            }
            form.clear();
            Telnet::send(std::slice::from_ref(byte), &mut form);
            if let Some(rest) = form.get(sent - length..).filter(|rest| !rest.is_empty()) {
                // The half of a byte's form that is on its way binds us to the other half.
                self.unsent.extend_from_slice(rest);
                return Ok(taken + 1);
            }
            length += form.len();
        }
        Ok(bytes.len())
    }

    fn send_break(&mut self, line: &Line) -> io::Result<()> {
        self.flush(line)?;
        let mut wire = Vec::new();
        Telnet::send_break(&mut wire);
        let sent = line.try_write(&wire)?;
        self.unsent
            .extend_from_slice(wire.get(sent..).unwrap_or_default());
        Ok(())
    }
}
