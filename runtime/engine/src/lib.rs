//! How a model computes on one device: its layers over weight blocks, its KV cache, its memory and the choice of tokens.
//!
//! The files of a model are `lime-model`'s; what a device holds of it is a plan's ([`lime_plan`]).
//!
//! ```
//! use lime_engine::{Engine, EngineOptions, Sampling};
//! use lime_model::ModelFolder;
//! use lime_plan::testing::{DeviceBudget, PlanRequest, proportional};
//! use lime_plan::{Arithmetic, BatchRows, Bytes, DeviceIndex, Dtype, SegmentIndex, ServingLimits};
//!
//! let folder = ModelFolder::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/models/bard-2m"))?;
//! let plan = proportional(&PlanRequest {
//!     model: &folder.card("bard"),
//!     devices: &[DeviceBudget { name: "here".into(), memory: Bytes::gib(1) }],
//!     serving: ServingLimits { max_context_tokens: 64, max_concurrent_requests: 1, prefill_chunk_tokens: 8 },
//!     segments: 1,
//!     arithmetic: Arithmetic::Exact,
//!     residual: Dtype::F32,
//!     kv: Dtype::F16,
//! })?;
//! let mut engine = Engine::load(&folder, &plan, DeviceIndex(0), EngineOptions::default(), &mut |_, _| {})?;
//!
//! let prompt = [1, 20, 30];
//! let mut activation = engine.embed(&prompt)?;
//! engine.forward(SegmentIndex(0), &[BatchRows { slot: 0, start: 0, count: 3 }], &mut activation)?;
//! let mut logits = engine.logits(&[2], &activation)?;
//! let next = engine.sample(&mut logits, &Sampling::default())?;
//! assert!((next.token as usize) < logits.len());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod activation;
mod backend;
mod batch;
mod engine;
mod engine_error;
mod keeper;
mod kv;
mod layers;
mod loader;
mod memory;
mod ops;
mod page_disk;
mod ranking;
mod rate_limit;
mod read_from;
mod residency;
mod routes;
mod sampling;
mod stream;
mod weights;

pub use activation::Activation;
pub use engine::{Engine, EngineOptions};
pub use engine_error::EngineError;
pub use keeper::{KeeperError, KeptCounters, KeptFigures, KeptPages, PageKeeper};
pub use lime_kernels::Isa;
pub use page_disk::PageDisk;
pub use residency::{ResidencyCounters, ResidencyFigures, Shortage, Verified};
pub use sampling::{Sampled, Sampler, Sampling, TokenLogprob, sample, uniform};
pub use stream::{BlockReader, DirectReader, StreamCounters, StreamFigures, VerifyReads};
pub use weights::WeightSource;
