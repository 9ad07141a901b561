//! A plan for a fleet: `cargo run -p lime-planner --example plan_fleet [-- FLEET [CARD]]`.
//!
//! Without arguments the four Jetsons of `manifests/fleets` share a model of ten layers from `tests/fixtures`.

use std::{env, error::Error, fs};

use lime_plan::{FleetFile, Goal, ModelCard};
use lime_planner::plan;

const FLEET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../manifests/fleets/jetsons-four.yaml");
const CARD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/cards/ten-layers.json");

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let fleet: FleetFile = serde_saphyr::from_str(&fs::read_to_string(arguments.next().as_deref().unwrap_or(FLEET))?)?;
    let card: ModelCard = serde_json::from_slice(&fs::read(arguments.next().as_deref().unwrap_or(CARD))?)?;

    let plan = plan(&card, &fleet.check()?, &Goal::sporadic(&card, 256))?;
    for device in &plan.devices {
        let layers: Vec<String> = device.ranges.iter().map(ToString::to_string).collect();
        println!("{}: layers {}, {} in memory", device.name, layers.join(" "), device.memory.pinned);
    }
    if let Some(outlook) = &plan.outlook {
        println!("{:.1} ms a token", outlook.prediction.time_per_token.seconds() * 1e3);
    }
    Ok(())
}
