//! A plan's prediction: where the time goes, what binds, who is left out, what else there was.

use std::fmt::Write as _;

use lime_plan::{Bytes, Nanos, Outlook, Plan, Prediction, Relief};
use lime_planner::{Adaptation, Comparison, Strategy};

use crate::grid::Grid;

/// Steps of a device that are shown before "and so on".
const STEPS_SHOWN: usize = 3;

/// How fast a plan is, in two sentences.
pub(crate) fn speed(prediction: &Prediction) -> String {
    let requests = match prediction.sequences {
        1 => "one request".to_owned(),
        several => format!("{several} requests at once"),
    };
    let longest = prediction.growth.last().filter(|point| point.context_tokens > prediction.context_tokens);
    let longest = longest.map(|point| format!(", {} at {} tokens", point.time_per_token, point.context_tokens));
    let longest = longest.unwrap_or_default();
    let request = match prediction.answer_tokens {
        // Of a version that predicted none.
        0 => String::new(),
        answer => {
            let whose = if prediction.sequences == 1 { "a request of" } else { "requests that come at once, each of" };
            format!("; {whose} {} + {answer} tokens: {}", prediction.prompt_tokens, prediction.request_time)
        }
    };
    format!(
        "Predicted: {} per token ({:.1} tokens/s, {requests}, {} tokens of context){longest}; \
         first token of a prompt of {} after {}{request}.\nWhat binds: {}.",
        prediction.time_per_token,
        prediction.tokens_per_second(),
        prediction.context_tokens,
        prediction.prompt_tokens,
        prediction.time_to_first_token,
        prediction.binds
    )
}

/// Everything that is known of a plan's choice; empty where a plan has no outlook.
pub fn explanation(plan: &Plan, adaptations: &[Adaptation], width: Option<usize>) -> String {
    let Some(outlook) = &plan.outlook else { return String::new() };
    let mut parts = vec![shares(&outlook.prediction, width), bound(plan, outlook)];
    if !outlook.prediction.growth.is_empty() {
        parts.push(growth(&outlook.prediction));
    }
    if !outlook.missed.is_empty() {
        parts.push(listed("Missed", outlook.missed.iter().cloned()));
    }
    if !outlook.rejected.is_empty() {
        let rejected = outlook.rejected.iter().map(|node| format!("{}: {}", node.name, node.reason));
        parts.push(listed("Left out", rejected));
    }
    if !outlook.alternatives.is_empty() {
        parts.push(alternatives(outlook, width));
    }
    let steps: Vec<String> = adaptations.iter().filter(|one| !one.steps.is_empty()).map(steps_of).collect();
    if !steps.is_empty() {
        parts.push(listed("If the KV cache outgrows the plan", steps.into_iter()));
    }
    parts.join("\n\n")
}

/// Where the time of a pass goes on each device.
fn shares(prediction: &Prediction, width: Option<usize>) -> String {
    let header =
        ["device", "compute", "waits for weights", "idle", "pass", "disk reads", "link sends", "read per token"];
    let mut table = Grid::new(&header, 1);
    for share in &prediction.devices {
        let pass = share.compute + share.stall + share.idle;
        let times = [share.compute, share.stall, share.idle, pass, share.disk, share.link].map(|time| time.to_string());
        let mut row = vec![share.name.clone()];
        row.extend(times);
        row.push(share.streamed.to_string());
        table.add_row(row);
    }
    format!(
        "Where the time goes (compute, waits and idle time make up the pass; disk and link work meanwhile):\n{}",
        table.render(width)
    )
}

fn bound(plan: &Plan, outlook: &Outlook) -> String {
    let prediction = &outlook.prediction;
    let above = percent_above(prediction.time_per_token, prediction.lower_bound);
    let searched = if outlook.complete {
        "Everything that may be chosen was tried or bounded: nothing better exists."
    } else {
        "The fleet is too large to try everything: a search by formula and simulation chose this."
    };
    let batches = match plan.micro_batches() {
        1 => String::new(),
        count => format!(" The requests go round in {count} micro-batches."),
    };
    format!(
        "Lower bound of this layout: {} (the plan is {above} above it).{batches} {searched}",
        prediction.lower_bound
    )
}

fn percent_above(time: Nanos, least: Nanos) -> String {
    format!("{:.1} %", (time.seconds() / least.seconds().max(1e-12) - 1.0).max(0.0) * 100.0)
}

fn growth(prediction: &Prediction) -> String {
    let points = prediction.growth.iter().map(|point| format!("{} at {}", point.time_per_token, point.context_tokens));
    format!("Time per token by tokens of context: {}.", points.collect::<Vec<_>>().join(", "))
}

fn listed(title: &str, lines: impl Iterator<Item = String>) -> String {
    lines.fold(format!("{title}:"), |mut text, line| {
        let _ = write!(text, "\n- {line}");
        text
    })
}

fn alternatives(outlook: &Outlook, width: Option<usize>) -> String {
    let mut table =
        Grid::new(&["runner-up", "segments", "micro-batches", "time per token", "request"], 1).with_prose(0);
    for other in &outlook.alternatives {
        let devices = other.devices.iter().zip(&other.layers).map(|(name, layers)| format!("{name} {layers}"));
        table.add_row([
            devices.collect::<Vec<_>>().join(", "),
            other.segments.to_string(),
            other.micro_batches.to_string(),
            other.time_per_token.to_string(),
            other.request_time.to_string(),
        ]);
    }
    format!("Also considered (devices in ring order with their layers):\n{}", table.render(width))
}

fn steps_of(adaptation: &Adaptation) -> String {
    let shown = adaptation.steps.iter().take(STEPS_SHOWN).map(|step| {
        let relief = match &step.relief {
            Relief::Stream(block) => format!("stream {block}"),
            Relief::HandOver { to, room, .. } => format!("hand up to {room} of pages to {to}"),
        };
        format!("above {} {relief} ({} per token)", step.above, step.time_per_token)
    });
    let shown: Vec<String> = shown.collect();
    let more = if adaptation.steps.len() > STEPS_SHOWN { ", and so on" } else { "" };
    format!("{}: {}{more}", adaptation.device, shown.join("; "))
}

/// The same fleet under each strategy.
pub fn comparison_table(comparison: &[Comparison], width: Option<usize>) -> String {
    let ours = comparison.iter().find(|one| one.strategy == Strategy::Lime).and_then(|one| one.time_per_token);
    let mut table = Grid::new(&["strategy", "time per token", "of LIME's", "because"], 1).with_prose(3);
    for one in comparison {
        let ratio = match (one.time_per_token, ours) {
            (Some(time), Some(ours)) => format!("{:.2}x", time.seconds() / ours.seconds().max(1e-12)),
            _ => "-".to_owned(),
        };
        let time = one.time_per_token.map_or_else(|| "cannot run".to_owned(), |time| time.to_string());
        table.add_row([one.strategy.name().to_owned(), time, ratio, one.because.clone()]);
    }
    format!(
        "The same fleet under other systems' strategies, each at its best (lower bounds, not measurements):\n{}",
        table.render(width)
    )
}

/// Bytes per second for people.
pub fn rate(bytes: u64) -> String {
    format!("{}/s", Bytes(bytes))
}
