//! A pipeline of whole layers; layers beyond a device's memory are loaded when the token comes to them.

use crate::cost::{Unit, nanos, send};
use crate::search::{Problem, rings};
use crate::timeline::{Activity, Interval, Lane, Timeline};
use lime_plan::Nanos;

use super::{Comparison, Strategy};

/// A device of the pipeline.
struct Stage {
    node: usize,
    layers: u32,
    /// Bytes loaded for every pass.
    loaded: u64,
}

/// The best chain of devices for EdgeShard's strategy: layers go where they delay the token least.
pub(super) fn layer_pipeline(problem: &Problem<'_>) -> Comparison {
    let strategy = Strategy::LayerPipeline;
    let orders = rings::sets(problem).into_iter().map(|set| rings::cheap_order(problem, &set));
    let turned = orders.flat_map(|order| {
        (0..order.len()).map(move |first| {
            let mut order = order.clone();
            order.rotate_left(first);
            order
        })
    });
    let dealt = turned.filter_map(|order| deal(problem, &order)).map(|stages| (time(problem, &stages), stages));
    let Some((time, stages)) = dealt.min_by_key(|(time, _)| *time) else {
        return Comparison::impossible(strategy, "the layers do not fit and there is no disk to load from");
    };
    let loading: u64 = stages.iter().map(|stage| load_time(problem, stage)).sum();
    let because = format!("{} of it loads weights while nothing computes, on {} devices", Nanos(loading), stages.len());
    let timeline = Some(drawn(problem, &stages, strategy));
    Comparison { strategy, time_per_token: Some(Nanos(time)), because, timeline }
}

fn layer_time(problem: &Problem<'_>, node: usize) -> u64 {
    problem.costs.rows(problem.sequences).layer[node]
}

fn fixed_time(problem: &Problem<'_>, node: usize, first: bool, last: bool) -> u64 {
    let table = &problem.costs.rows(problem.sequences).compute[node];
    let of = |unit: Unit, here: bool| if here { table[unit.index()] } else { 0 };
    of(Unit::EMBEDDING, first) + of(Unit::head(problem.card.layers), last)
}

fn load_time(problem: &Problem<'_>, stage: &Stage) -> u64 {
    match problem.fleet.nodes()[stage.node].disk_bandwidth {
        Some(disk) if stage.loaded > 0 => nanos(stage.loaded, disk),
        _ => 0,
    }
}

/// Layers one by one to the device that they delay least. What does not fit needs room for one layer and is loaded whole.
fn deal(problem: &Problem<'_>, order: &[usize]) -> Option<Vec<Stage>> {
    let layer = (problem.attention_bytes + problem.mlp_bytes) as i64;
    let last = order.len() - 1;
    let mut stages: Vec<Stage> = order.iter().map(|&node| Stage { node, layers: 0, loaded: 0 }).collect();
    let loaded = |at: usize, layers: u32| -> Option<u64> {
        let node = order[at];
        let head = if at == last { problem.head_bytes(at == 0) as i64 } else { 0 };
        let room = problem.room_at_worst(node, layers, at == 0, at == last) - head;
        let resident = (room / layer).clamp(-1, i64::from(layers));
        if resident == i64::from(layers) {
            return Some(0);
        }
        // One layer's room is what the others are loaded into.
        problem.fleet.nodes()[node].disk_bandwidth?;
        (resident >= 1).then(|| (i64::from(layers) - (resident - 1)) as u64 * layer as u64)
    };
    let cost = |at: usize, layers: u32| -> Option<u64> {
        let stage = Stage { node: order[at], layers, loaded: loaded(at, layers)? };
        Some(u64::from(layers) * layer_time(problem, order[at]) + load_time(problem, &stage))
    };
    for (at, stage) in stages.iter_mut().enumerate() {
        stage.layers = 1;
        cost(at, 1)?;
    }
    let left = problem.card.layers.checked_sub(order.len() as u32)?;
    for _ in 0..left {
        let more = |at: usize| {
            let layers = stages[at].layers;
            Some((cost(at, layers + 1)?.saturating_sub(cost(at, layers)?), at))
        };
        let (_, at) = (0..order.len()).filter_map(more).min()?;
        stages[at].layers += 1;
    }
    for (at, stage) in stages.iter_mut().enumerate() {
        stage.loaded = loaded(at, stage.layers)?;
    }
    Some(stages)
}

fn hop_time(problem: &Problem<'_>, from: usize, to: usize) -> u64 {
    let link = problem.fleet.link(from, to);
    send(link, problem.costs.rows(problem.sequences).activation) + link.latency.0
}

fn stage_time(problem: &Problem<'_>, stages: &[Stage], at: usize) -> u64 {
    let stage = &stages[at];
    let fixed = fixed_time(problem, stage.node, at == 0, at + 1 == stages.len());
    fixed + u64::from(stage.layers) * layer_time(problem, stage.node) + load_time(problem, stage)
}

/// All sequences as one batch, one stage after the other; or, where that is faster, one by one through a full pipeline, each
/// loading for itself.
fn time(problem: &Problem<'_>, stages: &[Stage]) -> u64 {
    let hops: u64 = stages.windows(2).map(|pair| hop_time(problem, pair[0].node, pair[1].node)).sum();
    let back = match (stages.first(), stages.last()) {
        (Some(first), Some(last)) if stages.len() > 1 => problem.fleet.link(last.node, first.node).latency.0,
        _ => 0,
    };
    let batch = (0..stages.len()).map(|at| stage_time(problem, stages, at)).sum::<u64>() + hops + back;
    let slowest = (0..stages.len()).map(|at| stage_time(problem, stages, at)).max().unwrap_or(0);
    let pipelined =
        slowest.saturating_mul(u64::from(problem.sequences)).max(batch / u64::from(problem.sequences).max(1));
    // A stage's time with all rows is an upper bound for one of them when weights dominate, as they do here.
    if problem.sequences > 1 { batch.min(pipelined) } else { batch }
}

fn drawn(problem: &Problem<'_>, stages: &[Stage], strategy: Strategy) -> Timeline {
    let mut now = 0;
    let mut lanes = Vec::new();
    let span = |activity: Activity, from: u64, to: u64| Interval { activity, start: Nanos(from), end: Nanos(to) };
    for (at, stage) in stages.iter().enumerate() {
        let mut spans = Vec::new();
        let (compute, load) = (u64::from(stage.layers) * layer_time(problem, stage.node), load_time(problem, stage));
        let fixed = fixed_time(problem, stage.node, at == 0, at + 1 == stages.len());
        let layer =
            u64::from(problem.attention_bytes + problem.mlp_bytes > 0) * (problem.attention_bytes + problem.mlp_bytes);
        let loads = stage.loaded.checked_div(layer).unwrap_or(0).max(u64::from(stage.loaded > 0));
        let pinned = u64::from(stage.layers) - loads.min(u64::from(stage.layers));
        let each = compute / u64::from(stage.layers).max(1);
        spans.push(span(Activity::Compute, now, now + fixed + pinned * each));
        now += fixed + pinned * each;
        for _ in 0..loads {
            let loading = load / loads;
            spans.push(span(Activity::Load, now, now + loading));
            spans.push(span(Activity::Wait, now, now + loading));
            spans.push(span(Activity::Compute, now + loading, now + loading + each));
            now += loading + each;
        }
        if let Some(next) = stages.get(at + 1) {
            let hop = hop_time(problem, stage.node, next.node);
            spans.push(span(Activity::Send, now, now + hop));
            now += hop;
        }
        lanes.push(Lane { name: problem.fleet.nodes()[stage.node].name.clone(), spans });
    }
    Timeline { title: strategy.name().to_owned(), period: Nanos(now), lanes }
}
