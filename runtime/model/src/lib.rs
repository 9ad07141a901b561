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
mod decoding;
mod detokenizer;
mod engine;
mod engine_error;
mod error;
mod generation;
mod json;
mod keeper;
mod kv;
mod layers;
mod layout;
mod loader;
mod messages;
mod pace;
mod python_json;
mod ranking;
mod residency;
mod rope;
mod safetensors;
mod sampling;
mod served_text;
mod small_file;
mod source;
mod special;
mod stream;
mod survey;
mod template;
mod template_conversation;
mod template_dates;
mod template_files;
mod template_filters;
mod template_methods;
mod template_source;
mod tokenizer;
mod tokenizer_check;
mod weights;

pub use activation::Activation;
pub use batch::BatchRows;
pub use block_file::{BlockFile, BlockFiles, DIGEST_CHUNK};
pub use config::ModelConfig;
pub use detokenizer::DecodeStream;
pub use engine::{Engine, EngineOptions};
pub use engine_error::EngineError;
pub use error::ModelError;
pub use generation::{GenerationConfig, Unapplied};
pub use keeper::{KeeperError, KeptCounters, KeptFigures, KeptPages, KeptRows, PageKeeper};
pub use layout::{BLOCK_ALIGNMENT, BlockLayout, LayoutEntry, TENSOR_ALIGNMENT, TensorRole};
pub use lime_kernels::Isa;
pub use messages::{plain_prompt, template_messages};
pub use residency::{ResidencyCounters, ResidencyFigures, Shortage, Verified};
pub use rope::{RopeConfig, RopeScaling};
pub use safetensors::{check_header, header_bytes, header_file};
pub use sampling::{Sampled, Sampling, TokenLogprob, sample, uniform};
pub use served_text::{ServedText, TextFaults};
pub use small_file::{open_regular, read_small, read_small_or_pipe};
pub use source::{ModelFolder, TensorEntry};
pub use stream::{BlockReader, DirectReader, StreamCounters, StreamFigures, VerifyReads};
pub use survey::ReadTensor;
pub use template::ChatTemplate;
pub use tokenizer::Tokenizer;
pub use weights::WeightSource;
