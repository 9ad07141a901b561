//! `lime inspect`: a model's card.

use std::path::Path;

use anyhow::Context as _;
use lime_files::FileError;
use lime_model::{ModelError, ModelFolder};
use lime_plan::{BriefCard, Bytes, Format, Inspection, ModelCard};
use lime_store::{RemoteCause, RemoteOptions, Source, Store, StoreError};
use lime_text::{ServedText, TextError, TextFaults};
use thiserror::Error;

use crate::args::{InspectArgs, Output};

/// Prints the card of a model, wherever it is.
pub(crate) fn run(args: &InspectArgs) -> anyhow::Result<()> {
    // A pod that inspects a folder may have no place to write.
    let local = args.model.parse::<Source>().is_ok_and(|source| source.folder().is_some());
    let scratch = (!local).then(tempfile::tempdir).transpose().context("no folder can be made for a moment")?;
    let scratch = scratch.as_ref().map(tempfile::TempDir::path);
    let looked = look(args, scratch.unwrap_or(Path::new("")));
    if let Some(log) = &args.termination_log {
        let found = match &looked {
            Ok(looked) => Inspection::Card(Box::new(BriefCard::new(&looked.card, looked.commit.clone()))),
            Err(error) => refusal(error, RemoteOptions::from_env().token.is_some(), scratch),
        };
        std::fs::write(log, found.to_line()).with_context(|| format!("{} cannot be written", log.display()))?;
    }
    let Looked { card, remarks, shares, .. } =
        looked.with_context(|| format!("{} cannot be used as a model", args.model))?;
    for remark in remarks {
        eprintln!("{remark}");
    }
    let text = match args.output {
        Output::Table => {
            let width = lime_tables::screen_width();
            let formats = Some(lime_tables::formats_table(&shares, width)).filter(|_| shares.len() > 1);
            [Some(lime_tables::card_table(&card, width)), formats].into_iter().flatten().collect::<Vec<_>>().join("\n")
        }
        Output::Json => serde_json::to_string_pretty(&card)?,
        Output::Yaml => serde_saphyr::to_string(&card)?,
    };
    Ok(lime_tables::print(&text)?)
}

/// Why a model cannot be served: its weights or where they are, its texts, or both.
#[derive(Debug, Error)]
enum Unfit {
    #[error(transparent)]
    Weights(#[from] StoreError),
    #[error(transparent)]
    Texts(#[from] TextFaults),
    #[error("{0}; {1}")]
    Both(StoreError, TextFaults),
}

/// What a model turned out to be.
struct Looked {
    card: ModelCard,
    /// Where the source has such.
    commit: Option<String>,
    /// What is to be said of how the files were read.
    remarks: Vec<String>,
    /// The formats of the weights, and what each takes.
    shares: Vec<(Format, Bytes)>,
}

/// Opens all that serving opens.
fn look(args: &InspectArgs, scratch: &Path) -> Result<Looked, Unfit> {
    let mut source: Source = args.model.parse()?;
    if let Some(revision) = &args.revision {
        source = source.at(revision)?;
    }
    if let Some(folder) = source.folder() {
        let opened = ModelFolder::open(folder).map_err(StoreError::from);
        let shares = opened.as_ref().map(|model| model.config().shares()).unwrap_or_default();
        let card = opened.map(|model| (model.surveyed_card(&source.name()), model.remarks().to_vec()));
        // Of a folder that is none, nothing else is to be said.
        let (card, remarks) = if folder.is_dir() { both(card, ServedText::open(folder))? } else { card? };
        return Ok(Looked { card, commit: None, remarks, shares });
    }
    let model = Store::open(scratch)?.model(&source)?;
    let commit = Some(model.manifest().revision.clone()).filter(|revision| !revision.is_empty());
    let card = model.surveyed_card(&source.name()).map(|card| (card, model.folder().remarks().to_vec()));
    let (card, remarks) = both(card, ServedText::open(model.folder().path()))?;
    Ok(Looked { card, commit, remarks, shares: model.folder().config().shares() })
}

/// The card, where the texts are fit too; every fault is named, once.
fn both(
    card: Result<(ModelCard, Vec<String>), StoreError>,
    texts: Result<ServedText, TextFaults>,
) -> Result<(ModelCard, Vec<String>), Unfit> {
    match (card, texts) {
        (Ok((card, mut remarks)), Ok(texts)) => {
            remarks.extend(texts.generation.unapplied.iter().map(ToString::to_string));
            Ok((card, remarks))
        }
        (Ok(_), Err(faults)) => Err(faults.into()),
        (Err(fault), Ok(_)) => Err(fault.into()),
        (Err(fault), Err(TextFaults(mut faults))) => {
            // Both read config.json.
            if let StoreError::Model(ModelError::File(known)) = &fault {
                faults.retain(|other| !matches!(other, TextError::File(other) if other.path() == known.path()));
            }
            if faults.is_empty() { Err(fault.into()) } else { Err(Unfit::Both(fault, TextFaults(faults))) }
        }
    }
}

/// Why there is no card, in a word that the operator shows and a sentence of at most a kilobyte: the same at each inspection, so
/// without the name of the `scratch` folder.
fn refusal(error: &Unfit, with_token: bool, scratch: Option<&Path>) -> Inspection {
    let reason = match error {
        Unfit::Weights(error) | Unfit::Both(error, _) => weights_reason(error, with_token),
        // A tokenizer that is missing is to be brought, the rest to be mended.
        Unfit::Texts(TextFaults(faults)) => match faults.as_slice() {
            [TextError::File(FileError::Missing { .. } | FileError::Read { .. }), ..] => "ModelNotFound",
            _ => "ModelDamaged",
        },
    };
    let message = error.to_string();
    let message = scratch.map_or(message.clone(), |it| message.replace(&format!("{}/models/", it.display()), ""));
    Inspection::Refused { reason: reason.to_owned(), message: message.chars().take(1000).collect() }
}

fn weights_reason(error: &StoreError, with_token: bool) -> &'static str {
    match error {
        StoreError::Remote { cause: RemoteCause::Forbidden, .. } if with_token => "ModelGated",
        StoreError::Remote { cause: RemoteCause::Forbidden, .. } => "TokenMissing",
        StoreError::Remote { cause: RemoteCause::Unknown, .. } => "ModelNotFound",
        StoreError::Remote { cause: RemoteCause::Trouble, .. } | StoreError::Changed { .. } => "SourceUnreachable",
        StoreError::NotThere { .. } | StoreError::Source { .. } => "ModelNotFound",
        StoreError::Model(
            ModelError::OtherForm { .. } | ModelError::File(FileError::Missing { .. } | FileError::Read { .. }),
        ) => "ModelNotFound",
        StoreError::Model(ModelError::File(FileError::Wrong { .. })) => "UnsupportedArchitecture",
        StoreError::Model(_) | StoreError::Damaged { .. } => "ModelDamaged",
        // The pod's own disk.
        _ => "InspectionFailed",
    }
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
            (StoreError::NotThere { file: "f".into(), model: "m".into(), hint: "h".into() }, false, "ModelNotFound"),
        ];
        for (error, with_token, expected) in table {
            let found = refusal(&error.into(), with_token, Some(Path::new("/scratch")));
            assert!(matches!(&found, Inspection::Refused { reason, .. } if reason == expected), "{found:?}");
        }
    }
}
