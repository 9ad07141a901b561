//! `kubectl lime explain`: why a deployment serves as it does, or does not.

use k8s_openapi::api::core::v1::Event;
use kube::{Api, ResourceExt as _, api::ListParams};
use lime_api::{LimeDeployment, LimeNodeProfile, LimePlan};
use lime_planner::{Adaptation, adaptations};
use lime_tables::{Grid, explanation, screen_width};

use crate::{args::ExplainArgs, cluster::Cluster, fleet::fleet_of, plan};

/// Events that are shown, the newest last.
const EVENTS_SHOWN: usize = 12;

/// Prints conditions, plans with their reasons, and what happened last.
pub(crate) async fn run(cluster: &Cluster, args: &ExplainArgs) -> anyhow::Result<()> {
    let deployment = cluster.deployment(args.deployment.as_deref()).await?;
    let name = deployment.name_any();
    let width = screen_width();
    let mut parts = vec![conditions(&deployment, width)];
    // Without the nodes' profiles the rest can be told all the same.
    let profiles = match cluster.profiles().await {
        Ok(profiles) => profiles,
        Err(error) => {
            eprintln!("note: {error:#}");
            Vec::new()
        }
    };
    match plan::ask(cluster, Some(&name), args.plan.as_deref()).await {
        Ok((_, plans)) => {
            for found in &plans {
                parts.push(plan::described(&deployment, found, width)?);
                parts.extend(reasons(found, &profiles, width));
            }
        }
        // A deployment without a plan is explained by its conditions; a plan that was asked for by name must be there.
        Err(error) if args.plan.is_some() => return Err(error),
        Err(error) => eprintln!("note: {error:#}"),
    }
    match events(cluster, &name).await {
        Ok(events) if events.is_empty() => {}
        Ok(events) => parts.push(story(&events)),
        Err(error) => eprintln!("note: events cannot be read: {error}"),
    }
    Ok(lime_tables::print(&parts.join("\n\n"))?)
}

/// The conditions as a table.
fn conditions(deployment: &LimeDeployment, width: Option<usize>) -> String {
    let status = deployment.status.clone().unwrap_or_default();
    let title = format!("{} serves {}", deployment.name_any(), deployment.spec.model.source);
    if status.conditions.is_empty() {
        return format!(
            "{title}: no operator has looked at it yet (kubectl get pods -A -l app.kubernetes.io/name=lime)"
        );
    }
    let mut table = Grid::new(&["condition", "status", "reason", "message"], 4).with_prose(3);
    for condition in &status.conditions {
        let message = if condition.message.is_empty() { "-" } else { &condition.message };
        table.add_row([&condition.type_, &condition.status, &condition.reason, message].map(ToOwned::to_owned));
    }
    let mut text = format!("{title}\n{}", table.render(width));
    if let Some(failures) = &status.failures {
        for (which, message) in [("First", &failures.first_message), ("Last", &failures.last_message)] {
            if let Some(message) = message {
                text.push_str(&format!("\n{which} failure: {message}"));
            }
        }
    }
    text
}

/// Why a plan is as it is: where the time goes, who was left out, what else there was.
fn reasons(plan: &LimePlan, profiles: &[LimeNodeProfile], width: Option<usize>) -> Vec<String> {
    let mut parts = Vec::new();
    let document = plan.spec.plan().ok();
    if let Some(document) = &document {
        let fleet = fleet_of(document, profiles).ok();
        let steps = fleet.and_then(|fleet| adaptations(document, &fleet)).unwrap_or_default();
        let steps: Vec<Adaptation> = steps.into_iter().map(|step| step.as_planned(document)).collect();
        parts.push(explanation(document, &steps, width));
    }
    // The planner's own reasons are in the explanation already.
    let outlook = document.as_ref().and_then(|document| document.outlook.as_ref());
    let told =
        |node: &str| outlook.is_some_and(|outlook| outlook.rejected.iter().any(|rejected| rejected.name == node));
    let rejected: Vec<String> = plan
        .spec
        .rejected_nodes
        .iter()
        .filter(|rejected| !told(&rejected.node))
        .map(|rejected| format!("- {} ({})", rejected.message, rejected.reason))
        .collect();
    if !rejected.is_empty() {
        parts.push(format!("Nodes that could not take part:\n{}", rejected.join("\n")));
    }
    parts.retain(|part| !part.is_empty());
    parts
}

async fn events(cluster: &Cluster, name: &str) -> Result<Vec<Event>, kube::Error> {
    let api: Api<Event> = cluster.api();
    let asked = ListParams::default().fields(&format!("involvedObject.kind=LimeDeployment,involvedObject.name={name}"));
    let mut events = api.list(&asked).await?.items;
    events.sort_by_key(when);
    let from = events.len().saturating_sub(EVENTS_SHOWN);
    Ok(events.split_off(from))
}

fn when(event: &Event) -> Option<k8s_openapi::jiff::Timestamp> {
    let times = [
        event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0),
        event.last_timestamp.as_ref().map(|time| time.0),
        event.event_time.as_ref().map(|time| time.0),
        event.metadata.creation_timestamp.as_ref().map(|time| time.0),
    ];
    times.into_iter().flatten().next()
}

/// Events as lines, the newest last.
fn story(events: &[Event]) -> String {
    let lines = events.iter().map(|event| {
        let time = when(event).map_or_else(|| "-".to_owned(), |time| format!("{time:.0}"));
        let [reason, message] = [&event.reason, &event.message].map(|text| text.clone().unwrap_or_default());
        format!("{time}  {reason:<20} {message}")
    });
    format!("What happened last:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use lime_api::{PlanState, RejectedNode};
    use serde_json::json;

    use super::*;
    use crate::testing::{deployment, plan};

    #[test]
    fn conditions_and_failures_are_told() {
        let mut deployment = deployment();
        assert!(conditions(&deployment, None).contains("no operator has looked"), "{}", conditions(&deployment, None));
        deployment.status = Some(
            serde_json::from_value(json!({
                "conditions": [{ "type": "Ready", "status": "False", "reason": "ShardCrashed", "message": "node-2: killed",
                    "lastTransitionTime": "2026-01-01T00:00:00Z" }],
                "failures": { "firstMessage": "out of memory", "restarts": 2 },
            }))
            .unwrap(),
        );
        let text = conditions(&deployment, None);
        for words in ["file:///models/m", "ShardCrashed", "node-2: killed", "First failure: out of memory"] {
            assert!(text.contains(words), "{words:?} is missing in\n{text}");
        }
    }

    #[test]
    fn a_plan_is_explained_with_the_nodes_that_could_not_take_part() {
        let mut plan = plan("m-1", PlanState::Active);
        let message = "node-9: its agent has been silent for 3 min".to_owned();
        plan.spec.rejected_nodes = vec![RejectedNode { node: "node-9".into(), reason: "ProfileStale".into(), message }];
        let text = reasons(&plan, &[], None).join("\n\n");
        for words in ["Where the time goes", "Lower bound of this layout", "silent for 3 min (ProfileStale)"] {
            assert!(text.contains(words), "{words:?} is missing in\n{text}");
        }
    }

    #[test]
    fn events_read_as_a_story() {
        let event: Event = serde_json::from_value(json!({
            "metadata": {}, "involvedObject": {}, "reason": "PlanComputed", "message": "m-1 is computed",
            "eventTime": "2026-01-01T00:00:00.000000Z",
        }))
        .unwrap();
        assert_eq!(story(&[event]), "What happened last:\n2026-01-01T00:00:00Z  PlanComputed         m-1 is computed");
    }
}
