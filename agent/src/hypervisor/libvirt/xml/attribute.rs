//! Attributes' values, bounded. Pure.

use quick_xml::XmlVersion;
use quick_xml::errors::Error as SyntaxError;
use quick_xml::events::BytesStart;

/// The most attributes of one element that are looked at.
const MAX_ATTRIBUTES: usize = 32;

/// The value of an attribute, `limit` bytes of it at most; empty if it is not there.
pub(super) fn attribute(
    start: &BytesStart<'_>,
    name: &str,
    limit: usize,
) -> Result<String, SyntaxError> {
    let mut value = String::new();
    // Without the check for repeated names, which takes time by the square of their number.
    for found in start.attributes().with_checks(false).take(MAX_ATTRIBUTES) {
        let found = found.map_err(SyntaxError::from)?;
        if found.key.as_ref() == name {
            let text = found.normalized_value(XmlVersion::Implicit1_0)?;
            push_bounded(&mut value, &text, limit);
            break;
        }
    }
    Ok(value)
}

/// Appends what fits of `text`, at a character's border.
pub(super) fn push_bounded(into: &mut String, text: &str, limit: usize) {
    let room = limit.saturating_sub(into.len());
    into.push_str(&text[..text.floor_char_boundary(room)]);
}
