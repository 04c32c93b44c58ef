//! Binary PPM (P6) with one byte for each of red, green and blue: what QEMU writes.
//!
//! Refuses any other form of it: more than 255 shades, more than one picture, more or fewer
//! bytes than the head says.

use super::{PictureError, check_size};

/// What it begins with.
pub(super) const SIGNATURE: &[u8] = b"P6";

/// The longest head, with its comments, in bytes.
const MAX_HEAD: usize = 1024;

/// The only number of shades that is read.
const SHADES: u64 = 255;

/// One picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ppm<'a> {
    pub(super) width: u32,
    pub(super) height: u32,
    /// Row by row from the top, three bytes a point.
    pub(super) points: &'a [u8],
}

/// Reads the head, and checks it against what follows.
///
/// # Errors
/// [`PictureError::Head`], [`PictureError::Size`] or [`PictureError::Length`].
pub(super) fn parse(bytes: &[u8]) -> Result<Ppm<'_>, PictureError> {
    let mut head = Head { bytes, at: 0 };
    if !bytes.starts_with(SIGNATURE) {
        return Err(PictureError::Head("it does not begin with P6"));
    }
    head.at = SIGNATURE.len();
    let (width, height, shades) = (head.number()?, head.number()?, head.number()?);
    // One white space ends the head; what follows may look like one.
    if !head.next().is_some_and(|byte| byte.is_ascii_whitespace()) {
        return Err(PictureError::Head("nothing ends it"));
    }
    if shades != SHADES {
        return Err(PictureError::Head("it has other shades than 255"));
    }
    let (width, height) = check_size(width, height)?;
    let points = bytes.get(head.at..).unwrap_or_default();
    let expected = u64::from(width) * u64::from(height) * 3;
    let found = points.len() as u64;
    if found != expected {
        return Err(PictureError::Length { expected, found });
    }
    Ok(Ppm {
        width,
        height,
        points,
    })
}

struct Head<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Head<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    /// Passes over white space and comments, of which there must be some.
    fn space(&mut self) -> Result<(), PictureError> {
        let begin = self.at;
        while let Some(byte) = self.peek() {
            if self.at > MAX_HEAD {
                return Err(PictureError::Head("it is too long"));
            }
            match byte {
                b'#' => {
                    while self
                        .next()
                        .is_some_and(|byte| byte != b'\n' && self.at <= MAX_HEAD)
                    {
                    }
                }
                byte if byte.is_ascii_whitespace() => self.at += 1,
                _ => break,
            }
        }
        if self.at == begin {
            return Err(PictureError::Head("its numbers do not stand apart"));
        }
        Ok(())
    }

    /// The next number, of at most 9 digits.
    fn number(&mut self) -> Result<u64, PictureError> {
        self.space()?;
        let (mut number, mut digits) = (0, 0);
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            digits += 1;
            if digits > 9 {
                return Err(PictureError::Head("a number is too long"));
            }
            number = number * 10 + u64::from(digit - b'0');
            self.at += 1;
        }
        if digits == 0 {
            return Err(PictureError::Head("a number is missing"));
        }
        Ok(number)
    }
}
