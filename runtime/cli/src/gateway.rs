//! `lime gateway`: the front of a ring whose workers run elsewhere.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use lime_gateway::{Access, Event, GatewayConfig, Options, Orders, PlanFile, PrefixCache};
use lime_plan::Plan;
use lime_ring::{Peer, Transport};
use lime_store::{Source, Store, StoredModel};
use tokio::sync::{mpsc, watch};

use crate::{
    args::{GatewayArgs, Switch},
    document::read_text,
    logging,
    program::this_program,
    stop::StopSignals,
    worker::source,
};

/// A plan names every block of every device.
pub(crate) const LONGEST_PLAN: u64 = 64 << 20;

/// Serves until a signal.
pub(crate) fn run(args: GatewayArgs) -> anyhow::Result<()> {
    logging::start("info");
    let transport = Transport::open(args.tls.as_deref()).context("--tls cannot be used")?;
    let (file, first) = orders(&args, &transport)?;
    let access = Access { status_listen: args.status_listen, ..args.access.read()? };
    let source = source(&args.model, args.revision.as_deref())?;
    let root = args.store.unwrap_or_else(Store::default_root);
    // Open for as long as the gateway runs, so that nobody prunes it.
    let fetched = source.folder().is_none().then(|| fetch(&source, root)).transpose()?;
    let model = fetched.as_ref().map_or_else(
        || args.model.strip_prefix("file://").unwrap_or(&args.model).into(),
        |model| model.folder().path().to_owned(),
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = StopSignals::new()?;
        let served_name = args.served_name.unwrap_or_else(|| first.plan.model.name.clone());
        let (publish, orders) = watch::channel(first);
        let (events, mut happened) = mpsc::unbounded_channel();
        let config = GatewayConfig {
            listen: args.listen,
            served_name,
            orders,
            transport,
            model,
            template_program: Some(this_program()?),
            access,
            queue_limit: args.queue_limit,
        };
        let traces = args.traces.start("lime-gateway", &config.served_name)?;
        let options = Options {
            name: args.name,
            grace: Duration::from_secs(args.drain_seconds),
            speculation: args.speculate,
            strict: args.strict,
            prefix_cache: prefix_cache(args.prefix_cache == Switch::On, args.prefixes_across_keys),
            ..Options::default()
        };
        let gateway = lime_gateway::start(config, options, events).await?;
        println!("{}", serde_json::json!({ "listening": gateway.addr().to_string() }));
        let mut following = std::pin::pin!(follow(file, publish));
        let ended = loop {
            tokio::select! {
                () = signals.wait() => break Ok(()),
                ended = &mut following => break ended,
                Some(event) = happened.recv() => log(&event),
            }
        };
        // Who asks twice means it.
        tokio::select! {
            () = gateway.stop() => {}
            () = signals.wait() => {}
        }
        if let Some(traces) = traces {
            traces.finish();
        }
        ended
    })
}

/// What is kept of requests, and for whom.
pub(crate) const fn prefix_cache(enabled: bool, across_keys: bool) -> PrefixCache {
    match (enabled, across_keys) {
        (false, _) => PrefixCache::Off,
        (true, false) => PrefixCache::PerKey,
        (true, true) => PrefixCache::Shared,
    }
}

/// The plan to begin with, and the file to follow from then on, where there is one.
fn orders(args: &GatewayArgs, transport: &Transport) -> anyhow::Result<(Option<PlanFile>, Orders)> {
    if let Some(path) = &args.follow {
        let (file, first) = PlanFile::open(path, transport).context("--follow cannot be used")?;
        return Ok((Some(file), first));
    }
    let plan = read_plan(args.plan.as_deref().context("give --plan and --worker, or --follow")?)?;
    let peers = peers(&args.workers, &plan, transport)?;
    Ok((None, Orders::new(plan, peers)))
}

/// Follows the file for as long as the gateway runs; without one, the plan stays as it is.
async fn follow(file: Option<PlanFile>, publish: watch::Sender<Orders>) -> anyhow::Result<()> {
    match file {
        Some(file) => file.follow(publish).await.context("the plan is not followed any more"),
        None => {
            publish.closed().await;
            Ok(())
        }
    }
}

/// The model of a server with its small files in the store, or as it was fetched before.
pub(crate) fn fetch(source: &Source, root: PathBuf) -> anyhow::Result<StoredModel> {
    let found = Store::open(root).and_then(|store| store.model_or_last(source));
    let (model, fault) = found.with_context(|| format!("{source} cannot be had"))?;
    if let Some(fault) = fault {
        tracing::warn!(%source, %fault, "its source cannot be asked, the model that was fetched before is served");
    }
    Ok(model)
}

fn log(event: &Event) {
    match event {
        Event::Loading { device, loaded, total } => tracing::debug!(device, "loaded {loaded} of {total}"),
        Event::Ready { epoch } => tracing::info!(epoch, "the ring is ready"),
        Event::WorkerLost { device, reason } => tracing::warn!(device, reason, "worker lost"),
        Event::Unavailable { reason } => tracing::error!(reason, "the ring does not come back"),
        Event::PlanTaken { name, generation } => tracing::info!(name, generation, "another plan is followed"),
        Event::Recovered { epoch } => tracing::info!(epoch, "the ring is back"),
    }
}

/// A plan from a file, checked as every plan from elsewhere is.
fn read_plan(path: &Path) -> anyhow::Result<Plan> {
    let text = read_text(path, LONGEST_PLAN).with_context(|| format!("the plan {} cannot be read", path.display()))?;
    let fault = || format!("{} is no plan: make one with `lime plan -o json`", path.display());
    Plan::from_json(text.as_bytes()).with_context(fault)
}

/// `NAME=URL` for each device of the plan, none twice and none unknown.
fn peers(workers: &[String], plan: &Plan, transport: &Transport) -> anyhow::Result<Vec<Peer>> {
    let mut peers = Vec::new();
    let mut seen = BTreeSet::new();
    for worker in workers {
        let Some((device, uri)) = worker.split_once('=') else {
            bail!("--worker {worker}: write NAME=URL, such as a=http://10.0.0.1:7000");
        };
        ensure!(plan.device(device).is_some(), "--worker {worker}: the plan has no device {device:?}");
        ensure!(seen.insert(device), "--worker {worker}: device {device:?} is given twice");
        let scheme = transport.scheme();
        let found = uri.split_once("://").map_or("", |(found, _)| found);
        ensure!(
            found == scheme,
            "--worker {worker}: the URL must begin with {scheme}:// {} --tls",
            if scheme == "https" { "with" } else { "without" }
        );
        peers.push(Peer { device: device.to_owned(), uri: uri.to_owned() });
    }
    if let Some(missing) = plan.devices.iter().find(|device| !seen.contains(device.name.as_str())) {
        bail!("no --worker for device {:?} of the plan", missing.name);
    }
    Ok(peers)
}
