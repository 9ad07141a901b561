//! Whom clients want to have answered.

/// The name that every worker's certificate bears, whatever its host. A gateway's does not: it can open connections to
/// workers but not pose as one. The operator writes it (`operator/controller/src/certificates.rs`); a test in `tests/` holds
/// the two together.
pub const SERVER_NAME: &str = "worker.lime.internal";
