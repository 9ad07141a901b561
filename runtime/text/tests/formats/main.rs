//! Tokenizer, chat template and sampling defaults of real models, of damaged ones and of foreign ones.

// A test fails by unwrapping.
#![allow(clippy::unwrap_used)]

mod decoders;
mod foreign;
mod generation;
mod jinja;
mod places;
mod template;
mod tokenizer;
