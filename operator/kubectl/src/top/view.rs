//! Two looks at a ring as a table.

use std::time::Duration;

use kube::ResourceExt as _;
use lime_api::{LimeDeployment, LimePlan, ShardState};
use lime_plan::Bytes;
use lime_tables::{Grid, rate};

use super::figures::Figures;

/// Parts of a worker's memory.
const MEMORY: [&str; 5] = ["pinned_bytes", "prefetch_bytes", "kv_bytes", "activation_bytes", "kept_bytes"];

/// The ring in a sentence, its devices in a table.
pub(crate) fn text(
    deployment: &LimeDeployment,
    plan: Option<&LimePlan>,
    now: &Figures,
    before: &Figures,
    between: Duration,
    width: Option<usize>,
) -> String {
    let header = [
        "DEVICE", "STATE", "LAYERS", "MEMORY", "BUDGET", "KV", "STREAMED", "DISK", "BUSY", "WAITS", "SENDS", "RESTARTS",
    ];
    let mut table = Grid::new(&header, 3);
    let seconds = between.as_secs_f64().max(1e-3);
    for name in devices(deployment, plan, now) {
        let gained = |figure: &str| gain(now.of(&name, figure), before.of(&name, figure)).map(|gain| gain / seconds);
        let bytes = |figure: &str| or_dash(now.of(&name, figure).map(size));
        let share = |figure: &str| or_dash(gained(figure).map(|share| format!("{:.0} %", (share * 100.0).min(100.0))));
        let held: Option<f64> = MEMORY.iter().map(|part| now.of(&name, part)).sum();
        let part = plan.and_then(|plan| plan.spec.assignments.iter().find(|part| part.node == name));
        let shard = deployment.status.iter().flat_map(|status| &status.shards).find(|shard| shard.node == name);
        // A device of which the gateway hears nothing is what the operator says of it.
        let state = match shard.map(|shard| shard.state) {
            Some(ShardState::Ready) if now.of(&name, "passes_total").is_none() => "Silent".to_owned(),
            Some(state) => format!("{state:?}"),
            None => "-".to_owned(),
        };
        table.add_row([
            name.clone(),
            state,
            or_dash(part.map(|part| part.layers.clone())),
            or_dash(held.map(size)),
            or_dash(part.map(|part| size(part.budget_bytes as f64))),
            bytes("kv_bytes"),
            bytes("streamed_bytes"),
            or_dash(gained("read_bytes_total").map(|read| rate(read as u64))),
            share("compute_seconds_total"),
            share("load_wait_seconds_total"),
            share("send_seconds_total"),
            or_dash(shard.map(|shard| shard.restarts.to_string())),
        ]);
    }
    format!("{}\n{}", sentence(deployment, now, before, seconds), table.render(width))
}

/// What the whole ring does.
fn sentence(deployment: &LimeDeployment, now: &Figures, before: &Figures, seconds: f64) -> String {
    let plan = now.plan().map_or_else(|| "no plan".to_owned(), |plan| format!("plan {plan}"));
    let whole = |name: &str| now.own(name).unwrap_or_default();
    let ready = if whole("lime_ready") > 0.0 { "serves" } else { "does not serve" };
    let gained = |name: &str| gain(now.own(name), before.own(name)).unwrap_or_default();
    let in_vain = gained("lime_speculation_drafted_tokens_total") - gained("lime_speculation_accepted_tokens_total");
    let answers = gained("lime_time_per_output_token_seconds_count");
    let per_token = match answers > 0.0 {
        true => format!(", {:.1} ms a token", gained("lime_time_per_output_token_seconds_sum") / answers * 1e3),
        false => String::new(),
    };
    format!(
        "{} {ready} ({plan}, epoch {}): {:.1} tokens/s through the ring{per_token}, {} active, {} waiting",
        deployment.name_any(),
        whole("lime_ring_epoch"),
        // Rows of prompts and answers; those of answers alone are counted when an answer ends. Guesses that did not hold are no tokens.
        (gained("lime_pass_rows_total") - in_vain).max(0.0) / seconds,
        whole("lime_active_sequences"),
        whole("lime_queue_depth"),
    )
}

/// Every device of the plan in ring order, then those that answer besides.
fn devices(deployment: &LimeDeployment, plan: Option<&LimePlan>, now: &Figures) -> Vec<String> {
    let mut names: Vec<String> = match plan {
        Some(plan) => plan.spec.assignments.iter().map(|part| part.node.clone()).collect(),
        None => deployment.status.iter().flat_map(|status| &status.shards).map(|shard| shard.node.clone()).collect(),
    };
    for name in now.devices() {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// By how much a counter rose; one that fell has begun anew.
fn gain(now: Option<f64>, before: Option<f64>) -> Option<f64> {
    let (now, before) = (now?, before?);
    Some(if now >= before { now - before } else { now })
}

fn size(bytes: f64) -> String {
    Bytes(bytes as u64).to_string()
}

fn or_dash(text: Option<String>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned())
}

#[cfg(test)]
mod tests {
    use lime_api::{Assignment, PlanState};
    use serde_json::json;

    use super::*;
    use crate::testing;

    #[test]
    fn two_looks_make_shares_and_rates() {
        let mut deployment = testing::deployment();
        let shards = json!({ "shards": [
            { "node": "a", "state": "Ready", "restarts": 1 }, { "node": "b", "state": "Ready", "restarts": 0 },
        ]});
        deployment.status = Some(serde_json::from_value(shards).unwrap());
        let mut plan = testing::plan("m-1", PlanState::Active);
        let part = |node: &str, layers: &str| Assignment {
            node: node.into(),
            layers: layers.into(),
            budget_bytes: 512 << 20,
            ..Assignment::default()
        };
        plan.spec.assignments = vec![part("b", "0-3"), part("a", "4-9")];
        let look = |compute: f64, read: u64, rows: u64| {
            Figures::read(&format!(
                "lime_ready 1\nlime_ring_epoch 3\nlime_active_sequences 2\nlime_queue_depth 0\nlime_pass_rows_total {}\n\
                 lime_speculation_drafted_tokens_total{{source=\"lookup\"}} {rows}\n\
                 lime_speculation_accepted_tokens_total{{source=\"lookup\"}} 100\n\
                 lime_plan_info{{plan=\"m-1\",generation=\"1\"}} 1\n\
                 lime_worker_pinned_bytes{{device=\"a\"}} 1048576\nlime_worker_prefetch_bytes{{device=\"a\"}} 0\n\
                 lime_worker_kv_bytes{{device=\"a\"}} 1048576\nlime_worker_activation_bytes{{device=\"a\"}} 0\n\
                 lime_worker_kept_bytes{{device=\"a\"}} 0\nlime_worker_streamed_bytes{{device=\"a\"}} 0\n\
                 lime_worker_compute_seconds_total{{device=\"a\"}} {compute}\nlime_worker_passes_total{{device=\"a\"}} 1\n\
                 lime_worker_read_bytes_total{{device=\"a\"}} {read}\n",
                2 * rows
            ))
        };
        let (before, now) = (look(10.0, 0, 100), look(11.0, 4 << 20, 110));
        let shown = text(&deployment, Some(&plan), &now, &before, Duration::from_secs(2), None);
        assert!(
            shown.starts_with("m serves (plan m-1, epoch 3): 5.0 tokens/s through the ring, 2 active, 0 waiting\n"),
            "{shown}"
        );
        let row = |name: &str| shown.lines().find(|line| line.contains(&format!("│ {name} "))).unwrap().to_owned();
        for cell in ["Ready", "4-9", "2.0 MiB", "512.0 MiB", "1.0 MiB", "2.0 MiB/s", "50 %"] {
            assert!(row("a").contains(cell), "{cell} is missing in {}", row("a"));
        }
        assert!(row("b").contains("Silent"), "who says nothing is told of: {}", row("b"));
        let at = |name: &str| shown.find(&format!("│ {name} ")).unwrap();
        assert!(at("b") < at("a"), "ring order");
    }

    #[test]
    fn a_counter_that_begins_anew_is_no_loss() {
        assert_eq!(gain(Some(3.0), Some(10.0)), Some(3.0));
        assert_eq!(gain(Some(3.0), None), None);
    }
}
