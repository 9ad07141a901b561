//! `lime inspect`: a model's card.

use std::path::Path;

use anyhow::Context as _;
use lime_model::ModelFolder;

use crate::{
    args::{InspectArgs, Output},
    plan::print,
    table,
};

/// Prints the card of a folder.
pub(crate) fn run(args: &InspectArgs) -> anyhow::Result<()> {
    let path = Path::new(args.model.strip_prefix("file://").unwrap_or(&args.model));
    let folder = ModelFolder::open(path).with_context(|| format!("{} cannot be used as a model", path.display()))?;
    let name =
        path.canonicalize().ok().and_then(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()));
    let card = folder.card(&name.unwrap_or_else(|| args.model.clone()));
    let text = match args.output {
        Output::Table => table::card_table(&card),
        Output::Json => serde_json::to_string_pretty(&card)?,
        Output::Yaml => serde_saphyr::to_string(&card)?,
    };
    print(&text)
}
