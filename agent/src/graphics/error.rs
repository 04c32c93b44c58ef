//! Why a display could not be opened: one error for RFB, TLS and the connection, with the reason
//! that a caller is told. Texts of a peer's certificate are cut and made printable.

use std::io;

use rustls::{AlertDescription, CertificateError, Error as Tls};

use crate::core::reason::Reason;
use crate::core::rfb::display::{Awaited, DisplayError};

/// How much of the names in a certificate is shown, in characters.
const MAX_NAMES: usize = 256;

/// Why a display could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The display refused, offers nothing that may be taken, does not speak RFB, or closed.
    #[error(transparent)]
    Rfb(#[from] DisplayError),
    /// Its time was over.
    #[error(
        "the display was silent instead of sending {0}; \
         check that the VM's process is not stuck, and that its address is a VNC server's"
    )]
    Silent(Awaited),
    /// The connection broke.
    #[error("the connection to the display broke where {awaited} was expected; try again")]
    Broken {
        /// What was waited for.
        awaited: Awaited,
        /// What the system said.
        source: io::Error,
    },
    /// There is nothing to check the display's certificate against.
    #[error(
        "the display has no host name to check its certificate against; \
         configure the name that is expected of displays"
    )]
    NoName,
    /// The display's certificate is another's.
    #[error(
        "the display's certificate is for {presented}, and not for {expected}; issue it with \
         that name as subjectAltName, or configure the name that is expected of displays"
    )]
    WrongName {
        /// What the certificate should say.
        expected: String,
        /// What it says, printable and cut.
        presented: String,
    },
    /// The display's certificate was not issued by an authority of ours, is not valid now, or is
    /// not one for servers.
    #[error("the display's certificate cannot be trusted; check it and the CA for displays")]
    Certificate(#[source] Tls),
    /// The display wants another certificate of us, or any.
    #[error(
        "the display refused our certificate, or that there is none ({0:?}); \
         configure one for displays that its CA issued"
    )]
    ClientCertificate(AlertDescription),
    /// TLS failed otherwise.
    #[error("TLS with the display failed; check the TLS versions and ciphers that it allows")]
    Tls(#[source] Tls),
}

impl HandshakeError {
    /// What a caller is told: [`Reason::Denied`] if the display does not let us in, or is not
    /// what it should be; [`Reason::EndpointLost`] if it broke, was silent or makes no sense.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Rfb(error) => error.reason(),
            Self::NoName
            | Self::WrongName { .. }
            | Self::Certificate(_)
            | Self::ClientCertificate(_) => Reason::Denied,
            Self::Silent(_) | Self::Broken { .. } | Self::Tls(_) => Reason::EndpointLost,
        }
    }

    /// Of what reading or writing failed with.
    pub(super) fn of_io(error: io::Error, awaited: Awaited) -> Self {
        match error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<Tls>())
        {
            Some(tls) => Self::of_tls(tls.clone()),
            None => Self::Broken {
                awaited,
                source: error,
            },
        }
    }

    fn of_tls(error: Tls) -> Self {
        match error {
            Tls::InvalidCertificate(CertificateError::NotValidForNameContext {
                expected,
                presented,
            }) => Self::WrongName {
                expected: expected.to_str().into_owned(),
                presented: names(&presented),
            },
            error @ Tls::InvalidCertificate(_) => Self::Certificate(error),
            Tls::AlertReceived(alert) if is_of_certificate(alert) => Self::ClientCertificate(alert),
            error => Self::Tls(error),
        }
    }
}

/// Whether an alert is about our certificate (RFC 8446, 6.2).
const fn is_of_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateRequired
    )
}

/// Whether it was the display itself that did not let the agent in, by what its state says: all of
/// [`HandshakeError`]'s texts begin alike, and none of an endpoint's does.
pub(crate) fn says_so_itself(detail: &str) -> bool {
    detail.starts_with("the display")
}

fn names(presented: &[String]) -> String {
    if presented.is_empty() {
        return "no name (it has no subjectAltName)".to_owned();
    }
    let printable = |character: &char| matches!(character, ' '..='~');
    let names = presented.join(", ");
    names.chars().filter(printable).take(MAX_NAMES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_says_that_it_is_the_displays_own() {
        for error in [
            HandshakeError::NoName,
            HandshakeError::WrongName {
                expected: "a".to_owned(),
                presented: "b".to_owned(),
            },
            HandshakeError::Certificate(Tls::DecryptError),
            HandshakeError::ClientCertificate(AlertDescription::UnknownCA),
            HandshakeError::Rfb(DisplayError::AuthenticationRefused(String::new())),
            HandshakeError::Rfb(DisplayError::VencryptVersion),
            HandshakeError::Rfb(DisplayError::KindRefused),
        ] {
            assert!(says_so_itself(&error.to_string()), "{error}");
        }
        let endpoint = crate::endpoint::EndpointError::Denied("the display".to_owned());
        assert!(!says_so_itself(&endpoint.to_string()));
    }
}
