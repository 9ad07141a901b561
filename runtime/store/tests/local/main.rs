//! Stores filled from folders.
#![allow(clippy::unwrap_used, reason = "tests")]

mod card;
#[path = "../common/mod.rs"]
mod common;
mod damage;
mod round_trip;
