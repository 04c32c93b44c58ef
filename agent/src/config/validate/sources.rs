//! Where VMs and their consoles come from: `[libvirt]`, `[qemu]` and `[endpoints]`.

use std::path::{Component, Path, PathBuf};

use toml::Spanned;

use super::super::error::{ConfigError, Source};
use super::super::{
    CALL_TIMEOUT_SECONDS, DEFAULT_DIRECTORIES, DEFAULT_LIBVIRT_URI, DEFAULT_OWNERS,
    DEFAULT_QMP_DIRECTORY, Endpoints, Libvirt, MAX_ENTRIES, MAX_QEMU_SOCKETS, Qemu, TcpConsoles,
    raw,
};
use super::rules::entries;
use super::{MAX_NAME_BYTES, one_of, seconds};

pub(super) fn libvirt(raw: raw::Libvirt, source: &Source<'_>) -> Result<Libvirt, ConfigError> {
    const KEY: &str = "libvirt.uri";
    let uri = match raw.uri {
        None => DEFAULT_LIBVIRT_URI.to_owned(),
        Some(uri) => {
            let text = uri.get_ref();
            let plain = text.len() <= MAX_NAME_BYTES && text.bytes().all(|b| b.is_ascii_graphic());
            // libvirt's URIs are driver[+transport]://[host][:port]/path[?parameters]
            // (https://libvirt.org/uri.html).
            let driver = text.split_once("://").map(|(scheme, _)| scheme);
            let qemu = driver.is_some_and(|it| it == "qemu" || it.starts_with("qemu+"));
            if !plain || !qemu {
                let message = "not a libvirt URI of the QEMU driver; write \"qemu:///system\"";
                return Err(source.invalid(KEY, uri.span(), message.into()));
            }
            uri.into_inner()
        }
    };
    let key = "libvirt.call_timeout_seconds";
    let call_timeout = seconds(
        &raw.call_timeout_seconds,
        key,
        &CALL_TIMEOUT_SECONDS,
        source,
    )?;
    let channels = names(raw.channels, "libvirt.channels", &[], source, |name| {
        let stem = name.strip_suffix('*').unwrap_or(name);
        let plain = stem.bytes().all(|b| b.is_ascii_graphic() && b != b'*');
        (plain && !name.is_empty() && name.len() <= MAX_NAME_BYTES)
            .then_some(())
            .ok_or("not a channel's name; write \"org.example.shell.0\", or \"org.example.*\"")
    })?;
    Ok(Libvirt {
        enabled: raw.enabled.unwrap_or(true),
        uri,
        call_timeout,
        channels,
    })
}

pub(super) fn qemu(raw: raw::Qemu, source: &Source<'_>) -> Result<Qemu, ConfigError> {
    const DIRECTORY: &str = "qemu.directory";
    let directory = match raw.directory {
        None => PathBuf::from(DEFAULT_QMP_DIRECTORY),
        Some(path) => {
            plain_path(path.get_ref())
                .map_err(|message| source.invalid(DIRECTORY, path.span(), message.into()))?;
            path.into_inner()
        }
    };
    Ok(Qemu {
        enabled: raw.enabled.unwrap_or(true),
        directory,
        sockets: paths(raw.sockets, "qemu.sockets", MAX_QEMU_SOCKETS, &[], source)?,
    })
}

pub(super) fn endpoints(
    raw: raw::Endpoints,
    source: &Source<'_>,
) -> Result<Endpoints, ConfigError> {
    let policies = [
        ("off", TcpConsoles::Off),
        ("loopback", TcpConsoles::Loopback),
        ("any", TcpConsoles::Any),
    ];
    let key = "endpoints.directories";
    Ok(Endpoints {
        directories: paths(
            raw.directories,
            key,
            MAX_ENTRIES,
            &DEFAULT_DIRECTORIES,
            source,
        )?,
        owners: names(
            raw.owners,
            "endpoints.owners",
            &DEFAULT_OWNERS,
            source,
            |name| {
                let plain = name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"._-$".contains(&b));
                (plain && (1..=32).contains(&name.len()))
                    .then_some(())
                    .ok_or("not a user's name; write one as in /etc/passwd, say \"libvirt-qemu\"")
            },
        )?,
        tcp: one_of(
            raw.tcp,
            "endpoints.tcp",
            &policies,
            TcpConsoles::Loopback,
            source,
        )?,
    })
}

/// A list of names, each checked; the default where it is unset.
fn names(
    raw: Option<Spanned<Vec<Spanned<String>>>>,
    key: &str,
    default: &[&str],
    source: &Source<'_>,
    check: impl Fn(&str) -> Result<(), &'static str>,
) -> Result<Vec<String>, ConfigError> {
    let Some(raw) = raw else {
        return Ok(default.iter().map(|&name| name.to_owned()).collect());
    };
    entries(&raw, key, 0..=MAX_ENTRIES, source)?;
    let mut names = Vec::new();
    for name in raw.into_inner() {
        check(name.get_ref())
            .map_err(|message| source.invalid(key, name.span(), message.into()))?;
        names.push(name.into_inner());
    }
    Ok(names)
}

/// A list of paths, each checked; the default where it is unset.
fn paths(
    raw: Option<Spanned<Vec<Spanned<PathBuf>>>>,
    key: &str,
    most: usize,
    default: &[&str],
    source: &Source<'_>,
) -> Result<Vec<PathBuf>, ConfigError> {
    let Some(raw) = raw else {
        return Ok(default.iter().map(PathBuf::from).collect());
    };
    entries(&raw, key, 0..=most, source)?;
    let mut paths = Vec::new();
    for path in raw.into_inner() {
        plain_path(path.get_ref())
            .map_err(|message| source.invalid(key, path.span(), message.into()))?;
        paths.push(path.into_inner());
    }
    Ok(paths)
}

/// An absolute path that says where it leads: without `..`, and not the root itself.
fn plain_path(path: &Path) -> Result<(), &'static str> {
    let mut parts = path.components();
    let plain = parts.next() == Some(Component::RootDir)
        && parts.clone().next().is_some()
        && parts.all(|part| matches!(part, Component::Normal(_)));
    plain
        .then_some(())
        .ok_or("not an absolute path; write it from / on, without \"..\"")
}
