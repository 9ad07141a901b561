//! The files of a model: config, weights, tokenizer, chat template; what is right and what is wrong with them.

// A test fails by unwrapping.
#![allow(clippy::unwrap_used)]

mod card;
mod config;
mod decoders;
mod families;
mod foreign;
mod jinja;
mod places;
mod published;
mod rope;
mod sampling;
mod source;
mod template;
mod tokenizer;
