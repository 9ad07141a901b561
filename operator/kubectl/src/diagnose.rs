//! `kubectl lime diagnose`: one archive for whoever is to help.

mod bundle;
mod collect;
mod logs;
mod redact;

use std::{
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use k8s_openapi::jiff::Timestamp;

use self::{bundle::Bundle, redact::Redactor};
use crate::{args::DiagnoseArgs, cluster::Cluster};

/// Collects, redacts, writes.
pub(crate) async fn run(cluster: &Cluster, args: &DiagnoseArgs) -> anyhow::Result<()> {
    let to_output = args.output.as_deref() == Some(Path::new("-"));
    if to_output && std::io::stdout().is_terminal() {
        bail!("the archive is no text for a terminal: leave -o away, or pipe it on");
    }
    let now = Timestamp::now();
    let mut bundle = Bundle::default();
    let mut redactor = Redactor::default();
    let deployment = args.deployment.as_deref();
    let deployments = collect::objects(cluster, deployment, &mut bundle, &mut redactor).await?;
    let mut places = vec![(cluster.namespace.clone(), collect::labels_of(deployment))];
    let operators = collect::operators(&deployments).into_iter();
    places.extend(operators.map(|namespace| (namespace, collect::OF_THE_CHART.to_owned())));
    // After the objects: by then it is known which values must not stand in a log either.
    logs::logs(cluster, &places, args.log_lines, &mut bundle, &redactor).await;
    let folder = format!("lime-{}-{}", cluster.namespace, now.strftime("%Y%m%d-%H%M%S"));
    let archive = bundle.archive(&folder, now)?;
    if to_output {
        return Ok(std::io::stdout().write_all(&archive)?);
    }
    let path = args.output.clone().unwrap_or_else(|| PathBuf::from(format!("{folder}.tar.gz")));
    std::fs::write(&path, archive).with_context(|| format!("{} cannot be written", path.display()))?;
    println!(
        "{}: {} files. Secrets are left out; look through it before you hand it on.",
        path.display(),
        bundle.len()
    );
    for fault in bundle.faults() {
        eprintln!("note: {fault}");
    }
    Ok(())
}
