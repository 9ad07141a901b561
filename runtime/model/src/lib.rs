//! A model's files: config, headers of weights, the order in which they lie, and the card and layouts that follow from them.
//!
//! Files come from elsewhere and are not trusted: lengths are checked before memory is taken, and a fault is an error
//! that names the file and says what to do.
//!
//! ```
//! use lime_model::ModelFolder;
//!
//! let folder = ModelFolder::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/models/bard-2m"))?;
//! let card = folder.card("bard");
//! assert!(card.layers > 0 && card.weight_bytes().0 > 1_000_000);
//! // The head of a model that ties it is the embedding: its bytes are there once.
//! assert!(card.tied);
//! # Ok::<(), lime_model::ModelError>(())
//! ```

mod block_file;
mod card;
mod config;
mod error;
mod family;
mod formats;
mod gguf;
mod known_fields;
mod layer_spec;
mod layout;
mod other_forms;
mod reach;
mod read_spec;
mod rope;
mod rope_config;
mod rope_scaling;
mod safetensors;
mod shares;
mod source;
mod stored;
mod survey;
mod tensor_names;
mod tensor_role;
mod weight_files;

pub use block_file::{BlockFile, BlockFiles, DIGEST_CHUNK};
pub use config::ModelConfig;
pub use error::ModelError;
pub use formats::Formats;
pub use gguf::{Gguf, gguf_header_bytes, gguf_parts, is_gguf};
pub use layer_spec::{
    ActivationKind, AttentionSpec, ExpertWeights, HalfSpec, LayerSpec, LogitsSpec, MixtureSpec, MlpSpec, ModelSpec,
    NormKind, NormPlace, NormSpec, QkNormSpec, QkNormWidth, RopeSpec, SharedSpec,
};
pub use layout::{BLOCK_ALIGNMENT, BlockLayout, LayoutEntry, TENSOR_ALIGNMENT};
pub use other_forms::other_form;
pub use rope::{RopeConfig, RopeScaling};
pub use safetensors::{check_header, header_bytes, header_file, safetensors_dtype};
pub use source::{ModelFolder, TensorEntry};
pub use stored::{RowOrder, Run};
pub use survey::ReadTensor;
pub use tensor_role::TensorRole;
