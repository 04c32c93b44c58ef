//! VNC authentication (RFC 6143, 7.2.2): DES with a password of eight bytes for its key. It
//! proves that both sides know the password, and protects nothing after that; use it inside TLS
//! or on one host.

use std::fmt;

use des::Des;
use des::cipher::{BlockCipherEncrypt, KeyInit};

/// How long a challenge and its response are, in bytes.
pub const CHALLENGE_BYTES: usize = 16;
/// How many bytes of a password count.
const KEY_BYTES: usize = 8;

/// A password of VNC. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct VncPassword([u8; KEY_BYTES]);

impl VncPassword {
    /// Of any text, of which the first eight bytes count: every implementation cuts it so.
    pub fn new(text: &str) -> Self {
        let mut key = [0; KEY_BYTES];
        for (byte, of_text) in key.iter_mut().zip(text.bytes()) {
            *byte = of_text;
        }
        Self(key)
    }

    /// What proves to whoever sent `challenge` that we know the password. Each byte of the key
    /// has its bits in reverse, as all implementations have it and the RFC does not say.
    pub fn respond(&self, challenge: &[u8; CHALLENGE_BYTES]) -> [u8; CHALLENGE_BYTES] {
        let cipher = Des::new(&self.0.map(u8::reverse_bits).into());
        let mut response = *challenge;
        let (blocks, _) = response.as_chunks_mut::<8>();
        for block in blocks {
            cipher.encrypt_block(block.into());
        }
        response
    }
}

impl fmt::Debug for VncPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worked example of DES that textbooks share: key 133457799BBCDFF1, text
    /// 0123456789ABCDEF. The password is that key with the bits of each byte in reverse.
    #[test]
    fn the_response_is_des_with_mirrored_key_bits() {
        let password = VncPassword([0xc8, 0x2c, 0xea, 0x9e, 0xd9, 0x3d, 0xfb, 0x8f]);
        let block = [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef];
        let cipher = [0x85, 0xe8, 0x13, 0x54, 0x0f, 0x0a, 0xb4, 0x05];
        let mut challenge = [0; CHALLENGE_BYTES];
        challenge[..8].copy_from_slice(&block);
        challenge[8..].copy_from_slice(&block);
        let response = password.respond(&challenge);
        assert_eq!(response[..8], cipher);
        assert_eq!(response[8..], cipher);
    }

    /// As OpenSSL's DES has it for the key CEA6C64EA62E8C4C, which is "secret12" mirrored.
    #[test]
    fn a_text_password_is_cut_at_eight_bytes() {
        let challenge: [u8; CHALLENGE_BYTES] = std::array::from_fn(|at| at as u8);
        let expected = [
            0xad, 0xcd, 0x99, 0x7f, 0x8e, 0x16, 0xfe, 0xe5, 0x75, 0xe9, 0x73, 0xf9, 0x3c, 0x2b,
            0x62, 0xb4,
        ];
        let respond = |text: &str| VncPassword::new(text).respond(&challenge);
        assert_eq!(respond("secret12"), expected);
        assert_eq!(respond("secret12345"), expected);
        assert_ne!(respond("secret1"), expected);
    }

    #[test]
    fn a_password_is_never_shown() {
        let shown = format!("{:?}", VncPassword::new("secret12"));
        assert_eq!(shown, "[redacted]");
    }
}
