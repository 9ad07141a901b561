//! `kubectl lime top`: what each device does now, from the figures that the gateway collects of its workers.

mod figures;
mod view;

use std::time::{Duration, Instant};

use anyhow::Context as _;
use console::Term;
use kube::ResourceExt as _;
use lime_api::{LimeDeployment, LimePlan};
use lime_client::{ClientError, Server};
use lime_tables::screen_width;

use self::figures::Figures;
use crate::{args::TopArgs, cluster::Cluster, forward};

/// A look at the gateway's figures.
struct Look {
    at: Instant,
    figures: Figures,
}

/// Shows the devices until Ctrl-C, or once.
pub(crate) async fn run(cluster: &Cluster, args: &TopArgs) -> anyhow::Result<()> {
    let deployment = cluster.deployment(args.deployment.as_deref()).await?;
    let server = forward::status(cluster, &deployment);
    let terminal = Term::stdout();
    let live = !args.once && terminal.is_term();
    let pause = Duration::from_secs(args.interval);
    let mut before = look(&server).await?;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
        // A gateway that is being made anew is waited for, where somebody watches.
        let now = match look(&server).await {
            Ok(now) => now,
            Err(error) if live => {
                terminal.clear_screen()?;
                terminal.write_line(&format!("{error:#}; looking again every {} s", args.interval))?;
                continue;
            }
            Err(error) => return Err(error),
        };
        let (deployment, plan) = followed(cluster, &deployment.name_any(), &now.figures).await?;
        let text =
            view::text(&deployment, plan.as_ref(), &now.figures, &before.figures, now.at - before.at, screen_width());
        if live {
            terminal.clear_screen()?;
        }
        lime_tables::print(&text)?;
        if !live {
            return Ok(());
        }
        before = now;
    }
}

async fn look(server: &Server) -> anyhow::Result<Look> {
    let text = server.get_text("/metrics").await.map_err(|error| match error {
        ClientError::Away { source, .. } => anyhow::Error::new(source),
        other => other.into(),
    });
    Ok(Look { at: Instant::now(), figures: Figures::read(&text.context("the gateway's figures cannot be had")?) })
}

/// The deployment as it is now, and the plan that its gateway follows.
async fn followed(
    cluster: &Cluster,
    name: &str,
    figures: &Figures,
) -> anyhow::Result<(LimeDeployment, Option<LimePlan>)> {
    let deployment = cluster.deployment(Some(name)).await?;
    let followed = figures.plan();
    let plans = cluster.plans(name).await?;
    Ok((deployment, plans.into_iter().find(|plan| Some(plan.name_any().as_str()) == followed)))
}
