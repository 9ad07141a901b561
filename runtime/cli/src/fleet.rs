//! LocalFleet: the devices that one machine plays.

use lime_plan::{Bytes, Nanos, Quantity, QuantityError};
use lime_ring::LinkShape;
use lime_worker::DiskShape;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    document::{Document, Fault, Faults},
    units,
};

/// A device as the ring gets it: numbers that have been checked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LocalDevice {
    pub(crate) name: String,
    pub(crate) memory: Bytes,
    pub(crate) threads: usize,
    pub(crate) link: Option<LinkShape>,
    pub(crate) disk: Option<DiskShape>,
    pub(crate) given: Given,
}

/// Figures that the file gives instead of having them measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Given {
    /// Bytes per second.
    pub(crate) memory_bandwidth: Option<u64>,
    /// Compact bytes per second.
    pub(crate) compact_bandwidth: Option<u64>,
    /// Operations per second.
    pub(crate) throughput: Option<u64>,
    pub(crate) block_latency: Option<Nanos>,
}

/// The devices that one machine plays.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LocalFleet {
    pub(crate) devices: Vec<LocalDevice>,
    /// How many times an activation goes round for a token.
    pub(crate) segments: Option<u32>,
}

/// A LocalFleet as a file gives it.
#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LocalFleetFile {
    /// What the fleet is made of.
    spec: LocalFleetSpec,
}

#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LocalFleetSpec {
    /// The devices; the planner chooses their order.
    #[schemars(length(min = 1, max = 256))]
    devices: Vec<DeviceFile>,

    /// How many times an activation goes round for a token. Default: the planner chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    segments: Option<i32>,
}

#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeviceFile {
    /// The device's name: letters, digits and dashes.
    #[schemars(length(min = 1, max = 63))]
    name: String,

    /// What the engine may use for weights, KV cache and activations, such as `4Mi`.
    #[schemars(schema_with = "quantity")]
    memory: Quantity,

    /// Threads that compute. Default: the machine's, shared evenly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    threads: Option<i32>,

    /// Slows the way to the next device down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    link: Option<LinkFile>,

    /// Slows reads from disk down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    disk: Option<DiskFile>,

    /// What the planner believes of the device's speed. Default: what is measured on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    profile: Option<ProfileFile>,
}

#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProfileFile {
    /// Bytes per second at which weights are read from memory, such as `10GB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "quantity")]
    memory_bandwidth: Option<Quantity>,
    /// Bytes per second at which compact weights are computed with, such as `8GB`. Default: what is measured where the bandwidth is
    /// measured too; without a figure nothing is made compact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "quantity")]
    compact_bandwidth: Option<Quantity>,
    /// Operations per second in matrix products, such as `50GFLOP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "quantity")]
    throughput: Option<Quantity>,
    /// Fixed cost of a block, such as `20us`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "quantity")]
    block_latency: Option<Quantity>,
}

#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LinkFile {
    /// Bits per second, such as `100Mbit`.
    #[schemars(schema_with = "quantity")]
    bandwidth: Quantity,
    /// One way, such as `2ms`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "quantity")]
    latency: Option<Quantity>,
}

#[derive(JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DiskFile {
    /// Bytes per second, such as `200MB`.
    #[schemars(schema_with = "quantity")]
    bandwidth: Quantity,
}

fn quantity(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "x-lime-quantity": true })
}

/// The schema of a LocalFleet document.
fn schema() -> Value {
    let settings = schemars::generate::SchemaSettings::openapi3().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<LocalFleetFile>().to_value()
}

impl LocalFleet {
    /// Reads a document of kind LocalFleet, every fault at once.
    pub(crate) fn read(document: &Document) -> Result<Self, Faults> {
        let file: LocalFleetFile = document.read(&schema())?;
        let mut faults = Vec::new();
        let share = default_threads(file.spec.devices.len());
        let names: Vec<&str> = file.spec.devices.iter().map(|device| device.name.as_str()).collect();
        let mut devices = Vec::new();
        for (index, device) in file.spec.devices.iter().enumerate() {
            if names[..index].contains(&device.name.as_str()) {
                let message = format!("another device is named {:?}: give each its own name", device.name);
                faults.push(document.fault(&format!("spec.devices[{index}].name"), &message));
            }
            let checked = device.check(share, |field, message| {
                faults.push(document.fault(&format!("spec.devices[{index}].{field}"), message));
            });
            devices.extend(checked);
        }
        if !faults.is_empty() {
            return Err(Faults(faults));
        }
        Ok(Self { devices, segments: file.spec.segments.map(i32::cast_unsigned) })
    }

    /// One device with everything that this machine can spare.
    pub(crate) fn whole_machine(reserve: Option<Bytes>) -> anyhow::Result<Self> {
        let free = Bytes(lime_profiler::memory()?.usable);
        let memory = free.saturating_sub(reserve.unwrap_or(Bytes(free.0 / 8)));
        let device = LocalDevice {
            name: "local".into(),
            memory,
            threads: default_threads(1),
            link: None,
            disk: None,
            given: Given::default(),
        };
        Ok(Self { devices: vec![device], segments: None })
    }
}

impl DeviceFile {
    fn check(&self, threads: usize, mut fault: impl FnMut(&str, &str)) -> Option<LocalDevice> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_';
        let mut sound = true;
        let mut refuse = |field: &str, message: &str| {
            sound = false;
            fault(field, message);
        };
        if !self.name.chars().all(plain) {
            refuse("name", "must be made of letters, digits, dots, dashes and underscores");
        }
        let memory = units::memory(&self.memory).unwrap_or_else(|error| {
            refuse("memory", &error.to_string());
            Bytes::ZERO
        });
        let link = self.link.as_ref().and_then(|link| {
            let bandwidth =
                units::bits_per_second(&link.bandwidth).map_err(|error| refuse("link.bandwidth", &error.to_string()));
            let latency = link.latency.as_ref().map(|latency| units::duration(latency, "latency")).transpose();
            let latency = latency.map_err(|error| refuse("link.latency", &error.to_string()));
            Some(LinkShape { bandwidth_bits: bandwidth.ok()?, latency: latency.ok()?.unwrap_or_default() })
        });
        let disk = self.disk.as_ref().and_then(|disk| {
            let rate = units::bytes_per_second(&disk.bandwidth, "bandwidth");
            let rate = rate.map_err(|error| refuse("disk.bandwidth", &error.to_string()));
            Some(DiskShape { bytes_per_second: rate.ok()? })
        });
        let profile = self.profile.clone().unwrap_or_default();
        type Read = fn(&Quantity) -> Result<u64, QuantityError>;
        let mut figure = |name: &str, amount: &Option<Quantity>, read: Read| {
            let read = amount.as_ref().map(read).transpose();
            read.unwrap_or_else(|error| {
                refuse(&format!("profile.{name}"), &error.to_string());
                None
            })
        };
        let given = Given {
            memory_bandwidth: figure("memoryBandwidth", &profile.memory_bandwidth, |amount| {
                units::bytes_per_second(amount, "memoryBandwidth")
            }),
            compact_bandwidth: figure("compactBandwidth", &profile.compact_bandwidth, |amount| {
                units::bytes_per_second(amount, "compactBandwidth")
            }),
            throughput: figure("throughput", &profile.throughput, units::flops_per_second),
            block_latency: figure("blockLatency", &profile.block_latency, |amount| {
                units::duration(amount, "blockLatency").map(|time| time.as_nanos() as u64)
            })
            .map(Nanos),
        };
        let threads = self.threads.map_or(threads, |threads| threads.cast_unsigned() as usize);
        sound.then(|| LocalDevice { name: self.name.clone(), memory, threads, link, disk, given })
    }
}

/// An even share of the machine's cores.
fn default_threads(devices: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / devices.max(1)).max(1)
}

/// What is said of a document that is no LocalFleet.
pub(crate) fn no_fleet_here(document: &Document) -> Fault {
    let json = document.to_json();
    let message = match document.kind() {
        Some(kind) => format!("expected LocalFleet, found {kind:?}"),
        None if json.get("nodes").is_some() || json.get("node").is_some() => {
            "expected LocalFleet, found a fleet of other machines: name it with --profiles of `lime plan`".to_owned()
        }
        None => "expected LocalFleet, found a document without a kind".to_owned(),
    };
    document.fault("kind", &message)
}

#[cfg(test)]
mod tests;
