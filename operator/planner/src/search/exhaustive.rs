//! Every candidate, for fleets so small that they can be counted; bounds cut most of them off.

use crate::layout::{Layout, Share};

use super::floors::Floors;
use super::problem::{Problem, micro_batch_choices};
use super::residency::{Choice, Effort, apply, choices};
use super::settle::{Settled, Work};

/// Most layouts (before residency) that are worth going through one by one.
const MOST_LAYOUTS: u64 = 1_000_000;

/// Most nodes of such a fleet.
const MOST_NODES: usize = 5;

/// Most layers of a device for which every choice of streamed blocks is listed.
const MOST_LAYERS: u32 = 12;

/// Whether the space is small enough for [`improve`].
pub(crate) fn is_small(problem: &Problem<'_>) -> bool {
    let (nodes, layers) = (problem.fleet.nodes().len() as u64, u64::from(problem.card.layers));
    if nodes > MOST_NODES as u64 || problem.card.layers > MOST_LAYERS {
        return false;
    }
    let mut total = 0_u64;
    let (mut orders, mut cuts) = (1, 1);
    for devices in 1..=nodes.min(layers) {
        orders *= nodes + 1 - devices;
        if devices > 1 {
            cuts = cuts * (layers + 1 - devices) / (devices - 1);
        }
        total += orders * cuts * devices * layers;
    }
    let micro_batches = micro_batch_choices(problem.sequences, problem.fleet.nodes().len()).count() as u64;
    total * micro_batches <= MOST_LAYOUTS
}

/// A candidate without residency, small enough to keep very many.
#[derive(Clone, Copy)]
pub(crate) struct Candidate {
    /// It cannot take less.
    pub(crate) bound: u64,
    devices: u8,
    nodes: [u8; MOST_NODES],
    layers: [u8; MOST_NODES],
    segments: u16,
    head: u8,
    micro_batches: u16,
}

impl Candidate {
    /// The bound by other tables; `None` where it does not fit by them.
    pub(crate) fn bound_by(&self, floors: &Floors<'_, '_>) -> Option<u64> {
        let devices = usize::from(self.devices);
        let nodes: Vec<usize> = self.nodes[..devices].iter().map(|&node| usize::from(node)).collect();
        let layers: Vec<u32> = self.layers[..devices].iter().map(|&layers| u32::from(layers)).collect();
        let rows = floors.rows.iter().find(|rows| rows.micro_batches == u32::from(self.micro_batches))?;
        let head = usize::from(self.head);
        let reading = floors.reading(&nodes, &layers, head)?;
        Some(floors.time(rows, &nodes, &layers, head, u32::from(self.segments)).max(reading))
    }

    pub(crate) fn layout(&self) -> Layout {
        let share = |(&node, &layers): (&u8, &u8)| Share {
            node: usize::from(node),
            layers: u32::from(layers),
            streamed: Vec::new(),
            buffer: 0,
        };
        Layout {
            shares: self.nodes.iter().zip(&self.layers).take(usize::from(self.devices)).map(share).collect(),
            segments: u32::from(self.segments),
            head: usize::from(self.head),
            micro_batches: u32::from(self.micro_batches),
        }
    }
}

/// Goes through all rings and cuts, and keeps the candidates that may beat `limit`.
pub(crate) struct Candidates<'p, 'a> {
    problem: &'p Problem<'a>,
    floors: Floors<'p, 'a>,
    twins: Vec<Vec<usize>>,
    /// The least time that a layer takes, by node, and on the fastest of them.
    layer: Vec<u64>,
    fastest: u64,
    limit: u64,
    nodes: Vec<usize>,
    layers: Vec<u32>,
    found: Vec<Candidate>,
}

impl<'p, 'a> Candidates<'p, 'a> {
    pub(crate) fn below(problem: &'p Problem<'a>, limit: u64) -> Vec<Candidate> {
        let floors = Floors::new(problem);
        let least = |node: usize| floors.rows.iter().map(|rows| rows.layer[node]).min().unwrap_or(0);
        let layer: Vec<u64> = (0..problem.fleet.nodes().len()).map(least).collect();
        let fastest = layer.iter().copied().min().unwrap_or(0);
        let (twins, nodes, layers, found) = (floors.twins(), Vec::new(), Vec::new(), Vec::new());
        let mut candidates = Self { problem, floors, twins, layer, fastest, limit, nodes, layers, found };
        candidates.extend(problem.card.layers, 0);
        candidates.found
    }

    /// Gives the `left` layers to one more device after another; those before take `chain` together.
    fn extend(&mut self, left: u32, chain: u64) {
        if left == 0 {
            return self.push_variants();
        }
        if self.nodes.len() == self.problem.most_devices() {
            return;
        }
        for node in 0..self.layer.len() {
            let twin_left = self.twins[node].iter().any(|twin| !self.nodes.contains(twin));
            if self.nodes.contains(&node) || twin_left {
                continue;
            }
            for count in 1..=left {
                let with = chain + u64::from(count) * self.layer[node];
                if with + u64::from(left - count) * self.fastest >= self.limit {
                    break;
                }
                if self.floors.reading_anywhere(node, count).is_none_or(|reading| reading >= self.limit) {
                    continue;
                }
                self.nodes.push(node);
                self.layers.push(count);
                self.extend(left - count, with);
                self.nodes.pop();
                self.layers.pop();
            }
        }
    }

    fn push_variants(&mut self) {
        let devices = self.nodes.len();
        if devices < self.problem.least_devices() {
            return;
        }
        // Segments that leave some device without layers still change who comes when.
        let most = if devices == 1 { 1 } else { self.problem.card.layers };
        let asked = self.problem.goal.segments.filter(|_| devices > 1);
        for head in 0..devices {
            let reading = self.floors.reading(&self.nodes, &self.layers, head);
            let Some(reading) = reading.filter(|&reading| reading < self.limit) else { continue };
            for segments in asked.map_or(1..=most, |asked| asked..=asked) {
                for rows in &self.floors.rows {
                    let time = self.floors.time(rows, &self.nodes, &self.layers, head, segments);
                    if time >= self.limit {
                        continue;
                    }
                    let mut candidate = Candidate {
                        bound: time.max(reading),
                        devices: devices as u8,
                        nodes: [0; MOST_NODES],
                        layers: [0; MOST_NODES],
                        segments: segments as u16,
                        head: head as u8,
                        micro_batches: rows.micro_batches as u16,
                    };
                    for at in 0..devices {
                        (candidate.nodes[at], candidate.layers[at]) = (self.nodes[at] as u8, self.layers[at] as u8);
                    }
                    self.found.push(candidate);
                }
            }
        }
    }
}

/// The best of everything; `best` is where to begin.
pub(crate) fn improve(problem: &Problem<'_>, best: Option<Settled>, work: &mut Work) -> Option<Settled> {
    let mut candidates = Candidates::below(problem, best.as_ref().map_or(u64::MAX, |best| best.time));
    candidates.sort_by_key(|candidate| candidate.bound);
    let mut best = best;
    for candidate in candidates {
        let limit = best.as_ref().map_or(u64::MAX, |best| best.time);
        if candidate.bound >= limit || work.spent() {
            break;
        }
        let layout = candidate.layout();
        debug_assert!(problem.allows(&layout));
        if problem.lower_bound(&layout) < limit
            && let Some(all) = promising(problem, &layout, limit, work)
        {
            descend(problem, layout, &all, 0, &mut best, work);
        }
    }
    best
}

/// The choices of each device that beat `limit` as long as no other device streams; `None` where a device has none.
pub(crate) fn promising(
    problem: &Problem<'_>,
    layout: &Layout,
    limit: u64,
    work: &mut Work,
) -> Option<Vec<Vec<Choice>>> {
    let mut all: Vec<Vec<Choice>> = Vec::with_capacity(layout.shares.len());
    for (at, stretches) in layout.stretches(problem.card.layers).iter().enumerate() {
        let found = choices(problem, layout, at, stretches, Effort::Every);
        if found.is_empty() {
            return None;
        }
        all.push(found);
    }
    let streaming = all.iter().filter(|choices| !choices[0].streamed.is_empty()).count();
    if streaming < 2 {
        return Some(all);
    }
    let mut tried = layout.clone();
    for (at, choices) in all.iter_mut().enumerate() {
        choices.retain(|choice| {
            apply(&mut tried.shares[at], choice);
            choice.streamed.is_empty() || work.beats(problem, &tried, limit)
        });
        if choices.is_empty() {
            return None;
        }
        apply(&mut tried.shares[at], &Choice::default());
    }
    Some(all)
}

/// Chooses for the device at `position` and all after it. Streaming more only delays, so what is chosen so far bounds the rest.
fn descend(
    problem: &Problem<'_>,
    layout: Layout,
    all: &[Vec<Choice>],
    position: usize,
    best: &mut Option<Settled>,
    work: &mut Work,
) {
    let limit = |best: &Option<Settled>| best.as_ref().map_or(u64::MAX, |best| best.time);
    if position == all.len() {
        if work.beats(problem, &layout, limit(best))
            && let Some((_, period)) = work.evaluate(problem, &layout)
        {
            *best = Some(Settled { time: period.nanos(), layout });
        }
        return;
    }
    for choice in &all[position] {
        if work.spent() {
            return;
        }
        let mut tried = layout.clone();
        apply(&mut tried.shares[position], choice);
        let rest = all[position + 1..].iter().any(|choices| !choices[0].streamed.is_empty());
        let earlier = layout.shares.iter().any(|share| !share.streamed.is_empty());
        // The last choice is evaluated below, and the first was when it was listed.
        let simulate = rest && earlier && !choice.streamed.is_empty();
        if problem.lower_bound(&tried) < limit(best) && (!simulate || work.beats(problem, &tried, limit(best))) {
            descend(problem, tried, all, position + 1, best, work);
        }
    }
}
