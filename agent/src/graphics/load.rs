//! What displays are opened with, and by which rules they are relayed: from the configuration,
//! with the files that it names. It opens no display.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::terms::{Terms, TermsError};
use super::tls::{DisplayTls, DisplayTlsError, DisplayTlsOptions};
use crate::config::{Graphics, GraphicsRule, GraphicsTerms};
use crate::core::id::VmUuid;
use crate::core::rfb::password::VncPassword;
use crate::core::rfb::security::{Acceptable, Security};
use crate::core::rfb::vencrypt::PlainCredentials;
use crate::pem::EXPOSED_MODE;

/// The longest password, in bytes.
const MAX_PASSWORD_BYTES: u64 = 256;
/// The longest file with a password that is read, in bytes.
const MAX_FILE_BYTES: u64 = 4096;

/// Why displays cannot be opened as the configuration says.
#[derive(Debug, thiserror::Error)]
pub enum DisplayTermsError {
    /// The file with the password cannot be read.
    #[error("{}: cannot be read; check graphics.password_file and that the agent's user may read it", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its first line is no password.
    #[error("{}: its first line is no password; write one of at most {MAX_PASSWORD_BYTES} bytes (graphics.password_file)", .0.display())]
    NoPassword(PathBuf),
    /// Others can read it.
    #[error("{}: a password that others may read or write (mode {mode:04o}); run: chmod 0640 {}", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The certificates are of no use.
    #[error(transparent)]
    Tls(#[from] DisplayTlsError),
    /// Something is allowed that cannot be done.
    #[error(
        "graphics.authentication names what needs graphics.password_file, graphics.username or \
         graphics.ca: set what is missing, or name only what is meant"
    )]
    Terms(#[from] TermsError),
}

/// What displays are opened with, and by which rules they are relayed.
#[derive(Debug)]
pub struct DisplayTerms {
    /// For the handshake with a display.
    pub(super) handshake: Terms,
    /// How long the opening of one may take.
    pub(super) open: Duration,
    terms: GraphicsTerms,
    rules: Vec<GraphicsRule>,
}

impl DisplayTerms {
    /// Reads the files that `config` names. Blocks on the disk.
    ///
    /// # Errors
    /// [`DisplayTermsError`] for the first thing that is wrong.
    pub fn load(config: &Graphics) -> Result<Self, DisplayTermsError> {
        let tls = config.tls.as_ref().map(|tls| {
            DisplayTls::load(&DisplayTlsOptions {
                ca: &tls.ca,
                client: tls
                    .own
                    .as_ref()
                    .map(|(own, key)| (own.as_path(), key.as_path())),
                expected_name: tls.expected_name.as_deref(),
                allow_common_name: tls.allow_common_name,
            })
        });
        let tls = tls.transpose()?;
        let path = config.password_file.as_deref();
        let password = path.map(password).transpose()?;
        let plain = match (&config.username, &password, path) {
            (Some(name), Some(password), Some(path)) => Some(
                PlainCredentials::new(name, password)
                    .map_err(|_| DisplayTermsError::NoPassword(path.to_owned()))?,
            ),
            _ => None,
        };
        let mut acceptable = Acceptable {
            allowed: config.authentication.iter().copied().collect(),
            password: password.as_deref().map(VncPassword::new),
            plain,
        };
        // All of them stands for all that can be done; what was chosen is meant.
        if Security::STRONGEST_FIRST
            .iter()
            .all(|it| acceptable.allowed.contains(it))
        {
            let possible = Security::STRONGEST_FIRST.into_iter().filter(|security| {
                acceptable.takes(*security) && (tls.is_some() || !security.is_vencrypt())
            });
            acceptable.allowed = possible.collect();
        }
        Ok(Self {
            handshake: Terms::new(acceptable, tls)?,
            open: config.open,
            terms: config.terms.clone(),
            rules: config.rules.clone(),
        })
    }

    /// What holds for the displays of this VM.
    pub(super) fn of(&self, vm: VmUuid, name: &str) -> &GraphicsTerms {
        let about = |rule: &&GraphicsRule| rule.vms.iter().any(|vms| vms.selects(vm, name));
        let rule = self.rules.iter().find(about);
        rule.map_or(&self.terms, |rule| &rule.terms)
    }
}

/// The first line of the file at `path`.
fn password(path: &Path) -> Result<String, DisplayTermsError> {
    let unreadable = |source| DisplayTermsError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o7777;
    if mode & EXPOSED_MODE != 0 {
        let path = path.to_owned();
        return Err(DisplayTermsError::Exposed { path, mode });
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    let text = String::from_utf8(bytes).ok();
    let line = text.as_deref().and_then(|text| text.lines().next());
    let line = line.filter(|line| {
        let fits = (1..=MAX_PASSWORD_BYTES).contains(&(line.len() as u64));
        fits && !line.chars().any(char::is_control)
    });
    line.map(str::to_owned)
        .ok_or_else(|| DisplayTermsError::NoPassword(path.to_owned()))
}
