//! What a machine has for LIME, measured: memory that it may use, the kernels' speed, its disk, its links.
//!
//! Everything is bounded in bytes and seconds, taken several times, and reported as a median: other work on the machine
//! should move a figure as little as may be. Compute is measured with the kernels that serve, so that plans made with these
//! figures hold.
//!
//! ```
//! let memory = lime_profiler::memory()?;
//! assert!(memory.usable <= memory.total);
//! # Ok::<(), lime_profiler::ProfileError>(())
//! ```

mod cache;
mod compute;
mod disk;
mod error;
mod identity;
mod link;
mod listen;
mod memory;
mod proc;
mod profile;
mod sample;

pub use cache::{Cache, Cached};
pub use compute::{Compute, ComputeEffort, compute};
pub use disk::{Disk, DiskEffort, disk_can_be_measured, disk_of_file, disk_of_folder};
pub use error::ProfileError;
pub use identity::machine_identity;
pub use lime_kernels::Isa;
pub use lime_plan::{Dtype, Format, FormatSpeed};
pub use link::{LinkSpeed, link, loopback};
pub use listen::{Listener, listen};
pub use memory::{Bound, Memory, memory, memory_by};
pub use proc::{limiting_folders, meminfo_bytes};
pub use profile::{DiskField, LinkFigures, Measured, NodeFigures, NodeProfileFile};
