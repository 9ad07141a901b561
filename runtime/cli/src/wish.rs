//! From files to a plan: what `lime up` and `lime plan` have in common.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use lime_api::{LimeDeployment, ModelSource};
use lime_model::{ModelConfig, ModelFolder, is_gguf};
use lime_plan::{Bytes, Fleet, Goal, ModelCard, Plan};
use lime_store::{Source, Store, StoredModel};

use crate::{
    args::WishArgs,
    document::{Document, Fault, Faults},
    fleet::{self, LocalFleet},
    gateway::fetch,
    local,
};

/// Everything that the files say, checked.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) deployment: LimeDeployment,
    pub(crate) fleet: LocalFleet,
    /// The model's folder; for a model from a server, its small files in the store.
    pub(crate) model: PathBuf,
    /// Where workers take the model from.
    pub(crate) source: Source,
    /// Open for as long as the wish is there, so that nobody prunes it.
    fetched: Option<StoredModel>,
    /// Whether to measure this machine anew.
    pub(crate) measure: bool,
}

impl Wish {
    /// Reads the files that `args` name. `model` goes before the model that the deployment names.
    pub(crate) fn read(args: &WishArgs, model: Option<&Path>) -> anyhow::Result<Self> {
        let file = &args.file;
        let documents = Document::read_all(file)?;
        let wish = the_deployment(file, &documents)?;
        let mut deployment = read_deployment(wish)?;
        deployment.spec.arithmetic = args.arithmetic.map_or(deployment.spec.arithmetic, Into::into);
        if args.prompt_tokens.or(args.answer_tokens).is_some() {
            let objective = deployment.spec.objective.get_or_insert_default();
            objective.prompt_tokens = args.prompt_tokens.or(objective.prompt_tokens);
            objective.answer_tokens = args.answer_tokens.or(objective.answer_tokens);
        }
        let fleet = match &args.fleet {
            Some(path) => Some(the_fleet(path)?),
            None => fleet_beside(&documents)?,
        };
        let fleet = match fleet {
            Some(fleet) => fleet,
            None => LocalFleet::whole_machine(reserve_of(&deployment)?)?,
        };
        let source = match model {
            Some(model) if model.is_dir() || is_gguf(model) && model.is_file() => Source::from(model.to_owned()),
            Some(model) => bail!("there is no folder {}: name a model's folder with --model", model.display()),
            None => model_source(wish, &deployment)?,
        };
        let fetched = source.folder().is_none().then(|| fetch(&source, Store::default_root())).transpose()?;
        let folder = fetched.as_ref().map(|fetched| fetched.folder().path());
        let model = folder.or_else(|| source.folder()).map(Path::to_owned).unwrap_or_default();
        Ok(Self { deployment, fleet, model, source, fetched, measure: args.measure })
    }

    /// The name under which clients ask for the model.
    pub(crate) fn served_name(&self) -> String {
        let named = [&self.deployment.spec.model.served_name, &self.deployment.metadata.name];
        named.into_iter().flatten().next().cloned().unwrap_or_else(|| self.source.name())
    }

    /// Makes the plan that is followed here; notes are sentences for the person who waits for it.
    pub(crate) fn plan_to_run(&self, segments: Option<u32>, notes: &mut Vec<String>) -> anyhow::Result<Plan> {
        let folder = ModelFolder::open(&self.model)
            .with_context(|| format!("the model in {} cannot be used", self.model.display()))?;
        notes.extend(folder.remarks().iter().cloned());
        let card = match &self.fetched {
            Some(fetched) => fetched.surveyed_card(&self.served_name())?,
            None => folder.surveyed_card(&self.served_name()),
        };
        let goal = self.goal(&card, segments, notes);
        let fleet = self.local_fleet(&card, &goal)?;
        let plan = lime_planner::plan(&card, &fleet, &goal)?;
        notes.extend(remarks(&plan, &goal));
        Ok(plan)
    }

    /// The devices that this machine plays, with their speeds.
    pub(crate) fn local_fleet(&self, card: &ModelCard, goal: &Goal) -> anyhow::Result<Fleet> {
        let reads_disk = goal.may_stream();
        local::planner_fleet(&self.fleet, card, &self.model, reads_disk, self.measure)
    }

    /// What the planner needs to know of the model. Weights need not be there: config.json says enough.
    pub(crate) fn card(&self, notes: &mut Vec<String>) -> anyhow::Result<ModelCard> {
        match &self.fetched {
            Some(fetched) => {
                notes.extend(fetched.folder().remarks().iter().cloned());
                Ok(fetched.surveyed_card(&self.served_name())?)
            }
            None => card_of(&self.model, &self.served_name(), notes),
        }
    }

    /// Memory that is to be left to others on each node.
    pub(crate) fn reserve(&self) -> anyhow::Result<Bytes> {
        Ok(reserve_of(&self.deployment)?.unwrap_or_default())
    }

    /// The wish as the planner sees it.
    pub(crate) fn goal(&self, card: &ModelCard, segments: Option<u32>, notes: &mut Vec<String>) -> Goal {
        let (goal, note) = self.deployment.spec.goal(card);
        notes.extend(note);
        Goal { segments: segments.or(self.fleet.segments), ..goal }
    }
}

/// What a person should know of a plan besides the plan.
pub(crate) fn remarks(plan: &Plan, goal: &Goal) -> Vec<String> {
    let mut remarks = Vec::new();
    if let Some(outlook) = &plan.outlook {
        remarks.extend(outlook.rejected.iter().map(|node| format!("{} takes no part: {}", node.name, node.reason)));
        remarks.extend(outlook.missed.iter().cloned());
    }
    if let (1, Some(segments @ 2..)) = (plan.devices.len(), goal.segments) {
        remarks.push(format!("{segments} segments were asked for; a device alone goes round nothing"));
    }
    remarks
}

/// The card of the model in `folder`: from its headers where weights are there, from config.json alone where not.
pub(crate) fn card_of(folder: &Path, name: &str, notes: &mut Vec<String>) -> anyhow::Result<ModelCard> {
    let context = || format!("the model in {} cannot be used", folder.display());
    let weights = std::fs::read_dir(folder).with_context(context)?.filter_map(Result::ok);
    if weights.into_iter().any(|entry| entry.path().extension().is_some_and(|extension| extension == "safetensors")) {
        let model = ModelFolder::open(folder).with_context(context)?;
        notes.extend(model.remarks().iter().cloned());
        return Ok(model.surveyed_card(name));
    }
    let config = ModelConfig::load_without_weights(folder).with_context(context)?;
    let card = config.card(name);
    notes.extend(config.remarks);
    notes.push(format!("{} holds no weights: sizes follow from config.json", folder.display()));
    if let Some(stored) = stored_bytes(folder) {
        let expected = card.parameters.saturating_mul(card.dtype().size());
        if stored != expected {
            let (stored, expected) = Bytes(stored).apart(Bytes(expected));
            notes.push(format!(
                "model.safetensors.index.json says {stored} of weights, config.json {expected}: the plan believes config.json"
            ));
        }
    }
    Ok(card)
}

/// `metadata.total_size` of the model's index, where there is one.
fn stored_bytes(folder: &Path) -> Option<u64> {
    let path = folder.join("model.safetensors.index.json");
    // An index of the largest models takes a few MiB.
    let index = lime_files::read_small(&path, 64 << 20).ok()?;
    let index: serde_json::Value = serde_json::from_slice(&index).ok()?;
    let size = &index["metadata"]["total_size"];
    size.as_u64().or_else(|| size.as_f64().map(|size| size as u64))
}

fn reserve_of(deployment: &LimeDeployment) -> anyhow::Result<Option<Bytes>> {
    let reserve = deployment.spec.nodes.memory_reserve.as_ref().map(|reserve| lime_api::parse_bytes(&reserve.0));
    Ok(reserve.transpose()?)
}

fn the_deployment<'a>(file: &Path, documents: &'a [Document]) -> Result<&'a Document, Faults> {
    for document in documents {
        if !matches!(document.kind(), Some("LimeDeployment" | "LocalFleet")) {
            let kind = document.kind().map_or("no kind".to_owned(), |kind| format!("kind {kind:?}"));
            let message = format!("found {kind}: LimeDeployment and LocalFleet are read here");
            return Err(document.fault("kind", &message).into());
        }
    }
    let mut found = documents.iter().filter(|document| document.kind() == Some("LimeDeployment"));
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(Faults::one(file, 0, "", "holds no LimeDeployment: write one, or name another file with -f")),
        (Some(_), Some(second)) => {
            Err(second.fault("kind", "a second LimeDeployment: one file starts one deployment").into())
        }
    }
}

fn read_deployment(document: &Document) -> Result<LimeDeployment, Faults> {
    let deployment: LimeDeployment = document.read(&lime_api::deployment_schema())?;
    let faults: Vec<Fault> =
        deployment.spec.faults().into_iter().map(|fault| document.fault(&fault.field, &fault.message)).collect();
    if faults.is_empty() { Ok(deployment) } else { Err(Faults(faults)) }
}

fn fleet_beside(documents: &[Document]) -> Result<Option<LocalFleet>, Faults> {
    let mut found = documents.iter().filter(|document| document.kind() == Some("LocalFleet"));
    match (found.next(), found.next()) {
        (None, _) => Ok(None),
        (Some(one), None) => LocalFleet::read(one).map(Some),
        (Some(_), Some(second)) => Err(second
            .fault("kind", "a second LocalFleet: put it into a file of its own and name it with --fleet")
            .into()),
    }
}

fn the_fleet(path: &Path) -> Result<LocalFleet, Faults> {
    let documents = Document::read_all(path)?;
    match documents.iter().find(|document| document.kind() == Some("LocalFleet")) {
        Some(document) => LocalFleet::read(document),
        None => Err(documents.first().map_or_else(
            || Faults::one(path, 0, "", "is empty: write a LocalFleet"),
            |document| fleet::no_fleet_here(document).into(),
        )),
    }
}

/// The model's folder on this machine: a relative path is taken from the file that names it.
fn model_source(document: &Document, deployment: &LimeDeployment) -> anyhow::Result<Source> {
    let model = &deployment.spec.model;
    let path = match model.source.parse()? {
        ModelSource::File { path } => path,
        ModelSource::Hub(_) | ModelSource::Web { .. } => {
            return crate::worker::source(&model.source, model.revision.as_deref());
        }
        ModelSource::Claim { .. } => {
            let message = "a claim is a volume of a cluster: here, name the model's folder with file://PATH";
            bail!(document.fault("spec.model.source", message));
        }
    };
    let base = document.file().parent().unwrap_or(Path::new("."));
    let found = Source::from(base.join(&path));
    let (is_there, what) = match &found {
        Source::Gguf(file) => (file.is_file(), "file"),
        _ => (base.join(&path).is_dir(), "folder"),
    };
    if !is_there {
        let message = format!("there is no {what} {found}: a relative path is taken from the file's own folder");
        bail!(document.fault("spec.model.source", &message));
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
