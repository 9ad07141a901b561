//! Fleets with a node fewer: what the search finds there is also a candidate here, so that a node more seldom makes a plan worse.

use super::{ALTERNATIVES, Found, Problem, search, shape};
use crate::{Fleet, layout::Layout};

/// Nodes of the largest fleet of which each node is left out once: a search for every one of them must stay cheap.
const MOST_NODES: usize = 8;

/// As [`search`], and where that did not try everything, the same without each of the nodes; then without another one as long as
/// that helps.
pub(crate) fn search_subsets(problem: &Problem<'_>) -> Found {
    let mut found = search(problem);
    let nodes = problem.fleet.nodes().len();
    if found.complete || nodes > MOST_NODES {
        return found;
    }
    let mut present: Vec<usize> = (0..nodes).collect();
    while present.len() > problem.least_devices().max(1) {
        let before = found.settled.first().map_or(u64::MAX, |best| best.time);
        let without = |gone: usize| present.iter().copied().filter(|&node| node != gone).collect::<Vec<usize>>();
        let tried: Vec<Vec<usize>> = present.iter().map(|&gone| without(gone)).collect();
        let mut best: Option<(u64, Vec<usize>)> = None;
        for kept in tried {
            let fleet = part(problem.fleet, &kept);
            let settled = search(&Problem::new(problem.card, &fleet, problem.goal)).settled;
            for mut one in settled {
                one.layout = named(one.layout, &kept);
                if !problem.allows(&one.layout) {
                    continue;
                }
                if best.as_ref().is_none_or(|(time, _)| one.time < *time) {
                    best = Some((one.time, kept.clone()));
                }
                found.settled.push(one);
            }
        }
        match best {
            Some((time, kept)) if time < before => present = kept,
            _ => break,
        }
    }
    found.settled.sort_by_cached_key(super::Settled::rank);
    found.settled.dedup_by(|a, b| shape(&a.layout) == shape(&b.layout));
    found.settled.truncate(1 + ALTERNATIVES);
    found
}

/// The nodes with these indices, and the links between them.
fn part(fleet: &Fleet, kept: &[usize]) -> Fleet {
    let nodes = kept.iter().map(|&node| fleet.nodes()[node].clone()).collect();
    Fleet::new(nodes, |from, to| fleet.link(kept[from], kept[to]))
}

/// A layout of a part of a fleet with the nodes' indices in the whole.
fn named(mut layout: Layout, kept: &[usize]) -> Layout {
    for share in &mut layout.shares {
        share.node = kept[share.node];
    }
    layout
}
