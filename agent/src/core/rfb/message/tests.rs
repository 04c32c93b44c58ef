use proptest::prelude::*;

use super::*;

fn message(bytes: &[u8]) -> (Kind, u64) {
    match look(bytes) {
        Look::Message(head) => (head.kind, head.len),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_message_has_the_length_that_its_extension_gives_it() {
    let cases: [(&[u8], Kind, u64); 22] = [
        (&[0], Kind::SetPixelFormat, 20),
        (
            &[1, 0, 0, 9, 1, 2],
            Kind::FixColourMapEntries,
            6 + 0x102 * 6,
        ),
        (&[2, 0, 0, 0], Kind::SetEncodings, 4),
        (&[2, 9, 4, 0], Kind::SetEncodings, 4 + 4 * 1024),
        (&[3], Kind::UpdateRequest, 10),
        (&[4], Kind::Key, 8),
        (&[5, 0xFF], Kind::Pointer, 6),
        (&[6, 0, 0, 0, 0, 0, 0, 0], Kind::CutText, 8),
        (
            &[6, 9, 9, 9, 0x7F, 0xFF, 0xFF, 0xFF],
            Kind::CutText,
            8 + 0x7FFF_FFFF,
        ),
        (
            &[6, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFC, 0x18, 0, 0, 1],
            Kind::ExtendedCutText(Some(0x1800_0001)),
            12,
        ),
        (
            &[6, 0, 0, 0, 0x80, 0, 0, 0, 2, 0, 0, 1],
            Kind::ExtendedCutText(Some(0x0200_0001)),
            8 + (1 << 31),
        ),
        (
            &[6, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFD],
            Kind::ExtendedCutText(None),
            11,
        ),
        (&[150], Kind::ContinuousUpdates, 10),
        (&[248, 0, 0, 0, 0, 0, 0, 0, 64], Kind::Fence, 73),
        (&[250], Kind::Xvp, 4),
        (
            &[251, 0, 0, 0, 0, 0, 255, 0],
            Kind::SetDesktopSize,
            8 + 255 * 16,
        ),
        (&[253, 0x81, 1, 2], Kind::Gii, 4 + 0x102),
        (&[253, 0x01, 1, 2], Kind::Gii, 4 + 0x201),
        (&[255, 0], Kind::ExtendedKey, 12),
        (&[255, 1, 0, 0], Kind::Audio, 4),
        (&[255, 1, 0, 1], Kind::Audio, 4),
        (&[255, 1, 0, 2], Kind::Audio, 10),
    ];
    for (bytes, kind, len) in cases {
        assert_eq!(message(bytes), (kind, len), "{bytes:?}");
    }
}

#[test]
fn what_has_no_known_length_is_told() {
    let unknown = |number, qemu| Look::Unknown(Unknown { number, qemu });
    for number in [7, 8, 9, 10, 11, 13, 15, 80, 127, 149, 249, 252, 254] {
        assert_eq!(look(&[number]), unknown(number, None));
    }
    assert_eq!(look(&[255, 2]), unknown(255, Some(2)));
    assert_eq!(look(&[255, 1, 0, 3]), unknown(255, Some(1)));
    assert_eq!(look(&[2, 0, 4, 1]), Look::TooManyEncodings(1025));
    let told = [(9, None), (255, Some(7))].map(|(number, qemu)| Unknown { number, qemu });
    assert_eq!(
        told.map(|unknown| unknown.to_string()),
        ["type 9", "type 255, 7 of QEMU's"]
    );
}

proptest! {
    /// What a look says does not depend on how much more is there, and what it needs is more than
    /// there is and never more than a small head.
    #[test]
    fn a_look_stays_true_as_more_comes(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut told = None;
        for end in 0..=bytes.len() {
            match look(&bytes[..end]) {
                Look::Needs(wanted) => {
                    prop_assert!(told.is_none());
                    prop_assert!(wanted > end && wanted <= 12);
                }
                known => {
                    prop_assert_eq!(*told.get_or_insert(known), known);
                    if let Look::Message(head) = known {
                        prop_assert!(head.len >= head.bytes as u64);
                        prop_assert!(head.bytes <= end);
                        prop_assert!(head.kind.streams() || head.len <= MAX_WHOLE as u64);
                    }
                }
            }
        }
    }
}
