//! A node's profile as a file: what `lime profile` writes and `lime plan --profiles` reads.

use std::collections::BTreeMap;

use lime_plan::{Format, FormatSpeed};
use serde::{Deserialize, Serialize};

use crate::{compute::Compute, disk::Disk, link::LinkSpeed, memory::Memory};

/// A measured node: figures for the planner under `node` and `links`, and how they came about under `measured`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeProfileFile {
    /// What the planner needs to know.
    pub node: NodeFigures,
    /// Links to other nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<LinkFigures>,
    /// How it was measured; not read by the planner.
    pub measured: Measured,
}

/// A node's figures, in base units: bytes, bytes and operations per second, seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeFigures {
    /// The node's name.
    pub name: String,
    /// Memory that may be used.
    pub memory: u64,
    /// Read bandwidth of memory.
    pub memory_bandwidth: u64,
    /// Matrix throughput.
    pub throughput: u64,
    /// Compact bytes of weights per second, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compact_bandwidth: Option<u64>,
    /// Read bandwidth of the disk, or that there is none.
    pub disk_bandwidth: DiskField,
    /// Fixed cost of a block in seconds.
    pub block_latency: f64,
    /// Speeds with weights of single formats.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub formats: BTreeMap<Format, FormatSpeed>,
}

/// A disk's bandwidth or `none`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum DiskField {
    /// Bytes per second.
    Bandwidth(u64),
    /// The word `none`.
    None(String),
}

/// A link's figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkFigures {
    /// This node.
    pub from: String,
    /// The other.
    pub to: String,
    /// Bits per second.
    pub bandwidth: u64,
    /// One way, in seconds.
    pub latency: f64,
}

/// How a profile came about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Measured {
    /// Fingerprint of the machine.
    pub machine: String,
    /// Seconds since 1970.
    pub at: u64,
    /// Memory and what limits it.
    pub memory: Memory,
    /// The kernels' speed.
    pub compute: Compute,
    /// The disk's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Disk>,
}

impl NodeProfileFile {
    /// A profile of what was measured. `reserve` is left to others.
    pub fn new(name: &str, reserve: u64, measured: Measured) -> Self {
        let disk = measured.disk.as_ref().map(|disk| DiskField::Bandwidth(disk.bandwidth));
        let node = NodeFigures {
            name: name.to_owned(),
            memory: measured.memory.usable.saturating_sub(reserve),
            memory_bandwidth: measured.compute.memory_bandwidth,
            throughput: measured.compute.throughput,
            compact_bandwidth: measured.compute.compact_bandwidth,
            disk_bandwidth: disk.unwrap_or_else(|| DiskField::None("none".to_owned())),
            block_latency: measured.compute.block_latency_nanos as f64 / 1e9,
            formats: measured.compute.formats.clone(),
        };
        Self { node, links: Vec::new(), measured }
    }

    /// Adds the link to another node.
    pub fn add_link(&mut self, to: &str, speed: LinkSpeed) {
        self.links.push(LinkFigures {
            from: self.node.name.clone(),
            to: to.to_owned(),
            bandwidth: speed.bandwidth_bits,
            latency: speed.latency_nanos as f64 / 1e9,
        });
    }
}
