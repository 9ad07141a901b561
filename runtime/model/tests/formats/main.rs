//! The files of a model: config and weights; what is right and what is wrong with them.

// A test fails by unwrapping.
#![allow(clippy::unwrap_used)]

mod belief;
mod card;
mod config;
mod damage;
mod families;
mod foreign;
mod gguf;
#[allow(dead_code, reason = "other test programs use the rest of it")]
mod made;
mod places;
mod published;
mod rope;
mod source;
