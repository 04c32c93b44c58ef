//! Makes text from a peer fit to be shown: plain ASCII, and of bounded length.

/// The first `limit` bytes, those that are not printable ASCII as `?`.
pub(super) fn printable(bytes: &[u8], limit: usize) -> String {
    let shown = |byte: &u8| match byte {
        b' '..=b'~' => char::from(*byte),
        _ => '?',
    };
    bytes.iter().take(limit).map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_printable_ascii_is_kept() {
        assert_eq!(printable(b"Too many tries", 64), "Too many tries");
        assert_eq!(printable(b"a\x1b[2J\xe2\x80\xae\n\0z", 64), "a?[2J?????z");
        assert_eq!(printable(&[b'x'; 5000], 7), "xxxxxxx");
        let all: Vec<u8> = (0..=255).collect();
        assert!(
            printable(&all, 256)
                .bytes()
                .all(|it| (b' '..=b'~').contains(&it))
        );
    }
}
