//! `lime plan`: who would hold what.

use std::io::Write as _;

use crate::{
    args::{Output, PlanArgs},
    table,
    wish::Wish,
};

/// Prints the plan.
pub(crate) fn run(args: &PlanArgs) -> anyhow::Result<()> {
    let wish = Wish::read(&args.wish.file, args.wish.fleet.as_deref())?;
    let mut notes = Vec::new();
    let plan = wish.plan(args.wish.segments, &mut notes)?;
    for note in notes {
        eprintln!("note: {note}");
    }
    let text = match args.output {
        Output::Table => table::plan_table(&plan),
        Output::Json => serde_json::to_string_pretty(&plan)?,
        Output::Yaml => serde_saphyr::to_string(&plan)?,
    };
    print(&text)
}

/// Writes `text` to standard output, of which a reader may have had enough.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{}", text.trim_end()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}
