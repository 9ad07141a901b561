//! What seldom needs another value.

use std::time::Duration;

use crate::{schedule::PrefixCache, speculation::Speculation};

/// Limits, waits and habits for which there is a value that does.
#[derive(Clone, Debug)]
pub struct Options {
    /// Requests with fields that are not known here are refused.
    pub strict: bool,
    /// Longest request body in bytes, however long the context.
    pub body_limit: usize,
    /// Bytes of all bodies that are read at the same time.
    pub body_budget: usize,
    /// How long a client may take to send its first request's head.
    pub header_timeout: Duration,
    /// How long a client may take to send its request's body.
    pub body_timeout: Duration,
    /// How long a connection may stay without a request.
    pub idle_timeout: Duration,
    /// How long a client may leave its answer unread. More than the 15 s after which a stream without tokens shows that it
    /// lives.
    pub unread_timeout: Duration,
    /// Most connections at once; `None`: as many as the limit of open files has room for.
    pub max_connections: Option<usize>,
    /// How long a request may take to be read as tokens, and how long it may wait for that.
    pub reading_timeout: Duration,
    /// Long requests that are read as tokens at the same time.
    pub readers: usize,
    /// How many tokens of an answer are guessed ahead.
    pub speculation: Speculation,
    /// This gateway's name, where it has one: it waits then for another one that has the ring.
    pub name: Option<String>,
    /// Whether what was computed for the beginning of a sequence is kept for others that begin so, and for whom.
    pub prefix_cache: PrefixCache,
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
}

impl Default for Options {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            strict: false,
            body_limit: 8 << 20,
            body_budget: 64 << 20,
            header_timeout: Duration::from_secs(15),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            unread_timeout: Duration::from_secs(60),
            max_connections: None,
            reading_timeout: Duration::from_secs(30),
            readers: (cores / 2).clamp(1, 4),
            speculation: Speculation::default(),
            name: None,
            prefix_cache: PrefixCache::default(),
            grace: Duration::from_secs(3),
            patience: Duration::from_secs(2),
            recovery: Duration::from_secs(120),
            quiet: Duration::from_secs(15),
            longest_pause: Duration::from_secs(2),
        }
    }
}
