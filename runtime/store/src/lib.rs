//! The weight store: on a device's disk each block of a model lies in a file of its own, contiguous and page-aligned, ready to be
//! read in one piece; made from a local folder or by HTTP range requests of just this device's blocks.
//!
//! A block's file is a safetensors file that any tool reads. It says itself which block of which model it is and what its bytes
//! hash to, it is written under another name, read back, compared and then renamed: a file under its own name is whole. Nothing
//! else is trusted: what was interrupted goes on from where it was, what was damaged is made again, alone.
//!
//! ```
//! use lime_store::{Source, Store};
//!
//! let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/models/bard-2m");
//! let folder = tempfile::tempdir()?;
//! let store = Store::open(folder.path())?;
//! let stored = store.model(&format!("file://{model}").parse::<Source>()?)?;
//! assert!(store.models()?.iter().any(|(path, _)| path == stored.path()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod block_files;
mod card;
mod card_check;
mod compact;
mod connect;
mod digest;
mod disk;
mod ensure;
mod error;
mod file_digest;
mod gguf;
mod header;
mod http;
mod journal;
mod known;
mod kv_pages;
mod local;
mod make;
mod manifest;
mod model;
mod names;
mod offers;
mod origin;

mod part;
mod pieces;
mod progress;
mod source;
mod state;
mod store;
mod survey;
mod verify;

pub use card_check::CardState;
pub use digest::{BlockHasher, CHUNK_BYTES, Digest};
pub use ensure::{EnsureOptions, Ensured};
pub use error::{RemoteCause, StoreError};
pub use http::RemoteOptions;
pub use kv_pages::{KvPageSet, KvPages, MOST_KV_PAGES};
pub use manifest::Manifest;
pub use model::StoredModel;
pub use origin::OriginFile;
pub use progress::PullProgress;
pub use source::Source;
pub use state::BlockState;
pub use store::{Listed, Pruned, Store};
