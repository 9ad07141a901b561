//! Workers' pods are made once: what they are asked for now may be something else, after an upgrade or with another wish.

use kube::ResourceExt as _;
use lime_api::LimePlan;

use super::Deciding;
use crate::build::{self, Kind, Object};

impl Deciding<'_> {
    /// Has pods that are not as the `workers` of `plan` would be made now come to their end. All at once: a ring pauses for one of its
    /// workers as long as for all.
    /// After their `gateway`: that one ends its answers first.
    pub(super) fn renew(&mut self, plan: &LimePlan, workers: &[Object], gateway: &Object) {
        let made = |name: &str| workers.iter().find(|object| object.kind == Kind::Pod && object.name == name);
        let pods = self.snapshot.pods.iter().map(|pod| (pod, made(&pod.name_any())));
        let outdated = pods.filter(|(pod, made)| made.is_some_and(|made| !build::is_as_made(pod, made)));
        let outdated: Vec<String> = outdated.map(|(pod, _)| pod.name_any()).collect();
        if outdated.is_empty() || self.stays(gateway) {
            return;
        }
        let (some, all, image) = (outdated.len(), plan.spec.assignments.len(), &self.settings.image);
        let text = format!("{some} of {all} workers are made anew, as spec and operator ask now: image {image}");
        self.note("WorkersUpdated", text, false);
        self.decision.finished_pods.extend(outdated);
    }
}
