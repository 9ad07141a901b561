//! What should be, from what is. Pure: a [`Snapshot`] in, a [`Decision`] out; the same snapshot gives the same decision.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{ResourceExt as _, core::ObjectMeta};
use lime_api::{
    Approval, ConditionType, EndpointStatus, LimeDeploymentStatus, LimePlan, LimePlanSpec, LimePlanStatus, ModelStatus,
    PerformanceFigures, PerformanceStatus, PlanState, ShardState, TransportSecurity,
};
use lime_planner::{Bytes, ModelCard};

use crate::{
    build::{self, Object},
    candidates::{self, Candidates},
    card::{self, Known},
    conditions::{Cause, Findings, Truth},
    failures, names, planning,
    settings::Settings,
    shards::{self, Shard},
    snapshot::Snapshot,
    triggers::{self, Since, Situation, Trigger, Verdict},
    wish::Wish,
};

mod readiness;

/// Plans out of force that are kept to be read.
const KEPT_PLANS: usize = 5;
/// Seconds until the next visit of a deployment that serves.
const SETTLED: i64 = 30;
/// Seconds until the next visit of one that does not.
const UNSETTLED: i64 = 5;

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
    /// Nodes that a new plan was tried with and did not gain enough.
    pub tried: BTreeSet<String>,
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
            let status = LimeDeploymentStatus { conditions, observed_generation: Some(generation), ..before };
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
}

impl<'a> Deciding<'a> {
    fn new(snapshot: &'a Snapshot, settings: &'a Settings, wish: &'a Wish) -> Self {
        let before = snapshot.deployment.status.clone().unwrap_or_default();
        let tried = snapshot.tried.clone();
        let decision = Decision { prune: true, revisit: UNSETTLED, tried, ..Decision::default() };
        Self { snapshot, settings, wish, before, findings: Findings::default(), decision }
    }

    fn decide(mut self) -> Decision {
        let card = self.model();
        let candidates = candidates::candidates(self.snapshot, self.wish);
        self.profiled(&candidates);
        let current = self.current();
        let (verdict, lost) = self.look(current.as_deref(), &candidates);
        let made = card.as_ref().and_then(|card| self.make(card, &candidates, current.as_deref(), &verdict));
        let in_force = self.approve(current, made, &verdict, &candidates);
        self.serve(in_force, &verdict, &lost);
        self.finish()
    }

    /// Accepted: what is known of the model.
    fn model(&mut self) -> Option<ModelCard> {
        let source = self.wish.source.to_string();
        match card::known(self.snapshot, self.wish) {
            Known::Card { card, revision, stored } => {
                let message = format!("{source} is a {:?} model of {} layers", card.architecture, card.layers);
                self.findings.holds(ConditionType::Accepted, "Accepted", message);
                self.decision.status.model = Some(model_status(&card, revision));
                self.decision.objects.push(build::card(self.wish, &stored));
                Some(*card)
            }
            Known::Wait(cause) => {
                self.decision.objects.push(build::inspection(self.wish, self.settings));
                // While a refused model is inspected again, the last answer stands.
                let told = self.before.conditions.iter().find(|condition| {
                    condition.type_ == "Accepted"
                        && condition.status == "False"
                        && condition.observed_generation == Some(self.wish.generation)
                });
                let cause =
                    match told.filter(|_| self.before.model.is_none()).map(|told| (told, known_reason(&told.reason))) {
                        Some((told, Some(reason))) => Cause::new(reason, told.message.clone()),
                        _ => cause,
                    };
                let truth = if cause.reason == "Inspecting" { Truth::Unknown } else { Truth::False };
                self.findings.set(ConditionType::Accepted, truth, cause);
                None
            }
            Known::Refused(cause) => {
                // The Job stays until Kubernetes removes it; then the model is looked at again.
                self.decision
                    .objects
                    .extend((cause.reason != "TokenMissing").then(|| build::inspection(self.wish, self.settings)));
                self.findings.fails(ConditionType::Accepted, cause);
                None
            }
        }
    }

    fn profiled(&mut self, candidates: &Candidates) {
        match candidates.shortage() {
            Some(cause) => self.findings.fails(ConditionType::Profiled, cause),
            None => {
                let (able, matching) = (candidates.nodes.len(), candidates.matching);
                let mut message = format!("{able} of {matching} matching nodes can take part");
                if !candidates.rejected.is_empty() {
                    let left_out: Vec<String> = candidates
                        .rejected
                        .iter()
                        .take(10)
                        .map(|node| format!("{} ({})", node.node, node.reason))
                        .collect();
                    message = format!("{message}; left out: {}", left_out.join(", "));
                }
                self.findings.holds(ConditionType::Profiled, "Profiled", message);
            }
        }
    }

    /// The plan in force, if it can still be read.
    fn current(&mut self) -> Option<Arc<LimePlan>> {
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
    fn look(&mut self, current: Option<&LimePlan>, candidates: &Candidates) -> (Verdict, Vec<String>) {
        let snapshot = self.snapshot;
        let nodes: BTreeMap<String, _> = snapshot.nodes.iter().map(|node| (node.name_any(), node)).collect();
        let profiles: BTreeMap<String, _> =
            snapshot.profiles.iter().map(|profile| (profile.name_any(), profile)).collect();
        let (mut lost, mut why_lost, mut draining, mut pressed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for assignment in current.iter().flat_map(|plan| &plan.spec.assignments) {
            let name = &assignment.node;
            let node = nodes.get(name).copied();
            if let Some(why) = readiness::lost(snapshot, self.wish, name, node) {
                lost.push(name.clone());
                why_lost.push(why);
                continue;
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
                Err(("NoMemoryLeft", why)) => pressed.push(why),
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
        let added: Vec<String> = candidates
            .nodes
            .iter()
            .filter(|node| current.is_some() && !known.contains(node.name.as_str()))
            .filter(|node| !snapshot.tried.contains(&node.name))
            .map(|node| format!("{} can take part", node.name))
            .collect();
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
            stale_wish: current.is_some_and(|plan| plan.spec.wish_hash != self.wish.hash()),
            lost: why_lost,
            draining,
            pressed,
            added,
            since,
            replans: self.replans(),
        };
        (triggers::verdict(&situation), lost)
    }

    /// When plans came into force, the first one left out.
    fn replans(&self) -> Vec<Timestamp> {
        let statuses = self.snapshot.plans.iter().filter_map(|plan| plan.status.as_ref()?.activated_at.as_ref());
        let mut times: Vec<Timestamp> = statuses.map(|time| time.0).collect();
        times.sort_unstable();
        times.into_iter().skip(1).collect()
    }

    /// A plan, if one is due: one that exists already where the answer is the same.
    fn make(
        &mut self,
        card: &ModelCard,
        candidates: &Candidates,
        current: Option<&LimePlan>,
        verdict: &Verdict,
    ) -> Option<Arc<LimePlan>> {
        let (trigger, message, better) = match verdict {
            Verdict::Replan(trigger, message) => (*trigger, message, false),
            Verdict::TryBetter(trigger, message) => (*trigger, message, true),
            _ => return None,
        };
        if candidates.nodes.is_empty() {
            return None;
        }
        if let Some(waiting) = self.waiting_proposal(candidates) {
            return Some(waiting);
        }
        let hash = planning::infeasible_hash(self.wish, card, candidates);
        let known = self.snapshot.plans.iter().find(|plan| !plan.spec.feasible && plan.spec.input_hash == hash);
        if let Some(known) = known.filter(|_| !better) {
            return Some(known.clone());
        }
        let spec = planning::make(self.wish, card, candidates, self.settings.worker_overhead());
        if better {
            let time =
                |spec: &LimePlanSpec| spec.prediction.as_ref().map(|prediction| prediction.time_per_token_microseconds);
            let old = current.and_then(|plan| time(&plan.spec));
            if !spec.feasible || !triggers::worth_it(&self.wish.spec.placement, old, time(&spec)) {
                let least = self.wish.spec.placement.replan.min_improvement_percent;
                self.decision.tried = candidates.nodes.iter().map(|node| node.name.clone()).collect();
                self.note(
                    "ReplanSuppressed",
                    format!(
                        "{message}; a plan with it would not be faster by replan.minImprovementPercent ({least} %)"
                    ),
                    false,
                );
                return None;
            }
        }
        let name = names::plan(&self.wish.name, &spec.input_hash);
        if let Some(known) = self.snapshot.plans.iter().find(|plan| plan.name_any() == name) {
            // A plan written or changed by hand under this name is not ours to follow.
            if known.spec.document == spec.document {
                return Some(known.clone());
            }
        }
        if spec.feasible {
            let speed = spec.prediction.as_ref().map_or(0, |prediction| prediction.time_per_token_milliseconds);
            self.note(
                "PlanComputed",
                format!("{name}: {} nodes, {speed} ms per token ({})", spec.nodes, trigger.reason()),
                false,
            );
        } else {
            let shortfall = spec.shortfall.as_ref().map_or("nothing fits", |shortfall| &shortfall.message);
            self.note("PlanInfeasible", shortfall.to_owned(), true);
        }
        let plan = LimePlan {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(self.wish.namespace.clone()),
                labels: Some(names::labels(&self.wish.name, "plan")),
                owner_references: serde_json::from_value(self.wish.owner()).ok(),
                ..ObjectMeta::default()
            },
            spec,
            status: None,
        };
        self.decision.new_plan = Some(plan.clone());
        Some(Arc::new(plan))
    }

    /// With approval: Manual, the plan that waits already, as long as it could still run.
    fn waiting_proposal(&self, candidates: &Candidates) -> Option<Arc<LimePlan>> {
        if self.wish.spec.placement.approval == Approval::Automatic {
            return None;
        }
        let name = self.before.proposed_plan.as_deref()?;
        let plan = self.snapshot.plans.iter().find(|plan| plan.name_any() == name)?;
        self.stale(plan, candidates).is_none().then(|| plan.clone())
    }

    /// Why a plan may not run any more.
    fn stale(&self, plan: &LimePlan, candidates: &Candidates) -> Option<String> {
        let name = plan.name_any();
        if plan.spec.wish_hash != self.wish.hash() {
            return Some(format!("{name} was made for another spec"));
        }
        if let Err(fault) = planning::document(&plan.spec) {
            return Some(format!("{name} cannot be followed: {fault}"));
        }
        let missing =
            plan.spec.assignments.iter().find(|part| candidates.nodes.iter().all(|node| node.name != part.node));
        missing.map(|part| format!("{name} needs the node {}, which cannot take part now", part.node))
    }

    /// Planned and Approved: which plan is in force from now on.
    fn approve(
        &mut self,
        current: Option<Arc<LimePlan>>,
        made: Option<Arc<LimePlan>>,
        verdict: &Verdict,
        candidates: &Candidates,
    ) -> Option<Arc<LimePlan>> {
        let feasible = made.clone().filter(|plan| plan.spec.feasible);
        match (&made, &feasible, &current) {
            (Some(plan), None, _) => {
                let shortfall = plan.spec.shortfall.clone().unwrap_or_default();
                let few = shortfall.message.starts_with("spec.nodes.minCount");
                let reason = if few { "TooFewNodes" } else { "Infeasible" };
                self.findings.fails(ConditionType::Planned, Cause::new(reason, shortfall.message));
                self.decision.plan_states.push((plan.name_any(), self.state(plan, PlanState::Infeasible)));
            }
            (None, _, None) => {}
            (_, Some(plan), _) | (None, None, Some(plan)) => {
                let prediction = plan.spec.prediction.clone().unwrap_or_default();
                let mut message = format!(
                    "{}: {} nodes, {} of the weights from disk, {} ms per token predicted",
                    plan.name_any(),
                    plan.spec.nodes,
                    plan.spec.offloaded.as_deref().unwrap_or("0%"),
                    prediction.time_per_token_milliseconds
                );
                for missed in &plan.spec.missed {
                    message = format!("{message}; {missed}");
                }
                self.findings.holds(ConditionType::Planned, "Planned", message);
            }
        }
        let chosen = match self.wish.spec.placement.approval {
            Approval::Automatic => {
                let chosen = feasible.or_else(|| current.clone());
                if chosen.is_some() {
                    self.findings.holds(ConditionType::Approved, "Automatic", "plans take effect at once");
                }
                chosen
            }
            Approval::Manual => self.approved_by_hand(current.clone(), feasible, candidates),
        };
        let (old, new) = (current.as_ref().map(|plan| plan.name_any()), chosen.as_ref().map(|plan| plan.name_any()));
        if let (true, Some(plan)) = (old != new, &chosen) {
            let name = plan.name_any();
            let trigger = match verdict {
                Verdict::Replan(trigger, _) | Verdict::TryBetter(trigger, _) => *trigger,
                _ => Trigger::SpecChanged,
            };
            self.decision.status.last_replan = Some(Time(self.snapshot.now));
            if let Some(old) = old {
                self.note("PlanSuperseded", format!("{old} is replaced by {name} ({})", trigger.reason()), false);
                self.note("ReplanStarted", format!("{name} is being put in force ({})", trigger.reason()), false);
                let why = Cause::new(trigger.reason(), format!("{name} is being put in force"));
                self.findings.set(ConditionType::Replanning, Truth::True, why);
            }
        }
        chosen
    }

    fn approved_by_hand(
        &mut self,
        current: Option<Arc<LimePlan>>,
        proposal: Option<Arc<LimePlan>>,
        candidates: &Candidates,
    ) -> Option<Arc<LimePlan>> {
        let approved = self.wish.spec.placement.approved_plan.clone();
        let named = approved.as_ref().and_then(|approved| {
            let known = self.snapshot.plans.iter().chain(proposal.as_ref());
            known.into_iter().find(|plan| plan.name_any() == *approved).cloned()
        });
        if let Some(plan) = named.clone().filter(|plan| plan.spec.feasible) {
            let in_force = current.as_ref().is_some_and(|current| current.name_any() == plan.name_any());
            let stale = self.stale(&plan, candidates);
            // A plan that runs goes on while its nodes come and go; a new one must be able to run.
            if stale.is_none() || (in_force && plan.spec.wish_hash == self.wish.hash() && proposal.is_none()) {
                if !in_force {
                    self.note("PlanApproved", format!("{} was approved", plan.name_any()), false);
                }
                self.findings.holds(ConditionType::Approved, "Approved", format!("{} was approved", plan.name_any()));
                return Some(plan);
            }
        }
        let waiting = proposal.as_ref().map(|plan| plan.name_any());
        self.decision.status.proposed_plan = waiting.clone();
        let state = proposal.as_ref().map(|plan| (plan.name_any(), self.state(plan, PlanState::Proposed)));
        self.decision.plan_states.extend(state);
        let how = waiting.as_ref().map(|name| {
            format!(
                "to approve: kubectl -n {} patch limedeployment {} --type merge -p '{{\"spec\":{{\"placement\":{{\"approvedPlan\":\"{name}\"}}}}}}'",
                self.wish.namespace, self.wish.name
            )
        });
        let cause = match (&approved, &named, &waiting) {
            (Some(approved), None, _) => Some(Cause::new(
                "ApprovedPlanStale",
                format!("there is no LimePlan {approved}; {}", how.unwrap_or_default()),
            )),
            (Some(_), Some(plan), _) => {
                let why =
                    self.stale(plan, candidates).unwrap_or_else(|| format!("{} is not feasible", plan.name_any()));
                Some(Cause::new("ApprovedPlanStale", format!("{why}; {}", how.unwrap_or_default())))
            }
            (None, _, Some(name)) => {
                Some(Cause::new("AwaitingApproval", format!("{name} awaits approval; {}", how.unwrap_or_default())))
            }
            (None, _, None) => None,
        };
        if let Some(cause) = cause {
            if cause.reason == "AwaitingApproval" && self.before.proposed_plan != self.decision.status.proposed_plan {
                self.note("PlanAwaitingApproval", cause.message.clone(), false);
            }
            self.findings.fails(ConditionType::Approved, cause);
        } else if current.is_some() {
            self.findings.holds(ConditionType::Approved, "Approved", "the plan in force was approved");
        }
        current
    }

    /// Pods, gateway and what they say: WeightsReady, ShardsReady, Ready, Degraded, Replanning.
    fn serve(&mut self, in_force: Option<Arc<LimePlan>>, verdict: &Verdict, lost: &[String]) {
        match verdict {
            Verdict::Wait(trigger, message, until) => {
                let text = format!("{message}; a new plan is made if this lasts until {until}");
                self.findings.set(ConditionType::Replanning, Truth::Unknown, Cause::new(trigger.reason(), text));
                let left = until.as_second().saturating_sub(self.snapshot.now.as_second());
                self.decision.revisit = self.decision.revisit.min(left.max(1));
            }
            Verdict::Suppressed(trigger, message) => {
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
        self.decision.plan_states.push((name.clone(), self.state(&plan, PlanState::Active)));
        self.decision.taken =
            plan.spec.assignments.iter().map(|part| (part.node.clone(), taken(part.memory_bytes))).collect();
        let found = shards::shards(self.snapshot, &plan, lost);
        self.account(&found, same);
        let exhausted = failures::exhausted(&self.wish.spec.failure, self.decision.status.failures.as_ref());
        let suspended = self.wish.spec.suspend;
        let tls = self.wish.spec.transport.security == TransportSecurity::MutualTls;
        self.decision.certificates = tls;
        self.decision.objects.extend(build::standing(self.wish));
        self.decision.objects.push(build::plan_file(self.wish, &plan));
        if suspended {
            self.decision.taken.clear();
        } else if !exhausted {
            let workers = build::workers(self.wish, &plan, self.settings);
            self.decision.objects.extend(workers);
            let over = found.iter().filter(|shard| shard.over && shard.status.state != ShardState::Lost);
            self.decision.finished_pods = over.map(|shard| shard.pod.clone()).collect();
            let pods = self.snapshot.pods.iter().filter(|pod| found.iter().any(|shard| shard.pod == pod.name_any()));
            let deaf = pods.filter(|pod| !build::speaks(pod, self.wish, self.settings));
            self.decision.finished_pods.extend(deaf.map(|pod| pod.name_any()));
            self.decision.objects.extend(build::gateway(self.wish, &plan, &found, self.settings));
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

    fn state(&self, plan: &LimePlan, state: PlanState) -> LimePlanStatus {
        let before = plan.status.as_ref().and_then(|status| status.activated_at.clone());
        let activated_at = if state == PlanState::Active { before.or(Some(Time(self.snapshot.now))) } else { before };
        LimePlanStatus { state, activated_at }
    }

    fn note(&mut self, reason: &'static str, message: String, warning: bool) {
        self.decision.notes.push(Note { reason, message, warning });
    }

    fn finish(mut self) -> Decision {
        self.tidy_plans();
        let ready = self.findings.get(ConditionType::Ready).is_some_and(|(truth, _)| truth == Truth::True);
        let was =
            self.before.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
        if ready && !was {
            self.note("Ready", "requests are answered".into(), false);
        } else if was && !ready {
            let why = self.findings.deepest().map(|(_, cause)| cause.message.clone()).unwrap_or_default();
            self.note("NotReady", why, true);
        }
        if ready {
            let pending =
                self.findings.get(ConditionType::Replanning).is_some_and(|(truth, _)| truth == Truth::Unknown);
            self.decision.revisit = if pending { self.decision.revisit } else { SETTLED };
        }
        let conditions =
            self.findings.into_conditions(&self.before.conditions, self.wish.generation, self.snapshot.now);
        let status = &mut self.decision.status;
        status.observed_generation = Some(self.wish.generation);
        status.conditions = conditions;
        status.model = status.model.take().or(self.before.model);
        status.last_replan = status.last_replan.take().or(self.before.last_replan);
        self.decision
    }

    /// States of the plans that are out of force, and those that go.
    fn tidy_plans(&mut self) {
        let named: BTreeSet<String> = [&self.decision.status.current_plan, &self.decision.status.proposed_plan]
            .into_iter()
            .flatten()
            .cloned()
            .chain(self.decision.plan_states.iter().map(|(name, _)| name.clone()))
            .collect();
        let mut out: Vec<&Arc<LimePlan>> =
            self.snapshot.plans.iter().filter(|plan| !named.contains(&plan.name_any())).collect();
        out.sort_by_key(|plan| std::cmp::Reverse((plan.creation_timestamp().map(|time| time.0), plan.name_any())));
        let approved = self.wish.spec.placement.approved_plan.as_deref();
        for (index, plan) in out.into_iter().enumerate() {
            let name = plan.name_any();
            if index >= KEPT_PLANS && approved != Some(name.as_str()) {
                self.decision.old_plans.push(name);
            } else if plan.spec.feasible {
                self.decision.plan_states.push((name, self.state(plan, PlanState::Superseded)));
            } else {
                self.decision.plan_states.push((name, self.state(plan, PlanState::Infeasible)));
            }
        }
    }
}

fn taken(bytes: i64) -> Bytes {
    Bytes(u64::try_from(bytes).unwrap_or_default())
}

fn model_status(card: &ModelCard, revision: Option<String>) -> ModelStatus {
    let whole = |value: u64| i64::try_from(value).ok();
    ModelStatus {
        revision,
        architecture: Some(format!("{:?}", card.architecture).to_lowercase()),
        layers: i32::try_from(card.layers).ok(),
        parameters: whole(card.parameters),
        weight_bytes: whole(card.weight_bytes().0),
        dtype: Some(card.dtype.to_string()),
    }
}

/// Reasons of Accepted that are repeated as they were told.
fn known_reason(reason: &str) -> Option<&'static str> {
    const REASONS: [&str; 6] = [
        "ModelNotFound",
        "ModelGated",
        "UnsupportedArchitecture",
        "SourceUnreachable",
        "ModelDamaged",
        "InspectionFailed",
    ];
    REASONS.into_iter().find(|known| *known == reason)
}

/// Where clients find the model, and the speed that they get.
fn endpoint(wish: &Wish) -> EndpointStatus {
    let url = format!("http://{}.{}.svc:{}/v1", wish.name, wish.namespace, wish.spec.endpoint.port);
    EndpointStatus { url: Some(url) }
}

fn performance(plan: &LimePlan, before: &LimeDeploymentStatus, snapshot: &Snapshot) -> PerformanceStatus {
    let predicted = plan.spec.prediction.as_ref().map(|prediction| PerformanceFigures {
        time_to_first_token_milliseconds: Some(prediction.time_to_first_token_milliseconds),
        time_per_token_milliseconds: Some(prediction.time_per_token_milliseconds),
    });
    let earlier = before.performance.as_ref().and_then(|performance| performance.measured.clone()).unwrap_or_default();
    let ring = snapshot.ring.as_ref();
    let measured = PerformanceFigures {
        time_to_first_token_milliseconds: moved(
            earlier.time_to_first_token_milliseconds,
            ring.and_then(|ring| ring.time_to_first_token_milliseconds),
        ),
        time_per_token_milliseconds: moved(
            earlier.time_per_token_milliseconds,
            ring.and_then(|ring| ring.time_per_token_milliseconds),
        ),
    };
    PerformanceStatus {
        predicted,
        measured: Some(measured).filter(|figures| *figures != PerformanceFigures::default()),
    }
}

/// A figure is shown anew when it moved by a tenth: status writes are not for noise.
fn moved(before: Option<i32>, now: Option<i32>) -> Option<i32> {
    match (before, now) {
        (Some(before), Some(now)) if (i64::from(now) - i64::from(before)).abs() * 10 < i64::from(before) => {
            Some(before)
        }
        (before, now) => now.or(before),
    }
}

#[cfg(test)]
mod tests;
