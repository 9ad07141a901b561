//! Stores filled from folders.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../common/mod.rs"]
mod common;
mod damage;
mod round_trip;
