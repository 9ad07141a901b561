//! Who may ask at all: on a machine's own loopback, nobody under a foreign name.
//!
//! Any web page can have its reader's browser send requests to 127.0.0.1. What the browser says of itself gives it away: the name
//! that it was led here by (`Host`), the page (`Origin`), and a content type that pages may send without asking before.

use std::net::{IpAddr, SocketAddr};

use axum::{
    body::HttpBody as _,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Uri, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::{SharedApp, error::ApiError};
use crate::access::AllowedOrigin;

/// The names under which clients may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Names {
    /// Any.
    All,
    /// Loopback, addresses, and these.
    Known {
        names: Vec<String>,
        /// On loopback pages of others are kept out, too.
        loopback: bool,
    },
}

/// Who may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hosts {
    names: Names,
    /// Pages of others that may.
    pages: Vec<AllowedOrigin>,
}

impl Hosts {
    /// Of a gateway that listens on `addr` and allows `names`.
    pub(crate) fn new(addr: SocketAddr, names: Vec<String>, pages: Vec<AllowedOrigin>) -> Self {
        let loopback = addr.ip().to_canonical().is_loopback();
        let names = if names.iter().any(|name| name == "*") || (!loopback && names.is_empty()) {
            Names::All
        } else {
            Names::Known { names, loopback }
        };
        Self { names, pages }
    }

    fn check(&self, uri: &Uri, headers: &HeaderMap, has_body: bool) -> Result<(), ApiError> {
        let Names::Known { names, loopback } = &self.names else { return Ok(()) };
        if let Some(host) = host(uri, headers)? {
            let name = name_of(&host);
            if !is_own(name) && !is_one_of(names, name) {
                return Err(ApiError::foreign(format!(
                    "This server does not answer to the name {name:?}: ask it by an address such as 127.0.0.1, or start it \
                     with --allow-host {name}."
                )));
            }
        }
        if !loopback {
            return Ok(());
        }
        if let Some(origin) = headers.get(header::ORIGIN)
            && !self.may_ask(origin)
        {
            let origin = String::from_utf8_lossy(origin.as_bytes()).into_owned();
            return Err(ApiError::foreign(format!(
                "Pages of {origin:?} may not ask this server: start it with --allow-origin {origin} where they should."
            )));
        }
        if has_body && !is_json(headers.get(header::CONTENT_TYPE)) {
            let found = headers.get(header::CONTENT_TYPE).map_or_else(
                || "without a type".to_owned(),
                |found| format!("as {:?}", String::from_utf8_lossy(found.as_bytes())),
            );
            return Err(ApiError::media_type(&found));
        }
        Ok(())
    }

    /// Whether a page may have its reader's browser ask.
    fn may_ask(&self, origin: &HeaderValue) -> bool {
        self.is_own_page(origin) || self.is_allowed(origin)
    }

    /// Whether a page's scripts may read the answers, too, though it is another server's: those of this machine and those that are
    /// allowed by their origin. A name to be asked by is none: under it this server itself is meant.
    pub(super) fn may_read(&self, origin: &HeaderValue) -> bool {
        let host = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        host.is_some_and(|(_, host)| is_local(name_of(host))) || self.is_allowed(origin)
    }

    fn is_allowed(&self, origin: &HeaderValue) -> bool {
        origin.to_str().is_ok_and(|origin| self.pages.iter().any(|page| page.takes(origin)))
    }

    /// Only web pages have origins of http; others are programs of their own.
    fn is_own_page(&self, origin: &HeaderValue) -> bool {
        let Names::Known { names, .. } = &self.names else { return true };
        let Ok(origin) = origin.to_str() else { return false };
        match origin.split_once("://") {
            Some(("http" | "https", host)) => {
                let name = name_of(host);
                is_local(name) || is_one_of(names, name)
            }
            Some(_) => true,
            // `null` is said by files, and by frames that hide where they are from.
            None => false,
        }
    }
}

/// Refuses those who may not ask.
pub(super) async fn check(State(app): State<SharedApp>, request: Request, next: Next) -> Response {
    let has_body = !request.body().is_end_stream();
    match app.hosts.check(request.uri(), request.headers(), has_body) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// The host that was asked for; none where HTTP/1.0 says none, which no browser speaks.
fn host(uri: &Uri, headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    if let Some(authority) = uri.authority() {
        return Ok(Some(authority.as_str().to_owned()));
    }
    let mut given = headers.get_all(header::HOST).iter();
    let Some(first) = given.next() else { return Ok(None) };
    let fault = || ApiError::invalid("", "invalid_host", "The header 'Host' must be one name or address.");
    let first = first.to_str().map_err(|_| fault())?;
    if given.next().is_some() || first.parse::<Authority>().is_err() {
        return Err(fault());
    }
    Ok(Some(first.to_owned()))
}

/// A host without its port, and without the brackets of an address.
fn name_of(host: &str) -> &str {
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').map_or(rest, |(address, _)| address);
    }
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    name.strip_suffix('.').unwrap_or(name)
}

/// A name of this machine alone, or an address: names can be made to lead here by anybody, addresses cannot.
fn is_own(name: &str) -> bool {
    name.parse::<IpAddr>().is_ok() || is_local(name)
}

/// This machine's loopback.
fn is_local(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

fn is_one_of(names: &[String], name: &str) -> bool {
    names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// `application/json`, or a type that is built on it.
fn is_json(given: Option<&HeaderValue>) -> bool {
    let Some(given) = given.and_then(|given| given.to_str().ok()) else { return false };
    let kind = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(listen: &str, names: &[&str], headers: &[(&'static str, &str)], has_body: bool) -> u16 {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let hosts = Hosts::new(listen.parse().unwrap(), names, Vec::new());
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        hosts
            .check(&Uri::from_static("/v1/models"), &map, has_body)
            .map_or_else(|error| error.status.as_u16(), |()| 200)
    }

    #[test]
    fn loopback_answers_to_its_own_names_alone() {
        let on_loopback = |host: &str, names: &[&str]| allowed("127.0.0.1:8000", names, &[("host", host)], false);
        for own in [
            "localhost",
            "LOCALHOST:8000",
            "127.0.0.1:8000",
            "[::1]:8000",
            "lime.localhost",
            "192.168.1.7:8000",
            "localhost.",
        ] {
            assert_eq!(on_loopback(own, &[]), 200, "{own}");
        }
        for foreign in
            ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "notlocalhost"]
        {
            assert_eq!(on_loopback(foreign, &[]), 403, "{foreign}");
        }
        assert_eq!(on_loopback("lime.example:8000", &["lime.example"]), 200);
        assert_eq!(on_loopback("evil.example", &["lime.example"]), 403);
        assert_eq!(on_loopback("evil.example", &["*"]), 200);
        assert_eq!(allowed("[::1]:8000", &[], &[("host", "evil.example")], false), 403);
        let twice = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(allowed("127.0.0.1:8000", &[], &twice, false), 400);
        assert_eq!(allowed("127.0.0.1:8000", &[], &[], false), 200, "HTTP/1.0");
    }

    #[test]
    fn elsewhere_names_are_checked_where_some_are_given() {
        assert_eq!(allowed("0.0.0.0:8000", &[], &[("host", "lime.example")], true), 200);
        assert_eq!(allowed("0.0.0.0:8000", &["lime.example"], &[("host", "evil.example")], true), 403);
        assert_eq!(allowed("0.0.0.0:8000", &["lime.example"], &[("host", "10.0.0.7:8000")], true), 200, "a probe");
    }

    #[test]
    fn pages_of_others_are_kept_out() {
        let page = |origin: &str| {
            let headers = [("host", "127.0.0.1:8000"), ("origin", origin), ("content-type", "application/json")];
            allowed("127.0.0.1:8000", &["lime.example"], &headers, true)
        };
        for own in [
            "http://localhost:3000",
            "https://127.0.0.1",
            "http://[::1]:1",
            "tauri://localhost",
            "https://lime.example",
        ] {
            assert_eq!(page(own), 200, "{own}");
        }
        for foreign in ["http://evil.example", "https://evil.example:8000", "null", "http://localhost.evil.example"] {
            assert_eq!(page(foreign), 403, "{foreign}");
        }
    }

    #[test]
    fn bodies_are_sent_as_json() {
        let sent = |kind: &str| allowed("127.0.0.1:8000", &[], &[("host", "localhost"), ("content-type", kind)], true);
        for json in ["application/json", "Application/JSON; charset=utf-8", "application/vnd.api+json"] {
            assert_eq!(sent(json), 200, "{json}");
        }
        for simple in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""] {
            assert_eq!(sent(simple), 415, "{simple}");
        }
        assert_eq!(allowed("127.0.0.1:8000", &[], &[("host", "localhost")], true), 415);
        assert_eq!(allowed("127.0.0.1:8000", &[], &[("host", "localhost")], false), 200);
    }
}
