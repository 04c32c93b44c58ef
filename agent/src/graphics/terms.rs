//! On which terms displays are opened, from the configuration. Terms that could never be met are
//! refused when they are made, and not when a display is opened.

use super::tls::DisplayTls;
use crate::core::rfb::security::{Acceptable, Security};

/// What may be taken of what displays offer, and with which secrets and certificates.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    pub(super) acceptable: Acceptable,
    pub(super) tls: Option<DisplayTls>,
}

/// Terms that could never be met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    /// A type needs the password, and there is none.
    #[error("{0} is allowed for displays, and there is no VNC password; configure one")]
    NoPassword(Security),
    /// A type needs user name and password, and there are none.
    #[error("{0} is allowed for displays without a user name and its password; configure both")]
    NoCredentials(Security),
    /// A type needs certificates, and there are none.
    #[error("{0} is allowed for displays, and there are no CA certificates; configure them")]
    NoTls(Security),
}

impl Terms {
    /// `acceptable` alone is taken; `tls` is for the kinds of VeNCrypt in it. The default allows
    /// nothing: then only displays that were told to let us in can be opened.
    ///
    /// # Errors
    /// [`TermsError`] if something is allowed whose secret or certificates are missing.
    pub fn new(acceptable: Acceptable, tls: Option<DisplayTls>) -> Result<Self, TermsError> {
        for security in acceptable.allowed.iter().copied() {
            if security.is_vencrypt() && tls.is_none() {
                return Err(TermsError::NoTls(security));
            }
            if !acceptable.takes(security) {
                return Err(match security {
                    Security::X509Plain => TermsError::NoCredentials(security),
                    _ => TermsError::NoPassword(security),
                });
            }
        }
        Ok(Self { acceptable, tls })
    }
}
