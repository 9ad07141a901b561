//! `lime profile`: what this machine has for LIME.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use lime_plan::Format;
use lime_profiler::{
    ComputeEffort, DiskEffort, Dtype, LinkSpeed, Measured, NodeProfileFile, compute, disk_can_be_measured,
    disk_of_folder, link, listen, machine_identity, memory,
};

use crate::{
    args::{Output, ProfileArgs},
    logging,
    profile_table::profile_table,
    stop::StopSignals,
};

/// Measures and prints, or answers others' probes.
pub(crate) fn run(args: &ProfileArgs) -> anyhow::Result<()> {
    logging::start("info");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if let Some(addr) = args.listen {
        return runtime.block_on(answer(addr));
    }
    let peers = args.peers.iter().map(|peer| named(peer)).collect::<anyhow::Result<Vec<_>>>()?;
    if let Some(folder) = &args.store {
        disk_can_be_measured(folder)?;
    }
    let reserve = lime_api::parse_bytes(&args.reserve).context("--reserve")?;
    let ty = Dtype::ALL.into_iter().find(|ty| ty.to_string() == args.dtype);
    let ty = ty.with_context(|| format!("--dtype {}: weights are stored as bf16, f16 or f32", args.dtype))?;
    let quantized: Vec<Format> = Format::ALL.into_iter().filter(|format| format.is_quantized()).collect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.map_or(cores, usize::from);
    // Links first: they fail at once where nobody answers.
    let mut links: Vec<(String, LinkSpeed)> = Vec::new();
    for (name, uri) in peers {
        links.push((name, runtime.block_on(link(&uri))?));
    }
    let measured = Measured {
        machine: machine_identity(),
        at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        memory: memory()?,
        compute: compute(ComputeEffort::FULL.beyond_caches(), ty, &quantized, threads)?,
        disk: args.store.as_deref().map(|folder| disk_of_folder(folder, DiskEffort::FULL)).transpose()?,
    };
    let mut profile = NodeProfileFile::new(&name(args), reserve.0, measured);
    for (to, speed) in links {
        profile.add_link(&to, speed);
    }
    if profile.measured.disk.as_ref().is_some_and(|disk| !disk.direct) {
        eprintln!("note: this file system takes no direct reads: the disk's figure is the page cache's");
    }
    let text = match args.output {
        Output::Table => profile_table(&profile, lime_tables::screen_width()),
        Output::Json => serde_json::to_string_pretty(&profile)?,
        Output::Yaml => serde_saphyr::to_string(&profile)?,
    };
    Ok(lime_tables::print(&text)?)
}

async fn answer(addr: std::net::SocketAddr) -> anyhow::Result<()> {
    let mut signals = StopSignals::new()?;
    let listener = listen(addr).await?;
    eprintln!("answering probes at http://{} until Ctrl-C", listener.addr());
    signals.wait().await;
    listener.stop().await;
    Ok(())
}

/// `NAME=URL`.
fn named(peer: &str) -> anyhow::Result<(String, String)> {
    match peer.split_once('=') {
        Some((name, uri)) if !name.is_empty() && !uri.is_empty() => Ok((name.to_owned(), uri.to_owned())),
        _ => bail!("--peer {peer}: write the other node's name and address, such as bea=http://10.0.0.2:7000"),
    }
}

fn name(args: &ProfileArgs) -> String {
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let found = args.name.clone().or_else(host).unwrap_or_default();
    match found.trim() {
        "" => "this-machine".to_owned(),
        name => name.to_owned(),
    }
}
