//! How much of a model one node can hold at most.

use super::problem::{Problem, signed};

/// Most layers that a node can have when everything that may stream does and every request is at its longest.
pub(super) fn most_layers(problem: &Problem<'_>, node: usize, first: bool, head: bool) -> u32 {
    let holds = |layers: u32| {
        let head_bytes = if head { signed(problem.head_bytes(first)) } else { 0 };
        let (attention, mlp) = (signed(problem.attention_bytes), signed(problem.mlp_bytes));
        let all = i64::from(layers) * (attention + mlp);
        let deficit = all + head_bytes - problem.room_at_worst(node, layers, first, head);
        if deficit <= 0 {
            return true;
        }
        let largest = attention.max(mlp);
        let disk = problem.fleet.nodes()[node].disk_bandwidth.is_some();
        let suffices = |(streamable, buffer): (i64, i64)| deficit + buffer <= streamable;
        let layers_only = [(i64::from(layers) * attention, attention), (all, largest)];
        let with_head = [(head_bytes, head_bytes), (all + head_bytes, largest.max(head_bytes))];
        let head_streams = head && problem.head_streams(first);
        disk && (layers_only.into_iter().any(suffices) || (head_streams && with_head.into_iter().any(suffices)))
    };
    let (mut low, mut high) = (0, problem.card.layers);
    while low < high {
        let middle = (low + high).div_ceil(2);
        if holds(middle) { low = middle } else { high = middle - 1 }
    }
    low
}
