//! `kubectl lime plan`: who holds what.

use anyhow::{Context as _, bail};
use kube::ResourceExt as _;
use lime_api::{LimeDeployment, LimePlan, PlanState};
use lime_tables::{plan_table, screen_width};

use crate::{
    args::{Output, PlanArgs},
    cluster::Cluster,
};

/// Prints the plan in force, and one that awaits approval.
pub(crate) async fn run(cluster: &Cluster, args: &PlanArgs) -> anyhow::Result<()> {
    let (deployment, plans) = ask(cluster, args.deployment.as_deref(), args.plan.as_deref()).await?;
    let text = match args.output {
        Output::Table => {
            let texts: Vec<String> =
                plans.iter().map(|plan| described(&deployment, plan, screen_width())).collect::<anyhow::Result<_>>()?;
            texts.join("\n\n")
        }
        Output::Json => serde_json::to_string_pretty(&plans[0].spec.plan()?)?,
        Output::Yaml => serde_saphyr::to_string(&plans[0].spec.plan()?)?,
    };
    Ok(lime_tables::print(&text)?)
}

/// A deployment and the plans of it that are meant, at least one.
pub(crate) async fn ask(
    cluster: &Cluster,
    deployment: Option<&str>,
    plan: Option<&str>,
) -> anyhow::Result<(LimeDeployment, Vec<LimePlan>)> {
    let deployment = cluster.deployment(deployment).await?;
    let plans = cluster.plans(&deployment.name_any()).await?;
    let chosen = chosen(&deployment, plans, plan)?;
    Ok((deployment, chosen))
}

/// The plan called `wanted`; else the one in force and the one that awaits approval; else the newest, which may be that nothing fits.
fn chosen(deployment: &LimeDeployment, plans: Vec<LimePlan>, wanted: Option<&str>) -> anyhow::Result<Vec<LimePlan>> {
    let name = deployment.name_any();
    let named = |wanted: &str| plans.iter().find(|plan| plan.name_any() == wanted).cloned();
    if let Some(wanted) = wanted {
        let names: Vec<String> = plans.iter().map(kube::ResourceExt::name_any).collect();
        let unknown = || match names.is_empty() {
            true => format!("{name} has no LimePlan yet"),
            false => format!("{name} has no LimePlan {wanted}: there are {}", names.join(", ")),
        };
        return Ok(vec![named(wanted).with_context(unknown)?]);
    }
    let status = deployment.status.clone().unwrap_or_default();
    let meant = [status.current_plan, status.proposed_plan];
    let mut found: Vec<LimePlan> = meant.into_iter().flatten().filter_map(|wanted| named(&wanted)).collect();
    if found.is_empty() {
        found.extend(plans.first().cloned());
    }
    if found.is_empty() {
        let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
        let why = ready.map_or_else(String::new, |it| format!(": {} ({})", it.message, it.reason));
        bail!("{name} has no plan yet{why}");
    }
    Ok(found)
}

/// A plan as people read it.
pub(crate) fn described(deployment: &LimeDeployment, plan: &LimePlan, width: Option<usize>) -> anyhow::Result<String> {
    let name = plan.name_any();
    let state = plan.status.as_ref().map(|status| status.state).unwrap_or_default();
    let mut text = format!("{name}: {}\n", in_words(state));
    if plan.spec.feasible {
        text.push_str(&plan_table(&plan.spec.plan().with_context(|| format!("LimePlan {name}"))?, width));
    } else {
        let shortfall = plan.spec.shortfall.clone().unwrap_or_default();
        text.push_str(&shortfall.message);
        for fit in &shortfall.would_fit {
            text.push_str(&format!("\n- would fit: {fit}"));
        }
    }
    let awaited = deployment.status.as_ref().and_then(|status| status.proposed_plan.as_deref());
    if awaited == Some(name.as_str()) && state == PlanState::Proposed {
        let namespace = deployment.namespace().unwrap_or_default();
        let command = lime_api::approval_command(&namespace, &deployment.name_any(), &name);
        text.push_str(&format!("\nTo approve it:\n  {command}"));
    }
    Ok(text)
}

fn in_words(state: PlanState) -> &'static str {
    match state {
        PlanState::Proposed => "proposed, it awaits approval or its turn",
        PlanState::Active => "in force",
        PlanState::Superseded => "superseded",
        PlanState::Infeasible => "nothing fits",
    }
}

#[cfg(test)]
mod tests {
    use lime_api::{LimeDeploymentStatus, LimePlanStatus, Shortfall};

    use super::*;
    use crate::testing::{deployment, plan};

    #[test]
    fn the_plan_in_force_comes_first_then_what_awaits_approval() {
        let mut deployment = deployment();
        let plans = || {
            vec![plan("m-3", PlanState::Proposed), plan("m-2", PlanState::Active), plan("m-1", PlanState::Superseded)]
        };
        let names = |found: anyhow::Result<Vec<LimePlan>>| -> Vec<String> {
            found.unwrap().iter().map(kube::ResourceExt::name_any).collect()
        };
        assert_eq!(names(chosen(&deployment, plans(), None)), ["m-3"], "the newest where nothing is in force");
        deployment.status = Some(LimeDeploymentStatus {
            current_plan: Some("m-2".into()),
            proposed_plan: Some("m-3".into()),
            ..LimeDeploymentStatus::default()
        });
        assert_eq!(names(chosen(&deployment, plans(), None)), ["m-2", "m-3"]);
        assert_eq!(names(chosen(&deployment, plans(), Some("m-1"))), ["m-1"]);
        let unknown = chosen(&deployment, plans(), Some("m-9")).unwrap_err().to_string();
        assert!(unknown.contains("m-3, m-2, m-1"), "{unknown}");
        assert!(chosen(&deployment, Vec::new(), None).unwrap_err().to_string().contains("no plan yet"));
        let text = described(&deployment, &plan("m-3", PlanState::Proposed), None).unwrap();
        assert!(text.contains("kubectl -n llm patch limedeployment m"), "{text}");
        assert!(text.contains("KV cache"), "{text}");
    }

    #[test]
    fn what_cannot_be_planned_says_what_would_fit() {
        let mut plan = plan("m-1", PlanState::Infeasible);
        plan.spec.feasible = false;
        plan.spec.document = None;
        plan.spec.shortfall = Some(Shortfall {
            message: "2 GiB are missing on node-1".into(),
            would_fit: vec!["2048 tokens of context (1.2 s per token)".into()],
            ..Shortfall::default()
        });
        plan.status = Some(LimePlanStatus { state: PlanState::Infeasible, ..LimePlanStatus::default() });
        let text = described(&deployment(), &plan, None).unwrap();
        assert_eq!(
            text,
            "m-1: nothing fits\n2 GiB are missing on node-1\n- would fit: 2048 tokens of context (1.2 s per token)"
        );
    }
}
