//! A plan as a table.

use lime_plan::{Block, BlockRange, Bytes, DeviceIndex, DevicePlan, Encoding, Plan, Residency};

use crate::{explain, grid::Grid};

/// Most segments whose layers are shown one by one.
const SEGMENTS_SHOWN: u32 = 3;

/// Who holds what, and how much of it.
pub fn plan_table(plan: &Plan, width: Option<usize>) -> String {
    let streams = plan.devices.iter().any(|device| device.memory.prefetch > Bytes::ZERO);
    let mut header = vec!["device".to_owned()];
    if plan.segments <= SEGMENTS_SHOWN {
        header.extend((0..plan.segments).map(|segment| format!("segment {}", segment + 1)));
    } else {
        header.push(format!("layers in {} segments", plan.segments));
    }
    header.push("besides".to_owned());
    let numbers_from = header.len();
    let weights: &[&str] = if streams { &["pinned", "streamed", "buffer"] } else { &["weights"] };
    let lends = plan.devices.iter().any(|device| device.memory.lent > Bytes::ZERO);
    let lent: &[&str] = if lends { &["lent"] } else { &[] };
    // What the process needs besides: the columns add up to the total.
    let besides_buffers = plan.devices.iter().any(|device| device.memory.overhead > Bytes::ZERO);
    let overhead: &[&str] = if besides_buffers { &["overhead"] } else { &[] };
    let sizes = weights.iter().chain(&["KV cache", "activations"]).chain(overhead).chain(lent);
    let sizes = sizes.chain(&["total", "budget"]);
    header.extend(sizes.map(|name| (*name).to_owned()));
    let names: Vec<&str> = header.iter().map(String::as_str).collect();
    let mut table = Grid::new(&names, numbers_from);
    for (index, device) in plan.devices.iter().enumerate() {
        let memory = device.memory;
        let mut row = vec![device.name.clone()];
        if plan.segments <= SEGMENTS_SHOWN {
            let shown = |range: &BlockRange| if range.is_empty() { "-".into() } else { format!("layers {range}") };
            row.extend(device.ranges.iter().map(shown));
        } else {
            row.push(spread(&device.ranges));
        }
        row.push(besides(plan, DeviceIndex(index as u32)));
        let lent = lends.then_some(memory.lent);
        let overhead = besides_buffers.then_some(memory.overhead);
        let sizes = [memory.kv, memory.activations].into_iter().chain(overhead).chain(lent);
        let sizes = sizes.chain([memory.used(), memory.budget]);
        if streams {
            row.extend([memory.pinned, streamed(plan, device), memory.prefetch].map(|bytes| bytes.to_string()));
        } else {
            row.push(memory.pinned.to_string());
        }
        row.extend(sizes.map(|bytes| bytes.to_string()));
        table.add_row(row);
    }
    let weights = plan.model.weight_bytes();
    let largest = plan.devices.iter().map(|device| device.memory.budget).max().unwrap_or_default();
    let alone =
        if largest < weights { "no device could hold it alone" } else { "the largest device could hold it alone" };
    let mut text = format!(
        "{}\n{}: {weights} of weights in {} layers of {}{}, KV cache in {}; {alone}.",
        table.render(width),
        plan.model.name,
        plan.model.layers,
        plan.model.format,
        if plan.model.encoding == Encoding::Compact { ", kept compact" } else { "" },
        plan.kv
    );
    if let Some(outlook) = &plan.outlook {
        text.push('\n');
        text.push_str(&explain::speed(&outlook.prediction));
    }
    text
}

/// `38: 8 at a time` of a device's layers over many segments.
fn spread(ranges: &[BlockRange]) -> String {
    let halves = |blocks: u32| format!("{}{}", blocks / 2, if blocks % 2 == 1 { "½" } else { "" });
    let counts = ranges.iter().map(|range| range.len());
    let (least, most) = (counts.clone().min().unwrap_or(0), counts.clone().max().unwrap_or(0));
    let each = if least == most { halves(most) } else { format!("{} to {}", halves(least), halves(most)) };
    format!("{}: {each} in each", halves(counts.sum()))
}

/// Bytes that a device reads from disk in every pass.
fn streamed(plan: &Plan, device: &DevicePlan) -> Bytes {
    let placed = device.blocks.iter().filter(|placed| placed.residency == Residency::Streamed);
    placed.map(|placed| plan.model.block_bytes(placed.block)).sum()
}

fn besides(plan: &Plan, index: DeviceIndex) -> String {
    let device = &plan.devices[index.0 as usize];
    let parts = [(Block::Embedding, "embedding"), (Block::Head, "head")];
    let held: Vec<&str> = parts.into_iter().filter(|(block, _)| device.holds(*block)).map(|(_, name)| name).collect();
    if held.is_empty() { "-".into() } else { held.join(", ") }
}
