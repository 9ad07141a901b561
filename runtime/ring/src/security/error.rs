//! Credentials that cannot be used, and peers that are not let in.

use std::{
    io,
    path::{Path, PathBuf},
};

use rustls::{AlertDescription, CertificateError, Error as Tls};
use thiserror::Error;

use super::server_name::SERVER_NAME;

/// Chains of a dozen certificates have a tenth of this.
pub(super) const LONGEST_FILE: u64 = 256 << 10;

/// Credentials that cannot be used. Each names the file.
#[derive(Debug, Error)]
pub enum SecurityError {
    /// The file is not there or cannot be read.
    #[error("{} cannot be read: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is longer than any of its kind.
    #[error("{} is longer than {LONGEST_FILE} bytes: that is no certificate or key", .path.display())]
    Long {
        /// The file.
        path: PathBuf,
    },
    /// The file does not hold what its name says.
    #[error("{}: {reason}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificate and key are not a pair.
    #[error("{} is not the key of the certificate in {}", .key.display(), .certificate.display())]
    NoPair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The certificate was signed by somebody else.
    #[error(
        "the certificate in {} is not one of the authority in {}: {reason}",
        .certificate.display(), .authority.display()
    )]
    Foreign {
        /// The certificate's file.
        certificate: PathBuf,
        /// The authority's file.
        authority: PathBuf,
        /// What the check met.
        reason: String,
    },
}

impl SecurityError {
    pub(super) fn content(path: &Path, reason: impl ToString) -> Self {
        Self::Content { path: path.to_owned(), reason: reason.to_string() }
    }
}

/// A handshake that failed, in words for whoever reads the log.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct Refusal(String);

impl Refusal {
    /// The words for what [`tokio_rustls`] gives, which hides the cause in an I/O error. `None` for trouble of the
    /// connection itself.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        let cause = error.get_ref()?.downcast_ref::<Tls>()?;
        Some(Self(words(cause)))
    }

    /// The refusal among the causes of `error`, if there is one.
    pub(crate) fn among<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        std::iter::successors(Some(error), |cause| cause.source()).find_map(|cause| cause.downcast_ref())
    }
}

fn words(cause: &Tls) -> String {
    use AlertDescription as Alert;
    use CertificateError as Bad;
    match cause {
        Tls::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => {
            "its certificate is not one of our authority (ca.crt): it belongs to another ring".to_owned()
        }
        Tls::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            format!("its certificate is not a worker's: it lacks the name {SERVER_NAME}")
        }
        Tls::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            "its certificate has expired; see why it is not renewed, and compare the clocks".to_owned()
        }
        Tls::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            "its certificate is not valid yet; compare the clocks".to_owned()
        }
        Tls::NoCertificatesPresented => "it shows no certificate".to_owned(),
        Tls::InvalidMessage(_) => "it does not speak TLS: is it without --tls?".to_owned(),
        Tls::PeerIncompatible(_) | Tls::AlertReceived(Alert::ProtocolVersion) => {
            format!("it does not speak TLS 1.3 as we do ({cause})")
        }
        Tls::AlertReceived(Alert::UnknownCA | Alert::DecryptError) => {
            "it refuses our certificate: it belongs to another ring (its ca.crt is not ours)".to_owned()
        }
        Tls::AlertReceived(Alert::CertificateExpired) => {
            "it refuses our certificate, which has expired; see why it is not renewed, and compare the clocks"
                .to_owned()
        }
        Tls::AlertReceived(alert) => format!("it refuses us ({alert:?})"),
        other => other.to_string(),
    }
}
