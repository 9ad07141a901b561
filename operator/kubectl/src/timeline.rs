//! `kubectl lime timeline`: one token's way through the devices.

use std::{io::IsTerminal as _, path::Path};

use anyhow::{Context as _, bail};
use lime_planner::timeline;

use crate::{args::TimelineArgs, cluster::Cluster, fleet::fleet_of, plan};

/// Draws the plan in force as its nodes are now.
pub(crate) async fn run(cluster: &Cluster, args: &TimelineArgs) -> anyhow::Result<()> {
    let file = args.output.as_deref().filter(|path| *path != Path::new("-"));
    if file.is_none() && std::io::stdout().is_terminal() {
        bail!("the picture is SVG: name a file with -o FILE.svg");
    }
    let (_, plans) = plan::ask(cluster, args.deployment.as_deref(), args.plan.as_deref()).await?;
    let plan = plans[0].spec.plan()?;
    let fleet = fleet_of(&plan, &cluster.profiles().await?)?;
    let picture = timeline(&plan, &fleet).context("this plan has no steady state to draw")?.to_svg();
    match file {
        Some(path) => std::fs::write(path, picture).with_context(|| format!("{} cannot be written", path.display())),
        None => Ok(lime_tables::print(&picture)?),
    }
}
