//! A picture of a screen, decoded point by point. It refuses what is damaged.

use std::collections::BTreeMap;
use std::io::Cursor;

use png::{ColorType, Decoder};

/// A guest's text is of some thousand points.
const LEAST_TEXT: usize = 500;

/// A decoded picture.
pub(crate) struct Picture {
    pub(crate) size: (u32, u32),
    pub(crate) points: Vec<[u8; 3]>,
}

impl Picture {
    /// Decodes a PNG of three bytes a point, which is what a screen has.
    pub(crate) fn of_png(png: &[u8]) -> Self {
        let mut reader = Decoder::new(Cursor::new(png)).read_info().unwrap();
        let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
        let frame = reader.next_frame(&mut bytes).unwrap();
        reader.finish().unwrap();
        assert_eq!(frame.color_type, ColorType::Rgb);
        Self::of_points((frame.width, frame.height), &bytes[..frame.buffer_size()])
    }

    /// Decodes what QEMU's own `screendump` writes: `P6`, size and depth, then the points.
    pub(crate) fn of_ppm(ppm: &[u8]) -> Self {
        let mut lines = ppm.splitn(4, |byte| *byte == b'\n');
        let mut line = || lines.next().unwrap();
        let (kind, size, depth, points) = (line(), line(), line(), line());
        assert_eq!((kind, depth), (&b"P6"[..], &b"255"[..]));
        let size = String::from_utf8_lossy(size);
        let (width, height) = size.split_once(' ').unwrap();
        Self::of_points((width.parse().unwrap(), height.parse().unwrap()), points)
    }

    fn of_points(size: (u32, u32), bytes: &[u8]) -> Self {
        let (points, rest) = bytes.as_chunks::<3>();
        assert!(rest.is_empty());
        assert_eq!(points.len(), (size.0 * size.1) as usize);
        Self {
            size,
            points: points.to_vec(),
        }
    }

    /// Checks that there is text on it: points enough of another colour than most are.
    pub(crate) fn has_text(&self) {
        let mut colours = BTreeMap::<_, usize>::new();
        for point in &self.points {
            *colours.entry(point).or_default() += 1;
        }
        let background = colours.values().max().unwrap();
        let text = self.points.len() - background;
        println!(
            "a picture of {:?} points, {} colours, {text} points of text",
            self.size,
            colours.len()
        );
        assert!(colours.len() > 1 && text >= LEAST_TEXT, "{text}");
        assert!(self.size.0 >= 320 && self.size.1 >= 200, "{:?}", self.size);
    }

    /// Which part of its points another picture has otherwise.
    pub(crate) fn difference(&self, other: &Self) -> f64 {
        assert_eq!(self.size, other.size);
        let pairs = self.points.iter().zip(&other.points);
        let others = pairs.filter(|(one, other)| one != other).count();
        others as f64 / self.points.len() as f64
    }
}
