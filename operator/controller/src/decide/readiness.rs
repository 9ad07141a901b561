//! From shards and the ring's own word to WeightsReady, ShardsReady, Ready, Degraded and Replanning.

use k8s_openapi::api::core::v1::Node;
use lime_api::{ConditionType, LimePlan, ShardState};
use lime_plan::Nanos;

use super::{
    Deciding,
    figures::{endpoint, performance},
};
use crate::{
    candidates::{LINK_LOST, silence_seconds},
    conditions::{Cause, Truth, advised},
    shards::Shard,
    snapshot::{RingCause, RingReport, SecretKey, Snapshot},
    triggers::Trigger,
    wish::Wish,
};

/// How a node of the plan stands.
pub(super) enum NodePresence {
    /// Nothing speaks against it.
    There,
    /// It will count as lost after so many seconds, if nothing is heard of it until then.
    Suspected(i64),
    /// It counts as lost, and why.
    Lost(String),
}

/// How a node of the plan stands.
pub(super) fn presence(
    snapshot: &Snapshot,
    wish: &Wish,
    name: &str,
    node: Option<&std::sync::Arc<Node>>,
) -> NodePresence {
    let Some(node) = node else { return NodePresence::Lost(format!("{name}: the node is gone from the cluster")) };
    let grace = i64::from(wish.spec.failure.node_loss_grace_seconds);
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.and_then(|conditions| conditions.iter().find(|condition| condition.type_ == "Ready"));
    let kubernetes_says_ready = ready.is_some_and(|condition| condition.status == "True");
    let not_ready_for = || {
        let since = ready.filter(|ready| ready.status != "True")?.last_transition_time.as_ref()?;
        Some(snapshot.now.as_second().saturating_sub(since.0.as_second()))
    };
    let Some(silent) = silence_seconds(snapshot, name).or_else(not_ready_for) else { return NodePresence::There };
    // An agent alone may fail while its node serves: the ring's word decides then.
    let serving = snapshot.ring.as_ref().is_some_and(|ring| ring.ready);
    if kubernetes_says_ready && (serving || snapshot.ring.is_none()) {
        return NodePresence::There;
    }
    if silent <= grace {
        return NodePresence::Suspected(grace - silent + 1);
    }
    NodePresence::Lost(format!("{name}: silent for {silent} s, nodeLossGraceSeconds is {grace}"))
}

impl Deciding<'_> {
    /// Sets the conditions of a plan in force.
    pub(super) fn judge(&mut self, plan: &LimePlan, shards: &[Shard], exhausted: bool, same_plan: bool) {
        let ready = shards.iter().filter(|shard| shard.status.state == ShardState::Ready).count();
        self.decision.status.shards_ready = Some(format!("{ready}/{}", shards.len()));
        self.decision.status.performance = Some(performance(plan, &self.before, self.snapshot));
        self.decision.status.endpoint = Some(endpoint(self.wish));
        self.weights(plan, shards);
        self.shards(shards, exhausted);
        self.ring(plan);
        self.replanning(plan, same_plan);
    }

    /// What the gateway says of the ring of `plan`, if it follows that.
    fn reported_ring(&self, plan: &LimePlan) -> Option<&RingReport> {
        let name = kube::ResourceExt::name_any(plan);
        self.snapshot.ring.as_ref().filter(|ring| ring.plan == name)
    }

    /// WeightsReady, as the workers say it through their gateway: they fetch, and know why they cannot.
    fn weights(&mut self, plan: &LimePlan, shards: &[Shard]) {
        let ring = self.reported_ring(plan).filter(|ring| !ring.ready && !self.wish.spec.asleep());
        if let Some(RingReport { cause: Some(RingCause::Weights(node, reason)), trouble, .. }) = ring {
            let text = trouble.clone().unwrap_or_else(|| format!("{node} cannot have its weights"));
            self.findings.fails(ConditionType::WeightsReady, Cause::new(reason, text));
            return;
        }
        let loading = ring.is_some_and(|ring| ring.phase == "loading");
        let on_their_way = |shard: &&Shard| {
            loading && shard.trouble.is_none() && shard.status.weights_percent.is_some_and(|percent| percent < 100)
        };
        let waiting: Vec<String> = shards
            .iter()
            .filter(|shard| shard.status.state == ShardState::Downloading || on_their_way(shard))
            .map(|shard| format!("{} {} %", shard.status.node, shard.status.weights_percent.unwrap_or(0)))
            .collect();
        if waiting.is_empty() {
            self.findings.holds(ConditionType::WeightsReady, "WeightsReady", "no shard waits for weights");
        } else {
            let (reason, what) =
                if self.wish.is_fetched() { ("Downloading", "fetched and loaded") } else { ("Loading", "loaded") };
            let text = format!("weights are being {what}: {}", waiting.join(", "));
            self.findings.fails(ConditionType::WeightsReady, Cause::new(reason, text));
        }
    }

    fn shards(&mut self, shards: &[Shard], exhausted: bool) {
        if self.wish.spec.asleep() {
            let field = if self.wish.spec.suspend { "spec.suspend is true" } else { "spec.replicas is 0" };
            let text = format!("{field}: weights and plan are kept, memory is free");
            self.findings.fails(ConditionType::ShardsReady, Cause::new("Suspended", text));
            return;
        }
        if exhausted {
            let failures = self.decision.status.failures.clone().unwrap_or_default();
            let text = format!(
                "{} restarts, failure.maxRestarts is {}; the first failure: {}; change the spec to try again",
                failures.restarts,
                self.wish.spec.failure.max_restarts,
                failures.first_message.unwrap_or_default()
            );
            self.findings.fails(ConditionType::ShardsReady, Cause::new("RestartBudgetExhausted", text));
            return;
        }
        let troubles = || shards.iter().filter_map(|shard| shard.trouble.as_ref());
        let gravest = ["NodeLost", "ShardCrashed", "ShardPending", "Downloading"]
            .into_iter()
            .find_map(|reason| troubles().find(|cause| cause.reason == reason));
        match gravest {
            None => self.findings.holds(
                ConditionType::ShardsReady,
                "ShardsReady",
                format!("all {} shards run", shards.len()),
            ),
            Some(first) => {
                let more = troubles().count() - 1;
                let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
                let reason = if first.reason == "Downloading" { "ShardPending" } else { first.reason };
                self.findings.fails(ConditionType::ShardsReady, Cause::new(reason, format!("{}{more}", first.message)));
            }
        }
    }

    /// Ready says whether requests are answered, whatever else is amiss.
    fn ring(&mut self, plan: &LimePlan) {
        if self.snapshot.api_keys == SecretKey::Missing {
            let text = "the Secret and key of spec.endpoint.apiKeySecretRef are not there: create them";
            self.findings.fails(ConditionType::Ready, Cause::new("ApiKeysMissing", text));
            return;
        }
        if self.snapshot.api_certificate == SecretKey::Missing {
            let text = "the Secret of spec.endpoint.tlsSecretRef is not there, or lacks tls.crt: create it";
            self.findings.fails(ConditionType::Ready, Cause::new("ApiCertificateMissing", text));
            return;
        }
        if self.wish.spec.asleep() {
            return;
        }
        // A gateway that still follows an earlier plan says nothing of this one.
        let name = kube::ResourceExt::name_any(plan);
        let (ring, earlier): (Vec<_>, Vec<_>) =
            self.snapshot.ring.clone().into_iter().partition(|ring| ring.plan == name);
        let ring = ring.into_iter().next().unwrap_or_default();
        if ring.ready {
            self.serves(plan);
            let predicted = plan.spec.prediction.as_ref().map(|prediction| prediction.time_per_token_microseconds);
            let slow = predicted.zip(ring.time_per_token_microseconds);
            if let Some((predicted, measured)) = slow
                && is_slow(predicted, measured)
                && self.findings.get(ConditionType::Degraded).is_none()
            {
                let [measured, predicted] = [measured, predicted]
                    .map(|micros| Nanos(u64::try_from(micros).unwrap_or_default().saturating_mul(1000)).to_string());
                let text = format!("{measured} per token measured, {predicted} predicted");
                self.findings.set(ConditionType::Degraded, Truth::True, Cause::new("SlowerThanPredicted", text));
            }
        } else if self.findings.deepest().is_none() {
            if let Some((name, refusal)) = self.snapshot.refused.iter().next() {
                let text = format!("{name} cannot be made: {}", advised(refusal, self.wish.is_on_nodes()));
                self.findings.fails(ConditionType::Ready, Cause::new("ObjectRefused", text));
                return;
            }
            let why = ring.trouble.unwrap_or_else(|| match ring.phase.as_str() {
                "" if !earlier.is_empty() => format!("the gateway has not taken {name} up yet"),
                "" => "the gateway does not answer yet".to_owned(),
                phase => format!("the ring is {phase}"),
            });
            let leaving = self.snapshot.leaving.as_ref();
            if ring.phase == "waiting" || (ring.phase.is_empty() && leaving.is_some()) {
                let text = leaving.map_or(why, |leaving| format!("{}; requests wait for the next", leaving.message()));
                self.findings.fails(ConditionType::Ready, Cause::new("HandingOver", text));
                return;
            }
            let reason = match ring.cause {
                Some(RingCause::Link(_)) => LINK_LOST,
                Some(RingCause::Version(_)) => "VersionMismatch",
                Some(RingCause::Weights(..)) | None => "RingNotReady",
            };
            self.findings.fails(ConditionType::Ready, Cause::new(reason, why));
        }
    }

    /// Ready for a generation of the spec means that this generation is served: by the plan that it leads to. What is served
    /// meanwhile is told with the generation that it is of.
    fn serves(&mut self, plan: &LimePlan) {
        if self.answers(plan) {
            self.findings.holds(ConditionType::Ready, "Ready", "the ring answers requests");
            return;
        }
        let told = self.before.conditions.iter().find(|it| it.type_ == "Ready").and_then(|it| it.observed_generation);
        let told = told.filter(|told| *told < self.wish.generation).unwrap_or_default();
        let served = plan.spec.deployment_generation.max(told);
        let not_yet = [ConditionType::Planned, ConditionType::Approved].into_iter().find_map(|condition| {
            self.findings.get(condition).filter(|(truth, _)| *truth != Truth::True).map(|(_, cause)| cause)
        });
        let why = not_yet.map_or_else(String::new, |cause| format!(": {}: {}", cause.reason, cause.message));
        let text = format!(
            "requests are answered as generation {served} of the spec asked; generation {} is not served{why}",
            self.wish.generation
        );
        self.findings.holds(ConditionType::Ready, "ServesEarlierSpec", text);
        self.findings.of_generation(ConditionType::Ready, served);
    }

    /// A replan lasts from the new plan until the ring serves by it.
    fn replanning(&mut self, plan: &LimePlan, same_plan: bool) {
        if self.findings.get(ConditionType::Replanning).is_some() {
            return;
        }
        let before = self.before.conditions.iter().find(|condition| condition.type_ == "Replanning");
        let Some(running) = before.filter(|condition| condition.status == "True" && same_plan) else { return };
        let ready = self.findings.get(ConditionType::Ready).is_some_and(|(truth, _)| truth == Truth::True);
        if ready {
            self.note("ReplanCompleted", format!("{} is in force", kube::ResourceExt::name_any(plan)), false);
            return;
        }
        let known = Trigger::ALL.map(Trigger::reason);
        let reason = known.into_iter().find(|known| *known == running.reason).unwrap_or("SpecChanged");
        self.findings.set(ConditionType::Replanning, Truth::True, Cause::new(reason, running.message.clone()));
    }
}

/// Half as slow again as predicted, and by more than what a gateway itself may take for a token.
const fn is_slow(predicted: i64, measured: i64) -> bool {
    const MARGIN: i64 = 2_000;
    measured.saturating_sub(predicted) > MARGIN && measured.saturating_sub(predicted) > predicted / 2
}
