//! Mutual TLS: both sides of every connection show a certificate of the ring's own authority.
//!
//! A member has a folder with `ca.crt`, `tls.crt` and `tls.key`, as a mounted Secret or as `lime up --tls` makes it. Servers
//! let in whoever shows a certificate of the authority; clients want the server's certificate to bear [`SERVER_NAME`]
//! besides, and never ask for a host's name: pods come and go, and addresses are no identity. The files are looked at for
//! each new connection and read again when they have changed; connections that stand are left alone.

mod credentials;
mod error;
mod files;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{ClientConfig, ServerConfig};

use self::{
    credentials::Credentials,
    files::{Paths, Stamp},
};

pub(crate) use error::Refusal;
pub use error::SecurityError;

/// The name that every worker's certificate bears, whatever its host. A gateway's does not: it can open connections to
/// workers but not pose as one. The operator writes it (`operator/controller/src/certificates.rs`); a test in `tests/` holds
/// the two together.
pub const SERVER_NAME: &str = "worker.lime.internal";

/// A member's credentials, as fresh as its files.
#[derive(Debug)]
pub struct RingSecurity {
    paths: Paths,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    /// The files that were looked at last, whether they were taken or not.
    seen: Stamp,
    credentials: Arc<Credentials>,
}

impl RingSecurity {
    /// Reads the files in `folder`.
    ///
    /// # Errors
    /// The first file that is missing, is not what its name says, or does not belong to the others.
    pub fn open(folder: &Path) -> Result<Self, SecurityError> {
        let paths = Paths::of(folder);
        let (seen, contents) = files::read(&paths);
        let credentials = Credentials::of(contents?, &paths)?;
        warn_of_dates(&credentials, &paths);
        Ok(Self { paths, held: Mutex::new(Held { seen, credentials: Arc::new(credentials) }) })
    }

    /// What a connection that comes in now is met with.
    pub fn server(&self) -> Arc<ServerConfig> {
        self.current().server.clone()
    }

    /// What a connection that goes out now is opened with.
    pub fn client(&self) -> Arc<ClientConfig> {
        self.current().client.clone()
    }

    /// The files as they are now; as they were, while what is there makes no sense. Costs three `stat` calls.
    fn current(&self) -> Arc<Credentials> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if Stamp::of(&self.paths) != held.seen {
            let (seen, contents) = files::read(&self.paths);
            // Noted even when it makes no sense: one warning for each state of the files, and no second reading.
            held.seen = seen;
            match contents.and_then(|contents| Credentials::of(contents, &self.paths)) {
                Ok(credentials) => {
                    tracing::info!(certificate = %self.paths.certificate.display(), "new connections use the new certificate");
                    warn_of_dates(&credentials, &self.paths);
                    held.credentials = Arc::new(credentials);
                }
                Err(error) => {
                    tracing::warn!(%error, "the new certificate is not used: new connections keep the last good one");
                }
            }
        }
        held.credentials.clone()
    }
}

fn warn_of_dates(credentials: &Credentials, paths: &Paths) {
    if let Some(trouble) = credentials.untimely {
        tracing::warn!("the certificate in {} {trouble}; peers will refuse it", paths.certificate.display());
    }
}
