//! `lime inspect`: a model's card.

use std::path::Path;

use anyhow::Context as _;
use lime_model::{ModelError, ModelFolder};
use lime_planner::{BriefCard, Inspection, ModelCard};
use lime_store::{RemoteCause, RemoteOptions, Source, Store, StoreError};

use crate::{
    args::{InspectArgs, Output},
    plan::print,
    table,
};

/// Prints the card of a model, wherever it is.
pub(crate) fn run(args: &InspectArgs) -> anyhow::Result<()> {
    // A pod that inspects a folder may have no place to write.
    let local = args.model.parse::<Source>().is_ok_and(|source| source.folder().is_some());
    let scratch = (!local).then(tempfile::tempdir).transpose().context("no folder can be made for a moment")?;
    let scratch = scratch.as_ref().map(tempfile::TempDir::path);
    let looked = look(args, scratch.unwrap_or(Path::new("")));
    if let Some(log) = &args.termination_log {
        let found = match &looked {
            Ok((card, revision)) => Inspection::Card(Box::new(BriefCard::new(card, revision.clone()))),
            Err(error) => refusal(error, RemoteOptions::from_env().token.is_some(), scratch),
        };
        std::fs::write(log, found.to_line()).with_context(|| format!("{} cannot be written", log.display()))?;
    }
    let (card, _) = looked.with_context(|| format!("{} cannot be used as a model", args.model))?;
    let text = match args.output {
        Output::Table => table::card_table(&card, table::screen_width()),
        Output::Json => serde_json::to_string_pretty(&card)?,
        Output::Yaml => serde_saphyr::to_string(&card)?,
    };
    print(&text)
}

/// The card, and the commit where the source has such.
fn look(args: &InspectArgs, scratch: &Path) -> Result<(ModelCard, Option<String>), StoreError> {
    let mut source: Source = args.model.parse()?;
    if let Some(revision) = &args.revision {
        source = source.at(revision)?;
    }
    if let Some(folder) = source.folder() {
        return Ok((ModelFolder::open(folder)?.surveyed_card(&source.name()), None));
    }
    let model = Store::open(scratch)?.model(&source)?;
    let commit = Some(model.manifest().revision.clone()).filter(|revision| !revision.is_empty());
    Ok((model.surveyed_card(&source.name())?, commit))
}

/// Why there is no card, in a word that the operator shows and a sentence of at most a kilobyte: the same at each inspection, so
/// without the name of the `scratch` folder.
fn refusal(error: &StoreError, with_token: bool, scratch: Option<&Path>) -> Inspection {
    let reason = match error {
        StoreError::Remote { cause: RemoteCause::Forbidden, .. } if with_token => "ModelGated",
        StoreError::Remote { cause: RemoteCause::Forbidden, .. } => "TokenMissing",
        StoreError::Remote { cause: RemoteCause::Unknown, .. } => "ModelNotFound",
        StoreError::Remote { cause: RemoteCause::Trouble, .. } | StoreError::Changed { .. } => "SourceUnreachable",
        StoreError::NotThere { .. } | StoreError::Source { .. } => "ModelNotFound",
        StoreError::Model(ModelError::Missing { .. } | ModelError::Read { .. }) => "ModelNotFound",
        StoreError::Model(ModelError::Config { .. }) => "UnsupportedArchitecture",
        StoreError::Model(_) | StoreError::Damaged { .. } => "ModelDamaged",
        // The pod's own disk.
        _ => "InspectionFailed",
    };
    let message = error.to_string();
    let message = scratch.map_or(message.clone(), |it| message.replace(&format!("{}/models/", it.display()), ""));
    Inspection::Refused { reason: reason.to_owned(), message: message.chars().take(1000).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(model: &str, log: &Path) -> InspectArgs {
        let termination_log = Some(log.to_owned());
        InspectArgs { model: model.to_owned(), revision: None, output: Output::Table, termination_log }
    }

    #[test]
    fn the_termination_log_says_why_there_is_no_card() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let none = folder.path().join("none").display().to_string();
        for (model, expected) in [(none.as_str(), "ModelNotFound"), ("hf://no-name", "ModelNotFound")] {
            assert!(run(&args(model, &log)).is_err());
            let found = Inspection::from_line(&std::fs::read_to_string(&log).unwrap()).unwrap();
            assert!(matches!(&found, Inspection::Refused { reason, .. } if reason == expected), "{found:?}");
        }
    }

    #[test]
    fn every_fault_of_a_server_has_its_reason() {
        let remote = |cause| StoreError::Remote { url: "u".into(), reason: "r".into(), cause };
        let table = [
            (remote(RemoteCause::Forbidden), false, "TokenMissing"),
            (remote(RemoteCause::Forbidden), true, "ModelGated"),
            (remote(RemoteCause::Unknown), true, "ModelNotFound"),
            (remote(RemoteCause::Trouble), true, "SourceUnreachable"),
            (StoreError::Damaged { path: "p".into(), reason: "r".into() }, false, "ModelDamaged"),
            (StoreError::NotThere { file: "f".into(), model: "m".into(), hint: "h" }, false, "ModelNotFound"),
        ];
        for (error, with_token, expected) in table {
            let found = refusal(&error, with_token, Some(Path::new("/scratch")));
            assert!(matches!(&found, Inspection::Refused { reason, .. } if reason == expected), "{found:?}");
        }
    }
}
