//! Stores filled from folders.

#[path = "../common/mod.rs"]
mod common;
mod damage;
mod round_trip;
