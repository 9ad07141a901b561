//! The inputs of a search with everything precomputed that does not depend on the candidate.

use std::rc::Rc;

use super::request::Request;
use crate::cost::{Costs, RowCosts, Unit, micro_batch_rows};
use crate::layout::{Layout, Share, Stretch, range};
use crate::period::{Period, Scratch, is_below, period};
use crate::schedule::{Feedback, Schedule};
use lime_plan::{
    Arithmetic, Block, Bytes, Fleet, Goal, KV_PAGE_TOKENS, LayerIndex, MemoryModel, ModelCard, PlacedBlock, Residency,
};

/// What the search works on.
pub(crate) struct Problem<'a> {
    pub(crate) card: &'a ModelCard,
    pub(crate) fleet: &'a Fleet,
    pub(crate) goal: &'a Goal,
    pub(crate) costs: Rc<Costs>,
    /// What typical requests ask, and what their prompts cost.
    pub(crate) request: Rc<Request>,
    pub(crate) sequences: u32,
    /// Mean bytes of a layer's attention and MLP.
    pub(crate) attention_bytes: u64,
    pub(crate) mlp_bytes: u64,
    activations: [u64; 2],
    /// KV cache of a layer with every request at its longest, and with those that the goal expects.
    kv_per_layer: u64,
    kv_expected: u64,
    embedding: u64,
    /// By node, see [`Self::most_layers`].
    most_layers: Rc<Vec<[u32; 4]>>,
}

impl<'a> Problem<'a> {
    pub(crate) fn new(card: &'a ModelCard, fleet: &'a Fleet, goal: &'a Goal) -> Self {
        Self::at_context(card, fleet, goal, goal.context())
    }

    /// The same with times for another length of context.
    pub(crate) fn at_context(card: &'a ModelCard, fleet: &'a Fleet, goal: &'a Goal, context: u32) -> Self {
        let sequences = goal.sequences();
        let rows =
            micro_batch_choices(sequences, fleet.nodes().len()).flat_map(|count| micro_batch_rows(sequences, count));
        let costs = Costs::new(card, fleet, goal, context, rows, u32::MAX);
        let memory = MemoryModel { card, serving: goal.serving, kv: goal.kv, residual: goal.residual };
        let place = |block| PlacedBlock { block, residency: Residency::Pinned };
        let layer = [place(Block::Attention(LayerIndex(0))), place(Block::Mlp(LayerIndex(0)))];
        let with_head = [layer[0], layer[1], place(Block::Head)];
        let mean = |unit: fn(u32) -> Unit| {
            let sum: u64 = (0..card.layers).map(|layer| costs.bytes[unit(layer).index()]).sum();
            sum / u64::from(card.layers)
        };
        let mut problem = Self {
            request: Rc::new(Request::new(card, fleet, goal)),
            sequences,
            attention_bytes: mean(Unit::attention),
            mlp_bytes: mean(Unit::mlp),
            activations: [memory.activations(&layer).total().0, memory.activations(&with_head).total().0],
            kv_per_layer: memory.kv(1).0,
            kv_expected: expected_kv(&memory, goal).0,
            embedding: card.blocks.embedding.0,
            card,
            fleet,
            goal,
            costs: Rc::new(costs),
            most_layers: Rc::default(),
        };
        let ends = [(false, false), (true, false), (false, true), (true, true)];
        let most = |node| ends.map(|(first, head)| problem.count_most_layers(node, first, head));
        problem.most_layers = Rc::new((0..fleet.nodes().len()).map(most).collect());
        problem
    }

    /// Most layers that a node can have when everything that may stream does and every request is at its longest.
    pub(crate) fn most_layers(&self, node: usize, first: bool, head: bool) -> u32 {
        self.most_layers[node][usize::from(first) + 2 * usize::from(head)]
    }

    /// The same with `goal`, which asks for another ring and nothing else.
    pub(crate) fn asked<'b>(&'b self, goal: &'b Goal) -> Problem<'b> {
        Problem {
            goal,
            costs: Rc::clone(&self.costs),
            request: Rc::clone(&self.request),
            most_layers: Rc::clone(&self.most_layers),
            ..*self
        }
    }

    /// The same while every request is at its longest: times are for that, and there is room for it from the beginning.
    pub(crate) fn at_longest(&self) -> Problem<'a> {
        let longest = Self::at_context(self.card, self.fleet, self.goal, self.goal.serving.max_context_tokens);
        Problem { kv_expected: longest.kv_per_layer, ..longest }
    }

    /// Bytes for pinned blocks, head and buffers on a node with the attention of `layers` layers while requests are as the goal
    /// expects them; negative where not even the rest fits. A node that cannot make room later keeps it for the longest requests.
    pub(crate) fn room(&self, node: usize, layers: u32, first: bool, head: bool) -> i64 {
        let makes_room = self.fleet.nodes()[node].disk_bandwidth.is_some() && self.goal.arithmetic == Arithmetic::Exact;
        self.room_beside(if makes_room { self.kv_expected } else { self.kv_per_layer }, node, layers, first, head)
    }

    /// The same while every request is at its longest.
    pub(crate) fn room_at_worst(&self, node: usize, layers: u32, first: bool, head: bool) -> i64 {
        self.room_beside(self.kv_per_layer, node, layers, first, head)
    }

    /// KV cache of `layers` layers while requests are as the goal expects them.
    pub(crate) const fn expected_kv(&self, layers: u32) -> Bytes {
        Bytes(self.kv_expected * layers as u64)
    }

    fn room_beside(&self, kv_per_layer: u64, node: usize, layers: u32, first: bool, head: bool) -> i64 {
        let profile = &self.fleet.nodes()[node];
        let fixed = profile.overhead.0
            + self.activations[usize::from(head)]
            + kv_per_layer * u64::from(layers)
            + if first { self.embedding } else { 0 };
        signed(profile.memory.0) - signed(fixed)
    }

    /// Bytes that the head adds to a device.
    pub(crate) fn head_bytes(&self, first: bool) -> u64 {
        self.costs.bytes_held(Unit::head(self.card.layers), first)
    }

    /// Whether the head may stream on a device: not where it shares the embedding's matrix.
    pub(crate) fn head_streams(&self, first: bool) -> bool {
        !(first && self.card.tied)
    }

    /// Whether a candidate keeps to the ring that was asked for. A single device goes round nothing.
    pub(crate) fn allows(&self, layout: &Layout) -> bool {
        let devices = layout.shares.len();
        let round = devices == 1 || self.goal.segments.is_none_or(|segments| segments == layout.segments);
        round && (self.least_devices()..=self.most_devices()).contains(&devices)
    }

    /// Fewest devices of a candidate.
    pub(crate) fn least_devices(&self) -> usize {
        (self.goal.least_devices as usize).max(1)
    }

    /// Most devices of a candidate.
    pub(crate) fn most_devices(&self) -> usize {
        let most = self.goal.most_devices.map_or(usize::MAX, |most| most as usize);
        most.min(self.fleet.nodes().len()).min(self.card.layers as usize)
    }

    /// The steady state of a candidate, or `None` where it cannot make progress.
    pub(crate) fn evaluate(&self, layout: &Layout, scratch: &mut Scratch) -> Option<(Schedule, Period)> {
        let spare = &mut scratch.spare;
        let schedule = Schedule::build(&self.costs, self.fleet, layout, self.sequences, Feedback::Token, spare)?;
        let period = period(&schedule, self.lower_bound(layout), scratch);
        Some((schedule, period))
    }

    /// The steady state of a candidate that makes progress and takes less than `limit` per pass; with its number of events.
    pub(crate) fn below(
        &self,
        layout: &Layout,
        limit: u64,
        scratch: &mut Scratch,
    ) -> (Option<(Schedule, Period)>, usize) {
        let spare = &mut scratch.spare;
        let built = Schedule::build(&self.costs, self.fleet, layout, self.sequences, Feedback::Token, spare);
        let Some(schedule) = built else { return (None, 0) };
        let events = schedule.events.len();
        if !is_below(&schedule, limit, scratch) {
            scratch.spare.take_back(schedule);
            return (None, events);
        }
        let period = period(&schedule, self.lower_bound(layout), scratch);
        (Some((schedule, period)), 2 * events)
    }

    /// Whether a candidate makes progress and takes less than `limit` per pass; with its number of events.
    pub(crate) fn beats(&self, layout: &Layout, limit: u64, scratch: &mut Scratch) -> (bool, usize) {
        let spare = &mut scratch.spare;
        match Schedule::build(&self.costs, self.fleet, layout, self.sequences, Feedback::Token, spare) {
            Some(schedule) => {
                let found = (is_below(&schedule, limit, scratch), schedule.events.len());
                scratch.spare.take_back(schedule);
                found
            }
            None => (false, 0),
        }
    }

    /// The tables of so many micro-batches, that of the largest first, each with how many of them there are.
    pub(crate) fn batches(&self, micro_batches: u32) -> Vec<(&RowCosts, u64)> {
        let mut batches: Vec<(u32, u64)> = Vec::with_capacity(2);
        for rows in micro_batch_rows(self.sequences, micro_batches) {
            match batches.last_mut() {
                Some((before, count)) if *before == rows => *count += 1,
                _ => batches.push((rows, 1)),
            }
        }
        batches.into_iter().map(|(rows, count)| (self.costs.rows(rows), count)).collect()
    }

    /// What no schedule of this layout can beat: one token's way round, the busiest device, link and disk.
    pub(crate) fn lower_bound(&self, layout: &Layout) -> u64 {
        let (chain, busiest) = self.way(layout, &self.batches(layout.micro_batches));
        let reading = |share: &Share| -> u64 {
            share.streamed.iter().map(|unit| self.costs.load[share.node][unit.index()]).sum()
        };
        let disk = layout.shares.iter().map(reading).max().unwrap_or(0);
        chain.max(busiest).max(disk)
    }

    /// What no schedule of the prompts of typical requests can beat: of all of them, and of one.
    pub(crate) fn prompts_floor(&self, layout: &Layout) -> (u64, u64) {
        let (chain, busiest) = self.way(layout, &[(self.request.costs().rows(self.request.rows()), 1)]);
        self.request.floor(chain.saturating_sub(self.way_back(layout)), busiest)
    }

    /// A measure that this layout cannot beat.
    pub(crate) fn floor(&self, layout: &Layout) -> u64 {
        let (prompts, first) = self.prompts_floor(layout);
        self.request.measure(self.lower_bound(layout), prompts, first)
    }

    /// What a pass of this layout must take less than, for its measure to be below `limit`.
    pub(crate) fn pass_below(&self, layout: &Layout, limit: u64) -> u64 {
        let (prompts, first) = self.prompts_floor(layout);
        self.request.pass_below(limit, prompts, first)
    }

    /// From the head to the first device.
    fn way_back(&self, layout: &Layout) -> u64 {
        let (head, first) = (layout.shares[layout.head].node, layout.shares[0].node);
        if layout.shares.len() > 1 { self.fleet.link(head, first).latency.0 } else { 0 }
    }

    /// The way round of the largest of `batches`, and how long the busiest device or link is busy with all of them.
    fn way(&self, layout: &Layout, batches: &[(&RowCosts, u64)]) -> (u64, u64) {
        let devices = layout.shares.len();
        let most = batches[0].0;
        let (mut chain, mut busiest) = (0, 0);
        let mut busy = vec![0_u64; devices];
        let head = Unit::head(self.card.layers).0;
        let stretches = layout.visits().map(|(segment, at, start, end)| (at, range(segment, at, start, end)));
        for (at, (from, to)) in stretches.chain([(layout.head, (head, head + 1))]) {
            let node = layout.shares[at].node;
            chain += most.stretch(node, from, to);
            busy[at] += batches.iter().map(|(table, count)| count * table.stretch(node, from, to)).sum::<u64>();
        }
        for (at, share) in layout.shares.iter().enumerate() {
            busiest = busiest.max(busy[at]);
            if devices > 1 {
                let (from, to) = (share.node, layout.shares[(at + 1) % devices].node);
                let hops = hops(devices, layout.head, layout.segments, at);
                chain += hops * (most.send[from][to] + self.fleet.link(from, to).latency.0);
                let sends = batches.iter().map(|(table, count)| count * table.send[from][to]).sum::<u64>();
                busiest = busiest.max(hops * sends);
            }
        }
        (chain + self.way_back(layout), busiest)
    }

    /// For the device at `at`: the time between its visits when nobody waits for a disk, the last until the next pass.
    /// Only visits that compute something count, the head's after all segments.
    pub(crate) fn gaps(&self, layout: &Layout) -> Vec<Vec<u64>> {
        let devices = layout.shares.len();
        let table = self.costs.rows(self.sequences.div_ceil(layout.micro_batches));
        let hop_time = |at: usize| {
            let (from, to) = (layout.shares[at].node, layout.shares[(at + 1) % devices].node);
            table.send[from][to] + self.fleet.link(from, to).latency.0
        };
        // Begin and end of every visit on the way of a token.
        let mut spans: Vec<Vec<(u64, u64)>> = vec![Vec::new(); devices];
        let mut now = 0;
        for (segment, at, start, end) in layout.visits() {
            let (from, to) = range(segment, at, start, end);
            let time = table.stretch(layout.shares[at].node, from, to);
            if time > 0 {
                spans[at].push((now, now + time));
            }
            let last = segment + 1 == layout.segments && at + 1 == devices;
            now += time + if devices > 1 && !(last && layout.head == at) { hop_time(at) } else { 0 };
        }
        if layout.head + 1 != devices {
            now += (0..layout.head).map(hop_time).sum::<u64>();
        }
        let time = table.compute[layout.shares[layout.head].node][Unit::head(self.card.layers).index()];
        spans[layout.head].push((now, now + time));
        let back = self.fleet.link(layout.shares[layout.head].node, layout.shares[0].node).latency.0;
        let period = now + time + back;
        let between = |spans: &Vec<(u64, u64)>| {
            let next = spans.iter().skip(1).map(|span| span.0).chain(spans.first().map(|span| span.0 + period));
            spans.iter().zip(next).map(|(span, next)| next - span.1).collect()
        };
        spans.iter().map(between).collect()
    }

    /// The time of a pass if only the device at `at` streamed.
    pub(crate) fn alone(
        &self,
        layout: &Layout,
        at: usize,
        stretches: &[Stretch],
        gaps: &[u64],
        scratch: &mut Scratch,
    ) -> Option<(u64, usize)> {
        let (device, spare) = ((at, stretches, gaps), &mut scratch.spare);
        let schedule = Schedule::alone(&self.costs, self.fleet, layout, self.sequences, device, spare)?;
        let found = (period(&schedule, 0, scratch).nanos(), schedule.events.len());
        scratch.spare.take_back(schedule);
        Some(found)
    }
}

/// KV cache of one layer for the sequences and the context for which the goal is optimised, in whole pages.
fn expected_kv(memory: &MemoryModel<'_>, goal: &Goal) -> Bytes {
    let pages = u64::from(goal.context().div_ceil(KV_PAGE_TOKENS).max(1)) * u64::from(goal.sequences());
    (memory.page_bytes(1) * pages).min(memory.kv(1))
}

/// Hops per pass from the device at `at` to its successor.
pub(crate) fn hops(devices: usize, head: usize, segments: u32, at: usize) -> u64 {
    let last = devices - 1;
    let segments = u64::from(segments);
    match (head == last, at == last) {
        (true, true) => segments - 1,
        (true, false) | (false, true) => segments,
        (false, false) => segments + u64::from(at < head),
    }
}

/// Bytes and times as signed numbers; all inputs are far below 2^62.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX / 4)
}

/// Numbers of micro-batches that the search considers for so many sequences on so many nodes.
pub(crate) fn micro_batch_choices(sequences: u32, nodes: usize) -> impl Iterator<Item = u32> {
    let most = sequences.min(2 * nodes as u32).max(1);
    (1..=most).filter(move |&count| count <= 6 || count == most || count.is_power_of_two() || count as usize == nodes)
}
