//! What every device does during one pass in steady state, as spans of time.

use serde::Serialize;

use crate::layout::{Grain, Layout, Share};
use crate::period::Scratch;
use crate::run::play;
use crate::schedule::{EventKind, Schedule};
use crate::search::Problem;
use lime_plan::{Fleet, Goal, Nanos, Offload, Plan, Residency};

/// What a span shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Activity {
    /// Computing.
    Compute,
    /// Holding an activation and waiting for weights.
    Wait,
    /// Reading weights from disk.
    Load,
    /// Sending an activation.
    Send,
}

/// A stretch of one activity, relative to the begin of the pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Interval {
    /// What is done.
    pub activity: Activity,
    /// From here ...
    pub start: Nanos,
    /// ... to here.
    pub end: Nanos,
}

/// One device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lane {
    /// The device.
    pub name: String,
    /// Its spans, by start.
    pub spans: Vec<Interval>,
}

/// One pass of a ring in steady state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Timeline {
    /// What is shown.
    pub title: String,
    /// Length of the pass.
    pub period: Nanos,
    /// Devices in ring order.
    pub lanes: Vec<Lane>,
}

/// Passes that are played before one is shown.
const WARM_UP: usize = 40;

/// The timeline of a plan on a fleet; `None` where the plan names nodes that the fleet lacks or deals its layers in a way that
/// this planner never does.
pub fn timeline(plan: &Plan, fleet: &Fleet) -> Option<Timeline> {
    let layout = layout_of(plan, fleet)?;
    let goal = goal_of(plan);
    let problem = Problem::new(&plan.model, fleet, &goal);
    let (schedule, _) = problem.evaluate(&layout, &mut Scratch::default())?;
    let counted = |count: u32, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let title = [
        plan.model.name.clone(),
        counted(layout.shares.len() as u32, "device"),
        counted(layout.segments, "segment"),
        counted(layout.micro_batches, "micro-batch").replace("batchs", "batches"),
    ]
    .join(", ");
    Some(drawn(&problem, &layout, &schedule, title))
}

fn drawn(problem: &Problem<'_>, layout: &Layout, schedule: &Schedule, title: String) -> Timeline {
    let played = play(schedule, WARM_UP);
    let shown = WARM_UP - 2;
    let (from, to) = (played.end(schedule, shown - 1), played.end(schedule, shown));
    let clipped = |activity: Activity, start: i64, end: i64| {
        let (start, end) = (start.max(from), end.min(to));
        let relative = |at: i64| Nanos((at - from) as u64);
        (start < end).then(|| Interval { activity, start: relative(start), end: relative(end) })
    };
    let mut lanes: Vec<Lane> = Vec::new();
    for share in &layout.shares {
        lanes.push(Lane { name: problem.fleet.nodes()[share.node].name.clone(), spans: Vec::new() });
    }
    for pass in shown - 2..WARM_UP {
        for (index, event) in schedule.events.iter().enumerate() {
            let end = played.ends[pass][index];
            let start = end - event.duration;
            let activity = match event.kind {
                EventKind::Compute => Activity::Compute,
                EventKind::Load => Activity::Load,
                EventKind::Send => Activity::Send,
                EventKind::Relay => continue,
            };
            lanes[event.at].spans.extend(clipped(activity, start, end));
            if event.kind == EventKind::Compute {
                let ready = ready_without_loads(schedule, &played.ends, pass, index);
                lanes[event.at].spans.extend(clipped(Activity::Wait, ready, start));
            }
        }
    }
    for lane in &mut lanes {
        lane.spans.sort_by_key(|span| (span.start, span.activity));
    }
    Timeline { title, period: Nanos((to - from).max(0) as u64), lanes }
}

/// When an event could have begun had its weights been there.
fn ready_without_loads(schedule: &Schedule, ends: &[Vec<i64>], pass: usize, index: usize) -> i64 {
    let dependencies = schedule
        .dependencies(index)
        .filter(|dependency| schedule.events[dependency.from as usize].kind != EventKind::Load);
    dependencies
        .map(|dependency| ends[pass - dependency.passes as usize][dependency.from as usize] + dependency.delay)
        .max()
        .unwrap_or(0)
}

/// The wish behind a plan, as far as the plan tells.
pub(crate) fn goal_of(plan: &Plan) -> Goal {
    let outlook = plan.outlook.as_ref();
    Goal {
        objective: outlook.map(|outlook| outlook.objective).unwrap_or_default(),
        serving: plan.serving,
        arithmetic: plan.arithmetic,
        residual: plan.residual,
        kv: plan.kv,
        offload: Offload::Auto,
        encoding: Some(plan.model.encoding),
        segments: (plan.devices.len() > 1).then_some(plan.segments),
        least_devices: 1,
        most_devices: None,
        typical_context: outlook.map(|outlook| outlook.prediction.context_tokens),
        typical_prompt: outlook.map(|outlook| outlook.prediction.prompt_tokens),
        typical_answer: outlook.map(|outlook| outlook.prediction.answer_tokens).filter(|answer| *answer > 0),
        wished_time_per_token: None,
        wished_time_to_first_token: None,
    }
}

/// The candidate that a plan is.
pub(crate) fn layout_of(plan: &Plan, fleet: &Fleet) -> Option<Layout> {
    let share = |device: &lime_plan::DevicePlan| {
        let node = fleet.nodes().iter().position(|node| node.name == device.name)?;
        let streamed = device.blocks.iter().filter(|placed| placed.residency == Residency::Streamed);
        let mut streamed: Vec<_> =
            streamed.map(|placed| crate::cost::Unit::of(placed.block, plan.model.layers)).collect();
        streamed.sort();
        let blocks = device.ranges.iter().map(|range| range.len()).sum();
        Some(Share { node, blocks, streamed, buffer: device.memory.prefetch.0 })
    };
    let shares: Option<Vec<Share>> = plan.devices.iter().map(share).collect();
    let (segments, head, micro_batches) = (plan.segments, plan.head.0 as usize, plan.micro_batches());
    let grain = if plan.cuts_layers() { Grain::Block } else { Grain::Layer };
    let layout = Layout { shares: shares?, segments, grain, head, micro_batches };
    let same = |(segment, at, start, end): (u32, usize, u32, u32)| {
        let range = plan.devices[at].range_in(lime_plan::SegmentIndex(segment));
        range.is_empty() && start == end || (range.start, range.end) == (start, end)
    };
    let known = layout.visits().all(same);
    known.then_some(layout)
}
