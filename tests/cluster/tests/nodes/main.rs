//! Pods of LIME on real nodes. Run by `make test-nodes`.

#![allow(missing_docs, clippy::unwrap_used)]

mod agents;
mod fetched;
mod helm_test;
#[allow(dead_code, reason = "the store's own tests use all of it")]
#[path = "../../../../runtime/store/tests/common/server.rs"]
mod hub;
mod link_cut;
mod machine;
mod operator;
mod ring;
mod streams;

use std::time::Duration;

/// How long a pod may take: nodes share two cores with everything else here.
const PATIENCE: Duration = Duration::from_secs(90);
