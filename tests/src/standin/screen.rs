//! The far side of a display: as much of an RFB server (RFC 6143) as it takes to be relayed, to
//! show one picture over and over, and to answer keys. It draws nothing, and hangs up on
//! whatever it does not know.

use std::io::{self, Error, Read as _, Write as _};
use std::os::unix::net::UnixStream;

use crate::rfb;

/// The picture's width and height, in pixels of 32 bits.
const SIDE: u16 = 256;

/// What the display is called.
const NAME: &[u8] = b"stand-in";

/// Bytes of what it says first: ServerInit.
pub const SERVER_INIT: usize = 24 + NAME.len();

/// Bytes of a FramebufferUpdate: its head, that of its one rectangle, and the picture, raw.
pub const UPDATE: usize = 4 + 12 + SIDE as usize * SIDE as usize * 4;

/// What it answers to each KeyEvent: Bell, which is one byte.
const BELL: u8 = 2;

/// The most bytes that are written at once.
const PIECE: usize = 64 * 1024;

/// The longest cut text that is taken.
const CUT_TEXT: u32 = 1024 * 1024;

/// Greets as a display of version 3.8 that lets everybody in. Answers each
/// FramebufferUpdateRequest with the whole picture, as fast as it is taken, and each KeyEvent
/// with one byte; whoever does neither hears nothing.
///
/// # Errors
/// The socket's, and `InvalidData` for what it does not know.
pub(super) fn show(stream: &mut UnixStream) -> io::Result<()> {
    greet(stream)?;
    let picture = update();
    let mut buffer = [0; 4096];
    let mut held = 0;
    loop {
        let count = stream.read(&mut buffer[held..])?;
        if count == 0 {
            return Ok(());
        }
        let (came, mut used) = (held + count, 0);
        while let Some(length) = length(&buffer[used..came])? {
            match buffer[used] {
                3 => show_picture(stream, &picture)?,
                4 => stream.write_all(&[BELL])?,
                _ => {}
            }
            used += length;
        }
        buffer.copy_within(used..came, 0);
        held = came - used;
        if held == buffer.len() {
            return Err(Error::new(io::ErrorKind::InvalidData, "a long message"));
        }
    }
}

fn greet(stream: &mut UnixStream) -> io::Result<()> {
    rfb::let_in(stream)?;
    let mut init = Vec::with_capacity(SERVER_INIT);
    init.extend_from_slice(&SIDE.to_be_bytes());
    init.extend_from_slice(&SIDE.to_be_bytes());
    init.extend_from_slice(&[32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0]);
    init.extend_from_slice(&(NAME.len() as u32).to_be_bytes());
    init.extend_from_slice(NAME);
    stream.write_all(&init)
}

/// How long the first message is; `None` as long as it is not all there.
fn length(bytes: &[u8]) -> io::Result<Option<usize>> {
    let Some(kind) = bytes.first() else {
        return Ok(None);
    };
    let length = match kind {
        0 => 20,
        2 if bytes.len() >= 4 => 4 + 4 * usize::from(u16::from_be_bytes([bytes[2], bytes[3]])),
        3 => 10,
        4 => 8,
        5 => 6,
        6 if bytes.len() >= 8 => {
            let text = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
            8 + text.min(CUT_TEXT) as usize
        }
        2 | 6 => return Ok(None),
        _ => return Err(Error::new(io::ErrorKind::InvalidData, "not of RFB")),
    };
    Ok((bytes.len() >= length).then_some(length))
}

/// FramebufferUpdate of one rectangle in Raw, that is the whole picture.
fn update() -> Vec<u8> {
    let mut update = vec![0, 0, 0, 1, 0, 0, 0, 0];
    update.extend_from_slice(&SIDE.to_be_bytes());
    update.extend_from_slice(&SIDE.to_be_bytes());
    update.extend_from_slice(&[0; 4]);
    update.extend((0..=255_u8).cycle().take(UPDATE - update.len()));
    update
}

fn show_picture(stream: &mut UnixStream, picture: &[u8]) -> io::Result<()> {
    picture
        .chunks(PIECE)
        .try_for_each(|piece| stream.write_all(piece))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_greets_and_answers_what_is_asked_in_pieces() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let shown = std::thread::spawn(move || show(&mut theirs));
        let read = |ours: &mut UnixStream, count| {
            let mut bytes = vec![0; count];
            ours.read_exact(&mut bytes).unwrap();
            bytes
        };
        assert_eq!(read(&mut ours, 12), b"RFB 003.008\n");
        ours.write_all(b"RFB 003.008\n").unwrap();
        assert_eq!(read(&mut ours, 2), [1, 1]);
        ours.write_all(&[1]).unwrap();
        assert_eq!(read(&mut ours, 4), [0; 4]);
        ours.write_all(&[1]).unwrap();
        assert!(read(&mut ours, SERVER_INIT).ends_with(NAME));
        let encodings = [2, 0, 0, 1, 0, 0, 0, 0];
        let key = [4, 1, 0, 0, 0, 0, 0, 0x61];
        for byte in encodings.iter().chain(&key) {
            ours.write_all(&[*byte]).unwrap();
        }
        assert_eq!(read(&mut ours, 1), [BELL]);
        ours.write_all(&[3, 0, 0, 0, 0, 0, 1, 0, 1, 0]).unwrap();
        let update = read(&mut ours, UPDATE);
        assert_eq!(
            update[..16],
            [0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0]
        );
        ours.write_all(&[99]).unwrap();
        let end = shown.join().unwrap().unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::InvalidData);
    }
}
