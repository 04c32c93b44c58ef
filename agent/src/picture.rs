//! A screen's picture, from what a hypervisor gives (PPM or PNG) to a PNG that was checked.
//!
//! A hypervisor's picture is as hostile as the guest that drew it: every length is bounded
//! before it is believed. Refuses to keep more of a PNG's points than a row, and to know where
//! a picture comes from.

mod ppm;

use std::io::Cursor;

use bytes::Bytes;
use png::{BitDepth, ColorType, Compression, Decoder, DecodingError, Encoder, Limits};

/// The longest side of a picture, in points.
pub const MAX_SIDE: u32 = 16_384;

/// The most points of a picture: as many as [`MAX_BYTES`] hold with three bytes each.
pub const MAX_POINTS: u64 = MAX_BYTES as u64 / 3;

/// The most bytes of a picture as a hypervisor gives it.
pub const MAX_BYTES: usize = 64 * 1024 * 1024;

/// What the PNG decoder may allocate: a row of the longest side, twice, and its own tables.
const DECODER_BYTES: usize = 2 * 8 * MAX_SIDE as usize + 1024 * 1024;

/// What a PNG begins with.
const PNG_SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// What a PNG ends with: its last chunk, which is always the same.
const PNG_END: &[u8] = b"\0\0\0\0IEND\xaeB`\x82";

/// A picture, as PNG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Its width in points, at most [`MAX_SIDE`].
    pub width: u32,
    /// Its height in points, at most [`MAX_SIDE`].
    pub height: u32,
    /// A whole PNG file.
    pub png: Bytes,
}

/// Why what a hypervisor gave is no picture.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// It begins as neither does.
    #[error("it is neither PPM nor PNG")]
    Unknown,
    /// It is too long.
    #[error("it has {0} bytes: the most are {MAX_BYTES}")]
    TooLong(usize),
    /// A PPM's head is not as it ought to be.
    #[error("its PPM head is malformed: {0}")]
    Head(&'static str),
    /// It has no points, or too many.
    #[error(
        "it has {width} times {height} points: the most are {MAX_SIDE} a side and {MAX_POINTS} in all"
    )]
    Size {
        /// Points from left to right.
        width: u64,
        /// Points from top to bottom.
        height: u64,
    },
    /// A PPM has more or fewer bytes than its head says.
    #[error("it has {found} bytes of points where its head says {expected}")]
    Length {
        /// By its head.
        expected: u64,
        /// What there is.
        found: u64,
    },
    /// A PNG does not decode.
    #[error("it is a damaged PNG")]
    Damaged(#[source] DecodingError),
    /// A PNG ends before its end, or goes on after it.
    #[error("its PNG does not end where it ought to")]
    End,
    /// It could not be written as PNG. A fault in the agent.
    #[error("it cannot be written as PNG (this is a fault in the agent)")]
    Encode(#[source] png::EncodingError),
}

/// The picture that a hypervisor gave, as PNG: a PPM is converted, a PNG is checked and passed
/// on as it is. Takes up to seconds of computing for the largest, and memory of some three
/// times `bytes`.
///
/// # Errors
/// [`PictureError`] for what is no picture, is damaged or too large.
pub fn to_png(bytes: Vec<u8>) -> Result<Picture, PictureError> {
    if bytes.len() > MAX_BYTES {
        return Err(PictureError::TooLong(bytes.len()));
    }
    if bytes.starts_with(PNG_SIGNATURE) {
        check_png(bytes)
    } else if bytes.starts_with(ppm::SIGNATURE) {
        encode(&ppm::parse(&bytes)?)
    } else {
        Err(PictureError::Unknown)
    }
}

/// Refuses sides and areas that are out of bounds.
fn check_size(width: u64, height: u64) -> Result<(u32, u32), PictureError> {
    let error = PictureError::Size { width, height };
    let side = |points: u64| match u32::try_from(points) {
        Ok(points @ 1..=MAX_SIDE) => Some(points),
        _ => None,
    };
    match (side(width), side(height)) {
        (Some(w), Some(h)) if u64::from(w) * u64::from(h) <= MAX_POINTS => Ok((w, h)),
        _ => Err(error),
    }
}

/// Decodes all of it, row by row.
fn check_png(bytes: Vec<u8>) -> Result<Picture, PictureError> {
    if !bytes.ends_with(PNG_END) {
        return Err(PictureError::End);
    }
    let limits = Limits {
        bytes: DECODER_BYTES,
    };
    let mut whole = Cursor::new(bytes.as_slice());
    let mut decoder = Decoder::new_with_limits(&mut whole, limits);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let head = decoder.read_header_info().map_err(PictureError::Damaged)?;
    let (width, height) = check_size(u64::from(head.width), u64::from(head.height))?;
    let mut reader = decoder.read_info().map_err(PictureError::Damaged)?;
    while reader.next_row().map_err(PictureError::Damaged)?.is_some() {}
    reader.finish().map_err(PictureError::Damaged)?;
    drop(reader);
    // What ends as a PNG does may have two ends.
    if usize::try_from(whole.position()) != Ok(bytes.len()) {
        return Err(PictureError::End);
    }
    Ok(Picture {
        width,
        height,
        png: bytes.into(),
    })
}

fn encode(ppm: &ppm::Ppm<'_>) -> Result<Picture, PictureError> {
    let mut png = Vec::new();
    let mut encoder = Encoder::new(&mut png, ppm.width, ppm.height);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(Compression::Fast);
    let written = encoder.write_header().and_then(|mut writer| {
        writer.write_image_data(ppm.points)?;
        writer.finish()
    });
    written.map_err(PictureError::Encode)?;
    Ok(Picture {
        width: ppm.width,
        height: ppm.height,
        png: png.into(),
    })
}

#[cfg(test)]
mod tests;
