//! As much of RFB (RFC 6143) as it takes to look at a screen by a relay, and to type, and to let
//! others do so: written down once more, so that what the agent makes of it is held against
//! something.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::client::Relay;

/// `RFB 003.008`.
pub const V3_8: &[u8; 12] = b"RFB 003.008\n";

/// What a display said first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Screen {
    /// Pixels.
    pub width: u16,
    /// Pixels.
    pub height: u16,
    /// The VM's name, as QEMU shows it.
    pub name: String,
}

/// A display's part of the handshake, of version 3.8, up to its ServerInit: it lets everybody in.
///
/// # Errors
/// The socket's.
pub fn let_in(stream: &mut UnixStream) -> io::Result<()> {
    stream.write_all(V3_8)?;
    stream.read_exact(&mut [0; 12])?;
    // One security type, None; it is chosen, and let in.
    stream.write_all(&[1, 1])?;
    stream.read_exact(&mut [0; 1])?;
    stream.write_all(&[0; 4])?;
    stream.read_exact(&mut [0; 1])
}

/// A viewer's part of the handshake, of version 3.8.
///
/// # Panics
/// When the agent does not do its part.
pub async fn greet(relay: &mut Relay, bound: Duration) -> Screen {
    assert_eq!(relay.read(12, bound).await, V3_8.as_slice());
    relay.send(V3_8.as_slice(), bound).await;
    assert_eq!(relay.read(2, bound).await, [1, 1].as_slice(), "None alone");
    relay.send([1].as_slice(), bound).await;
    assert_eq!(relay.read(4, bound).await, [0; 4].as_slice(), "let in");
    relay.send([1].as_slice(), bound).await;
    server_init(relay, bound).await
}

/// What comes first of the display.
///
/// # Panics
/// When it does not come.
pub async fn server_init(relay: &mut Relay, bound: Duration) -> Screen {
    let head = relay.read(24, bound).await;
    let length = u32::from_be_bytes([head[20], head[21], head[22], head[23]]);
    let name = relay.read(length as usize, bound).await;
    Screen {
        width: u16::from_be_bytes([head[0], head[1]]),
        height: u16::from_be_bytes([head[2], head[3]]),
        name: String::from_utf8_lossy(&name).into_owned(),
    }
}

/// SetPixelFormat: 32 bits a pixel, little endian, blue first.
pub fn set_pixel_format() -> Bytes {
    let mut message = BytesMut::from([0, 0, 0, 0].as_slice());
    message.put_slice(&[32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0]);
    message.freeze()
}

/// SetEncodings.
pub fn set_encodings(encodings: &[i32]) -> Bytes {
    let mut message = BytesMut::from([2, 0].as_slice());
    message.put_u16(u16::try_from(encodings.len()).expect("few"));
    encodings
        .iter()
        .for_each(|encoding| message.put_i32(*encoding));
    message.freeze()
}

/// FramebufferUpdateRequest of the whole screen.
pub fn update_request(screen: &Screen, incremental: bool) -> Bytes {
    let mut message = BytesMut::from([3, u8::from(incremental), 0, 0, 0, 0].as_slice());
    message.put_u16(screen.width);
    message.put_u16(screen.height);
    message.freeze()
}

/// KeyEvent.
pub fn key_event(down: bool, keysym: u32) -> Bytes {
    let mut message = BytesMut::from([4, u8::from(down), 0, 0].as_slice());
    message.put_u32(keysym);
    message.freeze()
}

/// PointerEvent.
pub fn pointer_event(buttons: u8, x: u16, y: u16) -> Bytes {
    let mut message = BytesMut::from([5, buttons].as_slice());
    message.put_u16(x);
    message.put_u16(y);
    message.freeze()
}

/// ClientCutText.
pub fn cut_text(text: &[u8]) -> Bytes {
    let mut message = BytesMut::from([6, 0, 0, 0].as_slice());
    message.put_u32(u32::try_from(text.len()).expect("short"));
    message.put_slice(text);
    message.freeze()
}

/// The rest of one FramebufferUpdate in Raw of 32 bits, after whatever else the display says.
/// Returns how many pixels it brought.
///
/// # Panics
/// When none comes within `bound`, or something that was not asked for does.
pub async fn update(relay: &mut Relay, screen: &mut Screen, bound: Duration) -> u64 {
    loop {
        match relay.read(1, bound).await[0] {
            0 => break,
            // Bell.
            2 => {}
            other => panic!("message {other} was not asked for"),
        }
    }
    let head = relay.read(3, bound).await;
    let mut pixels = 0;
    for _ in 0..u16::from_be_bytes([head[1], head[2]]) {
        let rectangle = relay.read(12, bound).await;
        let number = |at: usize| u16::from_be_bytes([rectangle[at], rectangle[at + 1]]);
        let (width, height) = (number(4), number(6));
        let encoding = i32::from_be_bytes(rectangle[8..12].try_into().expect("four"));
        match encoding {
            0 => {
                let area = u64::from(width) * u64::from(height);
                relay
                    .read(usize::try_from(area * 4).expect("fits"), bound)
                    .await;
                pixels += area;
            }
            // DesktopSize.
            -223 => (screen.width, screen.height) = (width, height),
            other => panic!("encoding {other} was not asked for"),
        }
    }
    pixels
}
