//! Why a request came to nothing, and whether another may do better.

use std::time::Duration;

use crate::{
    error::{RemoteCause, StoreError},
    http::url::plain,
};

/// Why a request came to nothing.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It may be different next time.
    Passing {
        url: String,
        reason: String,
        /// How long the server asks to wait.
        wait: Option<Duration>,
    },
    /// It will not.
    Final(StoreError),
}

impl Fault {
    pub(crate) fn unreached(url: &str, fault: &ureq::Error) -> Self {
        let (url, reason) = (plain(url), format!("no answer ({fault})"));
        match fault {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::Tls(_) | ureq::Error::Rustls(_) => {
                Self::Final(StoreError::Remote { url, reason, cause: RemoteCause::Trouble })
            }
            _ => Self::Passing { url, reason, wait: None },
        }
    }

    pub(crate) fn refused(url: &str, reason: String) -> Self {
        Self::because(url, reason, RemoteCause::Trouble)
    }

    pub(crate) fn because(url: &str, reason: String, cause: RemoteCause) -> Self {
        Self::Final(StoreError::Remote { url: plain(url), reason, cause })
    }
}
