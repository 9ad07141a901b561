//! Tokenizer, chat template and sampling defaults of real models, of damaged ones and of foreign ones.

// A test fails by unwrapping.
#![allow(clippy::unwrap_used)]

mod answers;
#[path = "../../../model/tests/formats/damage.rs"]
mod damage;
mod decoders;
mod foreign;
mod generation;
mod jinja;
#[path = "../../../model/tests/formats/places.rs"]
mod places;
mod template;
mod tokenizer;
