//! Plans in which one device keeps KV pages for another: when they come about, and what they say.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop here")]

use lime_plan::{
    Bytes, DevicePlan, DeviceSteps, Fleet, Goal, Link, MemoryModel, Nanos, NodeProfile, Plan, Relief, StepsInForce,
};
use lime_planner::{adaptations, plan};

mod support;

use support::QWEN3_32B;

fn node(name: &str, memory: Bytes, memory_bandwidth: u64, disk: Option<u64>) -> NodeProfile {
    NodeProfile {
        name: name.into(),
        memory,
        overhead: Bytes::mib(512),
        memory_bandwidth,
        compact_bandwidth: None,
        throughput: 20_000_000_000_000,
        disk_bandwidth: disk,
        block_latency: Nanos::ZERO,
        formats: Default::default(),
    }
}

/// Two fast boards with a slow disk each, and a slow machine with much memory, over a link of so many bits a second.
fn fleet(bits: u64) -> Fleet {
    let boards = ["fast-a", "fast-b"].map(|name| node(name, Bytes::gib(24), 200_000_000_000, Some(300_000_000)));
    let roomy = node("roomy", Bytes::gib(48), 20_000_000_000, None);
    let link = Link { bandwidth: bits / 8, latency: Nanos(50_000) };
    Fleet::uniform(boards.into_iter().chain([roomy]).collect(), link)
}

fn planned(bits: u64) -> Plan {
    let card = QWEN3_32B.card();
    let goal = Goal { typical_context: Some(1024), ..Goal::sporadic(&card, 32_768) };
    plan(&card, &fleet(bits), &goal).unwrap()
}

/// The place of the step that hands pages over, to whom, and how many bytes.
fn hand_over(device: &DevicePlan) -> Option<(usize, String, Bytes)> {
    device.steps.iter().enumerate().find_map(|(place, step)| match &step.relief {
        Relief::HandOver { to, room, .. } => Some((place, to.clone(), *room)),
        Relief::Stream(_) => None,
    })
}

fn growth(plan: &Plan) -> Vec<(u32, Nanos)> {
    let growth = &plan.outlook.as_ref().unwrap().prediction.growth;
    growth.iter().map(|point| (point.context_tokens, point.time_per_token)).collect()
}

#[test]
fn pages_go_to_a_device_with_room_where_the_link_is_cheaper_than_the_disk() {
    let (fast, slow) = (planned(10_000_000_000), planned(20_000_000));
    assert!(slow.devices.iter().all(|device| hand_over(device).is_none() && device.memory.lent == Bytes::ZERO));
    let asking: Vec<_> = fast.devices.iter().filter_map(|device| Some((device, hand_over(device)?))).collect();
    assert_eq!(asking.len(), 2, "both boards have too little room");
    let (_, keeper) = fast.device("roomy").unwrap();
    let exchange = |device: &DevicePlan| MemoryModel::of(&fast).exchange(device.attentions());
    let counted: Bytes = asking.iter().map(|(device, (_, _, room))| *room + exchange(device)).sum();
    assert_eq!(keeper.memory.lent, counted, "what both count on is reserved once for each");
    assert!(keeper.memory.used() <= keeper.memory.budget);
    for (device, (place, to, room)) in &asking {
        assert_eq!(to, "roomy");
        let steps = DeviceSteps::of(&fast, device).unwrap();
        let over = steps.hand_over().unwrap();
        assert_eq!((over.after, over.page * u64::from(over.pages)), (*place, *room), "whole pages");
        let longest = MemoryModel::of(&fast).kv(device.attentions());
        assert!(steps.most() >= longest, "blocks alone free enough, whatever becomes of the link");
        assert!(steps.base() + *room < longest + over.page + exchange(device), "no more than is asked for");
    }
    println!("{:?}\n{:?}", growth(&fast), growth(&slow));
    let longest = |plan: &Plan| growth(plan).last().unwrap().1;
    assert!(longest(&fast) < longest(&slow), "{} against {}", longest(&fast), longest(&slow));
    let explained = adaptations(&fast, &fleet(10_000_000_000)).unwrap();
    for adaptation in explained {
        let (_, device) = fast.device(&adaptation.device).unwrap();
        let adaptation = adaptation.as_planned(&fast);
        assert!(device.steps.is_empty() || adaptation.steps == device.steps);
    }
}

/// Whatever the fleet, what is lent is there once, and what is counted on is lent.
#[test]
fn no_byte_is_counted_on_twice() {
    let card = QWEN3_32B.card();
    let (mut lending, mut several) = (0, 0);
    for memory in [16, 24, 34, 60] {
        for roomy in [24, 48, 90] {
            for bits in [100_000_000, 1_000_000_000, 10_000_000_000] {
                for boards in 1..4 {
                    let board = |at: usize| {
                        let disk = Some(200_000_000 * (1 + at as u64));
                        node(&format!("fast-{at}"), Bytes::gib(memory), 200_000_000_000, disk)
                    };
                    let slow = node("roomy", Bytes::gib(roomy), 20_000_000_000, None);
                    let link = Link { bandwidth: bits / 8, latency: Nanos(100_000) };
                    let nodes = (0..boards).map(board).chain([slow]).collect();
                    let goal = Goal { typical_context: Some(1024), ..Goal::sporadic(&card, 16_384) };
                    let Ok(plan) = plan(&card, &Fleet::uniform(nodes, link), &goal) else { continue };
                    let asking = plan.devices.iter().filter(|device| hand_over(device).is_some()).count();
                    let lent: Bytes = plan.devices.iter().map(|device| device.memory.lent).sum();
                    assert_eq!(asking > 0, lent > Bytes::ZERO);
                    for device in &plan.devices {
                        assert!(device.memory.lent == Bytes::ZERO || hand_over(device).is_none(), "{}", device.name);
                        let steps = DeviceSteps::of(&plan, device).unwrap();
                        assert_eq!(
                            steps.stream_steps().len() + usize::from(steps.hand_over().is_some()),
                            device.steps.len()
                        );
                    }
                    lending += usize::from(asking > 0);
                    several += usize::from(asking > 1);
                }
            }
        }
    }
    println!("{lending} plans lend room, {several} of them to several devices");
    assert!(lending > 10 && several > 3, "{lending} {several}");
}

#[test]
fn plans_written_before_pages_could_go_still_read() {
    let plan = planned(10_000_000_000);
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    for device in value["devices"].as_array_mut().unwrap() {
        device["memory"].as_object_mut().unwrap().remove("lent");
        device.as_object_mut().unwrap().remove("steps");
    }
    let older: Plan = serde_json::from_value(value).unwrap();
    assert!(older.devices.iter().all(|device| device.memory.lent == Bytes::ZERO && device.steps.is_empty()));
    let without_costs = serde_json::json!({"handOver": {"to": "roomy", "room": 4096}});
    let expected = Relief::HandOver { to: "roomy".into(), room: Bytes(4096), costs: Nanos::ZERO };
    assert_eq!(serde_json::from_value::<Relief>(without_costs).unwrap(), expected);
}

/// What a board does as its cache grows, by what the link costs at the moment.
#[test]
fn the_way_follows_the_link_and_does_not_waver() {
    let plan = planned(10_000_000_000);
    let device = plan.devices.iter().find(|device| hand_over(device).is_some()).unwrap();
    let steps = DeviceSteps::of(&plan, device).unwrap();
    let over = steps.hand_over().unwrap();
    let here = StepsInForce { level: 0, remote: false };
    let there = StepsInForce { level: 0, remote: true };
    assert_eq!(steps.choose(steps.base(), here, Nanos::ZERO), here, "what fits stays");
    let needed = steps.base() + over.frees;
    let level = steps.least(needed).unwrap();
    assert!(level > 0);
    let worth = steps.time(level).0 - steps.time(0).0;
    let streaming = StepsInForce { level, remote: false };
    let cases = [
        // What it costs, whether pages are remote now, whether they are then.
        (0, false, true),
        (worth - 1, false, true),
        (worth, false, false),
        (worth * 2, false, false),
        (worth - 1, true, true),
        (worth, true, true),
        (worth + worth / 4 - 1, true, true),
        (worth + worth / 4, true, false),
        (u64::MAX, true, false),
    ];
    for (costs, remote, expected) in cases {
        let now = StepsInForce { remote, ..streaming };
        let way = steps.choose(needed, now, Nanos(costs));
        assert_eq!(way, if expected { there } else { streaming }, "{costs} of {worth}, remote {remote}");
    }
    // Beyond the room there, blocks give way as well.
    let more = steps.choose(needed + Bytes::mib(64), there, Nanos::ZERO);
    assert!(more.remote && more.level > 0, "{more:?}");
    // Beyond everything here, the link is the only way.
    let most = steps.choose(steps.most() + Bytes(1), here, Nanos(u64::MAX));
    assert!(most.remote);
}
