//! `lime inspect`: a model's card.

use std::path::Path;

use anyhow::Context as _;
use lime_model::{ModelError, ModelFolder};
use lime_planner::{BriefCard, Inspection};

use crate::{
    args::{InspectArgs, Output},
    plan::print,
    table,
};

/// Prints the card of a folder.
pub(crate) fn run(args: &InspectArgs) -> anyhow::Result<()> {
    let path = Path::new(args.model.strip_prefix("file://").unwrap_or(&args.model));
    let opened = ModelFolder::open(path);
    let name =
        path.canonicalize().ok().and_then(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()));
    let name = name.unwrap_or_else(|| args.model.clone());
    if let Some(log) = &args.termination_log {
        let found = match &opened {
            Ok(folder) => Inspection::Card(Box::new(BriefCard::new(&folder.surveyed_card(&name), None))),
            Err(error) => refusal(error),
        };
        std::fs::write(log, found.to_line()).with_context(|| format!("{} cannot be written", log.display()))?;
    }
    let folder = opened.with_context(|| format!("{} cannot be used as a model", path.display()))?;
    let card = folder.surveyed_card(&name);
    let text = match args.output {
        Output::Table => table::card_table(&card),
        Output::Json => serde_json::to_string_pretty(&card)?,
        Output::Yaml => serde_saphyr::to_string(&card)?,
    };
    print(&text)
}

/// Why there is no card, in a word that the operator shows and a sentence of at most a kilobyte.
fn refusal(error: &ModelError) -> Inspection {
    let reason = match error {
        ModelError::Missing { .. } | ModelError::Read { .. } => "ModelNotFound",
        ModelError::Config { .. } => "UnsupportedArchitecture",
        _ => "ModelDamaged",
    };
    Inspection::Refused { reason: reason.to_owned(), message: error.to_string().chars().take(1000).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_termination_log_says_why_there_is_no_card() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let args = InspectArgs {
            model: folder.path().join("none").display().to_string(),
            output: Output::Table,
            termination_log: Some(log.clone()),
        };
        assert!(run(&args).is_err());
        let found = Inspection::from_line(&std::fs::read_to_string(log).unwrap()).unwrap();
        assert!(matches!(&found, Inspection::Refused { reason, .. } if reason == "ModelNotFound"), "{found:?}");
    }
}
