//! What the workers say of themselves, for Prometheus.

use std::{fmt::Write as _, time::Duration};

use lime_ring::{
    Transport, connect,
    proto::{StatusReply, StatusRequest, control_client::ControlClient},
};
use tokio::{task::JoinSet, time::timeout};

use crate::Peer;

/// A worker that takes longer is left out of an answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// A figure's name, kind, meaning and source.
type Figure = (&'static str, &'static str, &'static str, fn(&StatusReply) -> f64);

const FIGURES: [Figure; 33] = [
    ("pinned_bytes", "gauge", "Weights that stay in memory.", |it| it.pinned_bytes as f64),
    ("prefetch_bytes", "gauge", "The buffer through which streamed blocks pass.", |it| it.prefetch_bytes as f64),
    ("kv_bytes", "gauge", "KV cache in use.", |it| it.kv_bytes as f64),
    ("kv_saturated_total", "counter", "KV entries beyond their type's range, kept as its greatest.", |it| {
        it.kv_saturated as f64
    }),
    ("kv_room_bytes", "gauge", "KV cache that fits without a further step.", |it| it.kv_room_bytes as f64),
    ("memory_shortage_bytes", "gauge", "Of the budget, left to others.", |it| it.memory_shortage_bytes as f64),
    ("steps_in_force", "gauge", "Blocks that stream because room was needed.", |it| it.steps_in_force as f64),
    ("steps_planned", "gauge", "Blocks that may.", |it| it.steps_planned as f64),
    ("steps_taken_total", "counter", "Blocks that gave way to KV cache or others.", |it| it.steps_taken as f64),
    ("steps_undone_total", "counter", "Of them, those that are kept again.", |it| it.steps_undone as f64),
    ("passes_refused_total", "counter", "Passes for whose KV pages there was no room.", |it| it.passes_refused as f64),
    ("elsewhere_bytes", "gauge", "KV cache that another device keeps.", |it| it.elsewhere_bytes as f64),
    ("elsewhere_room_bytes", "gauge", "What it keeps at most.", |it| it.elsewhere_room_bytes as f64),
    ("elsewhere_cost_seconds", "gauge", "By how much that makes a pass longer, or would.", |it| {
        seconds(it.elsewhere_cost_micros)
    }),
    ("elsewhere_wait_seconds_total", "counter", "Passes waited for its keeper.", |it| {
        seconds(it.elsewhere_wait_micros)
    }),
    ("pages_handed_over_total", "counter", "KV pages that went to another device.", |it| it.pages_handed_over as f64),
    ("pages_brought_back_total", "counter", "Of them, those that came back.", |it| it.pages_brought_back as f64),
    ("lent_bytes", "gauge", "Reserved for KV pages of other devices.", |it| it.lent_bytes as f64),
    ("kept_bytes", "gauge", "KV pages of other devices.", |it| it.kept_bytes as f64),
    ("kept_questions_total", "counter", "Questions answered about them.", |it| it.kept_questions as f64),
    ("activation_bytes", "gauge", "Buffers of the largest pass.", |it| it.activation_bytes as f64),
    ("streamed_blocks", "gauge", "Blocks that are read for every pass.", |it| it.streamed_blocks as f64),
    ("streamed_bytes", "gauge", "Their size.", |it| it.streamed_bytes as f64),
    ("read_bytes_total", "counter", "Read for streaming.", |it| it.read_bytes as f64),
    ("wasted_bytes_total", "counter", "Read, and used by no pass.", |it| it.wasted_bytes as f64),
    ("load_wait_seconds_total", "counter", "Passes waited for streamed blocks.", |it| seconds(it.load_wait_micros)),
    ("prefetch_hits_total", "counter", "Blocks that were there in time.", |it| it.prefetch_hits as f64),
    ("prefetch_misses_total", "counter", "Blocks that a pass waited for.", |it| it.prefetch_misses as f64),
    ("read_retries_total", "counter", "Reads that failed and were tried again.", |it| it.read_retries as f64),
    ("passes_total", "counter", "Passes that left the worker.", |it| it.passes as f64),
    ("compute_seconds_total", "counter", "Time in passes.", |it| seconds(it.compute_micros)),
    ("send_seconds_total", "counter", "Time in sending.", |it| seconds(it.send_micros)),
    ("wait_seconds_total", "counter", "Time without work.", |it| seconds(it.wait_micros)),
];

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// Asks every worker at once; those that do not answer soon are left out.
pub(crate) async fn ask(transport: &Transport, workers: Vec<Peer>) -> Vec<StatusReply> {
    let mut asked = JoinSet::new();
    for (index, peer) in workers.into_iter().enumerate() {
        let transport = transport.clone();
        asked.spawn(async move { (index, timeout(PATIENCE, status(&transport, &peer)).await.ok().flatten()) });
    }
    let mut replies = asked.join_all().await;
    replies.sort_by_key(|(index, _)| *index);
    replies.into_iter().filter_map(|(_, reply)| reply).collect()
}

async fn status(transport: &Transport, peer: &Peer) -> Option<StatusReply> {
    let channel = connect(transport, &peer.uri).await.ok()?;
    let reply = ControlClient::new(channel).status(StatusRequest {}).await.ok()?;
    Some(StatusReply { device: peer.device.clone(), ..reply.into_inner() })
}

/// The replies as text.
pub(crate) fn render(replies: &[StatusReply]) -> String {
    let mut text = String::new();
    for (name, kind, help, value) in FIGURES.iter().filter(|_| !replies.is_empty()) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP lime_worker_{name} {help}\n# TYPE lime_worker_{name} {kind}");
        for reply in replies {
            let device = reply.device.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', " ");
            let _ = writeln!(text, "lime_worker_{name}{{device=\"{device}\"}} {}", value(reply));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_for_each_worker_and_figure() {
        let reply = |device: &str, load_wait_micros| StatusReply {
            device: device.into(),
            load_wait_micros,
            read_bytes: 4096,
            ..StatusReply::default()
        };
        let text = render(&[reply("a", 1_500_000), reply("b\"", 0)]);
        assert!(text.contains("lime_worker_load_wait_seconds_total{device=\"a\"} 1.5\n"), "{text}");
        assert!(text.contains("lime_worker_read_bytes_total{device=\"b\\\"\"} 4096\n"), "{text}");
        assert_eq!(text.lines().count(), 4 * FIGURES.len());
        assert_eq!(render(&[]), "");
    }
}
