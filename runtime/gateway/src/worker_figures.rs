//! What the workers say of themselves, for Prometheus.

use std::time::Duration;

use lime_metrics::Figure;
use lime_ring::{
    Peer, Transport, connect,
    proto::{
        KeptFigures, MemoryFigures, PageDiskFigures, RemotePagesFigures, StatusReply, StatusRequest, StreamFigures,
        WorkFigures, control_client::ControlClient,
    },
};
use prometheus_client::registry::Registry;
use tokio::{task::JoinSet, time::timeout};

/// A worker that takes longer is left out of an answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// A row of a table: a field of the reply's part, its name for Prometheus and what it means.
macro_rules! gauge {
    ($field:ident, $name:literal, $help:literal) => {
        Figure::gauge($name, $help, |it| Some(it.$field as f64))
    };
}

/// The same of what only grows.
macro_rules! counter {
    ($field:ident, $name:literal, $help:literal) => {
        Figure::counter($name, $help, |it| Some(it.$field as f64))
    };
}

/// The same of time, which replies tell in microseconds.
macro_rules! seconds {
    ($field:ident, $name:literal, $help:literal) => {
        Figure::counter($name, $help, |it| Some(it.$field as f64 / 1e6))
    };
}

const MEMORY: [Figure<MemoryFigures>; 12] = [
    gauge!(pinned_bytes, "lime_worker_pinned_bytes", "Weights that stay in memory"),
    gauge!(prefetch_bytes, "lime_worker_prefetch_bytes", "The buffer through which streamed blocks pass"),
    gauge!(kv_bytes, "lime_worker_kv_bytes", "KV cache in use"),
    gauge!(kv_room_bytes, "lime_worker_kv_room_bytes", "KV cache that fits without a further step"),
    counter!(kv_saturated, "lime_worker_kv_saturated", "KV entries beyond their type's range, kept as its greatest"),
    gauge!(activation_bytes, "lime_worker_activation_bytes", "Buffers of the largest pass"),
    gauge!(shortage_bytes, "lime_worker_memory_shortage_bytes", "Memory of the budget that is left to others"),
    gauge!(steps_in_force, "lime_worker_steps_in_force", "Blocks that stream because room was needed"),
    gauge!(steps_planned, "lime_worker_steps_planned", "Blocks that may stream once room is needed"),
    counter!(steps_taken, "lime_worker_steps_taken", "Blocks that gave way to KV cache or others"),
    counter!(steps_undone, "lime_worker_steps_undone", "Of the blocks that gave way, those that are kept again"),
    counter!(passes_refused, "lime_worker_passes_refused", "Passes for whose KV pages there was no room"),
];

const STREAM: [Figure<StreamFigures>; 8] = [
    gauge!(blocks, "lime_worker_streamed_blocks", "Blocks that are read for every pass"),
    gauge!(bytes, "lime_worker_streamed_bytes", "Size of the blocks that are read for every pass"),
    counter!(read_bytes, "lime_worker_read_bytes", "Read for streaming"),
    counter!(wasted_bytes, "lime_worker_wasted_bytes", "Read, and used by no pass"),
    seconds!(wait_micros, "lime_worker_load_wait_seconds", "Passes waited for streamed blocks"),
    counter!(hits, "lime_worker_prefetch_hits", "Blocks that were there in time"),
    counter!(misses, "lime_worker_prefetch_misses", "Blocks that a pass waited for"),
    counter!(read_retries, "lime_worker_read_retries", "Reads that failed and were tried again"),
];

const REMOTE_PAGES: [Figure<RemotePagesFigures>; 6] = [
    gauge!(bytes, "lime_worker_elsewhere_bytes", "KV cache that another device keeps"),
    gauge!(room_bytes, "lime_worker_elsewhere_room_bytes", "KV cache that another device keeps at most"),
    counter!(handed_over, "lime_worker_pages_handed_over", "KV pages that went to another device"),
    counter!(brought_back, "lime_worker_pages_brought_back", "KV pages that came back from another device"),
    Figure::gauge(
        "lime_worker_elsewhere_cost_seconds",
        "By how much KV cache elsewhere makes a pass longer, or would",
        |it| Some(it.cost_micros as f64 / 1e6),
    ),
    seconds!(wait_micros, "lime_worker_elsewhere_wait_seconds", "Passes waited for the device that keeps KV cache"),
];

const KEPT: [Figure<KeptFigures>; 3] = [
    gauge!(lent_bytes, "lime_worker_lent_bytes", "Reserved for KV pages of other devices"),
    gauge!(bytes, "lime_worker_kept_bytes", "KV pages of other devices"),
    counter!(questions, "lime_worker_kept_questions", "Questions answered about them"),
];

const PAGE_DISK: [Figure<PageDiskFigures>; 7] = [
    gauge!(pages, "lime_worker_disk_pages", "KV pages on the device's disk that are of use to the plan"),
    gauge!(bytes, "lime_worker_disk_page_bytes", "KV pages on the device's disk"),
    gauge!(limit_bytes, "lime_worker_disk_page_limit_bytes", "What KV pages may take on the device's disk"),
    counter!(written, "lime_worker_disk_pages_written", "KV pages written to the device's disk"),
    counter!(read, "lime_worker_disk_pages_read", "KV pages read back from the device's disk"),
    counter!(
        damaged,
        "lime_worker_disk_pages_damaged",
        "KV pages on the device's disk that were not what was written, and were removed"
    ),
    counter!(failed, "lime_worker_disk_pages_failed", "KV pages that the device's disk did not take, or give"),
];

const WORK: [Figure<WorkFigures>; 4] = [
    counter!(passes, "lime_worker_passes", "Passes that left the worker"),
    seconds!(compute_micros, "lime_worker_compute_seconds", "Time in passes"),
    seconds!(send_micros, "lime_worker_send_seconds", "Time in sending"),
    seconds!(wait_micros, "lime_worker_wait_seconds", "Time without work"),
];

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

/// Puts what the workers said into `registry`.
pub(crate) fn register(registry: &mut Registry, replies: &[StatusReply]) {
    part(registry, &MEMORY, replies, |it| it.memory.as_ref());
    part(registry, &STREAM, replies, |it| it.stream.as_ref());
    part(registry, &REMOTE_PAGES, replies, |it| it.remote.as_ref());
    part(registry, &KEPT, replies, |it| it.kept.as_ref());
    part(registry, &PAGE_DISK, replies, |it| it.page_disk.as_ref());
    part(registry, &WORK, replies, |it| it.work.as_ref());
}

/// One part of the replies; what a worker left out of its reply is left out here.
fn part<T>(
    registry: &mut Registry,
    figures: &[Figure<T>],
    replies: &[StatusReply],
    part: fn(&StatusReply) -> Option<&T>,
) {
    for figure in figures {
        let of = replies.iter().filter_map(|reply| Some(([("device", reply.device.clone())], part(reply)?)));
        registry.register_collector(Box::new(figure.over(of)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_for_each_worker_and_figure() {
        let reply = |device: &str, wait_micros| StatusReply {
            device: device.into(),
            stream: Some(StreamFigures { wait_micros, read_bytes: 4096, ..StreamFigures::default() }),
            ..StatusReply::default()
        };
        let text = |replies: &[StatusReply]| {
            let mut registry = Registry::default();
            register(&mut registry, replies);
            lime_metrics::text(&registry)
        };
        let two = text(&[reply("a", 1_500_000), reply("b\"", 0)]);
        assert!(two.contains("lime_worker_load_wait_seconds_total{device=\"a\"} 1.5\n"), "{two}");
        assert!(two.contains("lime_worker_read_bytes_total{device=\"b\\\"\"} 4096\n"), "{two}");
        assert_eq!(two.lines().count(), 4 * STREAM.len());
        assert_eq!(text(&[]), "");
    }
}
