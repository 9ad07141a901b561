//! Plans: one is made when it is due, found again where the answer is the same, and removed when nobody needs it.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{ResourceExt as _, core::ObjectMeta};
use lime_api::{Approval, LimePlan, LimePlanStatus, PlanPrediction, PlanState};
use lime_plan::ModelCard;

use super::Deciding;
use crate::{
    candidates::Candidates,
    names, planning,
    snapshot::Tried,
    triggers::{self, ReplanDecision},
};

/// Plans out of force that are kept to be read.
const KEPT_PLANS: usize = 5;
/// Most wishes that are noted of a plan beside the one that it was made for.
const KEPT_ANSWERS: usize = 16;
/// Most vain tries that are remembered.
const MOST_TRIED: usize = 1024;

impl Deciding<'_> {
    /// A plan, if one is due: one that exists already where the answer is the same.
    pub(super) fn make(
        &mut self,
        card: &ModelCard,
        candidates: &Candidates,
        replan: &ReplanDecision,
    ) -> Option<Arc<LimePlan>> {
        let (trigger, message, better) = match replan {
            ReplanDecision::Replan(trigger, message) => (*trigger, message, false),
            ReplanDecision::TryBetter(trigger, message) => (*trigger, message, true),
            _ => return None,
        };
        if candidates.nodes.is_empty() {
            return None;
        }
        if let Some(waiting) = self.waiting_proposal(candidates) {
            return Some(waiting);
        }
        let figures = Tried::Figures(planning::figures_hash(self.wish, card, candidates));
        let nodes = candidates.nodes.iter().map(|node| Tried::Node(node.name.clone()));
        let all_tried = nodes.clone().chain([figures.clone()]).all(|what| self.decision.tried.contains(&what));
        if better && all_tried {
            return None;
        }
        let hash = planning::infeasible_hash(self.wish, card, candidates);
        let known = self.snapshot.plans.iter().find(|plan| !plan.spec.feasible && plan.spec.input_hash == hash);
        if let Some(known) = known.filter(|_| !better) {
            return Some(known.clone());
        }
        let spec = planning::make(self.wish, card, candidates, self.settings.worker_overhead());
        if better {
            let new = spec.prediction.as_ref().map(PlanPrediction::request);
            if !spec.feasible || !triggers::worth_it(&self.wish.spec.placement, self.running, new) {
                let least = self.wish.spec.placement.replan.min_improvement_percent;
                if self.decision.tried.len() > MOST_TRIED {
                    self.decision.tried.clear();
                }
                self.decision.tried.extend(nodes.chain([figures]));
                if trigger.is_news() {
                    let why = "a new plan would not be faster by replan.minImprovementPercent";
                    self.note("ReplanSuppressed", format!("{message}; {why} ({least} %)"), false);
                }
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
            let speed = spec.prediction.as_ref().map_or(0, |prediction| prediction.time_per_token_microseconds);
            let (speed, nodes) = (planning::shown(speed), counted(spec.nodes, "node"));
            self.note(
                "PlanComputed",
                format!("{name}: {nodes}, {speed} ms per token predicted ({})", trigger.reason()),
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
                owner_references: Some(vec![self.wish.owner()]),
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

    /// Why a plan is not what is wished for: the spec is another, or the same spec means other tokens to this version than to
    /// the one that made the plan. (One that cannot be read is refused elsewhere.)
    pub(super) fn for_another_wish(&self, plan: &LimePlan) -> Option<String> {
        let name = plan.name_any();
        if !self.answers(plan) {
            return Some(format!("{name} was made for another spec"));
        }
        let made = planning::document(&plan.spec).ok()?;
        let wished = self.wish.kv(&made.model);
        (made.kv != wished)
            .then(|| format!("{name} keeps KV entries in {}, this version keeps them in {wished}", made.kv))
    }

    /// Why a plan may not run any more.
    pub(super) fn stale(&self, plan: &LimePlan, candidates: &Candidates) -> Option<String> {
        self.for_another_wish(plan).or_else(|| self.unable(plan, candidates))
    }

    /// Why a plan cannot run, whatever it was made for.
    pub(super) fn unable(&self, plan: &LimePlan, candidates: &Candidates) -> Option<String> {
        let name = plan.name_any();
        if let Err(fault) = planning::document(&plan.spec) {
            return Some(format!("{name} cannot be followed: {fault}"));
        }
        let missing =
            plan.spec.assignments.iter().find(|part| candidates.nodes.iter().all(|node| node.name != part.node));
        missing.map(|part| format!("{name} needs the node {}, which cannot take part now", part.node))
    }

    /// The status of a plan that is in `state` now.
    pub(super) fn state(&self, plan: &LimePlan, state: PlanState) -> LimePlanStatus {
        let before = plan.status.as_ref();
        let activated_at = before.and_then(|status| status.activated_at.clone());
        let goes_on = before.is_some_and(|status| status.state == PlanState::Active) && activated_at.is_some();
        let activated_at =
            if state == PlanState::Active && !goes_on { Some(Time(self.activation())) } else { activated_at };
        let mut answers = before.map(|status| status.answers.clone()).unwrap_or_default();
        let wish = self.wish.hash();
        if self.answering.contains(&plan.name_any()) && !answers.contains(&wish) {
            answers.push(wish);
            answers.drain(..answers.len().saturating_sub(KEPT_ANSWERS));
        }
        LimePlanStatus { state, activated_at, answers }
    }

    /// The moment in which a plan comes into force: now, and later than any other did, whatever an earlier leader's clock said.
    fn activation(&self) -> Timestamp {
        let statuses = self.snapshot.plans.iter().filter_map(|plan| plan.status.as_ref()?.activated_at.as_ref());
        let last = statuses.map(|time| time.0.as_second()).max();
        let after = last.and_then(|last| Timestamp::from_second(last.saturating_add(1)).ok());
        after.map_or(self.snapshot.now, |after| after.max(self.snapshot.now))
    }

    /// States of the plans that are out of force, and those that go.
    pub(super) fn tidy_plans(&mut self) {
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

/// `1 node`, `3 nodes`.
pub(super) fn counted(number: i32, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
