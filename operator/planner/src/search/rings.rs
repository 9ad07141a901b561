//! Who takes part and in which order: rings worth estimating.

use super::estimate::Ring;
use super::problem::Problem;

/// Times of one hop from node to node.
fn hops(problem: &Problem<'_>) -> impl Fn(usize, usize) -> u64 {
    let table = problem.costs.rows(problem.sequences);
    |from, to| table.send[from][to] + problem.fleet.link(from, to).latency.0
}

/// Time once round the ring.
pub(crate) fn round(problem: &Problem<'_>, order: &[usize]) -> u64 {
    let next = order.iter().cycle().skip(1);
    let hop = hops(problem);
    order.iter().zip(next).map(|(&from, &to)| hop(from, to)).sum()
}

/// The same nodes in an order with cheap hops: nearest neighbour, then turning back stretches while that helps.
pub(crate) fn cheap_order(problem: &Problem<'_>, nodes: &[usize]) -> Vec<usize> {
    let hop = hops(problem);
    let mut left: Vec<usize> = nodes[1..].to_vec();
    let mut order = vec![nodes[0]];
    while !left.is_empty() {
        let last = order[order.len() - 1];
        let nearest = (0..left.len()).min_by_key(|&index| (hop(last, left[index]), index)).unwrap_or(0);
        order.push(left.remove(nearest));
    }
    let count = order.len();
    let mut improved = count > 3;
    while improved {
        improved = false;
        for start in 1..count - 1 {
            // Time along the stretch from `start`, there and back.
            let (mut there, mut back) = (0, 0);
            for end in start + 1..count {
                there += hop(order[end - 1], order[end]);
                back += hop(order[end], order[end - 1]);
                let (before, after) = (order[start - 1], order[(end + 1) % count]);
                let as_is = hop(before, order[start]) + there + hop(order[end], after);
                let turned = hop(before, order[end]) + back + hop(order[start], after);
                if turned < as_is {
                    order[start..=end].reverse();
                    (there, back, improved) = (back, there, true);
                }
            }
        }
    }
    order
}

/// Sets of nodes worth considering: the best few by each of several measures, and all.
pub(crate) fn sets(problem: &Problem<'_>) -> Vec<Vec<usize>> {
    let nodes = problem.fleet.nodes();
    let layer = |node: usize| problem.costs.rows(problem.sequences).layer[node];
    let disk = |node: usize| nodes[node].disk_bandwidth.unwrap_or(0);
    let mut by_speed: Vec<usize> = (0..nodes.len()).collect();
    let mut by_memory = by_speed.clone();
    let mut by_disk = by_speed.clone();
    by_speed.sort_by_key(|&node| (layer(node), std::cmp::Reverse(nodes[node].memory)));
    by_memory.sort_by_key(|&node| (std::cmp::Reverse(nodes[node].memory), layer(node)));
    by_disk.sort_by_key(|&node| (std::cmp::Reverse(disk(node)), std::cmp::Reverse(nodes[node].memory), layer(node)));
    let mut sets: Vec<Vec<usize>> = Vec::new();
    for ranked in [by_speed, by_memory, by_disk] {
        for count in problem.least_devices()..=problem.most_devices() {
            let mut set = ranked[..count].to_vec();
            set.sort_unstable();
            sets.push(set);
        }
    }
    sets.sort();
    sets.dedup();
    sets
}

/// Nodes of a fleet so small that each set of them is considered, and of one of which any two may be left out.
const ALL_SETS: usize = 6;
const ALL_BUT_TWO: usize = 8;

/// As [`sets`], and on small fleets more.
pub(crate) fn more_sets(problem: &Problem<'_>) -> Vec<Vec<usize>> {
    let nodes = problem.fleet.nodes().len();
    let mut all = sets(problem);
    if nodes <= ALL_BUT_TWO {
        let counts = problem.least_devices()..=problem.most_devices();
        let wanted = |set: &Vec<usize>| counts.contains(&set.len()) && (nodes <= ALL_SETS || set.len() + 2 >= nodes);
        let every = (1_u32..1 << nodes).map(|code| (0..nodes).filter(|node| code >> node & 1 == 1).collect());
        all.extend(every.filter(wanted));
        all.sort();
        all.dedup();
    }
    all
}

/// The ring turned so that each node comes first once, with the head at its end or its beginning.
pub(crate) fn turns(ring: &Ring) -> Vec<Ring> {
    let count = ring.order.len();
    let mut turned = Vec::with_capacity(2 * count);
    for first in 0..count {
        let mut order = ring.order.clone();
        order.rotate_left(first);
        turned.push(Ring { order: order.clone(), head: count - 1, ..*ring });
        if count > 1 {
            turned.push(Ring { order, head: 0, ..*ring });
        }
    }
    turned
}
