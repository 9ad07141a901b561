//! The workers' figures, asked for once however many look.

use std::{sync::Arc, time::Duration};

use lime_ring::{Peer, Transport, proto::StatusReply};
use tokio::{sync::Mutex, time::Instant};

use crate::worker_figures;

/// What is younger is new enough.
const FRESH: Duration = Duration::from_millis(900);

/// What the workers said last.
#[derive(Debug, Default)]
pub(super) struct Figures(Mutex<Option<Asked>>);

#[derive(Debug)]
struct Asked {
    at: Instant,
    workers: Vec<Peer>,
    replies: Arc<Vec<StatusReply>>,
}

impl Figures {
    /// What `workers` say of themselves; those that do not answer soon are left out.
    pub(super) async fn ask(&self, transport: &Transport, workers: &[Peer]) -> Arc<Vec<StatusReply>> {
        // Held while they are asked: who comes meanwhile hears the same.
        let mut asked = self.0.lock().await;
        if let Some(asked) = asked.as_ref().filter(|asked| asked.at.elapsed() < FRESH && asked.workers == workers) {
            return asked.replies.clone();
        }
        let replies = Arc::new(worker_figures::ask(transport, workers.to_vec()).await);
        *asked = Some(Asked { at: Instant::now(), workers: workers.to_vec(), replies: replies.clone() });
        replies
    }
}
