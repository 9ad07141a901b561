//! A candidate of the search: everything that it may choose, in a compact form.

use crate::cost::Unit;

/// What a ring is cut into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Grain {
    /// Whole layers.
    Layer,
    /// Attention and MLP blocks, so that those of one layer may be on two devices.
    Block,
}

impl Grain {
    /// Blocks of one piece.
    pub(crate) const fn blocks(self) -> u32 {
        match self {
            Self::Layer => 2,
            Self::Block => 1,
        }
    }
}

/// One device's part of a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// Index into the fleet's nodes.
    pub(crate) node: usize,
    /// Attention and MLP blocks over all segments.
    pub(crate) blocks: u32,
    /// Units read from disk in each pass, ascending in the order of computation.
    pub(crate) streamed: Vec<Unit>,
    /// Bytes of the prefetch buffer.
    pub(crate) buffer: u64,
}

impl Share {
    /// The same with nothing chosen about what streams.
    pub(crate) const fn bare(&self) -> Self {
        Self { node: self.node, blocks: self.blocks, streamed: Vec::new(), buffer: 0 }
    }
}

/// A candidate: who takes part in which order, how the model is cut, what streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Devices in ring order.
    pub(crate) shares: Vec<Share>,
    /// Times round the ring.
    pub(crate) segments: u32,
    /// Where it may be cut; shares are whole pieces of it.
    pub(crate) grain: Grain,
    /// Position of the head in the ring.
    pub(crate) head: usize,
    /// Groups into which the sequences of a pass are split.
    pub(crate) micro_batches: u32,
}

/// What a device computes in one visit: the units from index `from` to before `to`, never none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) from: u32,
    pub(crate) to: u32,
    /// The number of segments for the head.
    pub(crate) segment: u32,
}

impl Stretch {
    pub(crate) fn units(self) -> impl Iterator<Item = Unit> {
        (self.from..self.to).map(Unit)
    }
}

/// How many of a device's `blocks` fall into segment `segment` of `segments`: as even as whole pieces can be.
pub(crate) const fn blocks_in(blocks: u32, segment: u32, segments: u32, grain: Grain) -> u32 {
    let each = grain.blocks();
    let pieces = blocks / each;
    ((segment + 1) * pieces / segments - segment * pieces / segments) * each
}

/// The units of a visit as a range of indices; the first of a pass begins with the embedding.
pub(crate) const fn range(segment: u32, at: usize, start: u32, end: u32) -> (u32, u32) {
    (if segment == 0 && at == 0 { Unit::EMBEDDING.0 } else { start }, end)
}

/// How many attention blocks lie from index `start` to before `end`.
pub(crate) const fn attentions(start: u32, end: u32) -> u32 {
    end / 2 - start / 2
}

impl Layout {
    /// Visits `(segment, position, first unit, one past the last)` in the order of computation; embedding and head left out.
    pub(crate) fn visits(&self) -> impl Iterator<Item = (u32, usize, u32, u32)> {
        let mut next = Unit::attention(0).0;
        let places = (0..self.segments).flat_map(|segment| (0..self.shares.len()).map(move |at| (segment, at)));
        places.map(move |(segment, at)| {
            let start = next;
            next += blocks_in(self.shares[at].blocks, segment, self.segments, self.grain);
            (segment, at, start, next)
        })
    }

    /// Whether some layer's attention and MLP are on two devices, or in two visits of one.
    pub(crate) fn is_cut(&self) -> bool {
        self.grain == Grain::Block && self.visits().any(|(_, _, start, end)| (end - start) % 2 == 1)
    }

    /// For each position how many attention blocks its device has: of those it keeps the KV cache.
    pub(crate) fn attentions(&self) -> Vec<u32> {
        if self.grain == Grain::Layer {
            return self.shares.iter().map(|share| share.blocks / 2).collect();
        }
        let mut counts = vec![0; self.shares.len()];
        for (_, at, start, end) in self.visits() {
            counts[at] += attentions(start, end);
        }
        counts
    }

    /// For each position what its device computes in a pass, in order; visits without work are left out.
    pub(crate) fn stretches(&self, model_layers: u32) -> Vec<Vec<Stretch>> {
        let mut all = vec![Vec::with_capacity(self.segments as usize + 1); self.shares.len()];
        for (segment, at, start, end) in self.visits() {
            let (from, to) = range(segment, at, start, end);
            if from < to {
                all[at].push(Stretch { from, to, segment });
            }
        }
        let head = Unit::head(model_layers).0;
        all[self.head].push(Stretch { from: head, to: head + 1, segment: self.segments });
        all
    }

    /// The units of the device at `position`, in the order in which a pass meets them.
    pub(crate) fn units_of(&self, position: usize, model_layers: u32) -> Vec<Unit> {
        let mut units = Vec::new();
        if position == 0 {
            units.push(Unit::EMBEDDING);
        }
        for (_, at, start, end) in self.visits() {
            if at == position {
                units.extend((start..end).map(Unit));
            }
        }
        if position == self.head {
            units.push(Unit::head(model_layers));
        }
        units
    }
}
