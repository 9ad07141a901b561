//! Requests, with redirects followed by hand: the token goes to the endpoint alone, and what the hub says of a file stands in
//! the redirect's own headers.

use std::{sync::Arc, time::Duration};

use ureq::{
    Agent, Body,
    http::{HeaderMap, Response},
    tls::{Certificate, RootCerts, TlsConfig, TlsProvider},
};

use crate::{
    error::StoreError,
    http::{
        fault::Fault,
        options::RemoteOptions,
        url::{join, origin, plain},
    },
    origin::OriginFile,
};

const MOST_REDIRECTS: usize = 5;
const CONNECT: Duration = Duration::from_secs(15);

/// A range of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Want {
    pub(crate) from: u64,
    pub(crate) bytes: u64,
}

/// One request.
pub(crate) struct Ask {
    url: String,
    body: bool,
    part: Option<Want>,
    if_range: Option<String>,
}

impl Ask {
    /// What there is to know of a file.
    pub(crate) fn head(url: String) -> Self {
        Self { url, body: false, part: None, if_range: None }
    }

    /// All of something that has no size that is known before.
    pub(crate) fn all(url: String) -> Self {
        Self { url, body: true, part: None, if_range: None }
    }

    /// Some of its bytes.
    pub(crate) fn part(url: String, want: Want, file: &OriginFile) -> Self {
        // A weak ETag may not be used so; it is compared when the answer comes.
        let if_range = file.etag.starts_with('"').then(|| file.etag.clone());
        Self { url, body: true, part: Some(want), if_range }
    }
}

/// An answer, redirects followed.
pub(crate) struct Answer {
    /// What was asked for last, without parameters.
    pub(crate) url: String,
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// The commit, where the server names one.
    pub(crate) commit: Option<String>,
    /// Whether the ETag is what the hub says of a file that lies elsewhere.
    pub(crate) is_linked: bool,
    /// The file's ETag, the hub's own before that of the place that it redirects to.
    pub(crate) etag: Option<String>,
    /// The file's size, likewise.
    pub(crate) size: Option<u64>,
    /// What the hub says is wrong.
    pub(crate) code: Option<String>,
    pub(crate) body: Body,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        text(&self.headers, name)
    }

    /// Whether it is the file alone that is not there.
    pub(crate) fn is_missing_file(&self) -> bool {
        self.code.as_deref().is_none_or(|code| code == "EntryNotFound")
    }
}

/// Sends requests and follows redirects.
pub(crate) struct Client {
    agent: Agent,
    token: Option<String>,
    home: Option<String>,
}

impl Client {
    pub(crate) fn new(options: &RemoteOptions, token: Option<String>) -> Result<Self, StoreError> {
        let builder = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .accept_encoding("identity")
            .user_agent(concat!("lime/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT.min(options.patience)))
            .timeout_recv_response(Some(options.patience))
            .timeout_per_read(Some(options.patience))
            .tls_config(tls());
        Ok(Self { agent: builder.build().new_agent(), token, home: origin(&options.endpoint) })
    }

    /// # Errors
    /// Passing ones where no answer came, a final one where redirects lead nowhere.
    pub(crate) fn send(&self, ask: &Ask) -> Result<Answer, Fault> {
        let (mut url, mut said) = (ask.url.clone(), RedirectHeaders::default());
        for hop in 0..=MOST_REDIRECTS {
            let response = self.one(ask, &url, hop == 0).map_err(|fault| Fault::unreached(&url, &fault))?;
            said.add(response.headers());
            let status = response.status().as_u16();
            let location =
                text(response.headers(), "location").filter(|_| matches!(status, 301 | 302 | 303 | 307 | 308));
            // Of a file that the hub keeps elsewhere it has said all in the redirect.
            let known = !ask.body && said.linked_etag.is_some() && said.linked_size.is_some();
            let Some(location) = location.filter(|_| !known) else {
                return Ok(said.into_answer(plain(&url), response));
            };
            let target = join(&url, location);
            url = target.ok_or_else(|| {
                Fault::refused(&url, format!("redirects to {}, which is not followed", plain(location)))
            })?;
        }
        Err(Fault::refused(&url, format!("redirects more than {MOST_REDIRECTS} times")))
    }

    fn one(&self, ask: &Ask, url: &str, first: bool) -> Result<Response<Body>, ureq::Error> {
        let mut request = if ask.body { self.agent.get(url) } else { self.agent.head(url) };
        if let Some(token) = self.token.as_ref().filter(|_| origin(url) == self.home) {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(want) = ask.part {
            request = request.header("range", format!("bytes={}-{}", want.from, want.from + want.bytes - 1));
        }
        // Elsewhere the same file has another ETag.
        if let Some(etag) = ask.if_range.as_ref().filter(|_| first) {
            request = request.header("if-range", etag);
        }
        request.call()
    }
}

/// What the answers of a chain of redirects say of the file.
#[derive(Default)]
struct RedirectHeaders {
    commit: Option<String>,
    linked_etag: Option<String>,
    linked_size: Option<u64>,
    code: Option<String>,
}

impl RedirectHeaders {
    fn add(&mut self, headers: &HeaderMap) {
        let own = |name| text(headers, name).map(str::to_owned);
        self.commit = self.commit.take().or_else(|| own("x-repo-commit").filter(|commit| is_commit(commit)));
        self.linked_etag = self.linked_etag.take().or_else(|| own("x-linked-etag"));
        self.linked_size = self.linked_size.or_else(|| own("x-linked-size")?.parse().ok());
        self.code = own("x-error-code").or(self.code.take());
    }

    fn into_answer(self, url: String, response: Response<Body>) -> Answer {
        let status = response.status().as_u16();
        let (head, body) = response.into_parts();
        let own = |name| text(&head.headers, name).map(str::to_owned);
        let is_linked = self.linked_etag.is_some();
        let etag = self.linked_etag.or_else(|| own("etag")).or_else(|| own("last-modified"));
        let size = self.linked_size.or_else(|| own("content-length")?.parse().ok());
        let (commit, code, headers) = (self.commit, self.code, head.headers);
        Answer { url, status, commit, is_linked, etag, size, code, headers, body }
    }
}

pub(crate) fn is_commit(text: &str) -> bool {
    !text.is_empty() && text.len() <= 128 && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// TLS as the rest of LIME has it (rustls, ring), trusting whom this machine trusts.
fn tls() -> TlsConfig {
    let found = rustls_native_certs::load_native_certs();
    let roots: Vec<_> = found.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
    TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::new_with_certs(&roots))
        .build()
}
