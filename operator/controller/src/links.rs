//! Links between two nodes over which a ring cannot go on though both are there: which those are, which plans would use them, and when
//! they count as well again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::ResourceExt as _;
use lime_api::{LimeNodeProfile, LostLink};
use lime_plan::{DeviceSteps, Link, Nanos, Plan};

/// What a lost link is planned with, so that every other way is better: a plan that uses it all the same is not followed.
pub const LOST: Link = Link { bandwidth: 1_000, latency: Nanos(30_000_000_000) };

/// Seconds for which a link that no agent measures is believed to be lost.
const BELIEVED: i64 = 3600;
/// Most links that are remembered: as many as two dozen nodes that all lost each other would make, and no more to read.
const MOST: usize = 256;

/// Two nodes, the one whose name comes first before the other: a link has no direction here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Ends(String, String);

impl Ends {
    /// The link between two nodes.
    pub fn of(one: &str, other: &str) -> Self {
        let (one, other) = if one <= other { (one, other) } else { (other, one) };
        Self(one.to_owned(), other.to_owned())
    }

    /// The node at the other end, if `node` is at one.
    pub fn other(&self, node: &str) -> Option<&str> {
        match (self.0 == node, self.1 == node) {
            (true, _) => Some(&self.1),
            (_, true) => Some(&self.0),
            _ => None,
        }
    }

    /// Both nodes.
    pub fn both(&self) -> [&str; 2] {
        [&self.0, &self.1]
    }
}

impl std::fmt::Display for Ends {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the link between {} and {}", self.0, self.1)
    }
}

/// A link that is lost from `now` on.
pub fn lost(ends: &Ends, profiles: &[Arc<LimeNodeProfile>], now: Timestamp) -> LostLink {
    let measured = measurements(ends, profiles).into_values().collect();
    LostLink { one: ends.0.clone(), other: ends.1.clone(), since: Time(now), measured }
}

/// Of the links that were lost, those that still are: nothing was measured over them since, and no ring answers over them.
pub fn still(
    lost: &[LostLink],
    profiles: &[Arc<LimeNodeProfile>],
    answering: &BTreeSet<Ends>,
    now: Timestamp,
) -> Vec<LostLink> {
    let is_lost = |link: &&LostLink| {
        let ends = Ends::of(&link.one, &link.other);
        let measured = measurements(&ends, profiles);
        // The agents' clocks are compared with nothing: another time is another measurement.
        let anew = !measured.is_empty() && measured.values().all(|time| !link.measured.contains(time));
        let age = now.as_second().saturating_sub(link.since.0.as_second());
        let forgotten = measured.is_empty() && age >= BELIEVED;
        !answering.contains(&ends) && !anew && !forgotten
    };
    lost.iter().filter(is_lost).take(MOST).cloned().collect()
}

/// When the agents of both ends say that they measured the way to the other.
fn measurements(ends: &Ends, profiles: &[Arc<LimeNodeProfile>]) -> BTreeMap<String, Time> {
    let of = |profile: &Arc<LimeNodeProfile>| {
        let name = profile.name_any();
        let other = ends.other(&name)?;
        let links = profile.status.as_ref().map(|status| &status.links)?;
        let link = links.iter().find(|link| link.peer == other)?;
        Some((name, link.measured_at.clone()?))
    };
    profiles.iter().filter_map(of).collect()
}

/// The links that a ring by `plan` uses: from each device to its successor, and to the one that keeps pages for it.
pub fn used(plan: &Plan) -> BTreeSet<Ends> {
    let name = |index: usize| plan.devices.get(index).map(|device| device.name.as_str());
    let mut links = BTreeSet::new();
    for (index, device) in plan.devices.iter().enumerate() {
        let successor = name((index + 1) % plan.devices.len());
        let keeper = DeviceSteps::of(plan, device).ok().and_then(|steps| steps.hand_over().map(|over| over.to));
        let keeper = keeper.and_then(|keeper| name(keeper.0 as usize));
        let others = successor.into_iter().chain(keeper).filter(|other| *other != device.name);
        links.extend(others.map(|other| Ends::of(&device.name, other)));
    }
    links
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// The profile of `node`, whose agent measured the way to `peer` then.
    fn profile(node: &str, peer: &str, measured: Option<i64>) -> Arc<LimeNodeProfile> {
        let mut whole = testing::profile(node, 60);
        whole["status"]["links"] = json!([{ "peer": peer, "measuredAt": measured.map(at) }]);
        Arc::new(serde_json::from_value(whole).unwrap())
    }

    #[test]
    fn a_link_is_lost_until_it_has_been_measured_again_both_ways() {
        let ends = Ends::of("b", "a");
        assert_eq!((ends.both(), ends.other("a"), ends.other("c")), (["a", "b"], Some("b"), None));
        let before = [profile("a", "b", Some(10)), profile("b", "a", Some(20))];
        let link = lost(&ends, &before, at(1_000));
        assert_eq!(link.measured, [Time(at(10)), Time(at(20))]);
        let unmeasured = lost(&ends, &[], at(1_000));
        let answering = BTreeSet::from([ends.clone()]);
        let table = [
            (&link, before.to_vec(), BTreeSet::new(), 9_000, true),
            // A clock that is set back measures too.
            (&link, vec![profile("a", "b", Some(5)), profile("b", "a", Some(20))], BTreeSet::new(), 1_060, true),
            (&link, vec![profile("a", "b", Some(5)), profile("b", "a", Some(21))], BTreeSet::new(), 1_060, false),
            // An agent that has gone says nothing, and the other's word counts.
            (&link, vec![profile("b", "a", Some(21))], BTreeSet::new(), 1_060, false),
            (&link, before.to_vec(), answering, 1_060, false),
            (&unmeasured, vec![profile("a", "b", None)], BTreeSet::new(), 4_599, true),
            (&unmeasured, vec![profile("a", "b", None)], BTreeSet::new(), 4_600, false),
            (&unmeasured, before.to_vec(), BTreeSet::new(), 1_001, false),
        ];
        for (index, (link, profiles, answering, now, expected)) in table.into_iter().enumerate() {
            let found = still(std::slice::from_ref(link), &profiles, &answering, at(now));
            assert_eq!(!found.is_empty(), expected, "row {index}");
        }
    }
}
