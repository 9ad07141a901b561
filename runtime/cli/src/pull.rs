//! `lime pull`: a model's blocks, or one device's share of them, into the weight store.

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lime_plan::{Block, Bytes, Encoding, PlacedBlock, Plan, Residency};
use lime_store::{BlockState, EnsureOptions, Ensured, PullProgress, Source, Store, StoredModel};

use crate::{
    args::{PullArgs, StoreFolder},
    gateway::LONGEST_PLAN,
    logging,
};

/// The folder of the store that the arguments name.
pub(crate) fn folder(folder: &StoreFolder) -> PathBuf {
    folder.folder.clone().unwrap_or_else(Store::default_root)
}

/// Sees whether the blocks of a plan can be had from the default store before anything is started that needs them: it can be written to, or
/// all that the model has is there.
pub(crate) fn check_store(source: &Source) -> anyhow::Result<()> {
    let root = Store::default_root();
    let Err(fault) = Store::open(&root).and_then(|store| store.check_writable()) else { return Ok(()) };
    let there = Store::existing(&root).and_then(|store| store.find(source).ok().flatten());
    let whole = |model: StoredModel| {
        model.folder().card("").all_blocks().all(|block| matches!(model.state(block), BlockState::Whole(_)))
    };
    if there.is_some_and(whole) { Ok(()) } else { Err(fault.into()) }
}

/// Pulls and says what that took.
pub(crate) fn run(args: &PullArgs) -> anyhow::Result<()> {
    let mut source: Source = args.source.parse()?;
    if let Some(revision) = &args.revision {
        source = source.at(revision)?;
    }
    logging::start("warn");
    let model =
        Store::open(folder(&args.store))?.model(&source).with_context(|| format!("{source} cannot be pulled"))?;
    let (blocks, embedding_streams, encoding) = match (&args.plan, &args.device) {
        (Some(plan), Some(device)) => {
            let (placed, encoding) = blocks_of(plan, device, &model)?;
            let streamed = PlacedBlock { block: Block::Embedding, residency: Residency::Streamed };
            (placed.iter().map(|placed| placed.block).collect(), placed.contains(&streamed), encoding)
        }
        _ => (model.folder().card("").all_blocks().collect::<Vec<_>>(), false, Encoding::Raw),
    };
    let verify: &[Block] = if args.verify { &blocks } else { &[] };
    let options = EnsureOptions { connections: args.connections.into(), verify, embedding_streams, encoding };
    let ensured = ensure(&model, &blocks, options)?;
    Ok(lime_tables::print(&summary(&model, &ensured))?)
}

/// Makes blocks with a bar that shows rate and time left.
pub(crate) fn ensure(model: &StoredModel, blocks: &[Block], options: EnsureOptions<'_>) -> anyhow::Result<Ensured> {
    let bar = ProgressBar::with_draw_target(None, target());
    let style = "{prefix} {bar:24} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left {msg}";
    bar.set_style(ProgressStyle::with_template(style)?);
    bar.set_prefix(model.manifest().name.clone());
    let ensured = model.ensure(blocks, options, &mut |progress: &PullProgress| {
        if bar.length().is_none() {
            bar.set_length(progress.total.0);
            bar.set_position(progress.before.0);
            // What was there before says nothing about the rate.
            bar.reset_eta();
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        bar.set_position(progress.done.0);
        bar.set_message(format!("({} of {} blocks)", progress.blocks, progress.of_blocks));
    });
    bar.finish_and_clear();
    Ok(ensured?)
}

fn target() -> ProgressDrawTarget {
    if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() }
}

/// The blocks of one device of a plan and how they lie, which must be of this very model.
fn blocks_of(path: &Path, device: &str, model: &StoredModel) -> anyhow::Result<(Vec<PlacedBlock>, Encoding)> {
    let text = lime_files::read_small_or_pipe(path, LONGEST_PLAN)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let plan = Plan::from_json(&text)
        .with_context(|| format!("{} is no plan: make one with `lime plan -o json`", path.display()))?;
    let card = model.folder().config().encoded(plan.model.encoding).card(&plan.model.name);
    if card.blocks != plan.model.blocks || card.format != plan.model.format {
        bail!(
            "{} is a plan for {}, whose blocks are not those of {}",
            path.display(),
            plan.model.name,
            model.manifest().name
        );
    }
    let Some((_, found)) = plan.device(device) else {
        let names: Vec<&str> = plan.devices.iter().map(|device| device.name.as_str()).collect();
        bail!("{} has no device {device:?}, only {}", path.display(), names.join(", "));
    };
    Ok((found.blocks.clone(), plan.model.encoding))
}

fn summary(model: &StoredModel, ensured: &Ensured) -> String {
    let files = model.mended_files().iter().map(|(file, reason)| format!("file {file} {reason}: fetched again"));
    let blocks = ensured.repaired.iter().map(|(block, reason)| format!("block {block} {reason}: made again"));
    let mut lines: Vec<String> = files.chain(blocks).collect();
    let blocks = ensured.there + ensured.made.len();
    let bytes: Bytes = model.folder().card("").all_blocks().map(|block| model.bytes_on_disk(block)).sum();
    lines.push(format!(
        "{}: {blocks} blocks whole ({} made, {} there before), {bytes} in {}",
        model.manifest().name,
        ensured.made.len(),
        ensured.there,
        model.path().display()
    ));
    lines.join("\n")
}
