//! A device of a plan as it is written: by ranges of blocks today, by ranges of layers in version 1.

use serde::Deserialize;
use thiserror::Error;

use crate::{BlockRange, DeviceMemory, DevicePlan, PlacedBlock, Step};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WrittenDevice {
    name: String,
    ranges: Option<Vec<BlockRange>>,
    layers: Option<Vec<WrittenLayers>>,
    blocks: Vec<PlacedBlock>,
    memory: DeviceMemory,
    #[serde(default)]
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct WrittenLayers {
    start: u32,
    end: u32,
}

/// Neither form, or both.
#[derive(Debug, Error)]
#[error("device {0:?} must name its `ranges`, or else its `layers` as plans of version 1 do")]
pub(crate) struct Neither(String);

impl TryFrom<WrittenDevice> for DevicePlan {
    type Error = Neither;

    fn try_from(written: WrittenDevice) -> Result<Self, Neither> {
        let WrittenDevice { name, ranges, layers, blocks, memory, steps } = written;
        let ranges = match (ranges, layers) {
            (Some(ranges), None) => ranges,
            (None, Some(layers)) => layers.iter().map(|it| BlockRange::layers(it.start, it.end)).collect(),
            _ => return Err(Neither(name)),
        };
        Ok(Self { name, ranges, blocks, memory, steps })
    }
}

#[cfg(test)]
mod tests {
    use crate::{PLAN_VERSION, Plan, PlanReadError, testing};

    #[test]
    fn a_plan_of_version_1_is_the_same_plan() {
        let plan = testing::small_plan();
        let mut written = serde_json::to_value(&plan).unwrap();
        written["version"] = 1.into();
        for device in written["devices"].as_array_mut().unwrap() {
            let ranges = device.as_object_mut().unwrap().remove("ranges").unwrap();
            let layer = |block: &serde_json::Value| (block.as_u64().unwrap() - 1) / 2;
            let layers = ranges.as_array().unwrap().iter();
            let layers = layers.map(|it| serde_json::json!({ "start": layer(&it["start"]), "end": layer(&it["end"]) }));
            device["layers"] = layers.collect();
        }
        let read = Plan::from_json(written.to_string().as_bytes()).unwrap();
        assert_eq!((read.version, &read), (PLAN_VERSION, &plan));

        written["devices"][0].as_object_mut().unwrap().remove("layers");
        let refused = Plan::from_json(written.to_string().as_bytes()).unwrap_err();
        assert!(matches!(refused, PlanReadError::Malformed(_)) && refused.to_string().contains("ranges"), "{refused}");
    }
}
