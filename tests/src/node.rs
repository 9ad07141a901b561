//! A node of figures that do not matter to what a test looks at: no disk, so that nothing streams.

use lime_plan::{Bytes, Nanos, NodeProfile};

/// A node of that name with `memory` for a model.
pub fn node(name: &str, memory: Bytes) -> NodeProfile {
    NodeProfile {
        name: name.to_owned(),
        memory,
        overhead: Bytes::ZERO,
        memory_bandwidth: 10_000_000_000,
        compact_bandwidth: None,
        throughput: 50_000_000_000,
        disk_bandwidth: None,
        block_latency: Nanos::ZERO,
        formats: Default::default(),
    }
}
