//! The configuration file as it is written: which tables and keys there are, and nothing
//! about what they may hold. `validate.rs` turns it into [`super::Config`].
//!
//! A key that is not named here is refused. Numbers are signed, so that a negative one
//! gets the same message about its range as any other.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

/// Every table of the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) grpc: Grpc,
    pub(super) access: Access,
    pub(super) http: Http,
    pub(super) libvirt: Libvirt,
    pub(super) qemu: Qemu,
    pub(super) endpoints: Endpoints,
    pub(super) console: Console,
    pub(super) capture: Capture,
    pub(super) graphics: Graphics,
    pub(super) limits: Limits,
    pub(super) log: Log,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Grpc {
    pub(super) listen: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) certificate: Option<Spanned<PathBuf>>,
    pub(super) private_key: Option<Spanned<PathBuf>>,
    pub(super) client_ca: Option<Spanned<PathBuf>>,
    pub(super) drain_seconds: Option<Spanned<i64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Access {
    pub(super) allowed_clients: Option<Spanned<Vec<Spanned<String>>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Http {
    pub(super) listen: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Libvirt {
    pub(super) enabled: Option<bool>,
    pub(super) uri: Option<Spanned<String>>,
    pub(super) call_timeout_seconds: Option<Spanned<i64>>,
    pub(super) channels: Option<Spanned<Vec<Spanned<String>>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Qemu {
    pub(super) enabled: Option<bool>,
    pub(super) directory: Option<Spanned<PathBuf>>,
    pub(super) sockets: Option<Spanned<Vec<Spanned<PathBuf>>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Endpoints {
    pub(super) directories: Option<Spanned<Vec<Spanned<PathBuf>>>>,
    pub(super) owners: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) tcp: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Console {
    pub(super) ring_bytes: Option<Spanned<i64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Capture {
    pub(super) mode: Option<Spanned<String>>,
    pub(super) linger_seconds: Option<Spanned<i64>>,
    pub(super) budget_bytes: Option<Spanned<i64>>,
    pub(super) rule: Option<Spanned<Vec<Spanned<CaptureRule>>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CaptureRule {
    pub(super) vms: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) aliases: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) mode: Option<Spanned<String>>,
    pub(super) linger_seconds: Option<Spanned<i64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Graphics {
    pub(super) reach: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) authentication: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) password_file: Option<Spanned<PathBuf>>,
    pub(super) username: Option<Spanned<String>>,
    pub(super) ca: Option<Spanned<PathBuf>>,
    pub(super) certificate: Option<Spanned<PathBuf>>,
    pub(super) private_key: Option<Spanned<PathBuf>>,
    pub(super) expected_name: Option<Spanned<String>>,
    pub(super) allow_common_name: Option<bool>,
    pub(super) open_seconds: Option<Spanned<i64>>,
    pub(super) view_only: Option<bool>,
    pub(super) clipboard_to_guest: Option<bool>,
    pub(super) clipboard_from_guest: Option<bool>,
    pub(super) refused_keys: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) exclusive: Option<bool>,
    pub(super) rule: Option<Spanned<Vec<Spanned<GraphicsRule>>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct GraphicsRule {
    pub(super) vms: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) view_only: Option<bool>,
    pub(super) clipboard_to_guest: Option<bool>,
    pub(super) clipboard_from_guest: Option<bool>,
    pub(super) refused_keys: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) exclusive: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    pub(super) connections: Option<Spanned<i64>>,
    pub(super) streams_per_connection: Option<Spanned<i64>>,
    pub(super) handshakes: Option<Spanned<i64>>,
    pub(super) handshake_seconds: Option<Spanned<i64>>,
    pub(super) first_message_seconds: Option<Spanned<i64>>,
    pub(super) resume_grace_seconds: Option<Spanned<i64>>,
    pub(super) viewers_per_console: Option<Spanned<i64>>,
    pub(super) sessions: Option<Spanned<i64>>,
    pub(super) watchers: Option<Spanned<i64>>,
    pub(super) idle_timeout_seconds: Option<Spanned<i64>>,
    pub(super) max_duration_seconds: Option<Spanned<i64>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Log {
    pub(super) format: Option<Spanned<String>>,
    pub(super) level: Option<Spanned<String>>,
}
