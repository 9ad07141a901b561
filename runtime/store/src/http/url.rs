//! The little of URLs that redirects need.

/// The scheme, host and port of `url`: to whom a token may go.
pub(crate) fn origin(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().filter(|text| !text.is_empty() && !text.contains('@'))?;
    let scheme = scheme.to_ascii_lowercase();
    let port = match scheme.as_str() {
        "https" => ":443",
        "http" => ":80",
        _ => return None,
    };
    let authority = authority.to_ascii_lowercase();
    Some(format!("{scheme}://{}", authority.strip_suffix(port).unwrap_or(&authority)))
}

/// `url` without its parameters, which may hold a signature: for messages.
pub(crate) fn plain(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or_default().to_owned()
}

/// Where a redirect of `base` to `location` leads; `None` where that is no place to follow, such as from https to http.
pub(crate) fn join(base: &str, location: &str) -> Option<String> {
    let (scheme, _) = base.split_once("://")?;
    let home = origin(base)?;
    let target = if location.contains("://") {
        location.to_owned()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{home}{location}")
    } else {
        let path = plain(base);
        format!("{}/{location}", path.rsplit_once('/')?.0)
    };
    let (from, to) = (home, origin(&target)?);
    (!from.starts_with("https:") || to.starts_with("https:")).then_some(target)
}

/// Whether `url` is on this machine.
pub(crate) fn is_loopback(url: &str) -> bool {
    let Some(origin) = origin(url) else { return false };
    let authority = origin.split_once("://").map(|(_, rest)| rest.to_owned()).unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_where_they_say() {
        let base = "https://hub.example/a/b/resolve/main/config.json";
        for (location, target) in [
            ("https://cdn.example/x?sig=1", Some("https://cdn.example/x?sig=1")),
            ("/api/resolve-cache/x", Some("https://hub.example/api/resolve-cache/x")),
            ("//cdn.example/x", Some("https://cdn.example/x")),
            ("other.json", Some("https://hub.example/a/b/resolve/main/other.json")),
            ("http://cdn.example/x", None),
            ("ftp://cdn.example/x", None),
            ("https://user@cdn.example/x", None),
        ] {
            assert_eq!(join(base, location).as_deref(), target, "{location}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        assert_eq!(origin("HTTPS://Hub.example:443/x"), origin("https://hub.example"));
        assert_ne!(origin("https://hub.example:8443/"), origin("https://hub.example/"));
        assert_ne!(origin("http://hub.example/"), origin("https://hub.example/"));
        assert!(
            is_loopback("http://127.0.0.1:80/x") && is_loopback("http://[::1]:9/") && is_loopback("http://localhost")
        );
        assert!(!is_loopback("http://127.0.0.1.example/") && !is_loopback("http://10.0.0.1/"));
    }
}
