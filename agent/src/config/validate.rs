//! From what is written to what holds: defaults filled in, ranges and forms checked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;

use super::error::{ConfigError, Source};
use super::{
    Access, CONNECTIONS, Config, Console, DEFAULT_GRPC_LISTEN, DEFAULT_HTTP_LISTEN, DRAIN_SECONDS,
    FIRST_MESSAGE_SECONDS, Grpc, HANDSHAKE_SECONDS, HANDSHAKES, Http, IDLE_TIMEOUT_SECONDS, Limits,
    Log, LogFormat, LogLevel, MAX_ALLOWED_CLIENTS, MAX_DURATION_SECONDS, MAX_LISTEN, Number,
    RESUME_GRACE_SECONDS, RING_BYTES, SESSIONS, STREAMS_PER_CONNECTION, VIEWERS_PER_CONSOLE,
    WATCHERS, raw,
};

/// The longest name of a client, and the longest libvirt URI, in bytes.
const MAX_NAME_BYTES: usize = 1024;

mod capture;
mod graphics;
mod rules;
mod sources;

pub(super) fn config(file: raw::File, source: &Source<'_>) -> Result<Config, ConfigError> {
    let libvirt = sources::libvirt(file.libvirt, source)?;
    let qemu = sources::qemu(file.qemu, source)?;
    if !libvirt.enabled && !qemu.enabled {
        let advice = "set one of libvirt.enabled and qemu.enabled to true: without both there \
                      are no VMs";
        return Err(source.missing("libvirt.enabled", advice));
    }
    Ok(Config {
        grpc: grpc(file.grpc, source)?,
        access: access(file.access, source)?,
        http: http(file.http, source)?,
        libvirt,
        qemu,
        endpoints: sources::endpoints(file.endpoints, source)?,
        console: console(&file.console, source)?,
        capture: capture::capture(file.capture, source)?,
        graphics: graphics::graphics(file.graphics, source)?,
        limits: limits(&file.limits, source)?,
        log: log(file.log, source)?,
    })
}

fn grpc(raw: raw::Grpc, source: &Source<'_>) -> Result<Grpc, ConfigError> {
    let advice = "write under [grpc] the path of a PEM file";
    Ok(Grpc {
        listen: grpc_listen(raw.listen, source)?,
        certificate: path(raw.certificate, "grpc.certificate", advice, source)?,
        private_key: path(raw.private_key, "grpc.private_key", advice, source)?,
        client_ca: path(raw.client_ca, "grpc.client_ca", advice, source)?,
        drain: seconds(
            &raw.drain_seconds,
            "grpc.drain_seconds",
            &DRAIN_SECONDS,
            source,
        )?,
    })
}

fn grpc_listen(
    raw: Option<Spanned<Vec<Spanned<String>>>>,
    source: &Source<'_>,
) -> Result<Vec<SocketAddr>, ConfigError> {
    const KEY: &str = "grpc.listen";
    let Some(raw) = raw else {
        return Ok(vec![DEFAULT_GRPC_LISTEN]);
    };
    rules::entries(&raw, KEY, 1..=MAX_LISTEN, source)?;
    let mut listen = Vec::new();
    for text in raw.into_inner() {
        let address = address(&text, KEY, source)?;
        if listen.contains(&address) && address.port() != 0 {
            let message = "stands there twice; write each address once".into();
            return Err(source.invalid(KEY, text.span(), message));
        }
        listen.push(address);
    }
    Ok(listen)
}

fn access(raw: raw::Access, source: &Source<'_>) -> Result<Access, ConfigError> {
    const KEY: &str = "access.allowed_clients";
    const ADVICE: &str = "write under [access] the names in the clients' certificates, as \
                          [\"spiffe://example.org/proxy\"] or [\"proxy.example.org\"]";
    let raw = raw
        .allowed_clients
        .ok_or_else(|| source.missing(KEY, ADVICE))?;
    rules::entries(&raw, KEY, 1..=MAX_ALLOWED_CLIENTS, source)?;
    let mut allowed_clients = Vec::new();
    for name in raw.into_inner() {
        client_name(name.get_ref())
            .map_err(|message| source.invalid(KEY, name.span(), message.into()))?;
        allowed_clients.push(name.into_inner());
    }
    Ok(Access { allowed_clients })
}

/// Checks that a certificate could bear `name` as a URI or a DNS name.
fn client_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Err("a name is empty or too long; write 1 to 1024 bytes");
    }
    if let Some((scheme, rest)) = name.split_once("://") {
        let plain = name.bytes().all(|b| b.is_ascii_graphic());
        let scheme_fits = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        return if plain && scheme_fits && !rest.is_empty() && !name.contains('*') {
            Ok(())
        } else {
            Err("not a URI as a certificate has it; write it in full, as \
                 \"spiffe://example.org/proxy\" (it is compared exactly, and * is not a wildcard)")
        };
    }
    let labels_fit = name.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    });
    if labels_fit && name.len() <= 253 {
        Ok(())
    } else {
        Err(
            "not a DNS name; write it in full, as \"proxy.example.org\" (* is not a wildcard), \
             or a URI with ://",
        )
    }
}

fn http(raw: raw::Http, source: &Source<'_>) -> Result<Http, ConfigError> {
    let listen = match raw.listen {
        Some(text) => address(&text, "http.listen", source)?,
        None => DEFAULT_HTTP_LISTEN,
    };
    Ok(Http { listen })
}

fn console(raw: &raw::Console, source: &Source<'_>) -> Result<Console, ConfigError> {
    Ok(Console {
        ring_bytes: whole(&raw.ring_bytes, "console.ring_bytes", &RING_BYTES, source)?,
    })
}

fn limits(raw: &raw::Limits, source: &Source<'_>) -> Result<Limits, ConfigError> {
    let s = source;
    let streams = "limits.streams_per_connection";
    let handshake = "limits.handshake_seconds";
    let first = "limits.first_message_seconds";
    let grace = "limits.resume_grace_seconds";
    let viewers = "limits.viewers_per_console";
    let idle = "limits.idle_timeout_seconds";
    let longest = "limits.max_duration_seconds";
    Ok(Limits {
        connections: whole(&raw.connections, "limits.connections", &CONNECTIONS, s)?,
        streams_per_connection: whole(
            &raw.streams_per_connection,
            streams,
            &STREAMS_PER_CONNECTION,
            s,
        )?,
        handshakes: whole(&raw.handshakes, "limits.handshakes", &HANDSHAKES, s)?,
        handshake: seconds(&raw.handshake_seconds, handshake, &HANDSHAKE_SECONDS, s)?,
        first_message: seconds(&raw.first_message_seconds, first, &FIRST_MESSAGE_SECONDS, s)?,
        resume_grace: seconds(&raw.resume_grace_seconds, grace, &RESUME_GRACE_SECONDS, s)?,
        viewers_per_console: whole(&raw.viewers_per_console, viewers, &VIEWERS_PER_CONSOLE, s)?,
        sessions: whole(&raw.sessions, "limits.sessions", &SESSIONS, s)?,
        watchers: whole(&raw.watchers, "limits.watchers", &WATCHERS, s)?,
        idle_timeout: limit(&raw.idle_timeout_seconds, idle, &IDLE_TIMEOUT_SECONDS, s)?,
        max_duration: limit(&raw.max_duration_seconds, longest, &MAX_DURATION_SECONDS, s)?,
    })
}

fn log(raw: raw::Log, source: &Source<'_>) -> Result<Log, ConfigError> {
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let levels = [
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];
    Ok(Log {
        format: one_of(raw.format, "log.format", &formats, LogFormat::Text, source)?,
        level: one_of(raw.level, "log.level", &levels, LogLevel::Info, source)?,
    })
}

fn one_of<T: Copy>(
    raw: Option<Spanned<String>>,
    key: &str,
    choices: &[(&str, T)],
    default: T,
    source: &Source<'_>,
) -> Result<T, ConfigError> {
    let Some(raw) = raw else {
        return Ok(default);
    };
    if let Some((_, value)) = choices.iter().find(|(name, _)| name == raw.get_ref()) {
        return Ok(*value);
    }
    let names: Vec<String> = choices
        .iter()
        .map(|(name, _)| format!("\"{name}\""))
        .collect();
    Err(source.invalid(
        key,
        raw.span(),
        format!("not known; write one of {}", names.join(", ")),
    ))
}

fn path(
    raw: Option<Spanned<PathBuf>>,
    key: &'static str,
    advice: &'static str,
    source: &Source<'_>,
) -> Result<PathBuf, ConfigError> {
    let raw = raw.ok_or_else(|| source.missing(key, advice))?;
    if raw.get_ref().is_absolute() {
        Ok(raw.into_inner())
    } else {
        let message = "not an absolute path; write it from / on".into();
        Err(source.invalid(key, raw.span(), message))
    }
}

fn address(
    raw: &Spanned<String>,
    key: &str,
    source: &Source<'_>,
) -> Result<SocketAddr, ConfigError> {
    raw.get_ref().parse().map_err(|_| {
        let message = "not an IP address with a port; write \"192.0.2.1:2223\" or \
                       \"[2001:db8::1]:2223\"";
        source.invalid(key, raw.span(), message.into())
    })
}

fn whole<T: TryFrom<u64>>(
    raw: &Option<Spanned<i64>>,
    key: &str,
    number: &Number,
    source: &Source<'_>,
) -> Result<T, ConfigError> {
    let (value, span) = match raw {
        Some(raw) => (u64::try_from(*raw.get_ref()).ok(), raw.span()),
        None => (Some(number.default), 0..0),
    };
    let fitting = value.filter(|value| number.range.contains(value));
    fitting
        .and_then(|value| T::try_from(value).ok())
        .ok_or_else(|| {
            let (lowest, highest) = (number.range.start(), number.range.end());
            let default = number.default;
            let message = format!("out of range; write {lowest} to {highest} (default {default})");
            source.invalid(key, span, message)
        })
}

fn seconds(
    raw: &Option<Spanned<i64>>,
    key: &str,
    number: &Number,
    source: &Source<'_>,
) -> Result<Duration, ConfigError> {
    whole(raw, key, number, source).map(Duration::from_secs)
}

/// As [`seconds`]; 0 is no limit.
fn limit(
    raw: &Option<Spanned<i64>>,
    key: &str,
    number: &Number,
    source: &Source<'_>,
) -> Result<Option<Duration>, ConfigError> {
    let length = seconds(raw, key, number, source)?;
    Ok(Some(length).filter(|length| !length.is_zero()))
}
