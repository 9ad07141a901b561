//! Certificates for one run of `lime up --tls`: an authority whose key is forgotten as soon as it has signed once.

use std::{
    fs::{OpenOptions, Permissions},
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use anyhow::Context as _;
use lime_ring::SERVER_NAME;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tempfile::TempDir;

/// A folder as `--tls` takes it, for this machine's workers and gateway; it goes with this value.
#[derive(Debug)]
pub(super) struct Throwaway(TempDir);

impl Throwaway {
    /// Makes authority, certificate and key.
    pub(super) fn make() -> anyhow::Result<Self> {
        let private = Permissions::from_mode(0o700);
        let folder = tempfile::Builder::new().prefix("lime-tls-").permissions(private).tempdir();
        let folder = folder.context("there is no place for the certificates of --tls")?;
        let (authority, certificate, key) = sign().context("the certificates of --tls cannot be made")?;
        for (name, text) in [("ca.crt", authority), ("tls.crt", certificate), ("tls.key", key)] {
            let path = folder.path().join(name);
            let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            let written = written.and_then(|mut file| file.write_all(text.as_bytes()));
            written.with_context(|| format!("{} cannot be written", path.display()))?;
        }
        Ok(Self(folder))
    }

    /// Where they are.
    pub(super) fn folder(&self) -> &Path {
        self.0.path()
    }
}

/// PEM of the authority's certificate, of the members' one certificate, and of its key.
fn sign() -> Result<(String, String, String), rcgen::Error> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority_key = KeyPair::generate()?;
    let root = authority.self_signed(&authority_key)?;
    let mut member = CertificateParams::new(vec![SERVER_NAME.to_owned()])?;
    member.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    member.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate()?;
    let certificate = member.signed_by(&key, &Issuer::new(authority, authority_key))?;
    Ok((root.pem(), certificate.pem(), key.serialize_pem()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_can_be_made_of_them_and_nobody_else_can_read_them() {
        let made = Throwaway::make().unwrap();
        lime_ring::RingSecurity::open(made.folder()).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o77;
        assert_eq!((mode(made.folder()), mode(&made.folder().join("tls.key"))), (0, 0));
        let folder = made.folder().to_owned();
        drop(made);
        assert!(!folder.exists());
    }
}
