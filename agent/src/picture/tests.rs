//! Pictures there and back, and what is none.

use proptest::prelude::*;

use super::*;

fn ppm(width: u32, height: u32, points: &[u8]) -> Vec<u8> {
    let mut bytes = format!("P6\n{width} {height}\n255\n").into_bytes();
    bytes.extend_from_slice(points);
    bytes
}

/// Width, height and points of a PNG of three bytes a point.
fn decoded(png: &[u8]) -> (u32, u32, Vec<u8>) {
    let mut reader = Decoder::new(Cursor::new(png)).read_info().expect("a PNG");
    let mut points = vec![0; reader.output_buffer_size().expect("it fits")];
    let info = reader.next_frame(&mut points).expect("it decodes");
    assert_eq!(info.color_type, ColorType::Rgb);
    points.truncate(info.buffer_size());
    (info.width, info.height, points)
}

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut crc = !0u32;
    for byte in kind.iter().chain(data) {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0xedb8_8320
            } else {
                crc >> 1
            };
        }
    }
    let length = u32::try_from(data.len()).expect("short").to_be_bytes();
    [&length, &kind[..], data, &(!crc).to_be_bytes()].concat()
}

/// A PNG whose head says this size and that has no points.
fn empty_png(width: u32, height: u32) -> Vec<u8> {
    let head = [
        &width.to_be_bytes()[..],
        &height.to_be_bytes(),
        &[8, 2, 0, 0, 0],
    ]
    .concat();
    [
        PNG_SIGNATURE,
        &chunk(b"IHDR", &head),
        &chunk(b"IDAT", &[]),
        PNG_END,
    ]
    .concat()
}

#[test]
fn what_qemu_writes_becomes_a_png_of_the_same_points() {
    let points: Vec<u8> = (0..64 * 48 * 3).map(|i| (i % 251) as u8).collect();
    let picture = to_png(ppm(64, 48, &points)).unwrap();
    assert_eq!((picture.width, picture.height), (64, 48));
    assert_eq!(decoded(&picture.png), (64, 48, points));
}

#[test]
fn a_blank_screen_is_small() {
    let picture = to_png(ppm(1920, 1080, &vec![0; 1920 * 1080 * 3])).unwrap();
    assert!(picture.png.len() < 64 * 1024, "{} bytes", picture.png.len());
}

#[test]
fn a_png_is_passed_on_as_it_is() {
    let png = to_png(ppm(5, 7, &[9; 5 * 7 * 3])).unwrap().png;
    let again = to_png(png.to_vec()).unwrap();
    assert_eq!((again.width, again.height), (5, 7));
    assert_eq!(again.png, png);
}

#[test]
fn a_damaged_png_is_refused() {
    let png = to_png(ppm(50, 70, &[9; 50 * 70 * 3])).unwrap().png.to_vec();
    let mut flipped = png.clone();
    let middle = png.len() / 2;
    flipped[middle] ^= 0x10;
    assert!(matches!(to_png(flipped), Err(PictureError::Damaged(_))));
    let cut = png[..middle].to_vec();
    assert!(matches!(to_png(cut), Err(PictureError::End)));
    let mut longer = png.clone();
    longer.push(0);
    assert!(matches!(to_png(longer), Err(PictureError::End)));
    let twice = [png.clone(), png.clone()].concat();
    assert!(matches!(to_png(twice), Err(PictureError::End)));
    let hollow = empty_png(50, 70);
    assert!(matches!(to_png(hollow), Err(PictureError::Damaged(_))));
}

#[test]
fn a_picture_out_of_bounds_is_refused_before_its_points_are_looked_at() {
    for (width, height) in [
        (0, 5),
        (5, 0),
        (MAX_SIDE + 1, 1),
        (1, MAX_SIDE + 1),
        (MAX_SIDE, MAX_SIDE),
    ] {
        let refused = to_png(ppm(width, height, &[])).unwrap_err();
        assert!(matches!(refused, PictureError::Size { .. }), "{refused}");
        let refused = to_png(empty_png(width, height)).unwrap_err();
        // The decoder itself refuses a side of 0.
        let side_of_0 = width == 0 || height == 0;
        assert_eq!(
            matches!(refused, PictureError::Damaged(_)),
            side_of_0,
            "{refused}"
        );
    }
    let widest = to_png(ppm(MAX_SIDE, 1, &vec![0; MAX_SIDE as usize * 3])).unwrap();
    assert!(to_png(widest.png.to_vec()).is_ok());
}

#[test]
fn a_ppm_that_is_not_what_its_head_says_is_refused() {
    for (bytes, why) in [
        (&b"P6"[..], "do not stand apart"),
        (b"P6 2 2 255", "nothing ends it"),
        (b"P6 2 2 255x", "nothing ends it"),
        (b"P6 2 2 65535\n", "other shades"),
        (b"P6 a 2 255\n", "is missing"),
        (b"P6 1234567890 2 255\n", "too long"),
        (
            b"P6 2 2 255\n123456789",
            "9 bytes of points where its head says 12",
        ),
        (
            b"P6 2 2 255\n1234567890123",
            "13 bytes of points where its head says 12",
        ),
        (b"P5 2 2 255\n1234", "neither PPM nor PNG"),
        (b"", "neither PPM nor PNG"),
    ] {
        let refused = to_png(bytes.to_vec()).unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
    let endless = [b"P6 #".to_vec(), vec![b'x'; 10_000]].concat();
    assert!(to_png(endless).is_err());
}

#[test]
fn comments_in_a_head_are_passed_over() {
    let bytes = b"P6 # of a screen\n1\t#\n1\n255\n\n\n\n";
    let picture = to_png(bytes.to_vec()).unwrap();
    assert_eq!(decoded(&picture.png), (1, 1, b"\n\n\n".to_vec()));
}

proptest! {
    #[test]
    fn any_points_come_through_unchanged(width in 1u32..40, height in 1u32..40, seed in any::<u64>()) {
        let mut state = seed | 1;
        let points: Vec<u8> = (0..width * height * 3)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        let picture = to_png(ppm(width, height, &points)).unwrap();
        prop_assert_eq!(decoded(&picture.png), (width, height, points));
    }

    #[test]
    fn arbitrary_bytes_are_refused_or_read_and_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), kind in 0..4) {
        let begin: &[u8] = match kind {
            0 => b"",
            1 => b"P6",
            2 => b"P6 3 3 255 ",
            _ => PNG_SIGNATURE,
        };
        let end: &[u8] = if kind == 3 { PNG_END } else { b"" };
        if let Ok(picture) = to_png([begin, &bytes, end].concat()) {
            prop_assert!(u64::from(picture.width) * u64::from(picture.height) <= MAX_POINTS);
        }
    }

    #[test]
    fn a_png_with_changed_bytes_never_panics(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut png = to_png(ppm(20, 20, &[7; 1200])).unwrap().png.to_vec();
        let length = png.len();
        for (at, byte) in changes {
            png[at.index(length)] = byte;
        }
        let _either = to_png(png);
    }

    #[test]
    fn heads_are_read_as_they_are_written(numbers in proptest::collection::vec("[ \n\t]{0,2}(#[a-z]{0,3}\n)?[0-9]{0,11}", 0..5), rest in proptest::collection::vec(any::<u8>(), 0..40)) {
        let bytes = [b"P6".to_vec(), numbers.concat().into_bytes(), rest].concat();
        if let Ok(read) = ppm::parse(&bytes) {
            prop_assert_eq!(read.points.len() as u64, u64::from(read.width) * u64::from(read.height) * 3);
        }
    }
}
