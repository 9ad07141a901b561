//! Logs go to standard error; `LIME_LOG` says which.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// The variable that sets what the logs say, in `tracing`'s filter syntax.
pub(crate) const VARIABLE: &str = "LIME_LOG";

/// Starts logging at `level` where [`VARIABLE`] does not say otherwise.
pub(crate) fn start(level: &str) {
    let filter = EnvFilter::try_from_env(VARIABLE).unwrap_or_else(|_| EnvFilter::new(level));
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .try_init();
    debug_assert!(started.is_ok(), "logging is started once");
}

/// The level for so many `-v`.
pub(crate) const fn level(verbose: u8) -> &'static str {
    match verbose {
        // What goes wrong is told in plain words anyway, but for a source that keeps its askers waiting.
        0 => "error,lime_store=warn",
        1 => "info",
        _ => "debug",
    }
}
