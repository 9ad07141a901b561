//! How much of a model one node can hold at most.

use super::problem::{Problem, signed};

impl Problem<'_> {
    /// Whether a node can hold so many attention and MLP blocks when everything that may stream does and every request is at its longest.
    /// It can hold fewer of either as well.
    pub(super) fn holds(&self, node: usize, counts: [u32; 2], first: bool, head: bool) -> bool {
        let [attentions, mlps] = counts.map(i64::from);
        let sizes = [signed(self.attention_bytes), signed(self.mlp_bytes), signed(self.head_bytes(first))];
        let held = [attentions * sizes[0], mlps * sizes[1], i64::from(head) * sizes[2]];
        let all: i64 = held.iter().sum();
        let room = self.room_at_worst(node, counts[0], first, head);
        if all <= room {
            return true;
        }
        // What streams of a kind may as well all stream: the buffer is as large. It holds the largest of what passes through it.
        let may = [attentions > 0, mlps > 0, head && self.head_streams(first)];
        let streams = |kinds: u32| {
            let of = |kind: &usize| kinds >> kind & 1 == 1;
            let streamed: i64 = (0..3).filter(of).map(|kind| held[kind]).sum();
            let buffer = (0..3).filter(of).map(|kind| sizes[kind]).max().unwrap_or(0);
            (0..3).filter(of).all(|kind| may[kind]) && all - streamed + buffer <= room
        };
        self.fleet.nodes()[node].disk_bandwidth.is_some() && (1..8).any(streams)
    }

    /// Most layers that a node can have when everything that may stream does and every request is at its longest.
    pub(super) fn count_most_layers(&self, node: usize, first: bool, head: bool) -> u32 {
        most(self.card.layers, |layers| self.holds(node, [layers; 2], first, head))
    }

    /// Most blocks in a row that a node can have likewise, the first of them an MLP where `cut` says so.
    pub(super) fn most_blocks(&self, node: usize, cut: bool, first: bool, head: bool) -> u32 {
        most(2 * self.card.layers - u32::from(cut), |blocks| {
            let (more, less) = (blocks.div_ceil(2), blocks / 2);
            self.holds(node, if cut { [less, more] } else { [more, less] }, first, head)
        })
    }
}

/// The largest number up to `high` that `may` be, where all below it may; zero where none is.
fn most(high: u32, may: impl Fn(u32) -> bool) -> u32 {
    let (mut low, mut high) = (0, high);
    while low < high {
        let middle = (low + high).div_ceil(2);
        if may(middle) { low = middle } else { high = middle - 1 }
    }
    low
}
