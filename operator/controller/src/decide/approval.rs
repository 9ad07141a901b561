//! Planned and Approved: which plan is in force from now on.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use lime_api::{Approval, ConditionType, LimePlan, PlanState, ShortfallReason};

use super::{Deciding, plans::counted};
use crate::{
    candidates::Candidates,
    conditions::{Cause, Truth},
    planning,
    triggers::{ReplanDecision, Trigger},
};

impl Deciding<'_> {
    /// Planned and Approved: which plan is in force from now on.
    pub(super) fn approve(
        &mut self,
        current: Option<Arc<LimePlan>>,
        made: Option<Arc<LimePlan>>,
        replan: &ReplanDecision,
        candidates: &Candidates,
    ) -> Option<Arc<LimePlan>> {
        let feasible = made.clone().filter(|plan| plan.spec.feasible);
        match (&made, &feasible, &current) {
            (Some(plan), None, _) => {
                let shortfall = plan.spec.shortfall.clone().unwrap_or_default();
                let reason = match shortfall.reason {
                    ShortfallReason::TooFewNodes => "TooFewNodes",
                    ShortfallReason::Infeasible => "Infeasible",
                };
                self.findings.fails(ConditionType::Planned, Cause::new(reason, shortfall.message));
                self.decision.plan_states.push((plan.name_any(), self.state(plan, PlanState::Infeasible)));
            }
            (None, _, None) => {}
            (_, Some(plan), _) | (None, None, Some(plan)) => {
                let prediction = plan.spec.prediction.clone().unwrap_or_default();
                let mut message = format!(
                    "{}: {}, {} of the weights from disk, {} ms per token predicted",
                    plan.name_any(),
                    counted(plan.spec.nodes, "node"),
                    plan.spec.offloaded.as_deref().unwrap_or("0%"),
                    planning::shown(prediction.time_per_token_microseconds)
                );
                for missed in &plan.spec.missed {
                    message = format!("{message}; {missed}");
                }
                self.findings.holds(ConditionType::Planned, "Planned", message);
            }
        }
        if let Some(made) = feasible.as_ref().filter(|made| !self.answers(made)) {
            // The wish changed and its plan did not: that is known from now on.
            self.answering.insert(made.name_any());
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
            let (trigger, why) = match replan {
                ReplanDecision::Replan(trigger, why) | ReplanDecision::TryBetter(trigger, why) => {
                    (*trigger, why.as_str())
                }
                _ => (Trigger::SpecChanged, "it was approved"),
            };
            self.decision.status.last_replan = Some(Time(self.snapshot.now));
            if let Some(old) = old {
                if trigger.counts() {
                    self.count_replan();
                }
                self.note("PlanSuperseded", format!("{old} is replaced by {name} ({})", trigger.reason()), false);
                self.note("ReplanStarted", format!("{name} is being put in force ({})", trigger.reason()), false);
                let why = Cause::new(trigger.reason(), format!("{name} is being put in force: {why}"));
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
            if stale.is_none() || (in_force && self.for_another_wish(&plan).is_none() && proposal.is_none()) {
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
            let command = lime_api::approval_command(&self.wish.namespace, &self.wish.name, name);
            format!("to approve: {command}")
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
}
