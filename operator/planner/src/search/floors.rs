//! What no candidate of a small fleet can beat, from tables: cheap enough to be asked for every one of them.

use crate::cost::{Costs, Unit, micro_batch_rows};
use crate::layout::Grain;
use lime_plan::Offload;

use super::problem::{Problem, hops, micro_batch_choices, signed};

/// Least times with one number of micro-batches.
pub(crate) struct Rows {
    pub(crate) micro_batches: u32,
    /// By node: an attention and an MLP block, embedding and head for the largest micro-batch ...
    pub(crate) block: Vec<[u64; 2]>,
    ends: Vec<[u64; 2]>,
    /// ... and for all of them together.
    busy_block: Vec<[u64; 2]>,
    busy_ends: Vec<[u64; 2]>,
    /// From node to node: one hop, and all sends of a round.
    hop: Vec<Vec<u64>>,
    sends: Vec<Vec<u64>>,
}

impl Rows {
    fn new(problem: &Problem<'_>, costs: &Costs, sequences: u32, micro_batches: u32) -> Self {
        let layers = problem.card.layers;
        let rows: Vec<u32> = micro_batch_rows(sequences, micro_batches).collect();
        let nodes = 0..problem.fleet.nodes().len();
        let most = costs.rows(rows[0]);
        let spent = |rows: u32, node: usize, unit: Unit| costs.rows(rows).compute[node][unit.index()];
        let block_of = |rows: u32, node: usize| {
            let least =
                |unit: fn(u32) -> Unit| (0..layers).map(|layer| spent(rows, node, unit(layer))).min().unwrap_or(0);
            [least(Unit::attention), least(Unit::mlp)]
        };
        let ends_of =
            |rows: u32, node: usize| [Unit::EMBEDDING, Unit::head(layers)].map(|unit| spent(rows, node, unit));
        let all = |of: &dyn Fn(u32) -> u64| rows.iter().map(|&rows| of(rows)).sum::<u64>();
        let busy_ends = |node: usize| [0, 1].map(|end| all(&|rows| ends_of(rows, node)[end]));
        let busy_block = |node: usize| [0, 1].map(|kind| all(&|rows| block_of(rows, node)[kind]));
        let matrix = |of: &dyn Fn(usize, usize) -> u64| -> Vec<Vec<u64>> {
            nodes.clone().map(|from| nodes.clone().map(|to| of(from, to)).collect()).collect()
        };
        Self {
            micro_batches,
            block: nodes.clone().map(|node| block_of(rows[0], node)).collect(),
            ends: nodes.clone().map(|node| ends_of(rows[0], node)).collect(),
            busy_block: nodes.clone().map(busy_block).collect(),
            busy_ends: nodes.clone().map(busy_ends).collect(),
            hop: matrix(&|from, to| most.send[from][to] + problem.fleet.link(from, to).latency.0),
            sends: matrix(&|from, to| all(&|rows| costs.rows(rows).send[from][to])),
        }
    }
}

/// Tables of least times.
pub(crate) struct Floors<'p, 'a> {
    problem: &'p Problem<'a>,
    pub(crate) rows: Vec<Rows>,
    /// The same of a chunk of a prompt.
    pub(crate) prefill: Rows,
    /// What a disk reads per pass at the least, by node, attention blocks and MLP blocks, then by whether embedding and head are
    /// there; `None` where they do not fit.
    reading: Vec<Vec<Vec<[Option<u64>; 4]>>>,
    /// The same for each number of blocks, wherever in the ring they are: of whole layers, and of any.
    anywhere: [Vec<Vec<Option<u64>>>; 2],
}

impl<'p, 'a> Floors<'p, 'a> {
    pub(crate) fn new(problem: &'p Problem<'a>) -> Self {
        let nodes = problem.fleet.nodes().len();
        let decode = |count: u32| Rows::new(problem, &problem.costs, problem.sequences, count);
        let rows = micro_batch_choices(problem.sequences, nodes).map(decode).collect();
        let request = &problem.request;
        let prefill = Rows::new(problem, request.costs(), request.rows(), 1);
        let layers = problem.card.layers;
        let ends = |node, counts| [0, 1, 2, 3].map(|ends| least_reading(problem, node, counts, ends & 1 > 0, ends > 1));
        let with = |node, attention| (0..=layers).map(|mlp| ends(node, [attention, mlp])).collect::<Vec<_>>();
        let on = |node| (0..=layers).map(|attention| with(node, attention)).collect::<Vec<_>>();
        let reading: Vec<Vec<Vec<[Option<u64>; 4]>>> = (0..nodes).map(on).collect();
        let anywhere = [Grain::Layer, Grain::Block].map(|grain| {
            let of = |node: usize, blocks: u32| {
                let counts = (0..=blocks.min(layers)).map(|attention| [attention, blocks - attention]);
                let may = |[attention, mlp]: &[u32; 2]| *mlp <= layers && (grain == Grain::Block || attention == mlp);
                let ends =
                    counts.filter(may).flat_map(|[attention, mlp]| reading[node][attention as usize][mlp as usize]);
                ends.flatten().min()
            };
            (0..nodes).map(|node| (0..=2 * layers).map(|blocks| of(node, blocks)).collect()).collect()
        });
        Self { problem, rows, prefill, reading, anywhere }
    }

    /// What the disk of `node` reads per pass at the least with so many blocks, wherever it is in the ring.
    pub(crate) fn reading_anywhere(&self, node: usize, blocks: u32, grain: Grain) -> Option<u64> {
        self.anywhere[usize::from(grain == Grain::Block)][node][blocks as usize]
    }

    /// The longest that any disk must read; `None` where some device cannot hold what it is given.
    pub(crate) fn reading(&self, nodes: &[usize], counts: &[[u32; 2]], head: usize) -> Option<u64> {
        let of = |at: usize| {
            let ends = usize::from(at == 0) + 2 * usize::from(at == head);
            let [attention, mlp] = counts[at];
            self.reading[nodes[at]][attention as usize][mlp as usize][ends]
        };
        (0..nodes.len()).try_fold(0, |longest, at| Some(of(at)?.max(longest)))
    }

    /// The way of a token or the busiest resource but the disks, whichever takes longer.
    pub(crate) fn time(&self, rows: &Rows, nodes: &[usize], counts: &[[u32; 2]], head: usize, segments: u32) -> u64 {
        let (chain, busiest) = self.way(rows, nodes, counts, head, segments);
        let back = if nodes.len() > 1 { self.problem.fleet.link(nodes[head], nodes[0]).latency.0 } else { 0 };
        (chain + back).max(busiest)
    }

    /// What no schedule of the prompts of typical requests can beat: of all of them, and of one.
    pub(crate) fn prompts(&self, nodes: &[usize], counts: &[[u32; 2]], head: usize, segments: u32) -> (u64, u64) {
        let (chain, busiest) = self.way(&self.prefill, nodes, counts, head, segments);
        self.problem.request.floor(chain, busiest)
    }

    /// The way of a token to the head, and how long the busiest resource but the disks is busy.
    fn way(&self, rows: &Rows, nodes: &[usize], counts: &[[u32; 2]], head: usize, segments: u32) -> (u64, u64) {
        let devices = nodes.len();
        let (mut chain, mut busiest) = (rows.ends[nodes[0]][0] + rows.ends[nodes[head]][1], 0);
        for at in 0..devices {
            let (node, [attention, mlp]) = (nodes[at], counts[at].map(u64::from));
            let spent = |block: &[u64; 2]| attention * block[0] + mlp * block[1];
            chain += spent(&rows.block[node]);
            let embedding = if at == 0 { rows.busy_ends[node][0] } else { 0 };
            let logits = if at == head { rows.busy_ends[node][1] } else { 0 };
            busiest = busiest.max(spent(&rows.busy_block[node]) + embedding + logits);
            if devices > 1 {
                let next = nodes[(at + 1) % devices];
                let hops = hops(devices, head, segments, at);
                chain += hops * rows.hop[node][next];
                busiest = busiest.max(hops * rows.sends[node][next]);
            }
        }
        (chain, busiest)
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
fn least_reading(
    problem: &Problem<'_>,
    node: usize,
    [attentions, mlps]: [u32; 2],
    first: bool,
    head: bool,
) -> Option<u64> {
    let of = |unit: fn(u32) -> Unit| (0..problem.card.layers).map(move |layer| unit(layer).index());
    let bytes = |unit| of(unit).map(|index| problem.costs.bytes[index]);
    let least = [Unit::attention, Unit::mlp].map(|unit| bytes(unit).min().unwrap_or(0));
    let most = [Unit::attention, Unit::mlp].map(|unit| bytes(unit).max().unwrap_or(0));
    let load = [Unit::attention, Unit::mlp]
        .map(|unit| of(unit).map(|index| problem.costs.load[node][index]).min().unwrap_or(0));
    let logits = Unit::head(problem.card.layers).index();
    let disk = problem.fleet.nodes()[node].disk_bandwidth.is_some();
    let held = u64::from(attentions) * least[0]
        + u64::from(mlps) * least[1]
        + if head { problem.head_bytes(first) } else { 0 };
    let mut deficit = signed(held) - problem.room(node, attentions, first, head);
    if disk && problem.goal.offload == Offload::Always {
        deficit = deficit.max(signed(least[0].min(least[1])));
    }
    if deficit <= 0 {
        return Some(0);
    }
    let heads = u64::from(head && problem.head_streams(first));
    let counts = (0..=heads).flat_map(|head| {
        let (attentions, mlps) = (u64::from(attentions), u64::from(mlps));
        (0..=attentions).flat_map(move |attention| (0..=mlps).map(move |mlp| [attention, mlp, head]))
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
