//! What should be, from what is. Pure: a [`Snapshot`] in, a [`Decision`] out; the same snapshot gives the same decision.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use lime_api::{
    ConditionType, LimeDeploymentStatus, LimePlan, LimePlanStatus, PlanState, ShardState, TransportSecurity,
};
use lime_plan::Bytes;

use crate::{
    build::{self, Object},
    candidates::{self, Candidates, NO_MEMORY_LEFT},
    conditions::{Cause, Findings, Truth},
    failures,
    links::Ends,
    names,
    settings::Settings,
    shards::{self, Shard},
    snapshot::{Snapshot, Tried},
    triggers::ReplanDecision,
    wish::Wish,
};

mod accelerators;
mod approval;
mod changes;
mod figures;
mod following;
mod leaving;
mod model;
mod news;
mod plans;
mod readiness;
mod renewal;

pub use following::Wake;

/// Seconds until the next visit of a deployment that serves.
const SETTLED: i64 = 30;
/// Seconds until the next visit of one that does not.
const UNSETTLED: i64 = 5;
/// Seconds until the next visit of one whose plan is being replaced.
const REPLANNING: i64 = 2;

/// Something that people are told by an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// One word.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
    /// Whether it is bad news.
    pub warning: bool,
}

/// What should be.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// The status, whole.
    pub status: LimeDeploymentStatus,
    /// Objects that should be there; pods are made if they are missing and never changed.
    pub objects: Vec<Object>,
    /// Pods that have come to their end and stand in the way of new ones.
    pub finished_pods: Vec<String>,
    /// False leaves everything as it is: the spec cannot be read.
    pub prune: bool,
    /// A plan that is to be written down.
    pub new_plan: Option<LimePlan>,
    /// A gateway that is to be told of its plan file.
    pub wake: Option<Wake>,
    /// The pod of a gateway that does not follow, to be made anew: name and uid.
    pub stuck_gateway: Option<(String, Option<String>)>,
    /// Plans whose status is to change.
    pub plan_states: Vec<(String, LimePlanStatus)>,
    /// Plans that nobody needs any more.
    pub old_plans: Vec<String>,
    /// Events.
    pub notes: Vec<Note>,
    /// Seconds until the next visit.
    pub revisit: i64,
    /// Memory that the plan in force takes, by node.
    pub taken: BTreeMap<String, Bytes>,
    /// Since when each trigger has been there.
    pub since: BTreeMap<&'static str, Timestamp>,
    /// What a new plan was tried for in vain.
    pub tried: BTreeSet<Tried>,
    /// Whether the plan in force wants the certificates of mutual TLS.
    pub certificates: bool,
}

/// Decides.
pub fn decide(snapshot: &Snapshot, settings: &Settings) -> Decision {
    match Wish::check(&snapshot.deployment) {
        Ok(wish) => Deciding::new(snapshot, settings, &wish).decide(),
        Err(faults) => {
            let mut findings = Findings::default();
            findings.fails(ConditionType::Accepted, Cause::new("InvalidSpec", faults.join("; ")));
            let generation = snapshot.deployment.metadata.generation.unwrap_or_default();
            let before = snapshot.deployment.status.clone().unwrap_or_default();
            let conditions = findings.into_conditions(&before.conditions, generation, snapshot.now);
            let operator = Some(settings.namespace.clone());
            let observed_generation = Some(generation);
            let status = LimeDeploymentStatus { conditions, observed_generation, operator, ..before };
            Decision { status, revisit: 300, ..Decision::default() }
        }
    }
}

struct Deciding<'a> {
    snapshot: &'a Snapshot,
    settings: &'a Settings,
    wish: &'a Wish,
    before: LimeDeploymentStatus,
    findings: Findings,
    decision: Decision,
    /// Seconds until the next visit if the deployment serves.
    settled_for: i64,
    /// Time per token of the plan in force as things are, in microseconds: a new plan must be faster.
    running: Option<i64>,
    /// The link that keeps the ring from serving.
    missing_link: Option<Ends>,
    /// Plans of which it was found just now that the wish leads to them, though they were made for another.
    answering: BTreeSet<String>,
}

impl<'a> Deciding<'a> {
    fn new(snapshot: &'a Snapshot, settings: &'a Settings, wish: &'a Wish) -> Self {
        let before = snapshot.deployment.status.clone().unwrap_or_default();
        let tried = snapshot.tried.clone();
        let decision = Decision { prune: true, revisit: UNSETTLED, tried, ..Decision::default() };
        let findings = Findings::default();
        Self {
            snapshot,
            settings,
            wish,
            before,
            findings,
            decision,
            settled_for: SETTLED,
            running: None,
            missing_link: None,
            answering: BTreeSet::new(),
        }
    }

    fn decide(mut self) -> Decision {
        let card = self.model();
        let current = self.current();
        let refused = current.as_ref().map(|plan| changes::refused_before(plan, self.snapshot.now));
        let lost_links = self.lost_before(current.as_deref());
        let candidates = candidates::candidates(self.snapshot, self.wish)
            .without_refused(refused.unwrap_or_default())
            .without_links(lost_links.iter().map(|link| Ends::of(&link.one, &link.other)));
        self.profiled(&candidates);
        let (replan, lost, refused) = self.look(current.as_deref(), card.as_ref(), &candidates);
        let replan = self.after_answers(replan);
        let cut = self.note_lost_links(lost_links, &replan);
        let candidates = candidates.without_refused(refused).without_links(cut);
        let made = card.as_ref().and_then(|card| self.make(card, &candidates, &replan));
        let in_force = self.approve(current, made, &replan, &candidates);
        self.remember_figures(card.as_ref(), &candidates, in_force.as_deref());
        self.serve(in_force, &replan, &lost);
        self.finish()
    }

    fn profiled(&mut self, candidates: &Candidates) {
        match candidates.shortage() {
            Some(cause) => self.findings.fails(ConditionType::Profiled, cause),
            None => {
                // Whose memory others have taken is news for who plans. Under a plan it would be written anew with each of their plans.
                let serving = self.before.current_plan.is_some();
                let (full, others): (Vec<_>, Vec<_>) =
                    candidates.rejected.iter().partition(|node| serving && node.reason == NO_MEMORY_LEFT);
                let (able, matching) = (candidates.nodes.len() + full.len(), candidates.matching);
                let what = if serving { "are profiled" } else { "can take part" };
                let mut message = format!("{able} of {matching} matching nodes {what}");
                if !others.is_empty() {
                    let left_out = others.iter().take(10).map(|node| format!("{} ({})", node.node, node.reason));
                    message = format!("{message}; left out: {}", left_out.collect::<Vec<_>>().join(", "));
                }
                self.findings.holds(ConditionType::Profiled, "Profiled", message);
            }
        }
    }

    /// Pods, gateway and what they say: WeightsReady, ShardsReady, Ready, Degraded, Replanning.
    fn serve(&mut self, in_force: Option<Arc<LimePlan>>, replan: &ReplanDecision, lost: &[String]) {
        match replan {
            ReplanDecision::Wait(trigger, message, until) => {
                let left = until.as_second().saturating_sub(self.snapshot.now.as_second());
                if trigger.is_news() {
                    let text = format!("{message}; a new plan is made if this lasts until {until}");
                    self.tell_of_wait(trigger.reason(), &text);
                    self.findings.set(ConditionType::Replanning, Truth::Unknown, Cause::new(trigger.reason(), text));
                } else {
                    self.settled_for = self.settled_for.min(left.max(1));
                }
                self.decision.revisit = self.decision.revisit.min(left.max(1));
            }
            ReplanDecision::Suppressed(trigger, message) if trigger.is_news() => {
                self.findings.set(
                    ConditionType::Replanning,
                    Truth::False,
                    Cause::new("ReplanSuppressed", message.clone()),
                );
                self.note("ReplanSuppressed", format!("{}: {message}", trigger.reason()), true);
            }
            _ => {}
        }
        let Some(plan) = in_force else { return };
        let name = plan.name_any();
        let same = self.before.current_plan.as_deref() == Some(name.as_str());
        self.decision.status.current_plan = Some(name.clone());
        self.decision.status.nodes = Some(plan.spec.nodes);
        self.decision.status.offloaded = plan.spec.offloaded.clone();
        let state = self.state(&plan, PlanState::Active);
        let generation = generation(&state);
        self.decision.plan_states.push((name.clone(), state));
        self.decision.taken =
            plan.spec.assignments.iter().map(|part| (part.node.clone(), taken(part.memory_bytes))).collect();
        let found = shards::shards(self.snapshot, &plan, lost, self.wish.mounts_folders(self.settings));
        self.account(&found, same);
        let exhausted = failures::exhausted(&self.wish.spec.failure, self.decision.status.failures.as_ref());
        let suspended = self.wish.spec.asleep();
        self.decision.status.replicas = Some(i32::from(!suspended));
        self.decision.status.selector = Some(names::selector(&self.wish.name, "gateway"));
        let tls = self.wish.spec.transport.security == TransportSecurity::MutualTls;
        self.decision.certificates = tls;
        self.decision.objects.extend(build::standing(self.wish, &plan));
        let file = build::plan_file(self.wish, &plan, &found, self.settings, generation);
        let (file, digest) = file.map_or((None, None), |(file, digest)| (Some(file), Some(digest)));
        self.decision.objects.extend(file);
        if suspended {
            let workers = self.needed_still(&plan);
            if workers.is_empty() {
                self.decision.taken.clear();
            }
            self.decision.objects.extend(workers);
        } else if !exhausted {
            let workers = build::workers(self.wish, &plan, self.settings);
            let over = found.iter().filter(|shard| shard.over && shard.status.state != ShardState::Lost);
            self.decision.finished_pods = over.map(|shard| shard.pod.clone()).collect();
            let mut gateway = build::gateway(self.wish, &plan, self.settings);
            self.renew(&plan, &workers, &gateway);
            gateway.stays = self.waits_for_its_ring(&name, &workers, &gateway);
            self.decision.objects.extend(workers);
            self.decision.objects.push(gateway);
            self.follow(&name, &digest.unwrap_or_default());
        }
        self.judge(&plan, &found, exhausted, same);
        if tls && !self.settings.ring_tls && self.findings.get(ConditionType::Degraded).is_none() && !suspended {
            self.findings.set(
                ConditionType::Degraded,
                Truth::True,
                Cause::new(
                    "TransportNotSecured",
                    "transport.security is MutualTLS, but the operator runs without --ring-tls, so the workers speak plain \
                     text to one another and only the NetworkPolicy keeps others out. Set operator.ringTLS: true in the \
                     chart's values, or transport.security: Plaintext if the network is trusted",
                ),
            );
        }
        let ready = self.findings.get(ConditionType::Ready).is_some_and(|(truth, _)| truth == Truth::True);
        if ready && self.findings.get(ConditionType::Degraded).is_none() {
            let class = self.wish.spec.nodes.runtime_class_name.as_deref();
            if let Some(cause) = accelerators::unused(&plan, &self.snapshot.profiles, class) {
                self.findings.set(ConditionType::Degraded, Truth::True, cause);
            }
        }
    }

    fn account(&mut self, found: &[Shard], same_plan: bool) {
        let same_wish = self.before.observed_generation == Some(self.wish.generation);
        let before = self.before.failures.as_ref().filter(|_| same_wish);
        let shards_before: &[_] = if same_plan { &self.before.shards } else { &[] };
        let exhausted = failures::exhausted(&self.wish.spec.failure, before);
        let after = match before.filter(|_| exhausted) {
            // What stopped the deployment is shown until its spec changes.
            Some(stopped) => Some(stopped.clone()),
            None => failures::account(before, shards_before, found, self.snapshot.now),
        };
        let count = |status: Option<&lime_api::FailureStatus>| status.map_or(0, |status| status.restarts);
        if count(after.as_ref()) > count(before) {
            let message = after.as_ref().and_then(|status| status.last_message.clone()).unwrap_or_default();
            self.note("ShardCrashed", message, true);
        }
        if !exhausted && failures::exhausted(&self.wish.spec.failure, after.as_ref()) {
            let most = self.wish.spec.failure.max_restarts;
            let first = after.as_ref().and_then(|status| status.first_message.clone()).unwrap_or_default();
            let text = format!("more than {most} restarts; the first failure: {first}");
            self.note("RestartBudgetExhausted", text, true);
        }
        self.decision.status.failures = after;
        self.decision.status.shards = found.iter().map(|shard| shard.status.clone()).collect();
    }

    fn note(&mut self, reason: &'static str, message: String, warning: bool) {
        self.decision.notes.push(Note { reason, message, warning });
    }

    fn finish(mut self) -> Decision {
        if self.snapshot.cpu_limits {
            build::limit_processors(&mut self.decision.objects, &self.snapshot.nodes);
        }
        self.tidy_plans();
        self.tell_of_changes();
        let ready = self.findings.get(ConditionType::Ready).is_some_and(|(truth, _)| truth == Truth::True);
        let was =
            self.before.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
        if ready && !was {
            self.note("Ready", "requests are answered".into(), false);
        } else if was && !ready {
            let ready = || self.findings.get(ConditionType::Ready).map(|(_, cause)| cause);
            let why = self.findings.deepest().map(|(_, cause)| cause).or_else(ready).map(|cause| cause.message.clone());
            let why = why.filter(|why| !why.trim().is_empty());
            let why = why.unwrap_or_else(|| "the ring does not answer".into());
            // What somebody asked for is no bad news.
            let asleep = self.wish.spec.asleep();
            self.note(if asleep { "Suspended" } else { "NotReady" }, why, !asleep);
        }
        if ready {
            let pending =
                self.findings.get(ConditionType::Replanning).is_some_and(|(truth, _)| truth == Truth::Unknown);
            self.decision.revisit = if pending { self.decision.revisit } else { self.settled_for };
        } else if self.findings.get(ConditionType::Replanning).is_some_and(|(truth, _)| truth == Truth::True) {
            // A ring that is back by the new plan changes no object: it is asked.
            self.decision.revisit = self.decision.revisit.min(REPLANNING);
        }
        let conditions =
            self.findings.into_conditions(&self.before.conditions, self.wish.generation, self.snapshot.now);
        let status = &mut self.decision.status;
        status.observed_generation = Some(self.wish.generation);
        status.operator = Some(self.settings.namespace.clone());
        status.conditions = conditions;
        status.model = status.model.take().or(self.before.model);
        status.last_replan = status.last_replan.take().or(self.before.last_replan);
        if status.recent_replans.is_empty() {
            status.recent_replans = self.before.recent_replans;
        }
        self.decision
    }
}

/// A plan's place in the succession of plans: the second in which it came into force.
fn generation(status: &LimePlanStatus) -> u64 {
    let at = status.activated_at.as_ref().map_or(0, |time| time.0.as_second());
    u64::try_from(at).unwrap_or_default()
}

fn taken(bytes: i64) -> Bytes {
    Bytes(u64::try_from(bytes).unwrap_or_default())
}

#[cfg(test)]
mod tests;
