//! What changed since the plan in force was made, and whether a new one is due.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::ResourceExt as _;
use lime_api::{ConditionType, LimePlan, LostLink, PlanPrediction, RejectedNode};
use lime_plan::{Bytes, DevicePlan, ModelCard, Nanos, Plan};

use super::{
    Deciding,
    readiness::{self, NodePresence},
};
use crate::{
    candidates::{self, Candidates, LINK_LOST, NO_MEMORY_LEFT, SCHEDULER_REFUSED},
    conditions::{Cause, Truth},
    links::{self, Ends},
    planning, shards,
    snapshot::{RingCause, Tried},
    triggers::{self, ReplanDecision, Since, Situation, Trigger},
};

/// Most replans that are remembered: as many as the status may hold.
const REMEMBERED_REPLANS: usize = 100;
/// A twentieth less memory than was planned with is no pressure: profiles are written when a figure moves by a tenth.
const GRAIN: u64 = 20;
/// Seconds for which the scheduler's word on a node is believed.
const BELIEVED: i64 = 3600;

/// Seconds for which memory must be missing until it is told: what agents see and what workers say they hold are not of one moment, and a
/// ring that has just loaded looks short of what its own workers took.
const TOLD_AFTER: i64 = 5;

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

    /// Links that are lost still, of those that were.
    pub(super) fn lost_before(&self, current: Option<&LimePlan>) -> Vec<LostLink> {
        let serving = current.filter(|plan| self.is_served(plan)).and_then(|plan| planning::document(&plan.spec).ok());
        let answering = serving.as_ref().map(links::used).unwrap_or_default();
        links::still(&self.before.lost_links, &self.snapshot.profiles, &answering, self.snapshot.now)
    }

    /// The link that keeps the ring of the plan in force from serving, as its gateway says: one that the plan uses.
    fn cut(&self, current: Option<&LimePlan>, document: Option<&Plan>) -> Option<Ends> {
        let name = current?.name_any();
        let ring = self.snapshot.ring.as_ref().filter(|ring| ring.plan == name && !ring.ready)?;
        let Some(RingCause::Link(ends)) = &ring.cause else { return None };
        links::used(document?).contains(ends).then(|| ends.clone())
    }

    /// Notes what is lost from now on, where a plan without it is due.
    pub(super) fn note_lost_links(&mut self, before: Vec<LostLink>, replan: &ReplanDecision) -> Vec<Ends> {
        let mut lost = before;
        if let (ReplanDecision::Replan(Trigger::LinkLost, _), Some(ends)) = (replan, self.missing_link.clone())
            && lost.iter().all(|link| Ends::of(&link.one, &link.other) != ends)
        {
            lost.push(links::lost(&ends, &self.snapshot.profiles, self.snapshot.now));
        }
        let cut = lost.iter().map(|link| Ends::of(&link.one, &link.other)).collect();
        self.decision.status.lost_links = lost;
        cut
    }

    /// What changed since the plan was made.
    ///
    /// Returns what follows, nodes that are lost, and nodes on which the scheduler does not put their shard.
    pub(super) fn look(
        &mut self,
        current: Option<&LimePlan>,
        card: Option<&ModelCard>,
        candidates: &Candidates,
    ) -> (ReplanDecision, Vec<String>, Vec<RejectedNode>) {
        let snapshot = self.snapshot;
        let document = current.and_then(|plan| planning::document(&plan.spec).ok());
        let device = |name: &str| document.iter().flat_map(|plan: &Plan| &plan.devices).find(|it| it.name == name);
        let prediction = current.and_then(|plan| plan.spec.prediction.as_ref());
        self.running = prediction.map(PlanPrediction::request);
        let nodes: BTreeMap<String, _> = snapshot.nodes.iter().map(|node| (node.name_any(), node)).collect();
        let profiles: BTreeMap<String, _> =
            snapshot.profiles.iter().map(|profile| (profile.name_any(), profile)).collect();
        let (mut lost, mut why_lost, mut draining, mut pressed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut emptied, mut refused) = (false, Vec::new());
        for (index, assignment) in current.iter().flat_map(|plan| &plan.spec.assignments).enumerate() {
            let name = &assignment.node;
            let node = nodes.get(name).copied();
            let pod = current.and_then(|plan| shards::pod(snapshot, plan, index));
            match readiness::presence(snapshot, self.wish, name, node) {
                NodePresence::There => {}
                NodePresence::Suspected(left) => self.settled_for = self.settled_for.min(left),
                NodePresence::Lost(why) => {
                    lost.push(name.clone());
                    why_lost.push(why);
                    continue;
                }
            }
            let (Some(node), Some(profile)) = (node, profiles.get(name)) else { continue };
            if let Some((_, why)) = candidates::cordoned(node, self.wish) {
                draining.push(why);
                emptied |= pod.is_none_or(shards::is_going);
            } else if profile.spec.excluded {
                draining.push(format!("{name}: its LimeNodeProfile says excluded: true"));
            } else if let Some(why) = pod.and_then(shards::unschedulable) {
                let message = format!("{name}: the scheduler does not put its shard there: {why}");
                refused.push(RejectedNode { node: name.clone(), reason: SCHEDULER_REFUSED.to_owned(), message });
            }
            let needed = Bytes(u64::try_from(assignment.memory_bytes).unwrap_or_default());
            let (room, why) = match candidates::room(snapshot, self.wish, node, profile) {
                Ok(room) => (room, format!("{name}: the plan needs {needed}, {room} can be had")),
                Err((NO_MEMORY_LEFT, why)) => (Bytes::ZERO, why),
                Err(_) => continue,
            };
            if Bytes(needed.0 - needed.0 / GRAIN) > room {
                pressed.push(why);
                let slowed = device(name).and_then(|device| with_less(device, needed.saturating_sub(room)));
                let slowed = prediction.zip(slowed).map(|(it, slowed)| it.request_with(micros(slowed)));
                self.running = self.running.max(slowed);
            }
        }
        let known: BTreeSet<&str> = current
            .iter()
            .flat_map(|plan| {
                let spec = &plan.spec;
                let considered = ["NotUseful", "OverMaxCount", "NoDiskLeft"];
                let cut = |node: &RejectedNode| {
                    node.reason == LINK_LOST && candidates.cut.iter().any(|cut| cut.other(&node.node).is_some())
                };
                let rejected = spec
                    .rejected_nodes
                    .iter()
                    .filter(move |node| considered.contains(&node.reason.as_str()) || cut(node));
                spec.assignments.iter().map(|part| part.node.as_str()).chain(rejected.map(|node| node.node.as_str()))
            })
            .collect();
        let added: Vec<&str> = candidates
            .nodes
            .iter()
            .map(|node| node.name.as_str())
            .filter(|name| current.is_some() && !known.contains(name))
            .filter(|name| !snapshot.tried.contains(&Tried::Node((*name).to_owned())))
            .collect();
        self.tell_of_nodes(&lost, &added, candidates);
        let added: Vec<String> = added.iter().map(|name| format!("{name} can take part")).collect();
        let cut = self.cut(current, document.as_ref());
        let mut since = |what: &'static str, there: bool| {
            let first = there.then(|| snapshot.since.get(what).copied().unwrap_or(snapshot.now));
            self.decision.since.extend(first.map(|first| (what, first)));
            first
        };
        let figures = card.map(|card| planning::figures_hash(self.wish, card, candidates));
        let changed = current.is_some() && figures.is_some_and(|it| !snapshot.tried.contains(&Tried::Figures(it)));
        let since = Since {
            cut: since("cut", cut.is_some()),
            draining: since("draining", !draining.is_empty()),
            refused: since("refused", !refused.is_empty()),
            pressed: since("pressed", !pressed.is_empty()),
            added: since("added", !added.is_empty()),
            changed: since("changed", changed),
        };
        let cut: Vec<String> = cut
            .into_iter()
            .map(|ends| {
                let text = format!("{ends} is lost: both nodes are there, and one does not reach the other");
                self.missing_link = Some(ends);
                text
            })
            .collect();
        if !cut.is_empty() {
            self.findings.set(ConditionType::Degraded, Truth::True, Cause::new(LINK_LOST, cut.join("; ")));
        } else if let Some(first) = since.pressed {
            let left = TOLD_AFTER - snapshot.now.as_second().saturating_sub(first.as_second());
            if left > 0 {
                self.settled_for = self.settled_for.min(left);
                pressed.clear();
            } else {
                self.findings.set(
                    ConditionType::Degraded,
                    Truth::True,
                    Cause::new("MemoryPressure", pressed.join("; ")),
                );
            }
        }
        let situation = Situation {
            now: snapshot.now,
            placement: &self.wish.spec.placement,
            has_plan: current.is_some(),
            stale_wish: current.is_some_and(|plan| self.for_another_wish(plan).is_some()),
            serves: current.is_some_and(|plan| self.is_served(plan)),
            loads: current.is_some_and(|plan| self.is_loading(plan)),
            lost: why_lost,
            cut,
            grace: i64::from(self.wish.spec.failure.node_loss_grace_seconds),
            turn: triggers::turn(&self.wish.uid, snapshot.crowd),
            draining,
            emptied,
            refused: refused.iter().map(|node| node.message.clone()).collect(),
            pressed,
            added,
            changed,
            since,
            replans: self.replans(),
        };
        (triggers::decide_replan(&situation), lost, refused)
    }

    /// Whether a plan is what the wish leads to: it was made for it, or was found to be the answer to it too.
    pub(super) fn answers(&self, plan: &LimePlan) -> bool {
        let wish = self.wish.hash();
        let found_before = plan.status.as_ref().is_some_and(|status| status.answers.contains(&wish));
        plan.spec.wish_hash == wish || found_before || self.answering.contains(&plan.name_any())
    }

    /// Whether requests are answered by `plan`.
    fn is_served(&self, plan: &LimePlan) -> bool {
        self.snapshot.ring.as_ref().is_some_and(|ring| ring.ready && ring.plan == plan.name_any())
    }

    /// Whether workers get on with loading `plan`, and nothing keeps them from it.
    fn is_loading(&self, plan: &LimePlan) -> bool {
        let name = plan.name_any();
        let ring = self.snapshot.ring.as_ref().filter(|ring| !ring.ready && ring.plan == name);
        ring.is_some_and(|ring| ring.trouble.is_none() && ring.loaded.values().any(|percent| *percent < 100))
    }

    /// With a plan in force that was not before: what it was made with is no reason for another, and what the one before it suffered from is not
    /// this one's age.
    pub(super) fn remember_figures(
        &mut self,
        card: Option<&ModelCard>,
        candidates: &Candidates,
        in_force: Option<&LimePlan>,
    ) {
        let (Some(card), Some(plan)) = (card, in_force) else { return };
        if self.before.current_plan.as_deref() == Some(plan.name_any().as_str()) {
            return;
        }
        // What was seen was seen of the plan before: a cause to replace this one must last anew. While pods go and come, what they hold and what
        // the agents say of it are not of one moment, and a node may look full for seconds.
        self.decision.since.clear();
        self.decision.tried.clear();
        self.decision.tried.insert(Tried::Figures(planning::figures_hash(self.wish, card, candidates)));
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

/// What a pass takes when a device has given up memory, by its plan's steps; `None` where steps do not suffice. Requests are answered
/// all the same then, with less room for their context.
fn with_less(device: &DevicePlan, missing: Bytes) -> Option<Nanos> {
    let mut freed = Bytes::ZERO;
    let enough = device.steps.iter().find(|step| {
        freed += step.frees;
        freed >= missing
    });
    enough.map(|step| step.time_per_token)
}

fn micros(time: Nanos) -> i64 {
    i64::try_from(time.0 / 1000).unwrap_or(i64::MAX)
}

/// Nodes that `plan` leaves out because the scheduler did: for an hour that is believed, whatever their figures say.
pub(super) fn refused_before(plan: &LimePlan, now: Timestamp) -> Vec<RejectedNode> {
    let refused = plan.spec.rejected_nodes.iter().filter(|node| node.reason == SCHEDULER_REFUSED);
    if age(plan, now) < BELIEVED { refused.cloned().collect() } else { Vec::new() }
}

/// Seconds since a plan came into force.
fn age(plan: &LimePlan, now: Timestamp) -> i64 {
    let since = plan.status.as_ref().and_then(|status| status.activated_at.as_ref());
    since.map_or(0, |since| now.as_second().saturating_sub(since.0.as_second()))
}
