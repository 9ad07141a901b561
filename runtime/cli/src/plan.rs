//! `lime plan`: who would hold what, how fast that would be, and why.

use std::path::Path;

use anyhow::Context as _;
use lime_model::ModelFolder;
use lime_plan::{Fleet, ModelCard, Plan};
use lime_planner::{Adaptation, Comparison, adaptations, compare, plan_or_suggest, timeline};
use lime_store::{Source, Store};
use serde::Serialize;

use crate::{
    args::{Output, PlanArgs},
    gateway::fetch,
    profiles,
    wish::{Wish, card_of, remarks},
};

/// A plan beside what else was asked for, for programs.
#[derive(Serialize)]
struct Report<'a> {
    plan: &'a Plan,
    comparison: Vec<Comparison>,
}

/// Prints the plan.
pub(crate) fn run(args: &PlanArgs) -> anyhow::Result<()> {
    let wish = Wish::read(&args.wish, args.model.as_deref())?;
    let mut notes = Vec::new();
    let card = wish.card(&mut notes)?;
    let mut goal = wish.goal(&card, args.wish.segments, &mut notes);
    let fleet = match &args.profiles {
        None => wish.local_fleet(&card, &goal)?,
        Some(path) => {
            // A LocalFleet beside the wish says nothing about these nodes.
            goal.segments = args.wish.segments;
            profiles::read(path, wish.reserve()?)?
        }
    };
    let others: Vec<_> = args.or_models.iter().map(|text| another(text, &wish)).collect::<anyhow::Result<_>>()?;
    let plan = plan_or_suggest(&card, &fleet, &goal, &others)?;
    if !args.explain {
        notes.extend(remarks(&plan, &goal));
    }
    for note in notes {
        eprintln!("note: {note}");
    }
    if let Some(path) = &args.timeline {
        draw(&plan, &fleet, path)?;
    }
    let comparison = if args.compare { compare(&card, &fleet, &goal) } else { Vec::new() };
    let text = match args.output {
        Output::Table => for_people(args, &plan, &fleet, &comparison),
        Output::Json if args.compare => serde_json::to_string_pretty(&report(&plan, comparison))?,
        Output::Yaml if args.compare => serde_saphyr::to_string(&report(&plan, comparison))?,
        Output::Json => serde_json::to_string_pretty(&plan)?,
        Output::Yaml => serde_saphyr::to_string(&plan)?,
    };
    Ok(lime_tables::print(&text)?)
}

/// The card of the same model in another precision.
fn another(text: &str, wish: &Wish) -> anyhow::Result<ModelCard> {
    let source = match text.strip_prefix(':') {
        Some(quant) => wish.source.with_quant(quant)?,
        None => text.parse()?,
    };
    let name = source.name();
    match &source {
        Source::Folder(folder) => card_of(folder, &name, &mut Vec::new()),
        Source::Gguf(file) => {
            let model = ModelFolder::open(file).with_context(|| format!("{source} cannot be used as a model"))?;
            Ok(model.card(&name))
        }
        _ => Ok(fetch(&source, Store::default_root())?.surveyed_card(&name)?),
    }
}

fn report(plan: &Plan, comparison: Vec<Comparison>) -> Report<'_> {
    let without_pictures = comparison.into_iter().map(|one| Comparison { timeline: None, ..one });
    Report { plan, comparison: without_pictures.collect() }
}

fn for_people(args: &PlanArgs, plan: &Plan, fleet: &Fleet, comparison: &[Comparison]) -> String {
    let width = lime_tables::screen_width();
    let mut parts = vec![lime_tables::plan_table(plan, width)];
    if args.explain {
        let steps = adaptations(plan, fleet).unwrap_or_default().into_iter();
        let steps: Vec<Adaptation> = steps.map(|adaptation| adaptation.as_planned(plan)).collect();
        parts.push(lime_tables::explanation(plan, &steps, width));
    }
    if !comparison.is_empty() {
        parts.push(lime_tables::comparison_table(comparison, width));
    }
    parts.join("\n\n")
}

fn draw(plan: &Plan, fleet: &Fleet, path: &Path) -> anyhow::Result<()> {
    let picture = timeline(plan, fleet).context("this plan has no steady state to draw")?;
    std::fs::write(path, picture.to_svg()).with_context(|| format!("{} cannot be written", path.display()))
}
