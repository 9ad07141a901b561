//! Mutual TLS: both sides of every connection show a certificate of the ring's own authority.
//!
//! A member has a folder with `ca.crt`, `tls.crt` and `tls.key`, as a mounted Secret or as `lime up --tls` makes it. Servers
//! let in whoever shows a certificate of the authority; clients want the server's certificate to bear [`SERVER_NAME`]
//! besides, and never ask for a host's name: pods come and go, and addresses are no identity. The files are looked at for
//! each new connection and read again when they have changed; connections that stand are left alone.

mod credentials;
mod error;
mod files;
mod fresh;
mod server_certificate;
mod server_name;

use std::{path::Path, sync::Arc};

use rustls::{ClientConfig, ServerConfig};

use credentials::Credentials;
use fresh::Fresh;

pub(crate) use error::Refusal;
pub use error::SecurityError;
pub use server_certificate::ServerCertificate;
pub use server_name::SERVER_NAME;

/// A member's credentials, as fresh as its files.
#[derive(Debug)]
pub struct RingSecurity(Fresh<Credentials, 3>);

impl RingSecurity {
    /// Reads the files in `folder`.
    ///
    /// # Errors
    /// The first file that is missing, is not what its name says, or does not belong to the others.
    pub fn open(folder: &Path) -> Result<Self, SecurityError> {
        let paths = ["ca.crt", "tls.crt", "tls.key"].map(|name| folder.join(name));
        Fresh::open(paths, Credentials::of).map(Self)
    }

    /// What a connection that comes in now is met with.
    pub fn server(&self) -> Arc<ServerConfig> {
        self.0.current().server.clone()
    }

    /// What a connection that goes out now is opened with.
    pub fn client(&self) -> Arc<ClientConfig> {
        self.0.current().client.clone()
    }
}
