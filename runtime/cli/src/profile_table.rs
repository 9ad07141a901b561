//! A measured node as a table.

use lime_plan::{Bytes, Nanos};
use lime_profiler::{Bound, NodeProfileFile};
use lime_tables::{Grid, rate};

/// What a node has for LIME.
pub(crate) fn profile_table(profile: &NodeProfileFile, width: Option<usize>) -> String {
    let (node, measured) = (&profile.node, &profile.measured);
    let mut table = Grid::new(&["node", &node.name, "how"], 1).with_prose(2);
    let limited = match &measured.memory.bound {
        Bound::Machine => format!("of {}; what the machine has free", Bytes(measured.memory.total)),
        Bound::Cgroup(folder) => format!("limited by {folder}"),
    };
    let compute = &measured.compute;
    let kernels = format!("{} kernels, {} weights, {} threads", compute.kernels, compute.weights, compute.threads);
    let disk = match &measured.disk {
        Some(disk) if disk.direct => {
            (rate(disk.bandwidth), format!("direct reads of a file of {}", Bytes(disk.file_bytes)))
        }
        Some(disk) => (rate(disk.bandwidth), "through the page cache: no direct reads here".to_owned()),
        None => ("none".to_owned(), "not measured: name a folder with --store".to_owned()),
    };
    let mut rows = vec![
        ("memory".to_owned(), Bytes(node.memory).to_string(), limited),
        ("memory bandwidth".to_owned(), rate(node.memory_bandwidth), format!("one row: {kernels}")),
        (
            "throughput".to_owned(),
            format!("{:.1} GFLOP/s", node.throughput as f64 / 1e9),
            format!("{} rows: {kernels}", compute.rows),
        ),
        (
            "block latency".to_owned(),
            Nanos(compute.block_latency_nanos).to_string(),
            "a block however small".to_owned(),
        ),
        ("disk".to_owned(), disk.0, disk.1),
    ];
    for (format, speed) in &node.formats {
        let operations = format!("{:.1} GFLOP/s of {} rows", speed.throughput as f64 / 1e9, compute.rows);
        rows.push((format!("{format} weights"), rate(speed.memory_bandwidth), operations));
    }
    for link in &profile.links {
        let bandwidth = format!("{:.1} Mbit/s", link.bandwidth as f64 / 1e6);
        let latency = Nanos((link.latency * 1e9) as u64);
        rows.push((format!("link to {}", link.to), bandwidth, format!("{latency} one way")));
    }
    for (name, value, how) in rows {
        table.add_row([name, value, how]);
    }
    table.render(width)
}
