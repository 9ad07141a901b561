//! Pods of LIME on real nodes. Run by `make test-nodes`.

#![allow(missing_docs, clippy::unwrap_used)]

mod agents;
mod away;
mod clients;
mod deployed;
mod disk;
mod fetched;
mod hand_over;
mod helm_test;
mod hog;
mod http;
#[allow(dead_code, reason = "the store's own tests use all of it")]
#[path = "../../../../runtime/store/tests/common/server.rs"]
mod hub;
mod large;
mod link_cut;
mod machine;
mod neighbours;
mod operator;
mod plugin;
mod quantized;
mod release;
mod ring;
mod story;
mod streams;
mod upheavals;
mod volume;

use std::time::Duration;

/// How long a pod may take: nodes share two cores with everything else here.
const PATIENCE: Duration = Duration::from_secs(90);
