//! `vmconsolectl pki init`: certificates for development and tests.
//!
//! Refuses to be a site's PKI: there is no renewal and no revocation here, and the CA's
//! key lies unencrypted beside what it signed.

mod certificates;
mod files;

use std::path::{Path, PathBuf};

use time::OffsetDateTime;

pub(crate) use self::certificates::{
    DEFAULT_DAYS, DEFAULT_PROXY, MAX_DAYS, Pki, Plan, SubjectName,
};
use self::files::{CERTIFICATE_MODE, KEY_MODE, NewFile, write_new};
use crate::output::print;

/// Why there is no new PKI.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PkiError {
    /// Some of the files are there.
    #[error(
        "{} already has {files}: nothing was written; name another directory, or move these away",
        directory.display()
    )]
    Exists {
        /// The directory.
        directory: PathBuf,
        /// Which files.
        files: String,
    },
    /// The disk.
    #[error("cannot write {}", path.display())]
    Write {
        /// What.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The crypto library.
    #[error("cannot make the certificates")]
    Crypto(#[from] rcgen::Error),
    /// Stdout.
    #[error("the files are made, but cannot be told of on standard output")]
    Report(#[source] std::io::Error),
}

/// What `pki init` was asked for.
pub(crate) struct Init {
    /// Where the files go.
    pub(crate) directory: PathBuf,
    /// Further names of the agent.
    pub(crate) agent_names: Vec<SubjectName>,
    /// Identities of the proxy; none means the default one.
    pub(crate) proxy_names: Vec<SubjectName>,
    /// Validity in days.
    pub(crate) days: u16,
}

/// Makes the CA and both certificates, writes them, and says how they are used.
///
/// # Errors
/// [`PkiError`]; nothing is left behind then, save for [`PkiError::Report`].
pub(crate) fn init(mut asked: Init) -> Result<(), PkiError> {
    if asked.proxy_names.is_empty() {
        asked
            .proxy_names
            .push(SubjectName::Uri(DEFAULT_PROXY.to_owned()));
    }
    let report = report(&asked);
    let plan = Plan {
        agent_names: asked.agent_names,
        proxy_names: asked.proxy_names,
        days: asked.days,
        now: OffsetDateTime::now_utc(),
    };
    write(&asked.directory, &plan.make()?)?;
    print(&report).map_err(PkiError::Report)
}

/// Writes the six files.
fn write(directory: &Path, pki: &Pki) -> Result<(), PkiError> {
    let key = |name, contents| NewFile {
        name,
        mode: KEY_MODE,
        contents,
    };
    let certificate = |name, contents| NewFile {
        name,
        mode: CERTIFICATE_MODE,
        contents,
    };
    let files = [
        key("ca.key", pki.ca.key.as_str()),
        key("agent.key", pki.agent.key.as_str()),
        key("proxy.key", pki.proxy.key.as_str()),
        certificate("ca.crt", pki.ca.certificate.as_str()),
        certificate("agent.crt", pki.agent.certificate.as_str()),
        certificate("proxy.crt", pki.proxy.certificate.as_str()),
    ];
    write_new(directory, &files)
}

/// What was made, and the lines that put it to use from any working directory.
fn report(asked: &Init) -> String {
    let absolute = std::path::absolute(&asked.directory);
    let directory = absolute.as_ref().unwrap_or(&asked.directory);
    let file = |name| directory.join(name).display().to_string();
    let identities = asked.proxy_names.iter().map(|name| match name {
        SubjectName::Dns(name) | SubjectName::Uri(name) => format!("{name:?}"),
        SubjectName::Ip(address) => format!("\"{address}\""),
    });
    let identities = identities.collect::<Vec<_>>().join(", ");
    format!(
        "\
Made in {shown}, valid for {days} days:
  ca.crt     ca.key     a private CA, for development
  agent.crt  agent.key  for the agent to serve with
  proxy.crt  proxy.key  for a proxy to call with, as {identities}

In the agent's config.toml:
  [grpc]
  certificate = {certificate:?}
  private_key = {key:?}
  client_ca = {ca:?}
  [access]
  allowed_clients = [{identities}]

For vmconsolectl:
  export VMCONSOLE_PKI='{quoted}'
",
        shown = directory.display(),
        days = asked.days,
        certificate = file("agent.crt"),
        key = file("agent.key"),
        ca = file("ca.crt"),
        quoted = directory.display().to_string().replace('\'', r"'\''"),
    )
}
