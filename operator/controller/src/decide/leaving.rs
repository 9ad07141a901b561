//! A gateway that leaves ends its answers first, and its ring stays as it is for as long: a drained node is planned around, workers are made
//! anew and put to sleep when that is over. Kubernetes ends the gateway's pod after `endpoint.drainSeconds` whatever is under way.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use lime_api::{ConditionType, LimePlan};

use super::Deciding;
use crate::{
    build::{self, Kind, Object},
    conditions::{Cause, Truth},
    gateways, names,
    triggers::ReplanDecision,
};

/// Seconds until the next visit while a gateway ends its answers.
const LOOK: i64 = 2;
/// Seconds that the gateway of an upgrade may take to come until that is told.
const COMING: i64 = 60;
/// Seconds that a gateway which is to be another one waits for a ring that is being made.
const MAKING: i64 = 60;
/// What is remembered between visits: since when the gateway of an upgrade has been waited for.
const UPGRADE: &str = "upgrade";
/// The same of a ring that is being made.
const RING: &str = "ring";

impl Deciding<'_> {
    /// The replan, put off while a gateway ends its answers, where what runs can go on until then.
    pub(super) fn after_answers(&mut self, replan: ReplanDecision) -> ReplanDecision {
        let Some(leaving) = &self.snapshot.leaving else { return replan };
        self.decision.revisit = self.decision.revisit.min(LOOK);
        self.settled_for = self.settled_for.min(LOOK);
        match replan {
            ReplanDecision::Replan(trigger, message) | ReplanDecision::TryBetter(trigger, message)
                if trigger.can_wait() =>
            {
                ReplanDecision::Wait(trigger, format!("{message}; {}", leaving.message()), leaving.until)
            }
            replan => replan,
        }
    }

    /// Workers of a deployment that goes to sleep, while its gateway is there or ends its answers.
    pub(super) fn needed_still(&mut self, plan: &LimePlan) -> Vec<Object> {
        let pods = &self.snapshot.pods;
        if self.snapshot.leaving.is_none() && gateways::current(pods).is_none() {
            return Vec::new();
        }
        self.decision.revisit = self.decision.revisit.min(LOOK);
        self.settled_for = self.settled_for.min(LOOK);
        let there = |object: &Object| object.kind != Kind::Pod || pods.iter().any(|pod| pod.name_any() == object.name);
        build::workers(self.wish, plan, self.settings).into_iter().filter(there).collect()
    }

    /// Whether a gateway that is to be another one stays as it is for now: while the ring by `plan` is being made, its answers stand still, and
    /// a pod that was told to go hears of no new plan. One that could not follow the plan anyway waits for nothing.
    pub(super) fn waits_for_its_ring(&mut self, plan: &str, workers: &[Object], gateway: &Object) -> bool {
        let snapshot = self.snapshot;
        let tokens = &gateway.body["spec"]["template"]["metadata"]["annotations"][names::TOKENS_ANNOTATION];
        let same = |pod: &Pod| pod.annotations().get(names::TOKENS_ANNOTATION).map(String::as_str) == tokens.as_str();
        let before = gateways::replaced(&snapshot.pods, gateway);
        if !before.is_some_and(|pod| gateways::is_ready(pod) && same(pod)) {
            return false;
        }
        let stays = |name: &str| {
            let mut pods = snapshot.pods.iter().filter(|pod| pod.name_any() == name);
            pods.any(|pod| pod.metadata.deletion_timestamp.is_none())
        };
        let mut pods = workers.iter().filter(|object| object.kind == Kind::Pod);
        let serves = snapshot.ring.as_ref().is_some_and(|ring| ring.ready && ring.plan == plan);
        if serves && pods.all(|worker| stays(&worker.name)) {
            return false;
        }
        let since = snapshot.since.get(RING).copied().unwrap_or(snapshot.now);
        if snapshot.now.as_second().saturating_sub(since.as_second()) >= MAKING {
            return false;
        }
        self.decision.since.insert(RING, since);
        self.decision.revisit = self.decision.revisit.min(LOOK);
        self.settled_for = self.settled_for.min(LOOK);
        true
    }

    /// Whether workers stay as they are, because their gateway ends its answers or the one that is to come in its place is not there yet.
    pub(super) fn stays(&mut self, gateway: &Object) -> bool {
        if self.snapshot.leaving.is_some() {
            return true;
        }
        let Some(before) = gateways::replaced(&self.snapshot.pods, gateway) else { return false };
        let now = self.snapshot.now;
        let since = self.snapshot.since.get(UPGRADE).copied().unwrap_or(now);
        self.decision.since.insert(UPGRADE, since);
        self.settled_for = self.settled_for.min(LOOK);
        if now.as_second().saturating_sub(since.as_second()) >= COMING {
            let text = format!(
                "the gateway that is to take the place of {} is not there yet, so the workers stay as they are too: see the pods of \
                 Deployment {}",
                before.name_any(),
                gateway.name
            );
            self.findings.set(ConditionType::Degraded, Truth::True, Cause::new("UpgradeWaits", text));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::jiff::Timestamp;
    use serde_json::{Value, json};

    use super::{
        super::{
            Decision, decide,
            tests::{carried_out, settled},
        },
        *,
    };
    use crate::{
        snapshot::Leaving,
        snapshot::Snapshot,
        testing::{self, NOW},
    };

    fn leaving(seconds: i64) -> Option<Leaving> {
        let until = Timestamp::from_second(NOW + seconds).unwrap();
        Some(Leaving { pod: "m-gateway-x".into(), requests: 2, until })
    }

    fn workers(decision: &Decision) -> usize {
        decision.objects.iter().filter(|object| object.kind == Kind::Pod).count()
    }

    fn gateway(name: &str, annotations: &Value) -> Arc<Pod> {
        let labels = names::labels("m", "gateway");
        let metadata = json!({ "name": name, "labels": labels, "annotations": annotations });
        Arc::new(serde_json::from_value(json!({ "metadata": metadata, "status": { "phase": "Running" } })).unwrap())
    }

    fn truth(decision: &Decision, kind: &str) -> (String, String, String) {
        let found = decision.status.conditions.iter().find(|condition| condition.type_ == kind).unwrap();
        (found.status.clone(), found.reason.clone(), found.message.clone())
    }

    #[test]
    fn a_drained_node_is_planned_around_when_the_answers_of_its_gateway_have_ended() {
        let settings = testing::settings();
        let (mut snapshot, serving) = settled(json!({}));
        let node = serving.status.shards[0].node.clone();
        for known in snapshot.nodes.iter_mut().filter(|known| known.name_any() == node) {
            let mut changed = (**known).clone();
            changed.spec.get_or_insert_default().unschedulable = Some(true);
            *known = Arc::new(changed);
        }
        let shard = serving.status.shards[0].pod.clone().unwrap();
        for pod in snapshot.pods.iter_mut().filter(|pod| pod.name_any() == shard) {
            let mut evicted = serde_json::to_value(&**pod).unwrap();
            evicted["metadata"]["deletionTimestamp"] = "2027-01-15T08:02:00Z".into();
            *pod = Arc::new(serde_json::from_value(evicted).unwrap());
        }
        snapshot.leaving = leaving(100);
        let waiting = decide(&snapshot, &settings);
        assert_eq!(waiting.status.current_plan, serving.status.current_plan);
        let (status, reason, message) = truth(&waiting, "Replanning");
        assert_eq!((status.as_str(), reason.as_str()), ("Unknown", "NodeDraining"));
        assert!(message.contains("m-gateway-x leaves and ends its answers first"), "{message}");
        assert_eq!(truth(&waiting, "ShardsReady").0, "True", "a worker that is to leave serves until it has");
        assert!(waiting.revisit <= LOOK);
        snapshot.leaving = None;
        let moved = decide(&snapshot, &settings);
        assert_ne!(moved.status.current_plan, serving.status.current_plan);
    }

    #[test]
    fn what_cannot_go_on_waits_for_nobody() {
        let settings = testing::settings();
        let (mut snapshot, serving) = settled(json!({}));
        let lost = serving.status.shards[0].node.clone();
        snapshot.nodes.retain(|node| node.name_any() != lost);
        snapshot.leaving = leaving(100);
        assert_ne!(decide(&snapshot, &settings).status.current_plan, serving.status.current_plan);
    }

    #[test]
    fn workers_are_made_anew_after_their_gateway() {
        let (mut snapshot, serving) = settled(json!({}));
        let made = serving.objects.iter().find(|object| object.kind == Kind::Deployment).unwrap();
        let annotations = made.body["spec"]["template"]["metadata"]["annotations"].clone();
        let mut settings = testing::settings();
        settings.image = "lime:newer".into();
        let outdated = |snapshot: &Snapshot| decide(snapshot, &settings);
        // The gateway before the upgrade is there still.
        snapshot.pods.push(gateway("m-gateway-old", &annotations));
        let waiting = outdated(&snapshot);
        assert_eq!((waiting.finished_pods.len(), truth(&waiting, "Degraded").0.as_str()), (0, "False"));
        // A minute later its successor has not come: an image that cannot be pulled takes no worker along, and is told.
        snapshot.since = waiting.since.clone();
        snapshot.now = Timestamp::from_second(NOW + COMING).unwrap();
        snapshot.heartbeats.values_mut().for_each(|seen| *seen = snapshot.now);
        let told = outdated(&snapshot);
        assert_eq!((told.finished_pods.len(), truth(&told, "Degraded").1.as_str()), (0, "UpgradeWaits"));
        assert_eq!(truth(&told, "Ready").0, "True");
        // It has come, and the old one ends its answers.
        snapshot.pods.retain(|pod| pod.name_any() != "m-gateway-old");
        snapshot.leaving = leaving(200);
        assert_eq!(outdated(&snapshot).finished_pods.len(), 0);
        snapshot.leaving = None;
        assert_eq!(outdated(&snapshot).finished_pods.len(), serving.status.shards.len());
    }

    #[test]
    fn a_gateway_is_made_anew_when_its_ring_is_there() {
        let (mut snapshot, serving) = settled(json!({}));
        let made = serving.objects.iter().find(|object| object.kind == Kind::Deployment).unwrap();
        let annotations = made.body["spec"]["template"]["metadata"]["annotations"].clone();
        let mut settings = testing::settings();
        settings.image = "lime:newer".into();
        let stays = |snapshot: &Snapshot| {
            let decision = decide(snapshot, &settings);
            let gateway = decision.objects.iter().find(|object| object.kind == Kind::Deployment).unwrap();
            (gateway.stays, decision.since)
        };
        let mut old = serde_json::to_value(&*gateway("m-gateway-old", &annotations)).unwrap();
        old["status"]["conditions"] = json!([{ "type": "Ready", "status": "True" }]);
        snapshot.pods.push(Arc::new(serde_json::from_value(old.clone()).unwrap()));
        assert!(!stays(&snapshot).0, "the ring serves: the gateway ends its answers and goes");
        // Another plan has just been put in force: its workers are not all there.
        let worker = serving.status.shards[0].pod.clone().unwrap();
        let mut moving = snapshot.clone();
        moving.pods.retain(|pod| pod.name_any() != worker);
        let (waits, since) = stays(&moving);
        assert!(waits, "its answers would stand still until they are cut");
        moving.since = since;
        moving.now = Timestamp::from_second(NOW + MAKING).unwrap();
        moving.heartbeats.values_mut().for_each(|seen| *seen = moving.now);
        assert!(!stays(&moving).0, "an image that cures the ring is not kept away for ever");
        // What cannot follow the plan waits for nothing.
        old["metadata"]["annotations"][names::TOKENS_ANNOTATION] = "others".into();
        snapshot.pods.retain(|pod| pod.name_any() != worker && pod.name_any() != "m-gateway-old");
        snapshot.pods.push(Arc::new(serde_json::from_value(old).unwrap()));
        assert!(!stays(&snapshot).0);
    }

    #[test]
    fn a_deployment_goes_to_sleep_when_its_answers_have_ended() {
        let settings = testing::settings();
        let (snapshot, serving) = settled(json!({}));
        let mut deployment = testing::deployment(json!({ "suspend": true }));
        deployment.status = snapshot.deployment.status.clone();
        let mut asleep = Snapshot { deployment: Arc::new(deployment), ..snapshot };
        asleep.pods.push(gateway("m-gateway-x", &json!({})));
        let first = decide(&asleep, &settings);
        assert_eq!(workers(&first), serving.status.shards.len());
        assert!(first.objects.iter().all(|object| object.kind != Kind::Deployment), "the gateway is told to leave");
        asleep.pods.retain(|pod| pod.name_any() != "m-gateway-x");
        asleep.leaving = leaving(100);
        assert_eq!(workers(&decide(&asleep, &settings)), serving.status.shards.len());
        asleep.leaving = None;
        let last = decide(&asleep, &settings);
        assert_eq!((workers(&last), last.taken.len()), (0, 0));
        assert_eq!(workers(&decide(&carried_out(&asleep, &last), &settings)), 0);
    }
}
