//! Whether a fleet can hold a model at all, however slowly.

use super::estimate::{Estimate, Ring};
use super::problem::Problem;

/// Hosts that are tried for embedding and head: those with most memory.
const HOSTS: usize = 6;

/// A ring that holds the model with as much streamed as may be, if there is any; layers go to who can take most.
pub(crate) fn some_ring(problem: &Problem<'_>) -> Option<(Ring, Estimate)> {
    let nodes = problem.fleet.nodes();
    let mut by_memory: Vec<usize> = (0..nodes.len()).collect();
    by_memory.sort_by_key(|&node| (nodes[node].disk_bandwidth.is_none(), std::cmp::Reverse(nodes[node].memory)));
    let plain: Vec<u32> = (0..nodes.len()).map(|node| problem.most_layers(node, false, false)).collect();
    let hosts: Vec<usize> = by_memory.iter().copied().take(HOSTS).collect();
    let pairs = hosts.iter().flat_map(|&first| hosts.iter().map(move |&head| (first, head)));
    pairs.filter_map(|(first, head)| deal(problem, &by_memory, &plain, first, head)).next()
}

fn deal(problem: &Problem<'_>, ranked: &[usize], plain: &[u32], first: usize, head: usize) -> Option<(Ring, Estimate)> {
    let cap = |node: usize| match (node == first, node == head) {
        (false, false) => plain[node],
        (is_first, is_head) => problem.most_layers(node, is_first, is_head),
    };
    if cap(first) == 0 || cap(head) == 0 {
        return None;
    }
    let mut order = vec![first];
    let hosts = 1 + usize::from(head != first);
    let others = ranked.iter().copied().filter(|&node| node != first && node != head && plain[node] > 0);
    let mut others: Vec<usize> = others.collect();
    others.sort_by_key(|&node| std::cmp::Reverse(plain[node]));
    order.extend(others.into_iter().take(problem.most_devices().checked_sub(hosts)?));
    if order.len() + hosts - 1 < problem.least_devices() {
        return None;
    }
    if head != first {
        order.push(head);
    }
    // One layer for each host and for as many as must take part, the rest to whoever has most room.
    let mut layers = vec![0; order.len()];
    let mut left = problem.card.layers;
    let last = order.len() - 1;
    let ends = if head == first { vec![0] } else { vec![0, last] };
    let between = (1..=last).filter(|at| !ends.contains(at));
    for at in ends.iter().copied().chain(between.take(problem.least_devices().saturating_sub(ends.len()))) {
        layers[at] = 1;
        left = left.checked_sub(1)?;
    }
    for at in 0..order.len() {
        let more = (cap(order[at]) - layers[at]).min(left);
        layers[at] += more;
        left -= more;
    }
    if left > 0 {
        return None;
    }
    let kept: Vec<usize> = (0..order.len()).filter(|&at| layers[at] > 0).collect();
    let order: Vec<usize> = kept.iter().map(|&at| order[at]).collect();
    let layers: Vec<u32> = kept.iter().map(|&at| layers[at]).collect();
    let head = if head == first { 0 } else { order.len() - 1 };
    let segments = problem.goal.segments.filter(|_| order.len() > 1).unwrap_or(1);
    Some((Ring { order, head, segments, micro_batches: 1 }, Estimate { time: u64::MAX, layers }))
}
