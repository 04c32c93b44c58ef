//! Why a connection did not get as far as gRPC: one closed set for log and metric.
//!
//! Nothing that the peer sent is formatted here: it is not authenticated yet. What is
//! added to a reason comes from enums of fixed names.

use std::fmt;
use std::io;

use rustls::{CertificateError, Error as Tls, PeerIncompatible};

macro_rules! failures {
    ($($(#[doc = $doc:literal])+ $variant:ident => $label:literal, $text:literal;)+) => {
        /// Why a handshake failed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum HandshakeFailure {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl HandshakeFailure {
            /// Every failure there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its name in logs and metrics.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }

            /// What happened and what to look at.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

failures! {
    /// The client sent no certificate.
    NoCertificate => "no_certificate",
        "the client sent no certificate; configure one on the client";
    /// The client's certificate was issued by an authority that is not in `client_ca`.
    UnknownCa => "unknown_ca",
        "the client's certificate is not issued by an authority in grpc.client_ca";
    /// The client's certificate is past its validity, or not yet in it.
    Expired => "expired",
        "the client's certificate is expired or not yet valid; renew it, or check the clocks";
    /// The client's certificate cannot be accepted for another reason.
    BadCertificate => "bad_certificate",
        "the client's certificate is malformed, badly signed, a CA's own, or not one for clients";
    /// The client refused the agent's certificate, or something else that the agent sent.
    ClientAlert => "client_alert",
        "the client refused the handshake; check which authority it trusts and which name it expects";
    /// The client does not speak TLS 1.3.
    TlsVersion => "tls_version",
        "the client does not offer TLS 1.3, which is required";
    /// What came is not TLS.
    NotTls => "not_tls",
        "the client does not speak TLS, or speaks it wrongly";
    /// The client did not ask for HTTP/2.
    NoAlpn => "no_alpn",
        "the client does not offer HTTP/2 (ALPN h2), which gRPC requires";
    /// The client asked for HTTP/2 and then did not speak it.
    BadPreface => "bad_preface",
        "the client does not begin with the HTTP/2 connection preface";
    /// The handshake took longer than it may.
    Timeout => "timeout",
        "the client did not finish within limits.handshake_seconds";
    /// The handshake was the oldest of too many.
    Evicted => "evicted",
        "dropped to make room: more than limits.handshakes were under way";
    /// The client closed the connection, or it broke.
    Closed => "closed",
        "the connection closed before the handshake was finished";
    /// Anything else.
    Other => "other",
        "the handshake failed";
}

impl fmt::Display for HandshakeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// A failed handshake. It was counted and logged already.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{failure}{}", detail.as_ref().map(|it| format!(" ({it})")).unwrap_or_default())]
pub struct HandshakeError {
    /// Why.
    pub failure: HandshakeFailure,
    /// More of it, in fixed words.
    pub detail: Option<String>,
}

impl From<HandshakeFailure> for HandshakeError {
    fn from(failure: HandshakeFailure) -> Self {
        Self {
            failure,
            detail: None,
        }
    }
}

impl HandshakeError {
    /// What an error of the TLS stream means.
    pub(super) fn of_io(error: &io::Error) -> Self {
        if let Some(tls) = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<Tls>())
        {
            return Self::of_tls(tls);
        }
        match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::NotConnected
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::TimedOut => HandshakeFailure::Closed.into(),
            kind => Self {
                failure: HandshakeFailure::Other,
                detail: Some(format!("{kind:?}")),
            },
        }
    }

    fn of_tls(error: &Tls) -> Self {
        let (failure, detail) = match error {
            Tls::NoCertificatesPresented => (HandshakeFailure::NoCertificate, None),
            Tls::InvalidCertificate(error) => (of_certificate(error), None),
            Tls::AlertReceived(alert) => {
                (HandshakeFailure::ClientAlert, Some(format!("{alert:?}")))
            }
            Tls::PeerIncompatible(
                PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::ServerDoesNotSupportTls12Or13
                // Versions before 1.2 do not know the extension, and are told by that.
                | PeerIncompatible::SignatureAlgorithmsExtensionRequired,
            ) => (HandshakeFailure::TlsVersion, None),
            Tls::NoApplicationProtocol => (HandshakeFailure::NoAlpn, None),
            Tls::InvalidMessage(_)
            | Tls::InappropriateMessage { .. }
            | Tls::InappropriateHandshakeMessage { .. }
            | Tls::PeerSentOversizedRecord => (HandshakeFailure::NotTls, None),
            Tls::PeerIncompatible(error) => (HandshakeFailure::Other, Some(format!("{error:?}"))),
            Tls::PeerMisbehaved(error) => (HandshakeFailure::Other, Some(format!("{error:?}"))),
            _ => (HandshakeFailure::Other, None),
        };
        Self { failure, detail }
    }
}

fn of_certificate(error: &CertificateError) -> HandshakeFailure {
    match error {
        CertificateError::UnknownIssuer => HandshakeFailure::UnknownCa,
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => HandshakeFailure::Expired,
        _ => HandshakeFailure::BadCertificate,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rustls::{AlertDescription, InvalidMessage, PeerMisbehaved};

    use super::*;

    fn of(error: Tls) -> (HandshakeFailure, String) {
        let error = HandshakeError::of_io(&io::Error::new(io::ErrorKind::InvalidData, error));
        (error.failure, error.to_string())
    }

    #[test]
    fn labels_are_told_apart_and_fit_prometheus() {
        let labels: HashSet<&str> = HandshakeFailure::ALL.iter().map(|it| it.label()).collect();
        assert_eq!(labels.len(), HandshakeFailure::ALL.len());
        assert!(
            labels
                .iter()
                .all(|it| it.bytes().all(|b| b == b'_' || b.is_ascii_lowercase()))
        );
    }

    /// What no handshake in the tests brings about.
    #[test]
    fn errors_of_tls_become_reasons() {
        let certificate = |error| of(Tls::InvalidCertificate(error)).0;
        assert_eq!(
            certificate(CertificateError::NotValidYet),
            HandshakeFailure::Expired
        );
        assert_eq!(
            certificate(CertificateError::BadSignature),
            HandshakeFailure::BadCertificate
        );
        let old = PeerIncompatible::SignatureAlgorithmsExtensionRequired;
        assert_eq!(
            of(Tls::PeerIncompatible(old)).0,
            HandshakeFailure::TlsVersion
        );
        let broken = InvalidMessage::InvalidContentType;
        assert_eq!(of(Tls::InvalidMessage(broken)).0, HandshakeFailure::NotTls);
        let (failure, text) = of(Tls::AlertReceived(AlertDescription::UnknownCA));
        assert_eq!(failure, HandshakeFailure::ClientAlert);
        assert!(text.ends_with(" (UnknownCA)"), "{text}");
        let odd = PeerMisbehaved::TooManyWarningAlertsReceived;
        let (failure, text) = of(Tls::PeerMisbehaved(odd));
        assert_eq!(failure, HandshakeFailure::Other);
        assert_eq!(text, "the handshake failed (TooManyWarningAlertsReceived)");
    }

    /// Text may come from the peer.
    #[test]
    fn text_of_an_error_is_not_passed_on() {
        let (failure, text) = of(Tls::General("sent by the peer".into()));
        assert_eq!(
            (failure, text.as_str()),
            (HandshakeFailure::Other, "the handshake failed")
        );
    }

    #[test]
    fn errors_of_the_connection_become_reasons() {
        let reset = HandshakeError::of_io(&io::ErrorKind::ConnectionReset.into());
        assert_eq!(reset.failure, HandshakeFailure::Closed);
        let odd = HandshakeError::of_io(&io::Error::new(io::ErrorKind::OutOfMemory, "text"));
        assert_eq!(odd.to_string(), "the handshake failed (OutOfMemory)");
    }
}
