//! A LocalFleet as the planner sees it: what the file does not say is measured on this machine, once a day.

use std::{
    os::linux::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use std::collections::BTreeMap;

use lime_plan::{Bytes, Fleet, Format, Link, ModelCard, Nanos, NodeProfile};
use lime_profiler::{Cache, Compute, ComputeEffort, Disk, DiskEffort, LinkSpeed};

use crate::fleet::{LocalDevice, LocalFleet};

/// The devices of `fleet` with their speeds. `reads_disk` where weights may be streamed; `anew` to
/// believe nothing that was measured before.
///
/// Devices of one machine share its disk: each is planned with an even share of what it reads, or with what its shape
/// leaves of that.
pub(crate) fn planner_fleet(
    fleet: &LocalFleet,
    card: &ModelCard,
    model: &Path,
    reads_disk: bool,
    anew: bool,
) -> anyhow::Result<Fleet> {
    let mut cache = Cache::open();
    if anew {
        cache.forget();
    }
    let found = measured(&mut cache, fleet, card, model, reads_disk);
    cache.close();
    found
}

fn measured(
    cache: &mut Cache,
    fleet: &LocalFleet,
    card: &ModelCard,
    model: &Path,
    reads_disk: bool,
) -> anyhow::Result<Fleet> {
    let devices = &fleet.devices;
    let loopback = if devices.len() > 1 { Some(loopback(cache)?) } else { None };
    let disk = if reads_disk {
        disk(cache, model, devices.len()).map(|disk| disk.bandwidth / devices.len() as u64)
    } else {
        None
    };
    let mut nodes = Vec::with_capacity(devices.len());
    for device in devices {
        nodes.push(node(cache, device, card, disk)?);
    }
    Ok(Fleet::new(nodes, |from, _| link(&devices[from], loopback)))
}

fn node(cache: &mut Cache, device: &LocalDevice, card: &ModelCard, disk: Option<u64>) -> anyhow::Result<NodeProfile> {
    let given = device.given;
    let mut formats = BTreeMap::new();
    let (memory_bandwidth, compact_bandwidth, throughput, block_latency) =
        match (given.memory_bandwidth, given.throughput, given.block_latency) {
            // Of compact weights such a device says what it says.
            (Some(bandwidth), Some(throughput), Some(latency)) => {
                (bandwidth, given.compact_bandwidth, throughput, latency)
            }
            (bandwidth, throughput, latency) => {
                let found = compute(cache, card, device.threads)?;
                if bandwidth.is_none() && throughput.is_none() {
                    formats = found.formats;
                }
                (
                    bandwidth.unwrap_or(found.memory_bandwidth),
                    // Beside a bandwidth that is given, one that was measured means nothing.
                    given.compact_bandwidth.or(found.compact_bandwidth.filter(|_| bandwidth.is_none())),
                    throughput.unwrap_or(found.throughput),
                    latency.unwrap_or(Nanos(found.block_latency_nanos)),
                )
            }
        };
    let shaped = device.disk.map(|shape| shape.bytes_per_second);
    Ok(NodeProfile {
        name: device.name.clone(),
        memory: device.memory,
        // The budget is the engine's, to the byte.
        overhead: Bytes::ZERO,
        memory_bandwidth: memory_bandwidth.max(1),
        compact_bandwidth,
        throughput: throughput.max(1),
        disk_bandwidth: disk.map(|disk| shaped.map_or(disk, |shaped| shaped.min(disk)).max(1)),
        block_latency,
        formats,
    })
}

/// The way from a device to any other: loopback, slowed down by its shape.
fn link(from: &LocalDevice, loopback: Option<LinkSpeed>) -> Link {
    let speed = loopback.unwrap_or(LinkSpeed { bandwidth_bits: u64::MAX, latency_nanos: 0 });
    let shape = from.link;
    let bits = shape.map_or(speed.bandwidth_bits, |shape| shape.bandwidth_bits.min(speed.bandwidth_bits));
    let shaped = shape.map_or(Duration::ZERO, |shape| shape.latency);
    let latency = speed.latency_nanos.saturating_add(u64::try_from(shaped.as_nanos()).unwrap_or(u64::MAX / 2));
    Link { bandwidth: (bits / 8).max(1), latency: Nanos(latency) }
}

/// The speed with weights as the model's lie.
fn compute(cache: &mut Cache, card: &ModelCard, threads: usize) -> anyhow::Result<Compute> {
    let key = format!("{threads} x {}", card.format);
    let quantized: Vec<Format> = Some(card.format).filter(|format| format.is_quantized()).into_iter().collect();
    if let Some(found) = cache.get().compute.get(&key) {
        return Ok(found.clone());
    }
    let found = lime_profiler::compute(ComputeEffort::SHORT.beyond_caches(), card.dtype(), &quantized, threads)?;
    cache.note(|cached| {
        cached.compute.insert(key, found.clone());
    });
    Ok(found)
}

fn loopback(cache: &mut Cache) -> anyhow::Result<LinkSpeed> {
    if let Some(found) = cache.get().loopback {
        return Ok(found);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let found = runtime.block_on(lime_profiler::loopback()).context("the loopback interface cannot be measured")?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    cache.note(|cached| cached.loopback = Some(found));
    Ok(found)
}

/// The disk that holds the model, if it can be told: its largest file is read, or a small one of ours beside the system's
/// temporary files where the model has none that is large enough. Read as by the loaders of so many devices at once.
fn disk(cache: &mut Cache, model: &Path, devices: usize) -> Option<Disk> {
    let device = std::fs::metadata(model).ok()?.st_dev();
    let key = format!("device {device} x {devices}");
    if let Some(found) = cache.get().disk.get(&key) {
        return Some(found.clone());
    }
    let read = largest_file(model).and_then(|file| {
        lime_profiler::disk_of_file(&file, DiskEffort { devices, ..DiskEffort::SHORT }).ok().flatten()
    });
    let small = DiskEffort { bytes: 64 << 20, seconds: 0.3, devices };
    let found = read.or_else(|| lime_profiler::disk_of_folder(&std::env::temp_dir(), small).ok())?;
    cache.note(|cached| {
        cached.disk.insert(key, found.clone());
    });
    Some(found)
}

fn largest_file(folder: &Path) -> Option<PathBuf> {
    let files = std::fs::read_dir(folder).ok()?.filter_map(|entry| {
        let path = entry.ok()?.path();
        let metadata = std::fs::metadata(&path).ok()?;
        metadata.is_file().then_some((metadata.len(), path))
    });
    files.max().map(|(_, path)| path)
}
