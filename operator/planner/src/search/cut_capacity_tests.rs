//! Fleets that hold a model by attention and MLP blocks, and not by whole layers.

use lime_plan::testing::{AROUND, Random, drawn_node, small_card};
use lime_plan::{Bytes, Fleet, Goal, Link, ModelCard, Nanos, NodeProfile};

use super::{Problem, capacity, find, fits};

const LINK: Link = Link { bandwidth: 12_500_000, latency: Nanos(200_000) };

/// Nodes without disks, each with just the memory for one and a half layers and what its place in the ring adds.
fn tight(card: &ModelCard, goal: &Goal, nodes: usize) -> Fleet {
    let node = |index: usize, memory: Bytes| NodeProfile {
        name: format!("n{index:02}"),
        memory,
        disk_bandwidth: None,
        ..drawn_node(&mut Random::new(1), 0, 1 << 20, AROUND)
    };
    let least = |index: usize| {
        let (first, head) = (index == 0, index + 1 == nodes);
        let fits = |memory: u64| {
            let fleet = Fleet::uniform(vec![node(index, Bytes(memory))], LINK);
            let problem = Problem::new(card, &fleet, goal);
            [[2, 1], [1, 2]].into_iter().all(|counts| problem.holds(0, counts, first, head))
        };
        let (mut low, mut high) = (0, 1_u64 << 40);
        while low < high {
            let middle = low + (high - low) / 2;
            if fits(middle) { high = middle } else { low = middle + 1 }
        }
        high
    };
    Fleet::uniform((0..nodes).map(|index| node(index, Bytes(least(index)))).collect(), LINK)
}

#[test]
fn a_fleet_that_holds_no_whole_layers_more_gets_a_plan_by_blocks() {
    // Searched in full, under every stricter wish, and as large fleets are.
    for (nodes, layers) in [(4, 6), (7, 10), (12, 16)] {
        let card = small_card(&mut Random::new(3), layers);
        let goal = Goal::sporadic(&card, 64);
        let fleet = tight(&card, &goal, nodes);
        let problem = Problem::new(&card, &fleet, &goal);
        assert_eq!(problem.most_layers(1, false, false), 1, "the case says nothing");
        assert!(capacity::some_ring(&problem).is_none() && fits(&problem), "{nodes} nodes");
        let found = find(&problem).expect("what fits is found");
        assert!(found.evaluated[0].layout.is_cut());
        let plan = crate::plan(&card, &fleet, &goal).expect("what is found is a plan");
        assert!(plan.cuts_layers());
        // None is to spare there: without one of them nothing fits.
        if 3 * nodes == 2 * layers as usize {
            let less = |node: &NodeProfile| match node.name.as_str() {
                "n01" => NodeProfile { memory: Bytes(1), ..node.clone() },
                _ => node.clone(),
            };
            let less = fleet.map_nodes(less);
            assert!(!fits(&Problem::new(&card, &less, &goal)));
            assert!(crate::plan(&card, &less, &goal).is_err());
        }
    }
}
