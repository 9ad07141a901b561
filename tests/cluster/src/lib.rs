//! Tools for tests on a real Kubernetes, through `kubectl` as a person would use it.
//!
//! The tests are ignored in a plain `cargo test`, since they need a cluster; `make test-cluster` and `make test-nodes`
//! start one and run them. So none of them ever counts as passed without one.

mod audit;
mod kubectl;
mod rules;
mod watch;

pub use audit::{Audit, Write};
pub use kubectl::{Answer, Kubectl};
pub use rules::{Rule, rules_of};
pub use watch::Watch;

use std::path::PathBuf;

/// The repository's root.
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The custom resource definitions, as they are in the repository.
pub fn crds_file() -> PathBuf {
    repository().join("crds/lime.dev.yaml")
}
