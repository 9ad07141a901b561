//! Certificates for rings in tests: sound ones, and those that the operator would never make.

use std::{fs, os::unix::fs::symlink, path::Path};

use anyhow::{Context as _, Result};
use lime_ring::SERVER_NAME;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use tempfile::TempDir;

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// While tests run.
    Now,
    /// No longer.
    Past,
    /// Not yet.
    Future,
}

/// One ring's authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// What a member has: all PEM.
#[derive(Clone, Debug)]
pub struct Member {
    /// `ca.crt`.
    pub authority: String,
    /// `tls.crt`.
    pub certificate: String,
    /// `tls.key`.
    pub key: String,
}

impl Authority {
    /// A new one. All have the same name: only the key tells them apart.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "a ring of tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// A worker of this ring.
    ///
    /// # Errors
    /// As [`Authority::sign`].
    pub fn worker(&self) -> Result<Member> {
        self.sign(SERVER_NAME, Validity::Now)
    }

    /// A gateway of this ring.
    ///
    /// # Errors
    /// As [`Authority::sign`].
    pub fn gateway(&self) -> Result<Member> {
        self.sign("gateway.lime.internal", Validity::Now)
    }

    /// A member with a certificate of `name`.
    ///
    /// # Errors
    /// When the name is none.
    pub fn sign(&self, name: &str, validity: Validity) -> Result<Member> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        match validity {
            Validity::Now => {}
            Validity::Past => params.not_after = date_time_ymd(2001, 1, 1),
            Validity::Future => params.not_before = date_time_ymd(3001, 1, 1),
        }
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Member { authority: self.pem.clone(), certificate, key: key.serialize_pem() })
    }
}

impl Member {
    /// A new folder with these files.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn folder(&self) -> Result<TempDir> {
        let folder = tempfile::tempdir()?;
        self.publish(folder.path())?;
        Ok(folder)
    }

    /// Puts these files in `folder` as the kubelet does with a Secret: a folder of the version, and one link that is swapped.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn publish(&self, folder: &Path) -> Result<()> {
        let version = tempfile::Builder::new().prefix("..version-").tempdir_in(folder)?.keep();
        let files = [("ca.crt", &self.authority), ("tls.crt", &self.certificate), ("tls.key", &self.key)];
        for (name, text) in files {
            fs::write(version.join(name), text)?;
        }
        let next = folder.join("..data-next");
        symlink(version.file_name().context("a version without a name")?, &next)?;
        fs::rename(next, folder.join("..data"))?;
        for (name, _) in files {
            let link = folder.join(name);
            if fs::symlink_metadata(&link).is_err() {
                symlink(Path::new("..data").join(name), link)?;
            }
        }
        Ok(())
    }
}
