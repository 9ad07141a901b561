//! What people are told by events because it differs from the last status: each thing once, when it happens.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use lime_api::{ConditionType, ShardState, ShardStatus};

use super::Deciding;
use crate::{candidates::Candidates, conditions::Truth};

/// Nodes that are named one by one.
const NAMED: usize = 5;

impl Deciding<'_> {
    /// Nodes of the plan that are lost, nodes that have come back, and agents that have fallen silent.
    pub(super) fn tell_of_nodes(&mut self, lost: &[String], added: &[&str], candidates: &Candidates) {
        for node in lost.iter().take(NAMED) {
            self.note("NodeLost", format!("{node} is lost, and its part of the plan with it"), true);
        }
        let known: BTreeSet<&str> =
            self.snapshot.plans.iter().flat_map(|plan| &plan.spec.assignments).map(|part| part.node.as_str()).collect();
        for node in added.iter().filter(|node| known.contains(*node)).take(NAMED) {
            self.note("NodeReturned", format!("{node} can take part again"), false);
        }
        for silent in candidates.rejected.iter().filter(|node| node.reason == "ProfileStale").take(NAMED) {
            self.note("ProfileStale", format!("{}: its agent is silent, so it is left out", silent.node), true);
        }
    }

    /// Shards that have started, weights that are being fetched or have been, and what is newly amiss.
    pub(super) fn tell_of_changes(&mut self) {
        let before = std::mem::take(&mut self.before.shards);
        let was = |shard: &ShardStatus| {
            let same = before.iter().find(|earlier| earlier.pod.is_some() && earlier.pod == shard.pod);
            same.map(|earlier| earlier.state)
        };
        let shards = self.decision.status.shards.clone();
        for shard in &shards {
            let pod = shard.pod.as_deref().unwrap_or_default();
            let (node, layers) = (&shard.node, shard.layers.as_deref().unwrap_or_default());
            match (was(shard), shard.state) {
                (Some(ShardState::Ready), ShardState::Ready) => {}
                (_, ShardState::Ready) => {
                    self.note("ShardStarted", format!("{node}: pod {pod} has started, for the layers {layers}"), false);
                }
                (Some(ShardState::Downloading), _) | (_, ShardState::Lost) => {}
                (_, ShardState::Downloading) => {
                    self.note("WeightsDownloading", format!("{node}: pod {pod} fetches its weights"), false);
                }
                _ => {}
            }
        }
        self.before.shards = before;
        self.tell_of_conditions();
    }

    /// Something that may make for a new plan, once, unless Degraded tells of it.
    pub(super) fn tell_of_wait(&mut self, reason: &'static str, text: &str) {
        let known = |it: &Condition| it.type_ == "Replanning" && it.reason == reason;
        let degraded = self.findings.get(ConditionType::Degraded).is_some_and(|(_, cause)| cause.reason == reason);
        if !degraded && !self.before.conditions.iter().any(known) {
            self.note(reason, text.to_owned(), false);
        }
    }

    fn tell_of_conditions(&mut self) {
        let earlier = |condition: ConditionType| {
            let type_ = condition.to_string();
            self.before.conditions.iter().find(|earlier| earlier.type_ == type_).map(|it| it.reason.clone())
        };
        let (weights, degraded) = (earlier(ConditionType::WeightsReady), earlier(ConditionType::Degraded));
        let found = |condition| self.findings.get(condition).map(|(truth, cause)| (truth, cause.clone()));
        let (weights_now, degraded_now) = (found(ConditionType::WeightsReady), found(ConditionType::Degraded));
        match weights_now {
            Some((Truth::False, cause))
                if cause.reason == "Downloading" && weights.as_deref() != Some("Downloading") =>
            {
                self.note("WeightsDownloading", cause.message, false);
            }
            Some((Truth::True, _)) if weights.as_deref() == Some("Downloading") => {
                self.note("WeightsDownloaded", "every node has its part of the weights".into(), false);
            }
            Some((Truth::False, cause)) if cause.reason == "DiskFull" && weights.as_deref() != Some("DiskFull") => {
                self.note("DiskFull", cause.message, true);
            }
            _ => {}
        }
        if let Some((Truth::True, cause)) = degraded_now
            && degraded.as_deref() != Some(cause.reason)
        {
            self.note(cause.reason, cause.message, true);
        }
    }
}
