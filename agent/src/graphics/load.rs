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

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;
    use crate::core::rfb::rules::Rules;

    /// A configuration whose password is in a file with this content.
    fn with_password(content: &[u8]) -> (tempfile::NamedTempFile, Graphics) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let config = Graphics {
            password_file: Some(file.path().to_owned()),
            ..Graphics::default()
        };
        (file, config)
    }

    fn allowed(config: &Graphics) -> Vec<Security> {
        let terms = DisplayTerms::load(config).unwrap();
        terms.handshake.acceptable.allowed.into_iter().collect()
    }

    #[test]
    fn what_is_not_chosen_is_whatever_can_be_done() {
        assert_eq!(allowed(&Graphics::default()), [Security::None]);
        let (_file, mut config) = with_password(b"opensesame\n");
        let both = allowed(&config);
        assert_eq!(both.len(), 2, "{both:?}");
        assert!(both.contains(&Security::None) && both.contains(&Security::Vnc));
        config.username = Some("op".to_owned());
        assert_eq!(allowed(&config), both, "X509Plain needs certificates too");
    }

    #[test]
    fn what_is_chosen_is_all_that_is_taken_and_has_to_be_possible() {
        let (_file, mut config) = with_password(b"opensesame");
        config.authentication = vec![Security::Vnc];
        assert_eq!(allowed(&config), [Security::Vnc], "not even None");
        config.password_file = None;
        let refused = |config: &Graphics| match DisplayTerms::load(config) {
            Err(DisplayTermsError::Terms(error)) => error,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(&config), TermsError::NoPassword(Security::Vnc));
        config.authentication = vec![Security::None, Security::X509None];
        assert_eq!(refused(&config), TermsError::NoTls(Security::X509None));
    }

    #[test]
    fn a_password_is_one_line_that_nobody_else_reads() {
        let line = |content: &[u8]| {
            let (file, _) = with_password(content);
            password(file.path())
        };
        assert_eq!(line(b"secret\nand a note\n").unwrap(), "secret");
        let longest = [b'x'; MAX_PASSWORD_BYTES as usize];
        assert!(line(&longest).is_ok());
        let longer = [longest.as_slice(), b"x"].concat();
        for wrong in [b"".as_slice(), b"\nsecret", b"a\tb", b"\xff", &longer] {
            let error = line(wrong).unwrap_err();
            assert!(matches!(error, DisplayTermsError::NoPassword(_)), "{error}");
        }

        let (file, _) = with_password(b"secret");
        for (mode, open) in [(0o640, false), (0o644, true), (0o660, true), (0o602, true)] {
            std::fs::set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
            match password(file.path()) {
                Ok(_) => assert!(!open, "{mode:o}"),
                Err(error) => assert!(open && error.to_string().contains("chmod 0640"), "{error}"),
            }
        }
        let gone = password(Path::new("/nonexistent/secret")).unwrap_err();
        assert!(
            matches!(gone, DisplayTermsError::Unreadable { .. }),
            "{gone}"
        );
    }

    #[test]
    fn the_first_rule_about_a_vm_counts() {
        let rule = |vms: &str, view_only, exclusive| GraphicsRule {
            vms: vec![vms.parse().unwrap()],
            terms: GraphicsTerms {
                rules: Rules {
                    view_only,
                    ..Rules::default()
                },
                exclusive,
            },
        };
        let config = Graphics {
            rules: vec![rule("web-*", true, false), rule("web-1", false, true)],
            ..Graphics::default()
        };
        let terms = DisplayTerms::load(&config).unwrap();
        let vm = VmUuid::new(uuid::Uuid::from_u128(1));
        assert_eq!(*terms.of(vm, "web-1"), config.rules[0].terms);
        assert_eq!(*terms.of(vm, "db"), GraphicsTerms::default());
    }
}
