//! `lime store`: what is in the weight store, whether it is whole, and room.

use std::path::{Path, PathBuf};

use anyhow::bail;
use comfy_table::{Table, presets};
use lime_planner::{Block, Bytes};
use lime_store::{BlockState, EnsureOptions, Listed, Store, StoredModel};

use crate::{
    args::{StoreArgs, StoreCommand},
    plan::print,
    pull,
};

/// Does what was asked.
pub(crate) fn run(args: &StoreArgs) -> anyhow::Result<()> {
    let store = pull::open(&args.store)?;
    match &args.command {
        StoreCommand::Ls => list(&store),
        StoreCommand::Verify { models, repair } => verify(&store, models, *repair),
        StoreCommand::Prune { models, all, dry_run } => prune(&store, models, *all, *dry_run),
    }
}

fn list(store: &Store) -> anyhow::Result<()> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["MODEL", "SOURCE", "REVISION", "BLOCKS", "ON DISK", "STATE"]);
    for (path, model) in store.models()? {
        match model {
            Ok(model) => table.add_row(row(&model)),
            Err(fault) => table.add_row([
                key(&path),
                String::new(),
                String::new(),
                String::new(),
                String::new(),
                fault.to_string(),
            ]),
        };
    }
    print(&format!("{}\n{table}", store.root().display()))
}

fn row(model: &StoredModel) -> [String; 6] {
    let blocks = blocks(model);
    let (mut whole, mut odd) = (0, Vec::new());
    for block in &blocks {
        match model.state(*block) {
            BlockState::Whole(_) => whole += 1,
            BlockState::Partial(bytes) => odd.push(format!("{block}: {bytes} so far")),
            BlockState::Damaged(reason) | BlockState::Unreadable(reason) => odd.push(format!("{block} {reason}")),
            BlockState::Absent => {}
        }
    }
    let bytes: Bytes = blocks.iter().map(|block| model.bytes_on_disk(*block)).sum();
    let manifest = model.manifest();
    let revision: String = manifest.revision.chars().take(12).collect();
    let state = if odd.is_empty() { "ok".to_owned() } else { odd.join("; ") };
    [
        model.key().to_owned(),
        manifest.place.clone(),
        revision,
        format!("{whole} of {}", blocks.len()),
        bytes.to_string(),
        state,
    ]
}

fn verify(store: &Store, wanted: &[String], repair: bool) -> anyhow::Result<()> {
    let (mut damaged, mut read) = (Vec::new(), 0);
    for (path, model) in chosen(store, wanted)? {
        let model = match model {
            Ok(model) => model,
            Err(fault) => {
                damaged.push(format!("{}: {fault}", key(&path)));
                continue;
            }
        };
        let there: Vec<Block> =
            blocks(&model).into_iter().filter(|block| model.state(*block) != BlockState::Absent).collect();
        read += there.len();
        let found = model.verify(&there, &|_, _| {})?;
        for (block, reason) in &found {
            damaged.push(format!("{}: block {block} {reason}", model.key()));
        }
        let again: Vec<Block> = found.iter().map(|(block, _)| *block).collect();
        if repair && !again.is_empty() {
            again.iter().try_for_each(|block| model.discard(*block))?;
            pull::ensure(&model, &again, EnsureOptions::default())?;
        }
    }
    damaged.iter().for_each(|line| eprintln!("{line}"));
    match (damaged.len(), repair) {
        (0, _) => print(&format!("{read} blocks read, every bit as it was written")),
        (count, true) => print(&format!("{read} blocks read, {count} damaged and made again")),
        (count, false) => bail!("{count} of {read} blocks are damaged: `lime store verify --repair` makes them again"),
    }
}

fn prune(store: &Store, wanted: &[String], all: bool, dry: bool) -> anyhow::Result<()> {
    let going: Vec<PathBuf> =
        if wanted.is_empty() { Vec::new() } else { chosen(store, wanted)?.into_iter().map(|(path, _)| path).collect() };
    let pruned = store.prune(&|path| all || going.iter().any(|going| going == path), dry)?;
    let verb = if dry { "would remove" } else { "removed" };
    let mut lines: Vec<String> = pruned.removed.iter().map(|path| format!("{verb} {}", key(path))).collect();
    lines.extend(pruned.in_use.iter().map(|path| format!("{} is in use and stays", key(path))));
    lines.push(format!("{} {}", pruned.bytes, if dry { "would be free" } else { "freed" }));
    print(&lines.join("\n"))
}

/// The models that were named, by key or by name; all where none was.
fn chosen(store: &Store, wanted: &[String]) -> anyhow::Result<Vec<Listed>> {
    let models = store.models()?;
    let names = |name: &String, (path, model): &Listed| {
        *name == key(path) || model.as_ref().is_ok_and(|model| *name == model.manifest().name)
    };
    if let Some(unknown) = wanted.iter().find(|name| !models.iter().any(|found| names(name, found))) {
        bail!("there is no model {unknown:?} in {}: `lime store ls` shows what there is", store.root().display());
    }
    Ok(models.into_iter().filter(|found| wanted.is_empty() || wanted.iter().any(|name| names(name, found))).collect())
}

fn blocks(model: &StoredModel) -> Vec<Block> {
    model.folder().card("").all_blocks().collect()
}

fn key(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
