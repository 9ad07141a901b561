//! What the cross-crate tests and benchmarks share: fixtures, synthetic models, rings of workers in this process.

pub mod certificates;
pub mod fixtures;
pub mod gguf;
pub mod memory_limit;
pub mod mutate;
pub mod node;
pub mod one_engine;
pub mod quantized;
pub mod readers;
pub mod real_model;
pub mod ring;
pub mod synthetic;
