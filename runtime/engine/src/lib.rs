//! How a model computes on one device: its layers over weight blocks, its KV cache, its memory and the choice of tokens.
//!
//! The files of a model are `lime-model`'s; what a device holds of it is a plan's ([`lime_plan`]).

mod activation;
mod backend;
mod batch;
mod engine;
mod engine_error;
mod keeper;
mod kv;
mod layers;
mod loader;
mod pace;
mod ranking;
mod residency;
mod sampling;
mod stream;
mod weights;

pub use activation::Activation;
pub use batch::BatchRows;
pub use engine::{Engine, EngineOptions};
pub use engine_error::EngineError;
pub use keeper::{KeeperError, KeptCounters, KeptFigures, KeptPages, KeptRows, PageKeeper};
pub use lime_kernels::Isa;
pub use residency::{ResidencyCounters, ResidencyFigures, Shortage, Verified};
pub use sampling::{Sampled, Sampling, TokenLogprob, sample, uniform};
pub use stream::{BlockReader, DirectReader, StreamCounters, StreamFigures, VerifyReads};
pub use weights::WeightSource;
