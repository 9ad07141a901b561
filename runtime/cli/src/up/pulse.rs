//! Whether a worker still gets on: it is asked again and again, as every member of the ring may ask it.

use std::time::{Duration, Instant};

use lime_ring::{Peer, Transport, status};
use tokio::time::{sleep, timeout};

/// Between two questions.
const EVERY: Duration = Duration::from_secs(2);
/// An answer takes milliseconds.
const ANSWER: Duration = Duration::from_secs(3);
/// One that has not answered for so long hangs. A machine that swaps may keep it from answering for a while.
const SILENT: Duration = Duration::from_secs(12);

/// Resolves once the worker at `peer` does not get on any more; says why.
pub(super) async fn lost(transport: &Transport, peer: &Peer) -> String {
    let mut unanswered: Option<Instant> = None;
    loop {
        sleep(EVERY).await;
        let asked = Instant::now();
        match timeout(ANSWER, status(transport, peer)).await {
            Ok(Ok(reply)) if reply.stuck.is_empty() => unanswered = None,
            Ok(Ok(reply)) => return format!("it is stuck: {}", reply.stuck),
            Ok(Err(_)) | Err(_) => {
                let silent = unanswered.get_or_insert(asked).elapsed();
                if silent >= SILENT {
                    return format!("it has not answered for {} s", silent.as_secs());
                }
            }
        }
    }
}
