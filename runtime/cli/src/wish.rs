//! From files to a plan: what `lime up` and `lime plan` have in common.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use lime_api::{KvCacheType, LimeDeployment, ModelSource};
use lime_model::ModelFolder;
use lime_planner::{Arithmetic, Dtype, ModelCard, Plan, PlanRequest, ServingLimits, proportional};

use crate::{
    document::{Document, Fault, Faults},
    fleet::{self, LocalFleet},
};

/// Everything that the files say, checked.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) deployment: LimeDeployment,
    pub(crate) fleet: LocalFleet,
    pub(crate) model: PathBuf,
}

impl Wish {
    /// Reads the file that holds the LimeDeployment, and the fleet from it or from `fleet`.
    pub(crate) fn read(file: &Path, fleet: Option<&Path>) -> anyhow::Result<Self> {
        let documents = Document::read_all(file)?;
        let wish = the_deployment(file, &documents)?;
        let deployment = read_deployment(wish)?;
        let fleet = match fleet {
            Some(path) => Some(the_fleet(path)?),
            None => fleet_beside(&documents)?,
        };
        let reserve = deployment.spec.nodes.memory_reserve.as_ref().map(|reserve| lime_api::parse_bytes(&reserve.0));
        let fleet = match fleet {
            Some(fleet) => fleet,
            None => LocalFleet::whole_machine(reserve.transpose()?)?,
        };
        let model = model_folder(wish, &deployment)?;
        Ok(Self { deployment, fleet, model })
    }

    /// The name under which clients ask for the model.
    pub(crate) fn served_name(&self) -> String {
        let named = [&self.deployment.spec.model.served_name, &self.deployment.metadata.name];
        let folder = || self.model.file_name().map(|name| name.to_string_lossy().into_owned());
        named.into_iter().flatten().next().cloned().or_else(folder).unwrap_or_else(|| "model".into())
    }

    /// Makes the plan; notes are sentences for the person who waits for it.
    pub(crate) fn plan(&self, segments: Option<u32>, notes: &mut Vec<String>) -> anyhow::Result<Plan> {
        let folder = ModelFolder::open(&self.model)
            .with_context(|| format!("the model in {} cannot be used", self.model.display()))?;
        let card = folder.card(&self.served_name());
        let budgets: Vec<_> = self.fleet.devices.iter().map(|device| device.budget()).collect();
        let request = PlanRequest {
            serving: self.limits(&card, notes),
            segments: segments.or(self.fleet.segments).unwrap_or(1),
            arithmetic: Arithmetic::Exact,
            residual: Dtype::F32,
            kv: self.kv(&card),
            model: &card,
            devices: &budgets,
        };
        let plan = proportional(&request)?;
        plan.validate()?;
        for device in self.fleet.devices.iter().filter(|device| plan.device(&device.name).is_none()) {
            notes.push(format!("{} has room for no layer of this model and takes no part", device.name));
        }
        Ok(plan)
    }

    fn limits(&self, card: &ModelCard, notes: &mut Vec<String>) -> ServingLimits {
        let serving = &self.deployment.spec.serving;
        let asked = serving.max_context_tokens.cast_unsigned();
        let max_context_tokens = asked.min(card.context);
        if max_context_tokens < asked {
            notes.push(format!(
                "the model takes {max_context_tokens} tokens of context: maxContextTokens {asked} is lowered to that"
            ));
        }
        ServingLimits {
            max_context_tokens,
            max_concurrent_requests: serving.max_concurrent_requests.cast_unsigned(),
            prefill_chunk_tokens: serving.prefill_chunk_tokens.cast_unsigned().min(max_context_tokens),
        }
    }

    fn kv(&self, card: &ModelCard) -> Dtype {
        match self.deployment.spec.serving.kv_cache_type {
            KvCacheType::Weights => card.dtype,
            KvCacheType::Bf16 => Dtype::Bf16,
            KvCacheType::F16 => Dtype::F16,
            KvCacheType::F32 => Dtype::F32,
        }
    }
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
        deployment.spec.faults().into_iter().map(|fault| document.fault(fault.field, &fault.message)).collect();
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
fn model_folder(document: &Document, deployment: &LimeDeployment) -> anyhow::Result<PathBuf> {
    let source: ModelSource = deployment.spec.model.source.parse()?;
    let ModelSource::File { path } = source else {
        let message = format!(
            "{source} cannot be fetched by lime up yet: download the model's folder and name it with file://PATH"
        );
        bail!(document.fault("spec.model.source", &message));
    };
    let base = document.file().parent().unwrap_or(Path::new("."));
    let folder = base.join(&path);
    if !folder.is_dir() {
        let message =
            format!("there is no folder {}: a relative path is taken from the file's own folder", folder.display());
        bail!(document.fault("spec.model.source", &message));
    }
    Ok(folder)
}

#[cfg(test)]
mod tests;
