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
    /// A break was begun, and the last of [`Spoken::unsent`] is the rest of it.
    breaking: bool,
    /// A byte of the guest's input was begun, and its rest is in [`Spoken::unsent`].
    halved: bool,
}

/// What was written of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// So many of them, whole.
    pub(super) whole: usize,
    /// And of the one after them a part. The rest goes before anything else.
    pub(super) halved: bool,
}

impl Written {
    const fn whole(whole: usize) -> Self {
        Self {
            whole,
            halved: false,
        }
    }
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
        Self {
            line,
            spoken: Some(Mutex::new(Spoken::new())),
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
        let mut spoken = spoken.lock();
        if spoken.telnet.is_transparent() {
            spoken.flush_from_reader(&self.line);
            drop(spoken);
            output(came);
            return Ok(());
        }
        let mut guest = Vec::with_capacity(came.len());
        let Spoken { telnet, unsent, .. } = &mut *spoken;
        let received = telnet.receive(came, &mut guest, unsent);
        spoken.flush_from_reader(&self.line);
        drop(spoken);
        if !guest.is_empty() {
            output(&guest);
        }
        received
    }

    /// Writes what is taken at once of `bytes`, and tells how much.
    ///
    /// # Errors
    /// As [`Line::try_write`]. None of `bytes` was taken.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<Written> {
        match &self.spoken {
            None => self.line.try_write(bytes).map(Written::whole),
            Some(spoken) => spoken.lock().write(|it| self.line.try_write(it), bytes),
        }
    }

    /// Puts a break on the line at once; `None` if this console knows of none.
    ///
    /// # Errors
    /// As [`Line::try_write`]. Where it would block the break may have been begun: tried again,
    /// it is brought to its end, and no other is begun.
    pub(super) fn try_break(&self) -> Option<io::Result<()>> {
        let spoken = self.spoken.as_ref()?;
        Some(spoken.lock().send_break(|it| self.line.try_write(it)))
    }

    /// Sends the rest of a byte that was written in part.
    ///
    /// # Errors
    /// As [`Line::try_write`].
    pub(super) fn try_flush(&self) -> io::Result<()> {
        self.spoken.as_ref().map_or(Ok(()), |spoken| {
            spoken.lock().flush(|it| self.line.try_write(it))
        })
    }

    /// Whether a byte was written in part, and its rest not yet.
    pub(super) fn is_halved(&self) -> bool {
        let spoken = self.spoken.as_ref();
        spoken.is_some_and(|spoken| spoken.lock().halved)
    }

    /// Whether a break was begun and not brought to its end: it is, by what is written next.
    pub(super) fn is_breaking(&self) -> bool {
        let spoken = self.spoken.as_ref();
        spoken.is_some_and(|spoken| spoken.lock().breaking)
    }
}

impl Spoken {
    /// A connection on which nothing was said.
    fn new() -> Self {
        Self {
            telnet: Telnet::new(),
            unsent: Vec::new(),
            breaking: false,
            halved: false,
        }
    }

    /// Sends what has to go first, by `send`, which takes some of it or fails.
    fn flush(&mut self, send: impl Fn(&[u8]) -> io::Result<usize>) -> io::Result<()> {
        while !self.unsent.is_empty() {
            let sent = send(&self.unsent)?;
            self.unsent.drain(..sent);
        }
        self.breaking = false;
        self.halved = false;
        Ok(())
    }

    /// Sends what is unsent, as far as that is nobody else's to do.
    fn flush_from_reader(&mut self, line: &Line) {
        // Whoever puts a break on the line is to see it go.
        if !self.breaking {
            // What cannot be sent now goes before what is written next; and a line that is
            // broken shows when it is read.
            let _ = self.flush(|bytes| line.try_write(bytes));
        }
    }

    fn write(
        &mut self,
        send: impl Fn(&[u8]) -> io::Result<usize>,
        bytes: &[u8],
    ) -> io::Result<Written> {
        self.flush(&send)?;
        let bytes = bytes.get(..PIECE).unwrap_or(bytes);
        let mut wire = Vec::with_capacity(bytes.len() + 16);
        Telnet::send(bytes, &mut wire);
        let sent = send(&wire)?;
        let mut form = Vec::with_capacity(2);
        let mut length = 0;
        for (taken, byte) in bytes.iter().enumerate() {
            if length == sent {
                return Ok(Written::whole(taken));
            }
            form.clear();
            Telnet::send(std::slice::from_ref(byte), &mut form);
            if let Some(rest) = form.get(sent - length..).filter(|rest| !rest.is_empty()) {
                // The half of a byte's form that is on its way binds us to the other half.
                self.unsent.extend_from_slice(rest);
                self.halved = true;
                return Ok(Written {
                    whole: taken,
                    halved: true,
                });
            }
            length += form.len();
        }
        Ok(Written::whole(bytes.len()))
    }

    fn send_break(&mut self, send: impl Fn(&[u8]) -> io::Result<usize>) -> io::Result<()> {
        let begun = self.breaking;
        self.flush(&send)?;
        if begun {
            return Ok(());
        }
        let mut wire = Vec::with_capacity(2);
        Telnet::send_break(&mut wire);
        let sent = send(&wire)?;
        self.unsent
            .extend_from_slice(wire.get(sent..).unwrap_or_default());
        self.breaking = true;
        self.flush(&send)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    const OPENING: &[u8] = b"\xff\xfb\x01\xff\xfb\x03\xff\xfb\x00\xff\xfd\x00";

    fn wire() -> (Wire, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (Wire::telnet(Line::new(ours.into())), theirs)
    }

    #[test]
    fn what_a_qemu_that_has_opened_sends_is_handed_on_where_it_lies() {
        let (wire, _far) = wire();
        wire.receive(OPENING, |_| panic!("that is telnet's"))
            .unwrap();
        let came = b"a\xffb".to_vec();
        let mut handed = None;
        wire.receive(&came, |bytes| handed = Some(bytes.as_ptr_range()))
            .unwrap();
        assert_eq!(handed, Some(came.as_ptr_range()), "it was copied");
    }

    /// Takes one byte each other time.
    struct Hesitant {
        taken: RefCell<Vec<u8>>,
        willing: RefCell<bool>,
    }

    impl Hesitant {
        fn take(&self, bytes: &[u8]) -> io::Result<usize> {
            if !self.willing.replace_with(|willing| !*willing) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.taken.borrow_mut().push(bytes[0]);
            Ok(1)
        }
    }

    #[test]
    fn a_break_is_sent_once_and_not_before_all_of_it_is_taken() {
        let line = Hesitant {
            taken: RefCell::default(),
            willing: RefCell::new(true),
        };
        let mut spoken = Spoken::new();
        let half = spoken.send_break(|it| line.take(it)).unwrap_err();
        assert_eq!(half.kind(), io::ErrorKind::WouldBlock);
        assert!(spoken.breaking);
        spoken.send_break(|it| line.take(it)).unwrap();
        assert_eq!(*line.taken.borrow(), b"\xff\xf3");
        assert!(!spoken.breaking);
    }

    #[test]
    fn a_break_that_cannot_be_begun_was_not() {
        let (wire, mut far) = wire();
        while wire.try_write(&[b'x'; 4096]).is_ok() {}
        let blocked = wire.try_break().unwrap().unwrap_err();
        assert_eq!(blocked.kind(), io::ErrorKind::WouldBlock);
        assert!(!wire.is_breaking());
        let mut typed = vec![0; 4096];
        while wire.try_break().unwrap().is_err() {
            assert!(far.read(&mut typed).unwrap() > 0);
        }
        assert!(!wire.is_breaking());
        drop(wire);
        far.read_to_end(&mut typed).unwrap();
        assert!(typed.ends_with(b"x\xff\xf3"));
    }

    #[test]
    fn a_byte_whose_form_is_sent_in_part_is_not_written_before_the_rest_is() {
        let line = Hesitant {
            taken: RefCell::default(),
            willing: RefCell::new(true),
        };
        let mut spoken = Spoken::new();
        let written = spoken.write(|it| line.take(it), b"\xffa").unwrap();
        let half = Written {
            whole: 0,
            halved: true,
        };
        assert_eq!(written, half);
        spoken.flush(|it| line.take(it)).unwrap_err();
        assert!(spoken.halved);
        spoken.flush(|it| line.take(it)).unwrap();
        assert!(!spoken.halved);
        assert_eq!(*line.taken.borrow(), b"\xff\xff");
    }
}
