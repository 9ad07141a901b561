//! `lime store`: what is in the weight store, whether it is whole, and room.

use std::path::{Path, PathBuf};

use anyhow::bail;
use comfy_table::{Table, presets};
use lime_plan::{Block, Bytes};
use lime_store::{BlockState, EnsureOptions, Listed, Store, StoredModel};

use crate::{
    args::{StoreArgs, StoreCommand},
    logging, pull,
};

/// Does what was asked.
pub(crate) fn run(args: &StoreArgs) -> anyhow::Result<()> {
    logging::start("warn");
    let root = pull::folder(&args.store);
    // Looking at a store makes none.
    let Some(store) = Store::existing(&root) else {
        let none = format!("there is no weight store in {}; `lime pull` makes one", root.display());
        return match args.command {
            StoreCommand::Ls => Ok(lime_tables::print(&none)?),
            StoreCommand::Verify { .. } | StoreCommand::Prune { .. } => bail!(none),
        };
    };
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
    Ok(lime_tables::print(&format!("{}\n{table}", store.root().display()))?)
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

/// What verifying found, over all models.
#[derive(Default)]
struct Verified {
    blocks: usize,
    files: usize,
    /// What was damaged and is whole again.
    mended: Vec<String>,
    /// What is damaged.
    damaged: Vec<String>,
    /// What could not be compared.
    unknown: Vec<String>,
}

fn verify(store: &Store, wanted: &[String], repair: bool) -> anyhow::Result<()> {
    let mut found = Verified::default();
    // Closed again before their files are looked at: a manifest that lacks digests is written while nobody has the model open.
    let chosen: Vec<PathBuf> = chosen(store, wanted)?.into_iter().map(|(path, _)| path).collect();
    for path in chosen {
        if let Err(fault) = found.add(store, &path, repair) {
            found.damaged.push(format!("{}: {fault:#}", key(&path)));
        }
    }
    let Verified { blocks, files, mended, damaged, unknown } = found;
    damaged.iter().chain(&mended).chain(&unknown).for_each(|line| eprintln!("{line}"));
    let read = format!("{blocks} blocks and {files} files read");
    let count = |damaged: usize| if damaged == 1 { "1 is".to_owned() } else { format!("{damaged} are") };
    match (damaged.len(), mended.len()) {
        (0, 0) if unknown.is_empty() => Ok(lime_tables::print(&format!("{read}, every bit as it was written"))?),
        (0, 0) => {
            Ok(lime_tables::print(&format!("{read}, every bit as it was written, but for what could not be compared"))?)
        }
        (0, mended) => Ok(lime_tables::print(&format!("{read}, {mended} damaged and made again"))?),
        (left, _) if repair => bail!("{read}, {} damaged and could not be mended", count(left)),
        (left, _) => bail!("{read}, {} damaged: `lime store verify --repair` makes them again", count(left)),
    }
}

impl Verified {
    /// Compares everything of the model in `path`.
    fn add(&mut self, store: &Store, path: &Path, repair: bool) -> anyhow::Result<()> {
        let key = key(path);
        let card = store.verify_card(path, repair)?;
        self.files += card.files;
        let cannot_open = !repair && !card.damaged.is_empty();
        self.unknown.extend(card.unrecorded.map(|reason| {
            format!("{key}: its small files were fetched without digests, and cannot be compared with the source's: {reason}")
        }));
        let lines = card.damaged.iter().map(|(file, reason)| format!("{key}: file {file} {reason}"));
        if repair { &mut self.mended } else { &mut self.damaged }.extend(lines);
        let model = match store.open_at(path) {
            Ok(model) => model,
            // Its files say why already.
            Err(_) if cannot_open => return Ok(()),
            Err(fault) => return Err(fault.into()),
        };
        let there: Vec<Block> =
            blocks(&model).into_iter().filter(|block| model.state(*block) != BlockState::Absent).collect();
        self.blocks += there.len();
        let found = model.verify(&there, &|_, _| {})?;
        let again: Vec<Block> = found.iter().map(|(block, _)| *block).collect();
        if repair && !again.is_empty() {
            again.iter().try_for_each(|block| model.discard(*block))?;
            pull::ensure(&model, &again, EnsureOptions::default())?;
        }
        let lines = found.iter().map(|(block, reason)| format!("{key}: block {block} {reason}"));
        if repair { &mut self.mended } else { &mut self.damaged }.extend(lines);
        Ok(())
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
    Ok(lime_tables::print(&lines.join("\n"))?)
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
