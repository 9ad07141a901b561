//! Whether the gateway follows the plan in force. It reads its plan file every second, but the kubelet may bring the file a minute
//! late: a change of the gateway's pod brings it at once.

use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::Deciding;
use crate::{gateways, names};

/// Seconds after which a gateway that has not read its file is told again.
const TELL_AGAIN: i64 = 10;
/// Seconds after which a gateway that does not follow is made anew.
const PATIENCE: i64 = 120;
/// What is remembered between visits: since when the gateway has been behind.
const BEHIND: &str = "behind";

/// A change of the gateway's pod by which its kubelet brings the plan file up to date.
#[derive(Clone, Debug, PartialEq)]
pub struct Wake {
    /// The pod.
    pub pod: String,
    /// The change.
    pub patch: Value,
}

impl Deciding<'_> {
    /// Tells the gateway of the file of `plan` whose digest is `digest`, until it says itself that it has read it.
    pub(super) fn follow(&mut self, plan: &str, digest: &str) {
        let snapshot = self.snapshot;
        let Some(pod) = gateways::current(&snapshot.pods) else { return };
        let (now, ring) = (snapshot.now.as_second(), snapshot.ring.as_ref());
        let annotation = |name: &str| pod.annotations().get(name).map(String::as_str);
        let told = annotation(names::TOLD_ANNOTATION) == Some(digest);
        let told_at = annotation(names::TOLD_AT_ANNOTATION).and_then(|at| at.parse::<i64>().ok()).unwrap_or_default();
        let has_read = ring.is_none_or(|ring| ring.digest == digest);
        if !told || (!has_read && now.saturating_sub(told_at) >= TELL_AGAIN) {
            let patch = json!({ "metadata": {
                "labels": { names::PLAN_LABEL: plan },
                "annotations": { names::TOLD_ANNOTATION: digest, names::TOLD_AT_ANNOTATION: now.to_string() },
            }});
            self.decision.wake = Some(Wake { pod: pod.name_any(), patch });
        }
        // One that does not answer at all is its kubelet's business. Addresses alone matter where the ring does not serve.
        let Some(ring) = ring.filter(|ring| ring.plan != plan || (ring.digest != digest && !ring.ready)) else {
            return;
        };
        let since = snapshot.since.get(BEHIND).copied().unwrap_or(snapshot.now);
        if now.saturating_sub(since.as_second()) < PATIENCE {
            self.decision.since.insert(BEHIND, since);
            return;
        }
        let (name, follows) = (pod.name_any(), ring.plan.clone());
        self.decision.stuck_gateway = Some((name.clone(), pod.uid()));
        let text = format!(
            "{name} has followed {follows} for {PATIENCE} s although {plan} is in force: the pod is made anew, and answers \
             under way end"
        );
        self.note("GatewayRestarted", text, true);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::jiff::Timestamp;

    use super::{
        super::{
            Decision, decide,
            tests::{carried_out, settled},
        },
        *,
    };
    use crate::{
        build::{Kind, PLAN_FILE},
        snapshot::{RingReport, Snapshot},
        testing::{self, NOW},
    };

    /// The digest of the plan file that `decision` writes.
    fn file_of(decision: &Decision) -> String {
        let file = decision.objects.iter().find(|object| object.name == "m-plan").unwrap();
        lime_plan::PlanInForce::digest(file.body["data"][PLAN_FILE].as_str().unwrap())
    }

    fn template(decision: &Decision) -> Value {
        let found = decision.objects.iter().find(|object| object.kind == Kind::Deployment).unwrap();
        found.body["spec"]["template"].clone()
    }

    /// A gateway's pod that was told of `digest` at `told_at`.
    fn pod(digest: &str, told_at: i64) -> Arc<k8s_openapi::api::core::v1::Pod> {
        let annotations = json!({ names::TOLD_ANNOTATION: digest, names::TOLD_AT_ANNOTATION: told_at.to_string() });
        let labels = names::labels("m", "gateway");
        let metadata = json!({ "name": "m-gateway-x", "uid": "uid-g", "labels": labels, "annotations": annotations });
        Arc::new(serde_json::from_value(json!({ "metadata": metadata })).unwrap())
    }

    fn report(plan: &str, digest: &str, ready: bool) -> Option<RingReport> {
        Some(RingReport { plan: plan.into(), digest: digest.into(), ready, ..RingReport::default() })
    }

    /// A deployment that serves, after the loss of a node: the snapshot in which the new plan is in force, and what is decided.
    fn replanned() -> (Snapshot, Decision, String) {
        let (mut snapshot, before) = settled(json!({}));
        let lost = before.status.shards[0].node.clone();
        snapshot.nodes.retain(|node| node.name_any() != lost);
        let decision = decide(&snapshot, &testing::settings());
        assert_ne!(decision.status.current_plan, before.status.current_plan);
        assert_eq!(template(&decision), template(&before), "a new plan is no reason for a new gateway");
        let after = carried_out(&snapshot, &decision);
        let decision = decide(&after, &testing::settings());
        (after, decision, before.status.current_plan.unwrap())
    }

    #[test]
    fn each_plan_is_of_a_later_generation() {
        let generation = |decision: &Decision| {
            let file = decision.objects.iter().find(|object| object.name == "m-plan").unwrap();
            let text = file.body["data"][PLAN_FILE].as_str().unwrap();
            lime_plan::PlanInForce::from_json(text).unwrap().generation
        };
        let (mut snapshot, before) = settled(json!({}));
        assert_eq!(i64::try_from(generation(&before)).unwrap(), NOW);
        // Whatever the clock of this leader says.
        snapshot.now = Timestamp::from_second(NOW - 100).unwrap();
        let (lost, wanted) = (before.status.shards[0].node.clone(), snapshot.nodes.clone());
        snapshot.nodes.retain(|node| node.name_any() != lost);
        let second = decide(&snapshot, &testing::settings());
        assert!(generation(&second) > generation(&before));
        // The first plan comes back: it is the latest then.
        let mut third = carried_out(&snapshot, &second);
        third.nodes = wanted;
        let mut deployment = (*third.deployment).clone();
        deployment.status.as_mut().unwrap().current_plan = None;
        third.deployment = Arc::new(deployment);
        let third = decide(&third, &testing::settings());
        assert_eq!(third.status.current_plan, before.status.current_plan);
        assert!(generation(&third) > generation(&second));
    }

    #[test]
    fn a_gateway_is_told_until_it_says_that_it_knows() {
        let (mut snapshot, decision, old) = replanned();
        let (new, digest) = (decision.status.current_plan.clone().unwrap(), file_of(&decision));
        let mut woken = |told: &str, told_at: i64, ring: Option<RingReport>| {
            snapshot.pods.retain(|pod| pod.name_any() != "m-gateway-x");
            snapshot.pods.push(pod(told, told_at));
            snapshot.ring = ring;
            decide(&snapshot, &testing::settings()).wake
        };
        let wake = woken("earlier", NOW - 1, report(&old, "earlier", true)).unwrap();
        assert_eq!(wake.pod, "m-gateway-x");
        assert_eq!(wake.patch["metadata"]["annotations"][names::TOLD_ANNOTATION], json!(digest));
        assert_eq!(wake.patch["metadata"]["labels"][names::PLAN_LABEL], json!(new));
        assert_eq!(woken(&digest, NOW - 1, report(&old, "earlier", true)), None, "the kubelet needs a moment");
        assert!(woken(&digest, NOW - 10, report(&old, "earlier", true)).is_some());
        assert!(woken(&digest, NOW - 10, report(&new, "older addresses", false)).is_some());
        assert_eq!(woken(&digest, NOW - 10, report(&new, &digest, false)), None);
        assert_eq!(woken(&digest, NOW - 10, None), None, "one that does not answer is not written to again and again");
    }

    #[test]
    fn a_gateway_that_does_not_follow_is_made_anew_once_and_an_event_says_so() {
        let (mut snapshot, decision, old) = replanned();
        let (new, digest) = (decision.status.current_plan.clone().unwrap(), file_of(&decision));
        snapshot.pods.push(pod(&digest, NOW));
        let mut look = |second: i64, ring: Option<RingReport>| {
            snapshot.now = Timestamp::from_second(NOW + second).unwrap();
            snapshot.ring = ring;
            let decision = decide(&snapshot, &testing::settings());
            snapshot.since = decision.since.clone();
            let told = decision.notes.iter().any(|note| note.reason == "GatewayRestarted" && note.warning);
            assert_eq!(decision.stuck_gateway.is_some(), told);
            let ready = decision.status.conditions.iter().find(|condition| condition.type_ == "Ready").cloned();
            (decision.stuck_gateway, ready.unwrap())
        };
        let (stuck, ready) = look(0, report(&old, "earlier", true));
        assert_eq!((stuck, ready.status.as_str()), (None, "False"), "what serves by another plan is not Ready");
        assert!(ready.message.contains(&format!("has not taken {new} up")), "{}", ready.message);
        assert_eq!(look(119, report(&old, "earlier", false)).0, None);
        assert_eq!(look(120, report(&old, "earlier", false)).0, Some(("m-gateway-x".into(), Some("uid-g".into()))));
        assert_eq!(look(121, report(&old, "earlier", false)).0, None, "the next one has its own time");
        assert_eq!(look(200, None).0, None);
        assert_eq!(look(400, report(&old, "earlier", false)).0, None, "it is counted from when it was seen again");
        let (stuck, ready) = look(600, report(&new, &digest, true));
        assert_eq!((stuck, ready.status.as_str()), (None, "True"));
    }
}
