//! What pages of other servers are told: whether their scripts may ask, and read the answers.
//!
//! Nothing here depends on cookies, for there are none: a page that may ask still needs a key where keys are set.

use std::time::Duration;

use axum::http::{HeaderName, Method, header};
use tower_http::cors::{AllowHeaders, AllowOrigin, AllowPrivateNetwork, CorsLayer};

use super::Hosts;

/// How long a browser may remember that it may ask.
const REMEMBERED: Duration = Duration::from_secs(600);

/// For the pages that `hosts` lets read.
pub(super) fn layer(hosts: &Hosts) -> CorsLayer {
    let (reads, reaches) = (hosts.clone(), hosts.clone());
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(move |origin, _| reads.may_read(origin)))
        .allow_methods([Method::GET, Method::HEAD, Method::POST])
        // Clients' libraries have headers of their own, and none means more than its name.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([
            HeaderName::from_static("x-request-id"),
            header::RETRY_AFTER,
            HeaderName::from_static("retry-after-ms"),
        ])
        // Pages of the wide web ask before they ask a machine in a home or an office.
        .allow_private_network(AllowPrivateNetwork::predicate(move |origin, _| reaches.may_read(origin)))
        .max_age(REMEMBERED)
}
