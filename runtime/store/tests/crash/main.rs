//! Power cuts and full disks.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../common/mod.rs"]
mod common;
mod full;
mod killed;
#[path = "../common/server.rs"]
#[allow(dead_code, reason = "each test program uses its own part")]
mod server;
