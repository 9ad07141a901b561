//! What changed since the plan in force was made, and whether a new one is due.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::ResourceExt as _;
use lime_api::{ConditionType, LimePlan};
use lime_planner::Bytes;

use super::{
    Deciding,
    readiness::{self, Standing},
};
use crate::{
    candidates::{self, Candidates, NO_MEMORY_LEFT},
    conditions::{Cause, Truth},
    planning,
    triggers::{self, Since, Situation, Verdict},
};

/// Most replans that are remembered: as many as the status may hold.
const REMEMBERED_REPLANS: usize = 100;

impl Deciding<'_> {
    /// The plan in force, if it can still be read.
    pub(super) fn current(&mut self) -> Option<Arc<LimePlan>> {
        let name = self.before.current_plan.as_deref()?;
        let plan = self.snapshot.plans.iter().find(|plan| plan.name_any() == name)?;
        match planning::document(&plan.spec) {
            Ok(_) => Some(plan.clone()),
            Err(fault) => {
                self.note("PlanSuperseded", format!("the LimePlan {name} cannot be followed: {fault}"), true);
                None
            }
        }
    }

    /// What changed since the plan was made.
    pub(super) fn look(&mut self, current: Option<&LimePlan>, candidates: &Candidates) -> (Verdict, Vec<String>) {
        let snapshot = self.snapshot;
        let nodes: BTreeMap<String, _> = snapshot.nodes.iter().map(|node| (node.name_any(), node)).collect();
        let profiles: BTreeMap<String, _> =
            snapshot.profiles.iter().map(|profile| (profile.name_any(), profile)).collect();
        let (mut lost, mut why_lost, mut draining, mut pressed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for assignment in current.iter().flat_map(|plan| &plan.spec.assignments) {
            let name = &assignment.node;
            let node = nodes.get(name).copied();
            match readiness::standing(snapshot, self.wish, name, node) {
                Standing::There => {}
                Standing::Suspected(left) => self.settled_for = self.settled_for.min(left),
                Standing::Lost(why) => {
                    lost.push(name.clone());
                    why_lost.push(why);
                    continue;
                }
            }
            let (Some(node), Some(profile)) = (node, profiles.get(name)) else { continue };
            if let Some((_, why)) = candidates::cordoned(node) {
                draining.push(why);
            } else if profile.spec.excluded {
                draining.push(format!("{name}: its LimeNodeProfile says excluded: true"));
            }
            let needed = Bytes(u64::try_from(assignment.memory_bytes).unwrap_or_default());
            match candidates::room(snapshot, self.wish, node, profile) {
                Ok(room) if room < needed => {
                    pressed.push(format!("{name}: the plan needs {needed}, {room} can be had"));
                }
                Err((NO_MEMORY_LEFT, why)) => pressed.push(why),
                _ => {}
            }
        }
        let known: BTreeSet<&str> = current
            .iter()
            .flat_map(|plan| {
                let spec = &plan.spec;
                let considered = ["NotUseful", "OverMaxCount", "NoDiskLeft"];
                let rejected =
                    spec.rejected_nodes.iter().filter(move |node| considered.contains(&node.reason.as_str()));
                spec.assignments.iter().map(|part| part.node.as_str()).chain(rejected.map(|node| node.node.as_str()))
            })
            .collect();
        let added: Vec<&str> = candidates
            .nodes
            .iter()
            .map(|node| node.name.as_str())
            .filter(|name| current.is_some() && !known.contains(name) && !snapshot.tried.contains(*name))
            .collect();
        self.tell_of_nodes(&lost, &added, candidates);
        let added: Vec<String> = added.iter().map(|name| format!("{name} can take part")).collect();
        let mut since = |what: &'static str, there: bool| {
            let first = there.then(|| snapshot.since.get(what).copied().unwrap_or(snapshot.now));
            self.decision.since.extend(first.map(|first| (what, first)));
            first
        };
        let since = Since {
            draining: since("draining", !draining.is_empty()),
            pressed: since("pressed", !pressed.is_empty()),
            added: since("added", !added.is_empty()),
        };
        if !pressed.is_empty() {
            self.findings.set(ConditionType::Degraded, Truth::True, Cause::new("MemoryPressure", pressed.join("; ")));
        }
        let situation = Situation {
            now: snapshot.now,
            placement: &self.wish.spec.placement,
            has_plan: current.is_some(),
            stale_wish: current.is_some_and(|plan| self.for_another_wish(plan).is_some()),
            lost: why_lost,
            draining,
            pressed,
            added,
            since,
            replans: self.replans(),
        };
        (triggers::verdict(&situation), lost)
    }

    /// When plans replaced one another lately. Not read from the plans: a fleet that goes to and fro between two of them puts the
    /// same two in force again and again.
    fn replans(&self) -> Vec<Timestamp> {
        self.before.recent_replans.iter().map(|time| time.0).collect()
    }

    /// Notes that a plan replaces another now. What is older than an hour is forgotten only here: that alone is no reason to
    /// write a status.
    pub(super) fn count_replan(&mut self) {
        let now = self.snapshot.now;
        let an_hour_ago = now.as_second().saturating_sub(3600);
        let mut times = self.before.recent_replans.clone();
        times.retain(|time| time.0.as_second() > an_hour_ago);
        times.push(Time(now));
        times.drain(..times.len().saturating_sub(REMEMBERED_REPLANS));
        self.decision.status.recent_replans = times;
    }
}
