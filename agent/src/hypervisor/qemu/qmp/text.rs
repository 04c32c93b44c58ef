//! Makes text from a peer fit to be shown and kept: printable, and of bounded length. Pure.

/// `text` without control characters, cut at `limit` bytes.
pub(in crate::hypervisor::qemu) fn printable(text: &str, limit: usize) -> String {
    let mut kept = String::new();
    for character in text.chars().filter(|character| !character.is_control()) {
        if kept.len() + character.len_utf8() > limit {
            break;
        }
        kept.push(character);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_kept_is_short_and_printable(text in ".{0,40}", limit in 0usize..30) {
            let kept = printable(&text, limit);
            prop_assert!(kept.len() <= limit);
            prop_assert!(!kept.chars().any(char::is_control));
        }
    }

    #[test]
    fn plain_text_stays() {
        assert_eq!(printable("web server, old", 64), "web server, old");
        assert_eq!(printable("a\u{1b}[2Jb", 64), "a[2Jb");
    }
}
