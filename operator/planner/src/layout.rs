//! A candidate of the search: everything that it may choose, in a compact form.

use crate::cost::Unit;

/// One device's part of a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// Index into the fleet's nodes.
    pub(crate) node: usize,
    /// Layers over all segments.
    pub(crate) layers: u32,
    /// Units read from disk in each pass, ascending in the order of computation.
    pub(crate) streamed: Vec<Unit>,
    /// Bytes of the prefetch buffer.
    pub(crate) buffer: u64,
}

impl Share {
    /// The same with nothing chosen about what streams.
    pub(crate) const fn bare(&self) -> Self {
        Self { node: self.node, layers: self.layers, streamed: Vec::new(), buffer: 0 }
    }
}

/// A candidate: who takes part in which order, how the layers are cut, what streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Devices in ring order.
    pub(crate) shares: Vec<Share>,
    /// Times round the ring.
    pub(crate) segments: u32,
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

/// How many of a device's `layers` fall into segment `segment` of `segments`: as even as whole layers can be.
pub(crate) const fn layers_in(layers: u32, segment: u32, segments: u32) -> u32 {
    (segment + 1) * layers / segments - segment * layers / segments
}

/// The units of a visit as a range of indices; the first of a pass begins with the embedding.
pub(crate) const fn range(segment: u32, at: usize, start: u32, end: u32) -> (u32, u32) {
    let from = if segment == 0 && at == 0 { Unit::EMBEDDING.0 } else { Unit::attention(start).0 };
    (from, Unit::attention(end).0)
}

impl Layout {
    /// Visits `(segment, position, first layer, one past the last)` in the order of computation.
    pub(crate) fn visits(&self) -> impl Iterator<Item = (u32, usize, u32, u32)> {
        let mut next = 0;
        let places = (0..self.segments).flat_map(|segment| (0..self.shares.len()).map(move |at| (segment, at)));
        places.map(move |(segment, at)| {
            let start = next;
            next += layers_in(self.shares[at].layers, segment, self.segments);
            (segment, at, start, next)
        })
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

    /// The units of the device at `position`, each with its segment (the number of segments for the head), in the order
    /// in which a pass meets them.
    pub(crate) fn units_of(&self, position: usize, model_layers: u32) -> Vec<(Unit, u32)> {
        let mut units = Vec::new();
        if position == 0 {
            units.push((Unit::EMBEDDING, 0));
        }
        for (segment, at, start, end) in self.visits() {
            if at == position {
                units.extend(
                    (start..end).flat_map(|layer| [(Unit::attention(layer), segment), (Unit::mlp(layer), segment)]),
                );
            }
        }
        if position == self.head {
            units.push((Unit::head(model_layers), self.segments));
        }
        units
    }
}
