//! The gateway: OpenAI-compatible HTTP in front, passes through the ring behind, and everything that a request needs to
//! survive a failure in between.
//!
//! One task, the pass loop, owns the [`schedule`](crate::schedule::Scheduler) and the ring; HTTP hands sequences in and
//! hears of their tokens through channels. When the ring breaks, the loop configures all workers at a new epoch and
//! prefills every live sequence from its prompt and its answer so far: streams stall and go on. It does the same when it is
//! given another plan: the ring of that plan takes the place of the old one.
//!
//! The schedule is pure: it says what the next pass carries, and hears what came of it.
//!
//! ```
//! use lime_gateway::{SamplingParams, schedule::{Limits, NewSequence, Scheduler, SequenceId}};
//!
//! let limits = Limits {
//!     slots: 1, chunk: 4, queue: 1, depth: 1, decode_groups: 1, ride_along: false, chunks_together: false,
//!     most_failures: 3, most_losses: 10, vocabulary: 1000, context: 64, exact: true, kv_pages: 1,
//! };
//! let mut scheduler = Scheduler::new(limits);
//! let wish = |id| NewSequence {
//!     id: SequenceId(id), prompt: vec![1; 6].into(), max_tokens: 8, sampling: SamplingParams::default(),
//!     end_tokens: [0].into(), trace: None, prediction: [].into(), key: None, matcher: None, scoring: None, pooling: None,
//! };
//! scheduler.admit(vec![wish(1), wish(2)])?;
//! assert_eq!((scheduler.active(), scheduler.waiting()), (1, 1));
//! assert!(scheduler.admit(vec![wish(3)]).is_err(), "one has the slot and one waits");
//! # Ok::<(), lime_gateway::schedule::QueueFull>(())
//! ```

mod access;
mod answer;
mod config;
mod coordinator;
mod dispatcher;
mod epochs;
mod gateway;
mod happenings;
mod http;
mod intake;
mod metric_families;
mod metrics;
mod options;
mod orders;
mod plan_file;
mod recovery;
mod retry_after;
mod ring;
mod sampling;
pub mod schedule;
mod speculation;
mod status;
mod stop;
mod template_process;
mod text;
mod trace;
mod turn;
mod worker_figures;

pub use access::{Access, AllowedOrigin, OriginError};
pub use config::{Event, GatewayConfig};
pub use gateway::{GatewayError, GatewayHandle, start, start_with};
pub use http::router::{Backend, RouterError, RouterHandle, start_router};
pub use metric_families::metric_families;
pub use options::Options;
pub use orders::Orders;
pub use plan_file::{PlanFile, PlanFileError};
pub use ring::{Holder, Progress, Ring, RingCause, RingError, RingTransport, SubmitError, WeightsFault};
pub use sampling::SamplingParams;
pub use schedule::PrefixCache;
pub use speculation::{Speculation, SpeculationError};
pub use template_process::render_templates;
