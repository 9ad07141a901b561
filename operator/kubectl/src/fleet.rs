//! The nodes of a plan as the planner knows them, from their profiles.

use std::collections::BTreeMap;

use anyhow::bail;
use kube::ResourceExt as _;
use lime_api::{LimeNodeProfile, UNMEASURED_LINK};
use lime_plan::{Fleet, Link, Plan};

/// The devices of `plan` with the memory that it gives them and the speeds that their profiles say now.
pub(crate) fn fleet_of(plan: &Plan, profiles: &[LimeNodeProfile]) -> anyhow::Result<Fleet> {
    let profiles: BTreeMap<String, &LimeNodeProfile> =
        profiles.iter().map(|profile| (profile.name_any(), profile)).collect();
    let mut nodes = Vec::new();
    let mut links: BTreeMap<(String, String), Link> = BTreeMap::new();
    let mut missing = Vec::new();
    for device in &plan.devices {
        let name = device.name.clone();
        let Some(profile) = profiles.get(&name) else {
            missing.push(format!("{name}: it has no LimeNodeProfile any more"));
            continue;
        };
        match profile.speeds() {
            Ok(speeds) => {
                let (budget, overhead) = (device.memory.budget, device.memory.overhead);
                nodes.push(speeds.node(name.clone(), budget, overhead));
            }
            Err(fault) => missing.push(format!("{name}: its profile {fault}")),
        }
        links.extend(profile.measured_links().map(|(peer, link)| ((name.clone(), peer.to_owned()), link)));
    }
    if !missing.is_empty() {
        bail!("the plan cannot be played: {}", missing.join("; "));
    }
    let names: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
    Ok(Fleet::new(nodes, |from, to| {
        let pair = |from: usize, to: usize| links.get(&(names[from].clone(), names[to].clone()));
        pair(from, to).or_else(|| pair(to, from)).copied().unwrap_or(UNMEASURED_LINK)
    }))
}
