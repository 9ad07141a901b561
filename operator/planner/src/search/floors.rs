//! What no candidate of a small fleet can beat, from tables: cheap enough to be asked for every one of them.

use crate::cost::{Unit, micro_batch_rows};
use lime_plan::Offload;

use super::problem::{Problem, hops, micro_batch_choices, signed};

/// Least times with one number of micro-batches.
pub(crate) struct Rows {
    pub(crate) micro_batches: u32,
    /// By node: one layer, embedding and head for the largest micro-batch ...
    pub(crate) layer: Vec<u64>,
    ends: Vec<[u64; 2]>,
    /// ... and for all of them together.
    busy_layer: Vec<u64>,
    busy_ends: Vec<[u64; 2]>,
    /// From node to node: one hop, and all sends of a round.
    hop: Vec<Vec<u64>>,
    sends: Vec<Vec<u64>>,
}

impl Rows {
    fn new(problem: &Problem<'_>, micro_batches: u32) -> Self {
        let layers = problem.card.layers;
        let rows: Vec<u32> = micro_batch_rows(problem.sequences, micro_batches).collect();
        let nodes = 0..problem.fleet.nodes().len();
        let most = problem.costs.rows(rows[0]);
        let spent = |rows: u32, node: usize, unit: Unit| problem.costs.rows(rows).compute[node][unit.index()];
        let layer_of = |rows: u32, node: usize| {
            let of = |layer| spent(rows, node, Unit::attention(layer)) + spent(rows, node, Unit::mlp(layer));
            (0..layers).map(of).min().unwrap_or(0)
        };
        let ends_of =
            |rows: u32, node: usize| [Unit::EMBEDDING, Unit::head(layers)].map(|unit| spent(rows, node, unit));
        let all = |of: &dyn Fn(u32) -> u64| rows.iter().map(|&rows| of(rows)).sum::<u64>();
        let busy_ends = |node: usize| [0, 1].map(|end| all(&|rows| ends_of(rows, node)[end]));
        let matrix = |of: &dyn Fn(usize, usize) -> u64| -> Vec<Vec<u64>> {
            nodes.clone().map(|from| nodes.clone().map(|to| of(from, to)).collect()).collect()
        };
        Self {
            micro_batches,
            layer: nodes.clone().map(|node| layer_of(rows[0], node)).collect(),
            ends: nodes.clone().map(|node| ends_of(rows[0], node)).collect(),
            busy_layer: nodes.clone().map(|node| all(&|rows| layer_of(rows, node))).collect(),
            busy_ends: nodes.clone().map(busy_ends).collect(),
            hop: matrix(&|from, to| most.send[from][to] + problem.fleet.link(from, to).latency.0),
            sends: matrix(&|from, to| all(&|rows| problem.costs.rows(rows).send[from][to])),
        }
    }
}

/// Tables of least times.
pub(crate) struct Floors<'p, 'a> {
    problem: &'p Problem<'a>,
    pub(crate) rows: Vec<Rows>,
    /// What a disk reads per pass at the least, by node and layers, then by whether embedding and head are there; `None`
    /// where the layers do not fit.
    reading: Vec<Vec<[Option<u64>; 4]>>,
}

impl<'p, 'a> Floors<'p, 'a> {
    pub(crate) fn new(problem: &'p Problem<'a>) -> Self {
        let nodes = problem.fleet.nodes().len();
        let rows = micro_batch_choices(problem.sequences, nodes).map(|count| Rows::new(problem, count)).collect();
        let ends = |node, layers| [0, 1, 2, 3].map(|ends| least_reading(problem, node, layers, ends & 1 > 0, ends > 1));
        let on = |node| (0..=problem.card.layers).map(|layers| ends(node, layers)).collect();
        Self { problem, rows, reading: (0..nodes).map(on).collect() }
    }

    /// What the disk of `node` reads per pass at the least with so many layers, wherever it is in the ring.
    pub(crate) fn reading_anywhere(&self, node: usize, layers: u32) -> Option<u64> {
        self.reading[node][layers as usize].iter().flatten().copied().min()
    }

    /// The longest that any disk must read; `None` where some device cannot hold what it is given.
    pub(crate) fn reading(&self, nodes: &[usize], layers: &[u32], head: usize) -> Option<u64> {
        let of = |at: usize| {
            let ends = usize::from(at == 0) + 2 * usize::from(at == head);
            self.reading[nodes[at]][layers[at] as usize][ends]
        };
        (0..nodes.len()).try_fold(0, |longest, at| Some(of(at)?.max(longest)))
    }

    /// The way of a token or the busiest resource but the disks, whichever takes longer.
    pub(crate) fn time(&self, rows: &Rows, nodes: &[usize], layers: &[u32], head: usize, segments: u32) -> u64 {
        let devices = nodes.len();
        let (mut chain, mut busiest) = (rows.ends[nodes[0]][0] + rows.ends[nodes[head]][1], 0);
        for at in 0..devices {
            let (node, count) = (nodes[at], u64::from(layers[at]));
            chain += count * rows.layer[node];
            let embedding = if at == 0 { rows.busy_ends[node][0] } else { 0 };
            let logits = if at == head { rows.busy_ends[node][1] } else { 0 };
            busiest = busiest.max(count * rows.busy_layer[node] + embedding + logits);
            if devices > 1 {
                let next = nodes[(at + 1) % devices];
                let hops = hops(devices, head, segments, at);
                chain += hops * rows.hop[node][next];
                busiest = busiest.max(hops * rows.sends[node][next]);
            }
        }
        if devices > 1 {
            chain += self.problem.fleet.link(nodes[head], nodes[0]).latency.0;
        }
        chain.max(busiest)
    }

    /// For each node the nodes before it that are alike in everything but name: rings that differ only in which of them is where
    /// take the same time.
    pub(crate) fn twins(&self) -> Vec<Vec<usize>> {
        let fleet = self.problem.fleet;
        let count = fleet.nodes().len();
        let alike = |a: usize, b: usize| {
            let (one, other) = (&fleet.nodes()[a], &fleet.nodes()[b]);
            let named = lime_plan::NodeProfile { name: one.name.clone(), ..other.clone() };
            let mut rest = (0..count).filter(|&node| node != a && node != b);
            *one == named
                && fleet.link(a, b) == fleet.link(b, a)
                && rest.all(|node| {
                    fleet.link(a, node) == fleet.link(b, node) && fleet.link(node, a) == fleet.link(node, b)
                })
        };
        (0..count).map(|node| (0..node).filter(|&before| alike(before, node)).collect()).collect()
    }
}

/// See [`Floors::reading`]: over all numbers of attention and MLP blocks that leave room for a buffer.
fn least_reading(problem: &Problem<'_>, node: usize, layers: u32, first: bool, head: bool) -> Option<u64> {
    let of = |unit: fn(u32) -> Unit| (0..problem.card.layers).map(move |layer| unit(layer).index());
    let bytes = |unit| of(unit).map(|index| problem.costs.bytes[index]);
    let least = [Unit::attention, Unit::mlp].map(|unit| bytes(unit).min().unwrap_or(0));
    let most = [Unit::attention, Unit::mlp].map(|unit| bytes(unit).max().unwrap_or(0));
    let load = [Unit::attention, Unit::mlp]
        .map(|unit| of(unit).map(|index| problem.costs.load[node][index]).min().unwrap_or(0));
    let logits = Unit::head(problem.card.layers).index();
    let disk = problem.fleet.nodes()[node].disk_bandwidth.is_some();
    let held = u64::from(layers) * (least[0] + least[1]) + if head { problem.head_bytes(first) } else { 0 };
    let mut deficit = signed(held) - problem.room(node, layers, first, head);
    if disk && problem.goal.offload == Offload::Always {
        deficit = deficit.max(signed(least[0].min(least[1])));
    }
    if deficit <= 0 {
        return Some(0);
    }
    let heads = u64::from(head && problem.head_streams(first));
    let counts = (0..=heads).flat_map(|head| {
        let layers = u64::from(layers);
        (0..=layers).flat_map(move |attention| (0..=layers).map(move |mlp| [attention, mlp, head]))
    });
    let suffices = |[attention, mlp, head]: &[u64; 3]| {
        let sizes = [(*attention, least[0]), (*mlp, least[1]), (*head, problem.costs.bytes[logits])];
        let largest = sizes.iter().filter(|(count, _)| *count > 0).map(|(_, size)| *size).max();
        let streamed = attention * most[0] + mlp * most[1] + head * problem.costs.bytes[logits];
        largest.is_some_and(|largest| signed(streamed) >= deficit + signed(largest))
    };
    let time = |[attention, mlp, head]: [u64; 3]| {
        attention * load[0] + mlp * load[1] + head * problem.costs.load[node][logits]
    };
    if disk { counts.filter(suffices).map(time).min() } else { None }
}
