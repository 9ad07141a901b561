//! Whether a new plan is due: a chain of pure functions, the first that speaks decides.

use k8s_openapi::jiff::Timestamp;
use lime_api::{Placement, Reaction};

/// What a replan is for. The order is that of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trigger {
    /// There is no plan yet.
    NoPlan,
    /// The wish changed.
    SpecChanged,
    /// A node of the plan is lost.
    NodeLost,
    /// Two nodes of the plan are there, and one does not reach the other.
    LinkLost,
    /// A node of the plan is cordoned or excluded: a move that somebody planned.
    NodeDraining,
    /// The scheduler does not put a shard on its node.
    ShardUnschedulable,
    /// Others took memory of a node that the plan needs.
    MemoryPressure,
    /// Nodes are there that the plan did not know.
    NodesAdded,
    /// The nodes have other memory, or are of another speed, than when the plan was made.
    NodesChanged,
}

impl Trigger {
    /// Every trigger.
    pub const ALL: [Self; 9] = [
        Self::NoPlan,
        Self::SpecChanged,
        Self::NodeLost,
        Self::LinkLost,
        Self::NodeDraining,
        Self::ShardUnschedulable,
        Self::MemoryPressure,
        Self::NodesAdded,
        Self::NodesChanged,
    ];

    /// The reason of the Replanning condition.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NoPlan => "NoPlan",
            Self::SpecChanged => "SpecChanged",
            Self::NodeLost => "NodeLost",
            Self::LinkLost => "LinkLost",
            Self::NodeDraining => "NodeDraining",
            Self::ShardUnschedulable => "ShardUnschedulable",
            Self::MemoryPressure => "MemoryPressure",
            Self::NodesAdded => "NodesAdded",
            Self::NodesChanged => "NodesChanged",
        }
    }

    /// Whether a replan for it counts for `maxPerHour`. What somebody asked for does not.
    pub const fn counts(self) -> bool {
        !matches!(self, Self::NodeDraining)
    }

    /// Whether a plan for it may wait until a gateway that leaves has ended its answers: what runs can go on until then.
    pub const fn can_wait(self) -> bool {
        matches!(self, Self::NodeDraining | Self::MemoryPressure | Self::NodesAdded | Self::NodesChanged)
    }

    /// Whether people are told while it only might make for a new plan: figures of nodes move all the time.
    pub const fn is_news(self) -> bool {
        !matches!(self, Self::NodesChanged)
    }
}

/// What the chain looks at.
#[derive(Clone, Debug)]
pub struct Situation<'a> {
    /// The moment.
    pub now: Timestamp,
    /// What the spec says of replans.
    pub placement: &'a Placement,
    /// Whether there is a plan that can be followed.
    pub has_plan: bool,
    /// Whether that plan was made for another wish.
    pub stale_wish: bool,
    /// Whether requests are answered by that plan.
    pub serves: bool,
    /// Whether its workers are loading, and get on with it.
    pub loads: bool,
    /// Nodes of the plan that are lost, each with why.
    pub lost: Vec<String>,
    /// Links of the plan that are lost, each with why.
    pub cut: Vec<String>,
    /// Seconds that a link may be lost before a plan without it is made.
    pub grace: i64,
    /// Nodes of the plan that are to be emptied, each with why.
    pub draining: Vec<String>,
    /// Whether one of these has no running shard any more: nothing is served until it is planned around.
    pub emptied: bool,
    /// Nodes of the plan on which the scheduler does not put their shard, each with why.
    pub refused: Vec<String>,
    /// Nodes of the plan with too little memory, each with how little.
    pub pressed: Vec<String>,
    /// Nodes that the plan did not know.
    pub added: Vec<String>,
    /// Whether the nodes' figures are others than those that a plan was made, or tried, with.
    pub changed: bool,
    /// Since when each of these has been seen.
    pub since: Since,
    /// Seconds by which this deployment waits longer than the first for what every deployment sees at the same moment.
    pub turn: i64,
    /// When plans came into force in the last hour, the first of all left out.
    pub replans: Vec<Timestamp>,
}

/// Since when something has been seen; `None` for what is seen for the first time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Since {
    /// Lost links.
    pub cut: Option<Timestamp>,
    /// Nodes to be emptied.
    pub draining: Option<Timestamp>,
    /// Nodes that the scheduler refuses.
    pub refused: Option<Timestamp>,
    /// Too little memory.
    pub pressed: Option<Timestamp>,
    /// New nodes.
    pub added: Option<Timestamp>,
    /// Other figures.
    pub changed: Option<Timestamp>,
}

/// What the chain says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplanDecision {
    /// The plan stands.
    Keep,
    /// A new plan is due at once.
    Replan(Trigger, String),
    /// A new plan is worth a try: it replaces the old one if it is better by `minImprovementPercent`.
    TryBetter(Trigger, String),
    /// Something changed; a new plan is due if it lasts until then.
    Wait(Trigger, String, Timestamp),
    /// A new plan would be due, but may not be made.
    Suppressed(Trigger, String),
}

/// Goes through the chain.
pub fn decide_replan(situation: &Situation<'_>) -> ReplanDecision {
    let chain =
        [no_plan, spec_changed, node_lost, link_lost, draining, refused, memory_pressure, nodes_added, nodes_changed];
    chain.into_iter().find_map(|link| link(situation)).unwrap_or(ReplanDecision::Keep)
}

fn no_plan(situation: &Situation<'_>) -> Option<ReplanDecision> {
    (!situation.has_plan).then(|| ReplanDecision::Replan(Trigger::NoPlan, "there is no plan yet".into()))
}

fn spec_changed(situation: &Situation<'_>) -> Option<ReplanDecision> {
    let message = || "the spec asks for something else than the plan was made for".to_owned();
    situation.stale_wish.then(|| ReplanDecision::Replan(Trigger::SpecChanged, message()))
}

/// A lost node is planned around at once and whatever the cap per hour: nothing is served without it.
fn node_lost(situation: &Situation<'_>) -> Option<ReplanDecision> {
    let message = joined(&situation.lost)?;
    Some(match situation.placement.replan.on_node_loss {
        Reaction::Automatic => ReplanDecision::Replan(Trigger::NodeLost, message),
        Reaction::Never => ReplanDecision::Suppressed(
            Trigger::NodeLost,
            format!("{message}; replan.onNodeLoss is Never: waiting for the node"),
        ),
    })
}

/// A link may come back by itself, as a node may: after the same time it is planned around, whatever the cap per hour.
fn link_lost(situation: &Situation<'_>) -> Option<ReplanDecision> {
    let message = joined(&situation.cut)?;
    if situation.placement.replan.on_node_loss == Reaction::Never {
        let why = "replan.onNodeLoss is Never: waiting for the link";
        return Some(ReplanDecision::Suppressed(Trigger::LinkLost, format!("{message}; {why}")));
    }
    let replan = ReplanDecision::Replan(Trigger::LinkLost, message);
    Some(lasting(situation, situation.since.cut, situation.grace, replan))
}

/// A planned move. Several nodes that are cordoned within the time of stabilization make for one; a pod that was evicted already
/// is waited for no longer. It is never capped: a drain must end.
fn draining(situation: &Situation<'_>) -> Option<ReplanDecision> {
    let message = joined(&situation.draining)?;
    if situation.placement.replan.on_node_loss == Reaction::Never {
        return Some(ReplanDecision::Suppressed(
            Trigger::NodeDraining,
            format!("{message}; replan.onNodeLoss is Never"),
        ));
    }
    let replan = ReplanDecision::Replan(Trigger::NodeDraining, message);
    Some(if situation.emptied {
        replan
    } else {
        lasting(situation, situation.since.draining, stabilization(situation), replan)
    })
}

/// A shard that is not put on its node serves nobody: its plan cannot go on.
fn refused(situation: &Situation<'_>) -> Option<ReplanDecision> {
    let message = joined(&situation.refused)?;
    let replan = ReplanDecision::Replan(Trigger::ShardUnschedulable, message);
    Some(steadied(situation, situation.since.refused, 0, replan))
}

fn memory_pressure(situation: &Situation<'_>) -> Option<ReplanDecision> {
    let message = joined(&situation.pressed)?;
    if situation.placement.replan.on_memory_pressure == Reaction::Never {
        return Some(ReplanDecision::Suppressed(
            Trigger::MemoryPressure,
            format!("{message}; replan.onMemoryPressure is Never"),
        ));
    }
    // While requests are answered, steps give memory up: another plan must be faster than what comes of that. So while weights come, when what
    // agents see and what workers say they hold are not of one moment: what does not fit ends the loading.
    let replan = if situation.serves || situation.loads { ReplanDecision::TryBetter } else { ReplanDecision::Replan };
    Some(steadied(situation, situation.since.pressed, 0, replan(Trigger::MemoryPressure, message)))
}

fn nodes_added(situation: &Situation<'_>) -> Option<ReplanDecision> {
    let message = joined(&situation.added)?;
    let replan = ReplanDecision::TryBetter(Trigger::NodesAdded, message);
    Some(steadied(situation, situation.since.added, situation.turn, replan))
}

/// The better plan comes back when what stood in its way has gone.
fn nodes_changed(situation: &Situation<'_>) -> Option<ReplanDecision> {
    let message = "the nodes' figures are not what they were when the plan was made".to_owned();
    let replan = || ReplanDecision::TryBetter(Trigger::NodesChanged, message);
    situation.changed.then(|| steadied(situation, situation.since.changed, situation.turn, replan()))
}

fn stabilization(situation: &Situation<'_>) -> i64 {
    i64::from(situation.placement.replan.stabilization_seconds)
}

/// Holds a replan back until its cause has lasted for so many `seconds`.
fn lasting(
    situation: &Situation<'_>,
    since: Option<Timestamp>,
    seconds: i64,
    replan: ReplanDecision,
) -> ReplanDecision {
    let (ReplanDecision::Replan(trigger, message) | ReplanDecision::TryBetter(trigger, message)) = &replan else {
        return replan;
    };
    let lasted = situation.now.as_second().saturating_sub(since.unwrap_or(situation.now).as_second());
    let left = seconds.saturating_sub(lasted);
    if left > 0 { ReplanDecision::Wait(*trigger, message.clone(), later(situation.now, left)) } else { replan }
}

/// Holds a replan back until its cause has lasted, `more` seconds longer than others', and while the hour's replans are used up.
fn steadied(situation: &Situation<'_>, since: Option<Timestamp>, more: i64, replan: ReplanDecision) -> ReplanDecision {
    let replan = lasting(situation, since, stabilization(situation).saturating_add(more), replan);
    let (ReplanDecision::Replan(trigger, message) | ReplanDecision::TryBetter(trigger, message)) = &replan else {
        return replan;
    };
    let limits = &situation.placement.replan;
    let an_hour_ago = situation.now.as_second().saturating_sub(3600);
    let recent = situation.replans.iter().filter(|at| at.as_second() > an_hour_ago).count();
    if recent >= usize::try_from(limits.max_per_hour).unwrap_or_default() {
        let cap = format!("{message}; {recent} replans in the last hour, replan.maxPerHour is {}", limits.max_per_hour);
        return ReplanDecision::Suppressed(*trigger, cap);
    }
    replan
}

/// Which of a `crowd` of deployments one is, in seconds: what all see at the same moment, a node that comes or figures of which an
/// operator that has just begun knows no plan, they try for one after the other. The same at each visit.
pub fn turn(uid: &str, crowd: usize) -> i64 {
    /// However many there are, none waits longer for its turn.
    const LONGEST: u64 = 600;
    let spread = u64::try_from(crowd).unwrap_or(u64::MAX).clamp(1, LONGEST);
    let digits = crate::names::digest(uid.as_bytes());
    let number = u64::from_str_radix(&digits, 16).unwrap_or_default();
    i64::try_from(number % spread).unwrap_or_default()
}

/// Whether a plan on which typical requests take `new` microseconds is worth the move from one of `old`.
pub fn worth_it(placement: &Placement, old: Option<i64>, new: Option<i64>) -> bool {
    let (Some(old), Some(new)) = (old, new) else { return false };
    // new <= old * (100 - p) / 100, without fractions and overflow.
    let percent = i128::from(placement.replan.min_improvement_percent.clamp(0, 100));
    new < old && i128::from(new) * 100 <= i128::from(old) * (100 - percent)
}

/// `seconds` after `now`.
pub fn later(now: Timestamp, seconds: i64) -> Timestamp {
    Timestamp::from_second(now.as_second().saturating_add(seconds)).unwrap_or(Timestamp::MAX)
}

fn joined(nodes: &[String]) -> Option<String> {
    (!nodes.is_empty()).then(|| nodes.join("; "))
}

#[cfg(test)]
#[path = "triggers_tests.rs"]
mod tests;
