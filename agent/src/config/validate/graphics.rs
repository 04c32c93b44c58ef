//! How displays are reached, and what is kept from guests and callers: `[graphics]`.

use std::path::PathBuf;

use toml::Spanned;

use super::super::error::{ConfigError, Source};
use super::super::graphics::{
    DisplayTls, DisplayWay, Graphics, GraphicsRule, GraphicsTerms, MAX_GRAPHICS_RULES, OPEN_SECONDS,
};
use super::super::raw;
use super::rules::{entries, rules, vms};
use super::{MAX_NAME_BYTES, seconds};
use crate::core::rfb::rules::{Combination, MAX_COMBINATIONS, Rules};
use crate::core::rfb::security::Security;

const WAYS: [(&str, DisplayWay); 3] = [
    ("descriptor", DisplayWay::Descriptor),
    ("unix", DisplayWay::Unix),
    ("tcp", DisplayWay::Tcp),
];

const AUTHENTICATIONS: [(&str, Security); 5] = [
    ("none", Security::None),
    ("vnc", Security::Vnc),
    ("x509-none", Security::X509None),
    ("x509-vnc", Security::X509Vnc),
    ("x509-plain", Security::X509Plain),
];

pub(super) fn graphics(raw: raw::Graphics, source: &Source<'_>) -> Result<Graphics, ConfigError> {
    let tls = tls(&raw, source)?;
    let key = "graphics.rule";
    let rules = rules(raw.rule, key, MAX_GRAPHICS_RULES, source, |it| {
        rule(it, source)
    })?;
    // What holds for every VM says the same as a rule about some.
    let general = raw::GraphicsRule {
        vms: None,
        view_only: raw.view_only,
        clipboard_to_guest: raw.clipboard_to_guest,
        clipboard_from_guest: raw.clipboard_from_guest,
        refused_keys: raw.refused_keys,
        exclusive: raw.exclusive,
    };
    Ok(Graphics {
        reach: choices(raw.reach, "graphics.reach", &WAYS, source)?,
        authentication: choices(
            raw.authentication,
            "graphics.authentication",
            &AUTHENTICATIONS,
            source,
        )?,
        password_file: path(raw.password_file, "graphics.password_file", source)?,
        username: name(raw.username, "graphics.username", source)?,
        tls,
        open: seconds(
            &raw.open_seconds,
            "graphics.open_seconds",
            &OPEN_SECONDS,
            source,
        )?,
        terms: terms(general, "graphics.refused_keys", source)?,
        rules,
    })
}

fn rule(raw: Spanned<raw::GraphicsRule>, source: &Source<'_>) -> Result<GraphicsRule, ConfigError> {
    let (span, mut raw) = (raw.span(), raw.into_inner());
    Ok(GraphicsRule {
        vms: vms(raw.vms.take(), "graphics.rule.vms", span, source)?,
        terms: terms(raw, "graphics.rule.refused_keys", source)?,
    })
}

/// What holds for displays. `key` is that of the refused keys.
fn terms(
    raw: raw::GraphicsRule,
    key: &str,
    source: &Source<'_>,
) -> Result<GraphicsTerms, ConfigError> {
    Ok(GraphicsTerms {
        rules: Rules {
            view_only: raw.view_only.unwrap_or(false),
            refuse_clipboard_to_guest: !raw.clipboard_to_guest.unwrap_or(true),
            refuse_clipboard_from_guest: !raw.clipboard_from_guest.unwrap_or(true),
            refused_keys: keys(raw.refused_keys, key, source)?,
        },
        exclusive: raw.exclusive.unwrap_or(false),
    })
}

fn keys(
    raw: Option<Spanned<Vec<Spanned<String>>>>,
    key: &str,
    source: &Source<'_>,
) -> Result<Vec<Combination>, ConfigError> {
    let Some(raw) = raw else {
        return Ok(Vec::new());
    };
    entries(&raw, key, 0..=MAX_COMBINATIONS, source)?;
    let texts = raw.into_inner().into_iter();
    let keys = texts.map(|text| {
        let parsed: Result<Combination, _> = text.get_ref().parse();
        parsed.map_err(|error| source.invalid(key, text.span(), error.to_string()))
    });
    keys.collect()
}

fn tls(raw: &raw::Graphics, source: &Source<'_>) -> Result<Option<DisplayTls>, ConfigError> {
    let ca = path(raw.ca.clone(), "graphics.ca", source)?;
    let certificate = path(raw.certificate.clone(), "graphics.certificate", source)?;
    let key = path(raw.private_key.clone(), "graphics.private_key", source)?;
    let own = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => {
            let advice = "write the key of graphics.certificate, or neither of the two";
            return Err(source.missing("graphics.private_key", advice));
        }
        (None, Some(_)) => {
            let advice = "write the certificate of graphics.private_key, or neither of the two";
            return Err(source.missing("graphics.certificate", advice));
        }
    };
    let expected_name = name(raw.expected_name.clone(), "graphics.expected_name", source)?;
    match ca {
        Some(ca) => Ok(Some(DisplayTls {
            ca,
            own,
            expected_name,
            allow_common_name: raw.allow_common_name.unwrap_or(false),
        })),
        None if own.is_none() && expected_name.is_none() && raw.allow_common_name != Some(true) => {
            Ok(None)
        }
        None => {
            let advice = "write the certificates that displays' certificates are issued by: \
                          without them no display is spoken TLS to";
            Err(source.missing("graphics.ca", advice))
        }
    }
}

/// Some of `all`, each once; all of them where it is unset.
fn choices<T: Copy + PartialEq>(
    raw: Option<Spanned<Vec<Spanned<String>>>>,
    key: &str,
    all: &[(&str, T)],
    source: &Source<'_>,
) -> Result<Vec<T>, ConfigError> {
    let Some(raw) = raw else {
        return Ok(all.iter().map(|(_, choice)| *choice).collect());
    };
    entries(&raw, key, 1..=all.len(), source)?;
    let mut chosen = Vec::new();
    for text in raw.into_inner() {
        let span = text.span();
        let choice = super::one_of(Some(text), key, all, all[0].1, source)?;
        if chosen.contains(&choice) {
            let message = "stands there twice; write each once".into();
            return Err(source.invalid(key, span, message));
        }
        chosen.push(choice);
    }
    Ok(chosen)
}

fn path(
    raw: Option<Spanned<PathBuf>>,
    key: &str,
    source: &Source<'_>,
) -> Result<Option<PathBuf>, ConfigError> {
    let Some(raw) = raw.filter(|raw| !raw.get_ref().as_os_str().is_empty()) else {
        return Ok(None);
    };
    if raw.get_ref().is_absolute() {
        return Ok(Some(raw.into_inner()));
    }
    let message = "not an absolute path; write it from / on".into();
    Err(source.invalid(key, raw.span(), message))
}

fn name(
    raw: Option<Spanned<String>>,
    key: &str,
    source: &Source<'_>,
) -> Result<Option<String>, ConfigError> {
    let Some(raw) = raw.filter(|raw| !raw.get_ref().is_empty()) else {
        return Ok(None);
    };
    let text = raw.get_ref();
    let plain = !text.chars().any(char::is_control);
    if plain && (1..=MAX_NAME_BYTES).contains(&text.len()) {
        return Ok(Some(raw.into_inner()));
    }
    let message = format!("not a name; write 1 to {MAX_NAME_BYTES} bytes on one line");
    Err(source.invalid(key, raw.span(), message))
}
