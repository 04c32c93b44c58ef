//! Lists, and rules about VMs: what `[[capture.rule]]` and `[[graphics.rule]]` have in common.

use std::ops::{Range, RangeInclusive};

use toml::Spanned;

use super::super::MAX_ENTRIES;
use super::super::error::{ConfigError, Source};
use crate::core::selector::VmSelector;

/// The rules under `key`, at most `most`, each read by `read`.
pub(super) fn rules<R, T>(
    raw: Option<Spanned<Vec<Spanned<R>>>>,
    key: &str,
    most: usize,
    source: &Source<'_>,
    read: impl Fn(Spanned<R>) -> Result<T, ConfigError>,
) -> Result<Vec<T>, ConfigError> {
    let Some(raw) = raw else {
        return Ok(Vec::new());
    };
    entries(&raw, key, 0..=most, source)?;
    raw.into_inner().into_iter().map(read).collect()
}

/// The VMs that a rule is about. `rule` is where it stands.
pub(super) fn vms(
    raw: Option<Spanned<Vec<Spanned<String>>>>,
    key: &str,
    rule: Range<usize>,
    source: &Source<'_>,
) -> Result<Vec<VmSelector>, ConfigError> {
    let Some(raw) = raw else {
        let message = "is missing; write which VMs the rule is about, as vms = [\"build-*\"]";
        return Err(source.invalid(key, rule, message.into()));
    };
    each(raw, key, source, |text| {
        let selector: Result<VmSelector, _> = text.parse();
        selector.map_err(|error| error.to_string())
    })
}

/// A list of 1 to [`MAX_ENTRIES`] entries, each read by `read`.
pub(super) fn each<T>(
    raw: Spanned<Vec<Spanned<String>>>,
    key: &str,
    source: &Source<'_>,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, ConfigError> {
    entries(&raw, key, 1..=MAX_ENTRIES, source)?;
    let entries = raw.into_inner().into_iter();
    let entries = entries.map(|text| {
        let span = text.span();
        read(text.get_ref()).map_err(|message| source.invalid(key, span, message))
    });
    entries.collect()
}

/// Checks how many entries a list has.
pub(super) fn entries<T>(
    raw: &Spanned<Vec<T>>,
    key: &str,
    allowed: RangeInclusive<usize>,
    source: &Source<'_>,
) -> Result<(), ConfigError> {
    let entries = raw.get_ref().len();
    if allowed.contains(&entries) {
        return Ok(());
    }
    let message = match allowed.into_inner() {
        (0, most) => format!("has {entries} entries; write at most {most}"),
        (least, most) => format!("has {entries} entries; write {least} to {most}"),
    };
    Err(source.invalid(key, raw.span(), message))
}
