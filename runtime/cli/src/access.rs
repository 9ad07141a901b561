//! Who may come to the API, as the command line says it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, ensure};
use clap::Args;
use lime_gateway::{Access, AllowedOrigin};
use lime_ring::ServerCertificate;

use crate::document::read_text;

const LONGEST_KEYS: u64 = 1 << 20;

/// What `lime up` and `lime gateway` have in common.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct AccessArgs {
    /// A host name that clients may ask by, beside addresses and localhost; may be given several times, * for any. On a loopback
    /// address other names are refused, and web pages from elsewhere
    #[arg(long = "allow-host", value_name = "NAME")]
    pub(crate) allow_hosts: Vec<String>,

    /// A web page's origin, such as `https://chat.example`, whose scripts may ask and read the answers, beside pages of this machine; may be
    /// given several times, * for every page there is
    #[arg(long = "allow-origin", value_name = "ORIGIN")]
    pub(crate) allow_origins: Vec<AllowedOrigin>,

    /// File with the keys that clients must send, one a line; default: anyone is served
    #[arg(long = "api-key-file", alias = "api-keys", value_name = "FILE")]
    pub(crate) api_keys: Option<PathBuf>,

    /// The API speaks TLS with this certificate (PEM, with what stands between it and an authority), read again when it changes
    #[arg(long, value_name = "FILE", requires = "api_tls_key")]
    pub(crate) api_tls_cert: Option<PathBuf>,

    /// The key of that certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "api_tls_cert")]
    pub(crate) api_tls_key: Option<PathBuf>,
}

impl AccessArgs {
    /// Reads the files that are named.
    pub(crate) fn read(&self) -> anyhow::Result<Access> {
        let pair = self.api_tls_cert.clone().zip(self.api_tls_key.clone());
        let certificate = pair.map(|(certificate, key)| ServerCertificate::open(certificate, key)).transpose();
        Ok(Access {
            api_keys: self.api_keys.as_deref().map(read_keys).transpose()?.unwrap_or_default(),
            allow_hosts: self.allow_hosts.clone(),
            allow_origins: self.allow_origins.clone(),
            certificate: certificate.context("--api-tls-cert cannot be used")?.map(Arc::new),
            status_listen: None,
        })
    }
}

/// What a person has to hear of an API at `addr`, where it is open to more people than they may think.
pub(crate) fn warning(addr: SocketAddr, access: &Access) -> Option<String> {
    if addr.ip().to_canonical().is_loopback() {
        return None;
    }
    let (keys, tls) = (!access.api_keys.is_empty(), access.certificate.is_some());
    let open = "WARNING: anyone who reaches this machine can use the API";
    let give = "give keys with --api-key-file FILE";
    match (keys, tls) {
        (false, false) => Some(format!(
            "{open}, and read along: it listens on {addr} without keys and without TLS; {give}, and --api-tls-cert with --api-tls-key"
        )),
        (false, true) => Some(format!("{open}: it listens on {addr} without keys; {give}")),
        (true, false) => Some(format!(
            "note: keys and answers pass {addr} in plain text; --api-tls-cert and --api-tls-key encrypt them"
        )),
        (true, true) => None,
    }
}

fn read_keys(path: &Path) -> anyhow::Result<Vec<String>> {
    let text = read_text(path, LONGEST_KEYS).with_context(|| format!("the keys {} cannot be read", path.display()))?;
    let keys: Vec<String> = text.lines().map(str::trim).filter(|key| !key.is_empty()).map(str::to_owned).collect();
    ensure!(!keys.is_empty(), "{} holds no key: write one a line, or leave --api-key-file out", path.display());
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_api_is_warned_of_loudly() {
        let told = |addr: &str, keys: bool| {
            let access = Access { api_keys: vec!["key".into(); usize::from(keys)], ..Access::default() };
            warning(addr.parse().unwrap(), &access).unwrap_or_default()
        };
        assert_eq!(told("127.0.0.1:8000", false), "");
        assert_eq!(told("[::1]:8000", false), "");
        for open in ["0.0.0.0:8000", "[::]:8000", "192.168.1.7:8000"] {
            let warning = told(open, false);
            assert!(warning.starts_with("WARNING: anyone") && warning.contains("--api-key-file"), "{warning}");
            assert!(told(open, true).starts_with("note: ") && told(open, true).contains("--api-tls-cert"));
        }
    }
}
