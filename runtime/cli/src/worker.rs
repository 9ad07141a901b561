//! `lime worker`: one device.

use std::{io::Write as _, time::Duration};

use anyhow::Context as _;
use lime_plan::Bytes;
use lime_ring::{LinkShape, Transport};
use lime_store::{Source, Store};
use lime_worker::{DiskShape, STUCK_AFTER, WorkerConfig};
use serde::{Deserialize, Serialize};

use crate::{args::WorkerArgs, logging, stop, units};

/// How long a worker may take to end cleanly before it just ends.
const PATIENCE: Duration = Duration::from_secs(5);

/// The line that a worker prints when it can be reached.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listening {
    pub(crate) listening: String,
}

/// Runs until a signal, or until the parent is gone.
pub(crate) fn run(args: WorkerArgs) -> anyhow::Result<()> {
    logging::start("info");
    let (exit_with_parent, listen, traces) = (args.exit_with_parent, args.listen, args.traces.clone());
    let drain = Duration::from_secs(args.drain_seconds);
    let config = config(args)?;
    if matches!(config.transport, Transport::Plaintext) && !listen.ip().is_loopback() {
        tracing::warn!(
            "listening on {listen} in plain text: whoever reaches this port can read activations and give orders; \
             use --tls DIR, or --listen 127.0.0.1:{} where nobody else is to come in",
            listen.port()
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let traces = traces.start("lime-worker", &config.name)?;
        let served = serve(config, listen, exit_with_parent, drain).await;
        if let Some(traces) = traces {
            traces.finish();
        }
        served
    })
}

fn config(args: WorkerArgs) -> anyhow::Result<WorkerConfig> {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let link = match &args.link_bandwidth {
        None => None,
        Some(rate) => Some(LinkShape {
            bandwidth_bits: units::bits_per_second(&rate.as_str().into()).context("--link-bandwidth")?,
            latency: units::duration(&args.link_latency.as_deref().unwrap_or("0s").into(), "latency")
                .context("--link-latency")?,
        }),
    };
    let rate = |text: &str| units::bytes_per_second(&text.into(), "bandwidth").context("--disk-bandwidth");
    let disk = args.disk_bandwidth.as_deref().map(rate).transpose()?;
    let model = source(&args.model, args.revision.as_deref())?;
    // What comes from a server must be kept somewhere.
    let store = args.store.or_else(|| model.folder().is_none().then(Store::default_root));
    let page_disk = args.prefix_disk.as_deref().map(prefix_disk).transpose()?.flatten();
    // So must that.
    let store = store.or_else(|| page_disk.map(|_| Store::default_root()));
    let transport = Transport::open(args.tls.as_deref()).context("--tls cannot be used")?;
    Ok(WorkerConfig {
        name: args.name,
        model,
        store,
        page_disk,
        threads: args.threads.map_or_else(cores, usize::from),
        link,
        disk: disk.map(|bytes_per_second| DiskShape { bytes_per_second }),
        verify_reads: args.verify_reads,
        isa: args.isa,
        gpu: args.gpu,
        transport,
        health: args.health,
        stuck_after: STUCK_AFTER,
    })
}

/// What `--prefix-disk` says; 0 is nothing.
pub(crate) fn prefix_disk(size: &str) -> anyhow::Result<Option<Bytes>> {
    let bytes = lime_api::parse_bytes(size).context("--prefix-disk")?;
    Ok((!bytes.is_zero()).then_some(bytes))
}

/// A source as arguments name it.
pub(crate) fn source(model: &str, revision: Option<&str>) -> anyhow::Result<Source> {
    let source: Source = model.parse()?;
    Ok(match revision {
        Some(revision) => source.at(revision)?,
        None => source,
    })
}

async fn serve(
    config: WorkerConfig,
    listen: std::net::SocketAddr,
    exit_with_parent: bool,
    drain: Duration,
) -> anyhow::Result<()> {
    let mut signals = stop::StopSignals::new()?;
    let name = config.name.clone();
    let worker = lime_worker::start(config, listen).await.with_context(|| format!("worker {name} cannot start"))?;
    let line = serde_json::to_string(&Listening { listening: worker.addr().to_string() })?;
    // A parent that is gone already will be noticed below.
    let _ = writeln!(std::io::stdout(), "{line}").and_then(|()| std::io::stdout().flush());
    if exit_with_parent {
        tokio::select! {
            () = signals.wait() => {}
            _ = stop::end_of_input() => {}
        }
    } else {
        signals.wait().await;
    }
    // Who asks twice means it.
    tokio::select! {
        () = worker.unneeded(drain) => {}
        () = signals.wait() => {}
    }
    match tokio::time::timeout(PATIENCE, worker.stop()).await {
        Ok(stopped) => stopped.with_context(|| format!("worker {name} did not end well")),
        // Nothing that this process holds outlives it: no file is half written by a worker.
        Err(_) => std::process::exit(0),
    }
}
