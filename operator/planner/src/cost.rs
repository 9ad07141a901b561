//! What every step costs on every node, in nanoseconds: tables that the search looks up and never recomputes.

use std::collections::BTreeMap;

use lime_plan::{Block, Fleet, Goal, LayerIndex, Link, ModelCard, NodeProfile};

/// Longest time that one step can take (about five hours); keeps sums of many steps within 64 bits.
const LONGEST: u64 = 1 << 44;

/// `amount / per_second` in nanoseconds, rounded up.
pub(crate) fn nanos(amount: u64, per_second: u64) -> u64 {
    if let Some(scaled) = amount.checked_mul(1_000_000_000) {
        return scaled.div_ceil(per_second.max(1)).min(LONGEST);
    }
    wide_nanos(amount.into(), per_second)
}

/// As [`nanos`], for products that may leave 64 bits.
fn wide_nanos(amount: u128, per_second: u64) -> u64 {
    let exact = amount.saturating_mul(1_000_000_000).div_ceil(u128::from(per_second.max(1)));
    u64::try_from(exact).unwrap_or(LONGEST).min(LONGEST)
}

/// A block as an index in the order of computation: 0 the embedding, then attention and MLP of each layer, then the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Unit(pub(crate) u32);

impl Unit {
    pub(crate) const EMBEDDING: Self = Self(0);

    pub(crate) const fn attention(layer: u32) -> Self {
        Self(1 + 2 * layer)
    }

    pub(crate) const fn mlp(layer: u32) -> Self {
        Self(2 + 2 * layer)
    }

    pub(crate) const fn head(layers: u32) -> Self {
        Self(1 + 2 * layers)
    }

    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    pub(crate) const fn is_attention(self, layers: u32) -> bool {
        self.0 % 2 == 1 && self.0 < 1 + 2 * layers
    }

    pub(crate) const fn of(block: Block, layers: u32) -> Self {
        match block {
            Block::Embedding => Self::EMBEDDING,
            Block::Attention(layer) => Self::attention(layer.0),
            Block::Mlp(layer) => Self::mlp(layer.0),
            Block::Head => Self::head(layers),
        }
    }

    pub(crate) const fn block(self, layers: u32) -> Block {
        if self.0 == 0 {
            Block::Embedding
        } else if self.0 > 2 * layers {
            Block::Head
        } else if self.0 % 2 == 1 {
            Block::Attention(LayerIndex((self.0 - 1) / 2))
        } else {
            Block::Mlp(LayerIndex((self.0 - 2) / 2))
        }
    }
}

/// Times of one pass with a given number of rows: `compute[node][unit]`.
#[derive(Clone, Debug)]
pub(crate) struct RowCosts {
    pub(crate) compute: Vec<Vec<u64>>,
    /// Time of all units before one, on each node.
    before: Vec<Vec<u64>>,
    /// Mean time of a layer on each node.
    pub(crate) layer: Vec<u64>,
    /// Time that a node's link is busy with the activation on its way to another: `send[from][to]`.
    pub(crate) send: Vec<Vec<u64>>,
    /// Bytes of the activation that hops.
    pub(crate) activation: u64,
}

impl RowCosts {
    /// Time that `node` needs for the units from index `from` to before `to`.
    pub(crate) fn stretch(&self, node: usize, from: u32, to: u32) -> u64 {
        let before = &self.before[node];
        before[to as usize] - before[from as usize]
    }
}

/// Everything that the search asks about costs.
#[derive(Clone, Debug)]
pub(crate) struct Costs {
    pub(crate) layers: u32,
    /// Bytes of each unit, as held alone.
    pub(crate) bytes: Vec<u64>,
    /// Bytes of the head beside the embedding.
    pub(crate) head_beside_embedding: u64,
    /// `load[node][unit]`; meaningless where the node has no disk.
    pub(crate) load: Vec<Vec<u64>>,
    rows: BTreeMap<u32, RowCosts>,
}

impl Costs {
    /// Tables for passes of each of these row counts, of which `head_rows` at most need logits.
    pub(crate) fn new(
        card: &ModelCard,
        fleet: &Fleet,
        goal: &Goal,
        context: u32,
        rows: impl IntoIterator<Item = u32>,
        head_rows: u32,
    ) -> Self {
        let units = 2 * card.layers + 2;
        let bytes_of = |unit: u32| card.block_bytes(Unit(unit).block(card.layers)).0;
        let bytes: Vec<u64> = (0..units).map(bytes_of).collect();
        let head_beside_embedding = if card.tied { card.blocks.head_beside_embedding.0 } else { card.blocks.head.0 };
        let load_on = |node: &NodeProfile| {
            let disk = node.disk_bandwidth.unwrap_or(1);
            bytes.iter().map(|&bytes| nanos(bytes, disk)).collect()
        };
        let load = fleet.nodes().iter().map(load_on).collect();
        let table = |rows: u32| {
            let on = |node: &NodeProfile| {
                // Layers are mostly alike: the last one of each kind, and what it takes.
                let mut known: [Option<([u64; 2], u64)>; 2] = [None; 2];
                let of = |unit: u32| {
                    let block = Unit(unit).block(card.layers);
                    let kind = match block {
                        Block::Head => return compute(card, goal, node, block, rows.min(head_rows), context),
                        Block::Embedding => return compute(card, goal, node, block, rows, context),
                        Block::Attention(_) => 0,
                        Block::Mlp(_) => 1,
                    };
                    let asks = [card.block_bytes(block).0, card.flops_per_row(block)];
                    if let Some((_, spent)) = known[kind].filter(|(before, _)| *before == asks) {
                        return spent;
                    }
                    let spent = compute(card, goal, node, block, rows, context);
                    known[kind] = Some((asks, spent));
                    spent
                };
                (0..units).map(of).collect()
            };
            let activation = u64::from(rows) * u64::from(card.hidden) * goal.residual.size();
            let compute: Vec<Vec<u64>> = fleet.nodes().iter().map(on).collect();
            let inner = 1..units as usize - 1;
            let mean = |units: &Vec<u64>| units[inner.clone()].iter().sum::<u64>() / u64::from(card.layers);
            let nodes = 0..fleet.nodes().len();
            let sends = |from: usize| nodes.clone().map(|to| send(fleet.link(from, to), activation)).collect();
            let sums = |units: &Vec<u64>| {
                let sum = |spent: &mut u64, unit: &u64| Some(std::mem::replace(spent, *spent + unit));
                let mut before: Vec<u64> = units.iter().scan(0, sum).collect();
                before.push(units.iter().sum());
                before
            };
            let costs = RowCosts {
                before: compute.iter().map(sums).collect(),
                layer: compute.iter().map(mean).collect(),
                send: nodes.clone().map(sends).collect(),
                compute,
                activation,
            };
            (rows, costs)
        };
        let rows = rows.into_iter().map(table).collect();
        Self { layers: card.layers, bytes, head_beside_embedding, load, rows }
    }

    /// The table for a row count that [`Self::new`] was given.
    pub(crate) fn rows(&self, rows: u32) -> &RowCosts {
        // The search only asks for counts that it announced.
        self.rows.get(&rows).unwrap_or_else(|| unreachable!("no cost table for {rows} rows"))
    }

    /// Bytes that `unit` takes beside whatever else is there.
    pub(crate) fn bytes_held(&self, unit: Unit, beside_embedding: bool) -> u64 {
        let head = Unit::head(self.layers) == unit;
        if head && beside_embedding { self.head_beside_embedding } else { self.bytes[unit.index()] }
    }
}

/// Time that `node` needs for `block` when a pass carries `rows` rows over `context` earlier tokens each.
fn compute(card: &ModelCard, goal: &Goal, node: &NodeProfile, block: Block, rows: u32, context: u32) -> u64 {
    // The largest model with the longest context leaves 64 bits.
    let mut bytes = u128::from(card.bytes_read(block, rows).0);
    let rows = u128::from(rows);
    let mut flops = u128::from(card.flops_per_row(block)) * rows;
    match block {
        Block::Embedding => bytes = rows * u128::from(card.format.row_bytes(card.hidden.into())),
        Block::Attention(layer) => {
            let past = rows * u128::from(card.seen(layer, context));
            bytes += past * u128::from(card.kv_bytes_per_token_per_layer(goal.kv).0);
            flops += past * 4 * u128::from(card.heads) * u128::from(card.head_dim);
        }
        Block::Mlp(_) | Block::Head => {}
    }
    let speed = node.speed(card.kept_format());
    let spent = wide_nanos(bytes, speed.memory_bandwidth).max(wide_nanos(flops, speed.throughput));
    (spent + node.block_latency.0).min(LONGEST)
}

/// Time that the sender's link is busy with `bytes`.
pub(crate) fn send(link: Link, bytes: u64) -> u64 {
    nanos(bytes, link.bandwidth)
}

/// Rows of each micro-batch when `sequences` are split into `micro_batches` groups: they differ by one at most.
pub(crate) fn micro_batch_rows(sequences: u32, micro_batches: u32) -> impl Iterator<Item = u32> {
    let micro_batches = micro_batches.clamp(1, sequences.max(1));
    let (each, more) = (sequences / micro_batches, sequences % micro_batches);
    (0..micro_batches).map(move |index| each + u32::from(index < more))
}
