//! The client's side of telnet (RFC 854, 855), as QEMU's `telnet` chardevs speak it. Pure: bytes
//! in, bytes out. It opens no connection, and it edits nothing that the guest said.
//!
//! ```text
//!             another byte than QEMU would send
//!  Opening ─────────────────────────────────────▶ Protocol   as RFC 854 has it
//!     │                                               │ too much to negotiate
//!     │ QEMU's opening, whole                         ▼
//!     └──────────────▶ Transparent                  Failed(TelnetError)
//! ```
//!
//! # What QEMU does
//! Measured on QEMU 7.2 with a guest that inverts some bits of what it gets, so that each
//! direction shows by itself; later versions of its `chardev/char-socket.c` read the same.
//!
//! - It begins each connection with twelve bytes ([`OPENING`]) and sends no command after them.
//! - **It does not double 0xFF in what the guest wrote.** The guest's `FF 41` comes as `FF 41`
//!   and its `FF FF` as `FF FF`. By RFC 854 the first is a broken command and the second one
//!   byte: whoever decodes it loses output, and lets a guest forge commands. So after exactly
//!   that opening, all bytes are the guest's as they are.
//! - It takes `FF FF` as one 0xFF of input, and `FF F3` as a break. Of any other command it skips
//!   three bytes, of those that have two as well: `FF F1 61` loses the `61`, and the inside of a
//!   subnegotiation is typed into the guest. We send none of these.
//! - It neither waits for answers nor reads them. **A command that was cut off by the end of a
//!   connection goes on in the next one**: after a last lone `FF`, the next client's first two
//!   bytes are gone, and if these are answers, the rest of them is typed into the guest. So QEMU
//!   gets no answers, and what [`Telnet::send`] made should be written whole. What somebody else
//!   left behind cannot be mended from here: it costs two bytes of input.
//! - Carriage returns and NUL pass both ways as they are, as with RFC 856.
//!
//! Another server is decoded by the RFCs. We let it echo (857), leave out go-ahead (858) and send
//! binary (856), and refuse everything else. It is answered once its opening differs from QEMU's.
//! Even where it does not agree to binary, carriage returns are left alone.

/// Begins a command.
const IAC: u8 = 255;
const DONT: u8 = 254;
const DO: u8 = 253;
const WONT: u8 = 252;
const WILL: u8 = 251;
/// Begins a subnegotiation.
const SB: u8 = 250;
const BREAK: u8 = 243;
/// Ends a subnegotiation.
const SE: u8 = 240;

const BINARY: u8 = 0;
const ECHO: u8 = 1;
const SUPPRESS_GO_AHEAD: u8 = 3;

/// What QEMU begins each connection with.
const OPENING: [u8; 12] = [
    IAC,
    WILL,
    ECHO, //
    IAC,
    WILL,
    SUPPRESS_GO_AHEAD, //
    IAC,
    WILL,
    BINARY, //
    IAC,
    DO,
    BINARY,
];
/// How many options a server may negotiate in one connection. Each costs three bytes of answer
/// at most. Usual servers need about ten.
const MAX_NEGOTIATIONS: u32 = 256;
/// The longest subnegotiation that is skipped, in bytes.
const MAX_SUBNEGOTIATION: usize = 4096;

/// Why a connection is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TelnetError {
    /// More than [`MAX_NEGOTIATIONS`].
    #[error(
        "the server negotiated telnet options more than {MAX_NEGOTIATIONS} times: \
         check that this port is a QEMU's telnet chardev, and not one of plain tcp"
    )]
    Flood,
    /// Longer than [`MAX_SUBNEGOTIATION`].
    #[error(
        "the server sent a telnet subnegotiation longer than {MAX_SUBNEGOTIATION} bytes: \
         check that this port is a QEMU's telnet chardev, and not one of plain tcp"
    )]
    Subnegotiation,
}

/// What the server's bytes are taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// So many bytes of [`OPENING`] have come, and nothing else.
    Opening(usize),
    /// It is another server.
    Protocol,
    /// It is QEMU: everything is the guest's.
    Transparent,
    /// Nothing more is taken.
    Failed(TelnetError),
}

/// Where in a command the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In none.
    Data,
    /// After IAC.
    Command,
    /// After IAC and one of WILL, WONT, DO, DONT, which is kept.
    Option(u8),
    /// In a subnegotiation of so many bytes till now.
    Inside(usize),
    /// The same, after an IAC.
    InsideCommand(usize),
}

/// Which options are on.
#[derive(Clone, Copy, Debug, Default)]
struct Enabled {
    binary: bool,
    echo: bool,
    suppress_go_ahead: bool,
}

/// One connection to a telnet server.
#[derive(Debug)]
pub(super) struct Telnet {
    phase: Phase,
    place: Place,
    /// What the server does.
    theirs: Enabled,
    /// What we do.
    ours: Enabled,
    negotiations: u32,
    /// Answers to what may be QEMU's opening, which QEMU never gets: four options at most.
    held: Vec<u8>,
}

impl Telnet {
    /// A connection on which nothing was said.
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Opening(0),
            place: Place::Data,
            theirs: Enabled::default(),
            ours: Enabled::default(),
            negotiations: 0,
            held: Vec::new(),
        }
    }

    /// Takes what the server sent, cut anywhere. Appends to `output` what the guest wrote, never
    /// more bytes than `wire` has, and to `reply` what is to be sent to the server before
    /// anything else: in all a connection's life three bytes for each of [`MAX_NEGOTIATIONS`].
    ///
    /// # Errors
    /// [`TelnetError`], and the same at each call after it. What stood before the mistake is in
    /// `output`.
    pub(super) fn receive(
        &mut self,
        mut wire: &[u8],
        output: &mut Vec<u8>,
        reply: &mut Vec<u8>,
    ) -> Result<(), TelnetError> {
        loop {
            match self.phase {
                Phase::Failed(error) => return Err(error),
                Phase::Transparent => {
                    output.extend_from_slice(wire);
                    return Ok(());
                }
                Phase::Opening(_) | Phase::Protocol => {}
            }
            if self.place == Place::Data {
                let run = wire.iter().position(|byte| *byte == IAC);
                let (data, rest) = wire.split_at(run.unwrap_or(wire.len()));
                if !data.is_empty() {
                    self.not_qemu(reply);
                    output.extend_from_slice(data);
                    wire = rest;
                }
            }
            let Some((byte, rest)) = wire.split_first() else {
                return Ok(());
            };
            wire = rest;
            self.opening(*byte, reply);
            if let Err(error) = self.command(*byte, output, reply) {
                self.phase = Phase::Failed(error);
            }
        }
    }

    /// Whether all that comes from now on is the guest's, as it is. It stays so.
    pub(super) const fn is_transparent(&self) -> bool {
        matches!(self.phase, Phase::Transparent)
    }

    /// Appends to `wire` what has the server give `bytes` to the guest.
    pub(super) fn send(bytes: &[u8], wire: &mut Vec<u8>) {
        for run in bytes.split_inclusive(|byte| *byte == IAC) {
            wire.extend_from_slice(run);
            if run.ends_with(&[IAC]) {
                wire.push(IAC);
            }
        }
    }

    /// Appends to `wire` what has the server put a break on the guest's line.
    pub(super) fn send_break(wire: &mut Vec<u8>) {
        wire.extend_from_slice(&[IAC, BREAK]);
    }

    /// Compares the next byte with QEMU's opening.
    fn opening(&mut self, byte: u8, reply: &mut Vec<u8>) {
        let Phase::Opening(had) = self.phase else {
            return;
        };
        if OPENING.get(had) != Some(&byte) {
            self.not_qemu(reply);
        } else if had + 1 < OPENING.len() {
            self.phase = Phase::Opening(had + 1);
        } else {
            // The last byte is a command's as well, and leaves the place at Data.
            self.phase = Phase::Transparent;
        }
    }

    /// The opening turned out to be another server's, which waits for its answers.
    fn not_qemu(&mut self, reply: &mut Vec<u8>) {
        if let Phase::Opening(_) = self.phase {
            self.phase = Phase::Protocol;
            reply.append(&mut self.held);
        }
    }

    /// Takes one byte that is of a command, or begins one.
    fn command(
        &mut self,
        byte: u8,
        output: &mut Vec<u8>,
        reply: &mut Vec<u8>,
    ) -> Result<(), TelnetError> {
        self.place = match (self.place, byte) {
            // Only IAC gets here.
            (Place::Data, _) => Place::Command,
            (Place::Command, IAC) => {
                output.push(IAC);
                Place::Data
            }
            (Place::Command, WILL | WONT | DO | DONT) => Place::Option(byte),
            (Place::Command, SB) => {
                self.count()?;
                Place::Inside(0)
            }
            // The others have two bytes, and none of them asks for anything that we do.
            (Place::Command, _) => Place::Data,
            (Place::Option(verb), option) => {
                self.count()?;
                self.negotiate(verb, option, reply);
                Place::Data
            }
            (Place::Inside(had), IAC) => Place::InsideCommand(had),
            (Place::InsideCommand(_), SE) => Place::Data,
            (Place::Inside(had) | Place::InsideCommand(had), _) => {
                if had == MAX_SUBNEGOTIATION {
                    return Err(TelnetError::Subnegotiation);
                }
                Place::Inside(had + 1)
            }
        };
        Ok(())
    }

    fn count(&mut self) -> Result<(), TelnetError> {
        if self.negotiations == MAX_NEGOTIATIONS {
            return Err(TelnetError::Flood);
        }
        self.negotiations += 1;
        Ok(())
    }

    /// Answers what changes something, or asks for what we do not do. Since we begin nothing,
    /// this is all of RFC 1143 that is needed against loops: what confirms a state is not
    /// answered.
    fn negotiate(&mut self, verb: u8, option: u8, reply: &mut Vec<u8>) {
        let (side, yes, no) = match verb {
            WILL | WONT => (self.theirs.option(option), DO, DONT),
            _ => (
                self.ours.option(option).filter(|_| option != ECHO),
                WILL,
                WONT,
            ),
        };
        let asked = matches!(verb, WILL | DO);
        let answer = match side {
            Some(enabled) if *enabled == asked => return,
            Some(enabled) => {
                *enabled = asked;
                if asked { yes } else { no }
            }
            None if asked => no,
            None => return,
        };
        // QEMU's last option is negotiated when it is known to be QEMU: not answered either.
        let into = match self.phase {
            Phase::Protocol => reply,
            _ => &mut self.held,
        };
        into.extend_from_slice(&[IAC, answer, option]);
    }
}

impl Enabled {
    /// Whether an option is on, if it is one that may be.
    fn option(&mut self, option: u8) -> Option<&mut bool> {
        match option {
            BINARY => Some(&mut self.binary),
            ECHO => Some(&mut self.echo),
            SUPPRESS_GO_AHEAD => Some(&mut self.suppress_go_ahead),
            _ => None,
        }
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;
