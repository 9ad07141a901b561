//! Whether a fleet that holds no ring of whole layers holds one with layers cut, and such a ring.

use crate::layout::{Grain, Layout, Share};

use super::exhaustive::is_small;
use super::problem::Problem;

/// Nodes of the largest fleet of which every set is looked at.
const MOST_NODES: usize = 8;

/// Hosts that are tried for embedding and head on larger ones: those with most memory.
const HOSTS: usize = 6;

/// Blocks that each node of a ring in one round takes, in ring order; and the position of the head.
struct Dealt {
    shares: Vec<(usize, u32)>,
    head: usize,
}

/// A ring by blocks that holds the model, with as much streamed as may be; `None` where there is none, or on larger fleets where none
/// was found.
pub(crate) fn some_cut(problem: &Problem<'_>) -> Option<Layout> {
    let room = Room::new(problem);
    let dealt =
        if problem.fleet.nodes().len() <= MOST_NODES { by_sets(problem, &room) } else { by_room(problem, &room) };
    let layout = dealt.and_then(|dealt| as_asked(problem, &dealt));
    layout.or_else(|| if is_small(problem) { in_rounds(problem) } else { None })
}

/// The ring with as many segments as were asked for, if its devices hold what falls to them then.
fn as_asked(problem: &Problem<'_>, dealt: &Dealt) -> Option<Layout> {
    let share = |&(node, blocks): &(usize, u32)| Share { node, blocks, streamed: Vec::new(), buffer: 0 };
    let segments = problem.goal.segments.filter(|_| dealt.shares.len() > 1).unwrap_or(1);
    let shares = dealt.shares.iter().map(share).collect();
    let layout = Layout { shares, segments, grain: Grain::Block, head: dealt.head, micro_batches: 1 };
    all_hold(problem, &layout).then_some(layout)
}

/// Whether each device can hold its part when everything that may stream does.
pub(super) fn all_hold(problem: &Problem<'_>, layout: &Layout) -> bool {
    let attentions = layout.attentions();
    let of = |(at, share): (usize, &Share)| {
        let counts = [attentions[at], share.blocks - attentions[at]];
        problem.holds(share.node, counts, at == 0, at == layout.head)
    };
    layout.shares.iter().enumerate().all(of)
}

/// The most blocks in a row of each node, by whether it is first in the ring, whether it has the head, and what its first block is.
struct Room {
    blocks: Vec<[[[u32; 2]; 2]; 2]>,
}

impl Room {
    fn new(problem: &Problem<'_>) -> Self {
        let on = |node| {
            [false, true].map(|first| {
                [false, true].map(|head| [false, true].map(|cut| problem.most_blocks(node, cut, first, head)))
            })
        };
        Self { blocks: (0..problem.fleet.nodes().len()).map(on).collect() }
    }

    /// Most blocks from position `from` on, of all that a model has in a row.
    fn after(&self, node: usize, from: u32, first: bool, head: bool) -> u32 {
        self.blocks[node][usize::from(first)][usize::from(head)][(from % 2) as usize]
    }
}

/// How a position is reached: the device that ends there, where it began, and whether it took the head.
type Reached = Option<(usize, u32, bool)>;

/// Looks at every set of nodes, in every order that matters: where a set can end, with the head placed or not.
fn by_sets(problem: &Problem<'_>, room: &Room) -> Option<Dealt> {
    let nodes = problem.fleet.nodes().len();
    let end = 2 * problem.card.layers;
    // For each set and whether it has the head: the devices by which each position can be reached, the last of them first.
    let mut reached: Vec<[Vec<Reached>; 2]> = Vec::new();
    reached.resize_with(1 << nodes, || [vec![None; end as usize + 1], vec![None; end as usize + 1]]);
    for set in 0_usize..1 << nodes {
        let count = set.count_ones() as usize;
        if count >= problem.most_devices() {
            continue;
        }
        for (node, placed) in (0..nodes).flat_map(|node| [(node, false), (node, true)]) {
            if set >> node & 1 == 1 || (set == 0 && placed) {
                continue;
            }
            for takes in [false, true].into_iter().filter(|takes| !(placed && *takes)) {
                let from: Vec<u32> = match set {
                    0 => vec![0],
                    _ => (1..end).filter(|&at| reached[set][usize::from(placed)][at as usize].is_some()).collect(),
                };
                for at in from {
                    let most = (at + room.after(node, at, set == 0, takes)).min(end);
                    let with = &mut reached[set | 1 << node][usize::from(placed || takes)];
                    for to in at + 1..=most {
                        with[to as usize].get_or_insert((node, at, takes));
                    }
                }
            }
        }
    }
    let enough = |set: &usize| set.count_ones() as usize >= problem.least_devices();
    let mut set = (1..1 << nodes).filter(enough).find(|&set: &usize| reached[set][1][end as usize].is_some())?;
    let (mut at, mut placed, mut shares, mut head) = (end, true, Vec::new(), None);
    while set > 0 {
        let (node, from, takes) = reached[set][usize::from(placed)][at as usize]?;
        shares.push((node, at - from));
        if takes {
            (head, placed) = (Some(node), false);
        }
        (at, set) = (from, set & !(1 << node));
    }
    shares.reverse();
    let head = shares.iter().position(|&(node, _)| Some(node) == head)?;
    Some(Dealt { shares, head })
}

/// For each pair of hosts of embedding and head the others one after the other, whoever takes most from where the last one ended.
fn by_room(problem: &Problem<'_>, room: &Room) -> Option<Dealt> {
    let nodes = problem.fleet.nodes();
    let mut by_memory: Vec<usize> = (0..nodes.len()).collect();
    by_memory.sort_by_key(|&node| (nodes[node].disk_bandwidth.is_none(), std::cmp::Reverse(nodes[node].memory)));
    let hosts = &by_memory[..HOSTS.min(nodes.len())];
    let pairs = hosts.iter().flat_map(|&first| hosts.iter().map(move |&head| (first, head)));
    pairs.filter_map(|(first, head)| between(problem, room, &by_memory, (first, head))).next()
}

fn between(problem: &Problem<'_>, room: &Room, ranked: &[usize], (first, head): (usize, usize)) -> Option<Dealt> {
    let end = 2 * problem.card.layers;
    let alone = first == head;
    let mut left: Vec<usize> = ranked.iter().copied().filter(|&node| node != first && node != head).collect();
    let mut shares = vec![(first, room.after(first, 0, true, alone).min(end))];
    let mut at = shares[0].1;
    // The last device ends the model; one of the others may be what is too few of.
    let last = |at: u32| if alone { 0 } else { room.after(head, at, false, true) };
    while at > 0 && at + last(at) < end {
        let (index, most) = left
            .iter()
            .map(|&node| room.after(node, at, false, false))
            .enumerate()
            .max_by_key(|of| (of.1, std::cmp::Reverse(of.0)))?;
        if most == 0 {
            return None;
        }
        let most = most.min(end - at - u32::from(!alone));
        shares.push((left.remove(index), most));
        at += most;
    }
    if !alone {
        shares.push((head, end.checked_sub(at)?));
    }
    let counts = problem.least_devices()..=problem.most_devices();
    let head = if alone { 0 } else { shares.len() - 1 };
    (counts.contains(&shares.len()) && shares.iter().all(|share| share.1 > 0)).then_some(Dealt { shares, head })
}

/// A ring of several segments where no single round holds the model: what falls to a device may then be of one kind.
fn in_rounds(problem: &Problem<'_>) -> Option<Layout> {
    let nodes = problem.fleet.nodes().len();
    let most = |node: usize| most_anywhere(problem, node);
    let layout = Layout { shares: Vec::new(), segments: 1, grain: Grain::Block, head: 0, micro_batches: 1 };
    let mut rounds = Rounds { problem, most: (0..nodes).map(most).collect(), layout };
    rounds.extend(2 * problem.card.layers).then_some(rounds.layout)
}

/// Most blocks that a node can have, whichever they are.
fn most_anywhere(problem: &Problem<'_>, node: usize) -> u32 {
    let layers = problem.card.layers;
    let counts = (0..=layers).flat_map(|attentions| (0..=layers).map(move |mlps| [attentions, mlps]));
    let ends = [false, true].map(|first| [false, true].map(|head| (first, head)));
    let may = |counts: &[u32; 2]| ends.iter().flatten().any(|&(first, head)| problem.holds(node, *counts, first, head));
    counts.filter(may).map(|counts| counts[0] + counts[1]).max().unwrap_or(0)
}

/// The search for such a ring, one device after the other.
struct Rounds<'p, 'a> {
    problem: &'p Problem<'a>,
    most: Vec<u32>,
    layout: Layout,
}

impl Rounds<'_, '_> {
    /// Gives the `left` blocks to further devices; whether that came to a ring, which `layout` is then.
    fn extend(&mut self, left: u32) -> bool {
        if left == 0 {
            return self.layout.shares.len() >= self.problem.least_devices() && self.turns();
        }
        let used = |node: &usize| self.layout.shares.iter().any(|share| share.node == *node);
        let unused: Vec<usize> = (0..self.most.len()).filter(|node| !used(node)).collect();
        let places = self.problem.most_devices() - self.layout.shares.len();
        if places == 0 || unused.iter().map(|&node| self.most[node]).sum::<u32>() < left {
            return false;
        }
        for node in unused {
            for blocks in (1..=self.most[node].min(left)).rev() {
                self.layout.shares.push(Share { node, blocks, streamed: Vec::new(), buffer: 0 });
                if self.extend(left - blocks) {
                    return true;
                }
                self.layout.shares.pop();
            }
        }
        false
    }

    /// Whether the devices hold their parts with some number of segments and some place of the head.
    fn turns(&mut self) -> bool {
        let devices = self.layout.shares.len();
        let most = if devices > 1 { self.problem.card.layers } else { 1 };
        let asked = self.problem.goal.segments.filter(|_| devices > 1);
        for segments in asked.map_or(1..=most, |asked| asked..=asked) {
            for head in 0..devices {
                (self.layout.segments, self.layout.head) = (segments, head);
                if all_hold(self.problem, &self.layout) {
                    return true;
                }
            }
        }
        false
    }
}
