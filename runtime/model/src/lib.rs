//! A model and how it computes: its files (config, weights, tokenizer, chat template), its layers over weight blocks,
//! its KV cache and the choice of tokens.
//!
//! Files come from elsewhere and are not trusted: lengths are checked before memory is taken, and a fault is an error
//! that names the file and says what to do.

mod activation;
mod backend;
mod batch;
mod block_file;
mod card;
mod config;
mod engine;
mod engine_error;
mod error;
mod family;
mod keeper;
mod known_fields;
mod kv;
mod layers;
mod layout;
mod loader;
mod other_forms;
mod pace;
mod ranking;
mod reach;
mod residency;
mod rope;
mod rope_config;
mod safetensors;
mod sampling;
mod source;
mod stored;
mod stream;
mod survey;
mod weight_files;
mod weights;

pub use activation::Activation;
pub use batch::BatchRows;
pub use block_file::{BlockFile, BlockFiles, DIGEST_CHUNK};
pub use config::ModelConfig;
pub use engine::{Engine, EngineOptions};
pub use engine_error::EngineError;
pub use error::ModelError;
pub use keeper::{KeeperError, KeptCounters, KeptFigures, KeptPages, KeptRows, PageKeeper};
pub use layout::{BLOCK_ALIGNMENT, BlockLayout, LayoutEntry, TENSOR_ALIGNMENT, TensorRole};
pub use lime_kernels::Isa;
pub use other_forms::other_form;
pub use residency::{ResidencyCounters, ResidencyFigures, Shortage, Verified};
pub use rope::{RopeConfig, RopeScaling};
pub use safetensors::{check_header, header_bytes, header_file};
pub use sampling::{Sampled, Sampling, TokenLogprob, sample, uniform};
pub use source::{ModelFolder, TensorEntry};
pub use stored::{RowOrder, Run};
pub use stream::{BlockReader, DirectReader, StreamCounters, StreamFigures, VerifyReads};
pub use survey::ReadTensor;
pub use weights::WeightSource;
