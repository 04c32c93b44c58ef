//! Cuts a stream of bytes into JSON objects. Pure. It does not parse them: it counts braces, so
//! that a monitor with `pretty=on`, whose messages span lines, is read too.
//!
//! What it keeps is bounded by one message and one read; what is no JSON object, too long or
//! nested too deep is refused, and the stream with it.

/// The longest message that is taken. QEMU's longest answer to what the agent asks is the list
/// of a machine's devices: some 60 KiB with hundreds of them.
pub(in crate::hypervisor::qemu) const MAX_MESSAGE_BYTES: usize = 1024 * 1024;
/// The deepest nesting that is taken. What the agent asks for is at most five deep.
const MAX_DEPTH: usize = 32;
/// How much room is kept while nothing is being received.
const KEPT_BYTES: usize = 16 * 1024;

/// Why a stream cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::hypervisor::qemu) enum FrameError {
    /// Something stands where a message ought to begin.
    #[error("it does not speak QMP: something other than a JSON object came")]
    NotAnObject,
    /// A message is too long.
    #[error("it sent a message of more than {MAX_MESSAGE_BYTES} bytes")]
    TooLong,
    /// A message is nested too deep.
    #[error("it sent a message that is nested deeper than {MAX_DEPTH}")]
    TooDeep,
}

/// Where in JSON's text the next byte stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Plain,
    Text,
    Escaped,
}

/// What was received and not handed out yet.
#[derive(Debug, Default)]
pub(in crate::hypervisor::qemu) struct Frames {
    buffer: Vec<u8>,
    /// Where the message that is being received begins.
    start: usize,
    /// How far the buffer was looked at.
    at: usize,
    depth: usize,
    place: Place,
}

impl Frames {
    /// Takes in what was received. To be followed by [`Frames::next`] until that has nothing.
    pub(in crate::hypervisor::qemu) fn extend(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.at -= self.start;
        self.start = 0;
        if self.buffer.is_empty() && self.buffer.capacity() > KEPT_BYTES {
            self.buffer = Vec::new();
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message, if it is there as a whole.
    ///
    /// # Errors
    /// [`FrameError`]; then the stream is of no use any longer.
    pub(in crate::hypervisor::qemu) fn next(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        while let Some(byte) = self.buffer.get(self.at).copied() {
            let whole = self.step(byte)?;
            self.at += 1;
            if whole {
                let message = self.buffer.get(self.start..self.at).unwrap_or_default();
                let message = message.to_vec();
                self.start = self.at;
                return Ok(Some(message));
            }
            if self.depth == 0 {
                self.start = self.at;
            } else if self.at - self.start > MAX_MESSAGE_BYTES {
                return Err(FrameError::TooLong);
            }
        }
        Ok(None)
    }

    /// Looks at one byte; tells whether a message ends with it.
    fn step(&mut self, byte: u8) -> Result<bool, FrameError> {
        match (self.place, byte) {
            (Place::Escaped, _) => self.place = Place::Text,
            (Place::Text, b'\\') => self.place = Place::Escaped,
            (Place::Text, b'"') => self.place = Place::Plain,
            (Place::Text, _) => {}
            (Place::Plain, b'{') => self.depth += 1,
            (Place::Plain, b' ' | b'\t' | b'\r' | b'\n') => {}
            (Place::Plain, _) if self.depth == 0 => return Err(FrameError::NotAnObject),
            (Place::Plain, b'[') => self.depth += 1,
            (Place::Plain, b'"') => self.place = Place::Text,
            (Place::Plain, b'}' | b']') => {
                self.depth -= 1;
                return Ok(self.depth == 0);
            }
            (Place::Plain, _) => {}
        }
        if self.depth > MAX_DEPTH {
            return Err(FrameError::TooDeep);
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(bytes: &[u8], chunk: usize) -> Result<Vec<Vec<u8>>, FrameError> {
        let (mut frames, mut messages) = (Frames::default(), Vec::new());
        for chunk in bytes.chunks(chunk.max(1)) {
            frames.extend(chunk);
            while let Some(message) = frames.next()? {
                messages.push(message);
            }
        }
        Ok(messages)
    }

    #[test]
    fn braces_in_text_do_not_count() {
        let text = br#"{"a": "}\"{"} {"b":[{}]}"#;
        let messages = all(text, 3).unwrap();
        assert_eq!(messages, [&text[..13], &text[14..]]);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["[1]", "\"{}\"", "}", "SSH-2.0-x\r\n", "{} x", "\u{0}"] {
            let refused = all(text.as_bytes(), 64);
            assert_eq!(refused, Err(FrameError::NotAnObject), "{text:?}");
        }
    }

    #[test]
    fn depth_and_length_are_bounded() {
        let deep = format!("{{\"a\":{}", "[".repeat(MAX_DEPTH));
        assert_eq!(all(deep.as_bytes(), 7), Err(FrameError::TooDeep));

        let mut frames = Frames::default();
        frames.extend(b"{\"a\":\"");
        let refused = std::iter::repeat_with(|| {
            frames.extend(&[b'x'; 4096]);
            (frames.next(), frames.buffer.len())
        })
        .find(|(next, _)| next.is_err());
        let (next, kept) = refused.unwrap();
        assert_eq!(next, Err(FrameError::TooLong));
        assert!(kept <= MAX_MESSAGE_BYTES + 2 * 4096, "{kept}");
    }

    #[test]
    fn room_for_a_long_message_is_given_back() {
        let mut frames = Frames::default();
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(500_000));
        frames.extend(long.as_bytes());
        assert_eq!(frames.next().unwrap().unwrap(), long.as_bytes());
        frames.extend(b"{");
        assert!(frames.buffer.capacity() <= KEPT_BYTES);
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<i64>().prop_map(Into::into),
            "\\PC{0,12}|[{}\\[\\]\"\\\\]{0,8}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::vec(("[a-z\"{]{0,4}", inner), 0..4).prop_map(|entries| {
                    serde_json::Value::Object(entries.into_iter().collect())
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn objects_come_out_as_they_went_in(
            values in prop::collection::vec(value(), 0..6),
            chunk in 1usize..40,
            pretty: bool,
        ) {
            let mut bytes = Vec::new();
            let wrapped = values.into_iter().map(|value| serde_json::json!({ "v": value }));
            let wrapped: Vec<_> = wrapped.collect();
            for value in &wrapped {
                let text = if pretty { serde_json::to_vec_pretty(value) } else { serde_json::to_vec(value) };
                bytes.extend(text.unwrap());
                bytes.extend(b"\r\n");
            }
            let messages = all(&bytes, chunk).unwrap();
            let read: Vec<serde_json::Value> =
                messages.iter().map(|it| serde_json::from_slice(it).unwrap()).collect();
            prop_assert_eq!(read, wrapped);
        }

        #[test]
        fn how_bytes_are_cut_makes_no_difference(
            bytes in prop::collection::vec(prop_oneof![Just(b'{'), Just(b'}'), Just(b'"'), Just(b'\\'), Just(b'['), Just(b' '), any::<u8>()], 0..200),
            chunk in 1usize..40,
        ) {
            prop_assert_eq!(all(&bytes, chunk), all(&bytes, bytes.len()));
            super::super::fuzzing::check(&bytes);
        }
    }
}
