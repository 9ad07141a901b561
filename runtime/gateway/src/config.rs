//! What the gateway is told, and what it tells.

use std::{net::SocketAddr, path::PathBuf};

use lime_plan::Bytes;
use lime_ring::Transport;
use tokio::sync::watch;

use crate::{access::Access, orders::Orders};

/// Everything that a gateway needs to start.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Where to listen for HTTP; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The plan that the ring follows and its workers' addresses, as both change: another plan is taken up in place, and
    /// requests under way go on by it.
    pub orders: watch::Receiver<Orders>,
    /// How the ring's members speak to one another.
    pub transport: Transport,
    /// The model's folder: tokenizer, chat template and generation defaults are read from it, no weights.
    pub model: PathBuf,
    /// `lime` itself, which runs the model's chat template in a process of its own ([`render_templates`]); `None`: it runs
    /// here, which only a template that is trusted may.
    ///
    /// [`render_templates`]: crate::render_templates
    pub template_program: Option<PathBuf>,
    /// The name under which clients ask for the model.
    pub served_name: String,
    /// Who may come, and how.
    pub access: Access,
    /// Most sequences that may wait for a slot; past it, requests are answered with 429.
    pub queue_limit: usize,
}

/// What happens to the ring, for those who show it to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A worker is loading weights.
    Loading {
        /// The device.
        device: String,
        /// Bytes that it holds.
        loaded: Bytes,
        /// Bytes that it will hold.
        total: Bytes,
    },
    /// The ring serves for the first time.
    Ready {
        /// The ring's epoch.
        epoch: u64,
    },
    /// A worker is away, or the ring broke at it.
    WorkerLost {
        /// The device, or `ring` where it is not known.
        device: String,
        /// What was seen.
        reason: String,
    },
    /// The ring does not come back: who waits is told so, and it is tried on.
    Unavailable {
        /// The last cause.
        reason: String,
    },
    /// Another plan is taken up.
    PlanTaken {
        /// The plan's name.
        name: String,
        /// Its place in the succession of plans.
        generation: u64,
    },
    /// The ring serves again, after a failure or by another plan.
    Recovered {
        /// The ring's new epoch.
        epoch: u64,
    },
}
