//! Which blocks of a device stay and which stream: the choices worth trying for a given set of layers.

use crate::cost::Unit;
use crate::layout::{Layout, Share, Stretch};

use super::problem::{Problem, signed};
use lime_plan::Offload;

/// One choice for one device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Units that stream, ascending.
    pub(crate) streamed: Vec<Unit>,
    /// Bytes of the buffer: all room that is left, at most the streamed bytes.
    pub(crate) buffer: u64,
    /// Bytes that stream.
    pub(crate) bytes: u64,
}

/// How many choices to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Every number of attention and MLP blocks that leaves room for a buffer.
    Every,
    /// A few buffer sizes, and for each the sets that fit it best.
    Few,
}

/// How many of each kind of block stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Counts {
    attention: u32,
    mlp: u32,
    head: bool,
}

/// The device at `position` of a layout whose layers are fixed.
struct Device {
    attention: Vec<Unit>,
    mlp: Vec<Unit>,
    head: Option<Unit>,
    head_streams: bool,
    /// Bytes that must leave memory before anything streams at all; the buffer comes on top. Where the wish is to stream
    /// always, a block's worth at the least. With the head pinned, and streamed.
    deficit: [i64; 2],
    /// The same while every request is at its longest.
    worst: i64,
    /// The largest buffer with which every block of a layer can stream when requests are at their longest; likewise.
    most_buffer: [i64; 2],
    /// Largest attention, MLP and head block.
    largest: [u64; 3],
}

impl Device {
    fn of(problem: &Problem<'_>, layout: &Layout, position: usize, stretches: &[Stretch]) -> Self {
        let share = &layout.shares[position];
        let layers = problem.card.layers;
        let units = || stretches.iter().flat_map(|stretch| stretch.units()).filter(|unit| *unit != Unit::EMBEDDING);
        let (first, head) = (position == 0, position == layout.head);
        let held: u64 = units().map(|unit| problem.costs.bytes_held(unit, first)).sum();
        let kind = |wanted: bool| -> Vec<Unit> {
            let layers_only = units().filter(|unit| *unit != Unit::head(layers));
            layers_only.filter(|unit| unit.is_attention(layers) == wanted).collect()
        };
        let (attention, mlp) = (kind(true), kind(false));
        let largest = |units: &[Unit]| units.iter().map(|unit| problem.costs.bytes[unit.index()]).max().unwrap_or(0);
        let smallest = attention.iter().chain(&mlp).map(|unit| problem.costs.bytes[unit.index()]).min();
        let disk = problem.fleet.nodes()[share.node].disk_bandwidth.is_some();
        let forced = disk && problem.goal.offload == Offload::Always;
        let least_deficit = if forced { signed(smallest.unwrap_or(0)) } else { i64::MIN };
        let attentions = attention.len() as u32;
        let room = problem.room_at_worst(share.node, attentions, first, head);
        let worst = signed(held) - room;
        let expected = signed(held) - problem.room(share.node, attentions, first, head);
        let largest = [largest(&attention), largest(&mlp), problem.costs.bytes[Unit::head(layers).index()]];
        let kept = if head { signed(problem.head_bytes(first)) } else { 0 };
        let most_buffer = [room - kept, room];
        // What a plan counts on later must be possible: else it keeps room for the longest requests from the beginning. With several
        // micro-batches the blocks of a visit are in the buffer together, which blocks that give way later could not be.
        let steps_allowed = disk && layout.micro_batches == 1;
        let deficit = |streams: bool| {
            let least = largest[0].max(largest[1]).max(if streams { largest[2] } else { 0 });
            let steps = steps_allowed && most_buffer[usize::from(streams)] >= signed(least);
            if steps { expected } else { worst }.max(least_deficit)
        };
        Self {
            largest,
            deficit: [deficit(false), deficit(true)],
            worst: worst.max(least_deficit),
            most_buffer,
            head: head.then_some(Unit::head(layers)),
            head_streams: head && problem.head_streams(first),
            attention,
            mlp,
        }
    }

    fn choice(&self, problem: &Problem<'_>, counts: Counts) -> Option<Choice> {
        let mut streamed: Vec<Unit> = spread(&self.attention, counts.attention, 0).collect();
        streamed.extend(spread(&self.mlp, counts.mlp, 1));
        streamed.extend(self.head.filter(|_| counts.head));
        streamed.sort();
        let bytes: u64 = streamed.iter().map(|unit| problem.costs.bytes[unit.index()]).sum();
        let head = usize::from(counts.head);
        let mut buffer = signed(bytes) - self.deficit[head];
        if signed(bytes) - buffer < self.worst {
            // Then steps are counted on, and they leave no more than this. Without any, this much always fits.
            buffer = buffer.min(self.most_buffer[head]).max(signed(bytes) - self.worst);
        }
        let buffer = u64::try_from(buffer).ok()?.min(bytes);
        let largest = streamed.iter().map(|unit| problem.costs.bytes[unit.index()]).max()?;
        (buffer >= largest).then_some(Choice { streamed, buffer, bytes })
    }

    fn mean(problem: &Problem<'_>, units: &[Unit]) -> u64 {
        let sum: u64 = units.iter().map(|unit| problem.costs.bytes[unit.index()]).sum();
        (sum / (units.len() as u64).max(1)).max(1)
    }

    /// The sets that stream at least `wanted` bytes with little to spare: attention first, MLPs first, closest.
    fn fitting(&self, problem: &Problem<'_>, wanted: i64, head: bool, out: &mut Vec<Counts>) {
        let wanted = wanted - if head { signed(self.largest[2]) } else { 0 };
        let (a, m) = (Self::mean(problem, &self.attention), Self::mean(problem, &self.mlp));
        let (attentions, mlps) = (self.attention.len() as u32, self.mlp.len() as u32);
        let need = |bytes: i64, each: u64| u32::try_from((bytes.max(0) as u64).div_ceil(each)).unwrap_or(u32::MAX);
        let complete = |mlp: u32| {
            let attention = need(wanted - signed(u64::from(mlp) * m), a);
            (attention <= attentions).then_some(Counts { attention, mlp, head })
        };
        let spare = |counts: &Counts| u64::from(counts.attention) * a + u64::from(counts.mlp) * m;
        // Ascending by MLPs: of those that are alike the first has fewest.
        let mut found: Option<[Counts; 3]> = None;
        for counts in (0..=mlps).filter_map(complete) {
            let [_, closest, fewest] = found.get_or_insert([counts; 3]);
            if spare(&counts) < spare(closest) {
                *closest = counts;
            }
            if counts.attention < fewest.attention {
                *fewest = counts;
            }
            // With no attention at all, more MLPs only stream more.
            if counts.attention == 0 {
                break;
            }
        }
        out.extend(found.into_iter().flatten());
    }
}

/// `count` of `units`, evenly spread; `phase` 0 begins at the first, 1 half a step later.
fn spread(units: &[Unit], count: u32, phase: usize) -> impl Iterator<Item = Unit> {
    let (total, count) = (units.len(), count as usize);
    (0..count).map(move |index| units[(2 * index + phase) * total / (2 * count)])
}

/// The choices for the device at `position`, which computes `stretches`: all pinned where that fits, else sets that stream.
/// Empty where the device cannot hold its layers at all.
pub(crate) fn choices(
    problem: &Problem<'_>,
    layout: &Layout,
    position: usize,
    stretches: &[Stretch],
    effort: Effort,
) -> Vec<Choice> {
    let device = Device::of(problem, layout, position, stretches);
    if device.deficit[0] <= 0 {
        return vec![Choice { streamed: Vec::new(), buffer: 0, bytes: 0 }];
    }
    let node = &problem.fleet.nodes()[layout.shares[position].node];
    if node.disk_bandwidth.is_none() {
        return Vec::new();
    }
    let heads: &[bool] = if device.head_streams { &[false, true] } else { &[false] };
    let mut counts = Vec::new();
    for &head in heads {
        let deficit = device.deficit[usize::from(head)].max(0);
        match effort {
            Effort::Every => {
                let grid = (0..=device.attention.len() as u32).flat_map(|attention| {
                    (0..=device.mlp.len() as u32).map(move |mlp| Counts { attention, mlp, head })
                });
                counts.extend(grid);
            }
            Effort::Few => {
                let [attention, mlp, largest_head] = device.largest.map(signed);
                let least = if head { attention.max(largest_head) } else { attention };
                let per_segment = deficit / i64::from(layout.segments.max(1));
                let between = per_segment * i64::from(layout.segments) / i64::from(layout.segments.max(2) - 1);
                let mut buffers = [
                    least,
                    2 * attention,
                    3 * attention,
                    mlp,
                    mlp + attention,
                    2 * mlp,
                    per_segment,
                    per_segment + attention,
                    between / i64::from(layout.segments.max(1)) + attention,
                    per_segment + mlp,
                    2 * per_segment,
                ]
                .map(|buffer| buffer.max(least));
                buffers.sort_unstable();
                let mut before = None;
                for buffer in buffers {
                    if before.replace(buffer) != Some(buffer) {
                        device.fitting(problem, deficit + buffer, head, &mut counts);
                    }
                }
            }
        }
    }
    counts.sort();
    counts.dedup();
    let mut choices: Vec<Choice> = counts.into_iter().filter_map(|counts| device.choice(problem, counts)).collect();
    choices.sort_by(|a, b| (a.bytes, &a.streamed).cmp(&(b.bytes, &b.streamed)));
    choices.dedup();
    choices
}

/// Puts a choice into a layout.
pub(crate) fn apply(share: &mut Share, choice: &Choice) {
    share.streamed.clone_from(&choice.streamed);
    share.buffer = choice.buffer;
}
