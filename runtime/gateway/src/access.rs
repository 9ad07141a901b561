//! Who may come to the API, from which pages, and how connections to it are met.

use std::{fmt, net::SocketAddr, str::FromStr, sync::Arc};

use lime_ring::ServerCertificate;
use thiserror::Error;

/// Who may come, and how. The default is for a machine alone: no keys, no names but its own, pages of its own, no TLS.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Accepted bearer tokens; empty: anyone may ask.
    pub api_keys: Vec<String>,
    /// Host names, beside those of this machine's loopback and any address, under which clients may ask. On a loopback address
    /// others are refused, so that no web page reaches the API through its reader's browser; elsewhere only where names are
    /// given. `*`: anyone may ask under any name.
    pub allow_hosts: Vec<String>,
    /// Pages, beside those of this machine, whose scripts may ask and read the answers.
    pub allow_origins: Vec<AllowedOrigin>,
    /// Connections speak TLS with it; `None`: plain HTTP.
    pub certificate: Option<Arc<ServerCertificate>>,
    /// Where health and figures are told too, and nothing else, in plain HTTP: probes need no certificate there.
    pub status_listen: Option<SocketAddr>,
}

/// Pages that may ask: those of one origin, as browsers write it, or all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedOrigin {
    /// Every page there is.
    Any,
    /// `SCHEME://HOST[:PORT]`, in small letters and without a port that goes without saying; or `null`, as pages without an origin say.
    Exactly(String),
}

/// Not the origin of a page.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "{0:?} is no page's origin: write SCHEME://HOST or SCHEME://HOST:PORT, such as https://chat.example, or * for every page"
)]
pub struct OriginError(String);

impl AllowedOrigin {
    /// Whether a page that says `origin` is meant.
    pub(crate) fn takes(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(allowed) => allowed.eq_ignore_ascii_case(origin),
        }
    }
}

impl FromStr for AllowedOrigin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let origin = text.trim().to_ascii_lowercase();
        match origin.as_str() {
            "*" => return Ok(Self::Any),
            "null" => return Ok(Self::Exactly(origin)),
            _ => {}
        }
        let fault = || OriginError(text.to_owned());
        let (scheme, host) = origin.split_once("://").ok_or_else(fault)?;
        // People copy it from the address bar.
        let host = host.strip_suffix('/').unwrap_or(host);
        let is_scheme = |text: &str| {
            text.starts_with(|first: char| first.is_ascii_lowercase())
                && text.chars().all(|other| other.is_ascii_alphanumeric() || "+-.".contains(other))
        };
        let is_host = host.parse::<hyper::http::uri::Authority>().is_ok_and(|authority| {
            !authority.host().is_empty() && !host.contains('@') && !host.contains('*') && !host.ends_with(':')
        });
        if !is_scheme(scheme) || !is_host {
            return Err(fault());
        }
        let implied = match scheme {
            "http" => ":80",
            "https" => ":443",
            _ => "",
        };
        let host = if implied.is_empty() { host } else { host.strip_suffix(implied).unwrap_or(host) };
        Ok(Self::Exactly(format!("{scheme}://{host}")))
    }
}

impl fmt::Display for AllowedOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.pad("*"),
            Self::Exactly(origin) => f.pad(origin),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read_as_people_write_them() {
        for (written, origin) in [
            ("https://chat.example", "https://chat.example"),
            ("HTTPS://Chat.Example/", "https://chat.example"),
            ("https://chat.example:443", "https://chat.example"),
            ("http://chat.example:443", "http://chat.example:443"),
            ("http://10.0.0.7:3000", "http://10.0.0.7:3000"),
            ("http://[fd00::1]:3000", "http://[fd00::1]:3000"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
            ("null", "null"),
            ("*", "*"),
        ] {
            assert_eq!(written.parse::<AllowedOrigin>().unwrap().to_string(), origin, "{written}");
        }
        for wrong in
            ["", "chat.example", "https://", "https://a/b", "https://*.example", "https://me@a", "https://a:", "://a"]
        {
            let fault = wrong.parse::<AllowedOrigin>().unwrap_err().to_string();
            assert!(fault.contains("SCHEME://HOST"), "{fault}");
        }
    }
}
