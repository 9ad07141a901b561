//! What seldom needs another value.

use std::time::Duration;

/// Limits and waits that are no part of a deployment's wish.
#[derive(Clone, Debug)]
pub struct Options {
    /// Longest request body in bytes.
    pub body_limit: usize,
    /// How long a client may take to send its request's head.
    pub header_timeout: Duration,
    /// How long a client may take to send its request's body.
    pub body_timeout: Duration,
    /// How long a stopping gateway lets answers go on before it ends them.
    pub grace: Duration,
    /// How long one attempt to reach the workers may take.
    pub patience: Duration,
    /// How long the ring may go without a served pass or loading progress before those who wait are told that it is away.
    pub recovery: Duration,
    /// A result that has not come for so long has workers asked whether one of them is stuck.
    pub quiet: Duration,
    /// Longest pause between attempts to bring the ring back.
    pub longest_pause: Duration,
    /// Seconds that a client is told to wait when the queue is full.
    pub retry_after: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            body_limit: 8 << 20,
            header_timeout: Duration::from_secs(15),
            body_timeout: Duration::from_secs(30),
            grace: Duration::from_secs(3),
            patience: Duration::from_secs(2),
            recovery: Duration::from_secs(120),
            quiet: Duration::from_secs(15),
            longest_pause: Duration::from_secs(2),
            retry_after: 2,
        }
    }
}
