//! Every candidate, for fleets so small that they can be counted; bounds cut most of them off.

use crate::layout::{Grain, Layout, Share, attentions, blocks_in};

use super::evaluator::{Evaluated, Evaluator};
use super::floors::Floors;
use super::problem::{Problem, micro_batch_choices};
use super::residency::{Choice, Effort, apply, choices};

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
    blocks: [u8; MOST_NODES],
    segments: u16,
    grain: Grain,
    head: u8,
    micro_batches: u16,
}

impl Candidate {
    /// The bound of its pass by other tables; `None` where it does not fit by them.
    pub(crate) fn bound_by(&self, floors: &Floors<'_, '_>) -> Option<u64> {
        let devices = usize::from(self.devices);
        let nodes: Vec<usize> = self.nodes[..devices].iter().map(|&node| usize::from(node)).collect();
        let mut counts = [[0; 2]; MOST_NODES];
        count(&self.blocks[..devices], u32::from(self.segments), self.grain, &mut counts);
        let rows = floors.rows.iter().find(|rows| rows.micro_batches == u32::from(self.micro_batches))?;
        let head = usize::from(self.head);
        let reading = floors.reading(&nodes, &counts, head)?;
        Some(floors.time(rows, &nodes, &counts, head, u32::from(self.segments)).max(reading))
    }

    pub(crate) fn layout(&self) -> Layout {
        let share = |(&node, &blocks): (&u8, &u8)| Share {
            node: usize::from(node),
            blocks: u32::from(blocks),
            streamed: Vec::new(),
            buffer: 0,
        };
        Layout {
            shares: self.nodes.iter().zip(&self.blocks).take(usize::from(self.devices)).map(share).collect(),
            segments: u32::from(self.segments),
            grain: self.grain,
            head: usize::from(self.head),
            micro_batches: u32::from(self.micro_batches),
        }
    }
}

/// How many attention and MLP blocks each device gets, and whether a layer is cut.
fn count(blocks: &[u8], segments: u32, grain: Grain, counts: &mut [[u32; 2]; MOST_NODES]) -> bool {
    if grain == Grain::Layer {
        for (count, &blocks) in counts.iter_mut().zip(blocks) {
            *count = [u32::from(blocks) / 2; 2];
        }
        return false;
    }
    counts.fill([0; 2]);
    let (mut start, mut cut) = (1, false);
    for segment in 0..segments {
        for (count, &blocks) in counts.iter_mut().zip(blocks) {
            let end = start + blocks_in(u32::from(blocks), segment, segments, grain);
            let attention = attentions(start, end);
            count[0] += attention;
            count[1] += end - start - attention;
            cut |= (end - start) % 2 == 1;
            start = end;
        }
    }
    cut
}

/// Goes through all rings and cuts, and keeps the candidates that may beat `limit`.
pub(crate) struct Candidates<'p, 'a> {
    problem: &'p Problem<'a>,
    floors: Floors<'p, 'a>,
    twins: Vec<Vec<usize>>,
    grain: Grain,
    /// The least measure that so many blocks come to, by node, and one block on the fastest of them.
    least: Vec<Vec<u64>>,
    fastest: u64,
    /// Measures must be less than this, and passes therefore less than that.
    limit: u64,
    pass_limit: u64,
    nodes: Vec<usize>,
    blocks: Vec<u8>,
    found: Vec<Candidate>,
}

impl<'p, 'a> Candidates<'p, 'a> {
    pub(crate) fn below(problem: &'p Problem<'a>, limit: u64) -> Vec<Candidate> {
        let floors = Floors::new(problem);
        let twins = floors.twins();
        let (least, nodes, blocks, found) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let grain = Grain::Layer;
        let pass_limit = problem.request.pass_below(limit, 0, 0);
        let mut candidates =
            Self { problem, floors, twins, grain, least, fastest: 0, limit, pass_limit, nodes, blocks, found };
        for grain in [Grain::Layer, Grain::Block] {
            candidates.grain = grain;
            candidates.measure();
            candidates.extend(2 * problem.card.layers, 0);
        }
        candidates.found
    }

    /// Looks up what blocks take at the least.
    fn measure(&mut self) {
        let layers = self.problem.card.layers;
        let block = |node: usize| {
            let of = |kind: usize| {
                let pass = self.floors.rows.iter().map(|rows| rows.block[node][kind]).min().unwrap_or(0);
                self.problem.request.measure(pass, self.floors.prefill.block[node][kind], 0)
            };
            [of(0), of(1)]
        };
        let blocks: Vec<[u64; 2]> = (0..self.problem.fleet.nodes().len()).map(block).collect();
        let of = |[attention, mlp]: [u64; 2], count: u32| {
            let pairs = u64::from(count / 2) * (attention + mlp);
            match self.grain {
                Grain::Layer => pairs,
                // All that a device has may be of one kind.
                Grain::Block => {
                    let (most, less) = (u64::from(count.min(layers)), u64::from(count.saturating_sub(layers)));
                    (most * attention + less * mlp).min(most * mlp + less * attention)
                }
            }
        };
        let fastest = |[attention, mlp]: &[u64; 2]| match self.grain {
            Grain::Layer => (attention + mlp) / 2,
            Grain::Block => *attention.min(mlp),
        };
        self.fastest = blocks.iter().map(fastest).min().unwrap_or(0);
        self.least = blocks.iter().map(|&times| (0..=2 * layers).map(|count| of(times, count)).collect()).collect();
    }

    /// Gives the `left` blocks to one more device after another; those before take `chain` together.
    fn extend(&mut self, left: u32, chain: u64) {
        if left == 0 {
            return self.push_variants();
        }
        if self.nodes.len() == self.problem.most_devices() {
            return;
        }
        for node in 0..self.least.len() {
            let twin_left = self.twins[node].iter().any(|twin| !self.nodes.contains(twin));
            if self.nodes.contains(&node) || twin_left {
                continue;
            }
            let piece = self.grain.blocks();
            for count in (1..=left / piece).map(|pieces| pieces * piece) {
                let with = chain + self.least[node][count as usize];
                if with + u64::from(left - count) * self.fastest >= self.limit {
                    break;
                }
                let reading = self.floors.reading_anywhere(node, count, self.grain);
                if reading.is_none_or(|reading| reading >= self.pass_limit) {
                    continue;
                }
                self.nodes.push(node);
                self.blocks.push(count as u8);
                self.extend(left - count, with);
                self.nodes.pop();
                self.blocks.pop();
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
        let mut counts = [[0; 2]; MOST_NODES];
        for segments in asked.map_or(1..=most, |asked| asked..=asked) {
            let cut = count(&self.blocks, segments, self.grain, &mut counts);
            if !cut && self.grain == Grain::Block {
                // The same as by whole layers.
                continue;
            }
            for head in 0..devices {
                let reading = self.floors.reading(&self.nodes, &counts, head);
                let Some(reading) = reading.filter(|&reading| reading < self.pass_limit) else { continue };
                for rows in &self.floors.rows {
                    let time = self.floors.time(rows, &self.nodes, &counts, head, segments).max(reading);
                    let (prompts, first) = self.floors.prompts(&self.nodes, &counts, head, segments);
                    let bound = self.problem.request.measure(time, prompts, first);
                    if bound >= self.limit {
                        continue;
                    }
                    let mut candidate = Candidate {
                        bound,
                        devices: devices as u8,
                        nodes: [0; MOST_NODES],
                        blocks: [0; MOST_NODES],
                        segments: segments as u16,
                        grain: self.grain,
                        head: head as u8,
                        micro_batches: rows.micro_batches as u16,
                    };
                    for at in 0..devices {
                        (candidate.nodes[at], candidate.blocks[at]) = (self.nodes[at] as u8, self.blocks[at]);
                    }
                    self.found.push(candidate);
                }
            }
        }
    }
}

/// The best of everything; `best` is where to begin.
pub(crate) fn improve(problem: &Problem<'_>, best: Option<Evaluated>, evaluator: &mut Evaluator) -> Option<Evaluated> {
    let mut candidates = Candidates::below(problem, best.as_ref().map_or(u64::MAX, |best| best.time));
    candidates.sort_by_key(|candidate| candidate.bound);
    let mut best = best;
    for candidate in candidates {
        let limit = best.as_ref().map_or(u64::MAX, |best| best.time);
        if candidate.bound >= limit || evaluator.spent() {
            break;
        }
        let layout = candidate.layout();
        debug_assert!(problem.allows(&layout));
        if problem.floor(&layout) < limit
            && let Some(all) = promising(problem, &layout, limit, evaluator)
        {
            descend(problem, layout, &all, 0, &mut best, evaluator);
        }
    }
    best
}

/// The choices of each device that beat `limit` as long as no other device streams; `None` where a device has none.
pub(crate) fn promising(
    problem: &Problem<'_>,
    layout: &Layout,
    limit: u64,
    evaluator: &mut Evaluator,
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
    let limit = problem.pass_below(layout, limit);
    for (at, choices) in all.iter_mut().enumerate() {
        choices.retain(|choice| {
            apply(&mut tried.shares[at], choice);
            choice.streamed.is_empty() || evaluator.beats(problem, &tried, limit)
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
    best: &mut Option<Evaluated>,
    evaluator: &mut Evaluator,
) {
    let limit = |best: &Option<Evaluated>| best.as_ref().map_or(u64::MAX, |best| best.time);
    if position == all.len() {
        if evaluator.beats(problem, &layout, problem.pass_below(&layout, limit(best)))
            && let Some(pass) = evaluator.pass(problem, &layout)
            && let Some(found) = evaluator.measure_with_pass(problem, layout, pass)
            && found.time < limit(best)
        {
            *best = Some(found);
        }
        return;
    }
    for choice in &all[position] {
        if evaluator.spent() {
            return;
        }
        let mut tried = layout.clone();
        apply(&mut tried.shares[position], choice);
        let rest = all[position + 1..].iter().any(|choices| !choices[0].streamed.is_empty());
        let earlier = layout.shares.iter().any(|share| !share.streamed.is_empty());
        // The last choice is evaluated below, and the first was when it was listed.
        let simulate = rest && earlier && !choice.streamed.is_empty();
        let below =
            |evaluator: &mut Evaluator| evaluator.beats(problem, &tried, problem.pass_below(&tried, limit(best)));
        if problem.floor(&tried) < limit(best) && (!simulate || below(evaluator)) {
            descend(problem, tried, all, position + 1, best, evaluator);
        }
    }
}
