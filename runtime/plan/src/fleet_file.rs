//! Fleets as files give them, and the reader that checks them. Every fault is named at once.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::quantity::{Quantity, QuantityKind as Kind};
use crate::{
    belief::Limit,
    format::Format,
    outlook::Nanos,
    profile::{Fleet, FormatSpeed, Link, NodeProfile},
    units::Bytes,
};

/// What a process needs besides its buffers, where a profile does not say.
pub const DEFAULT_OVERHEAD: Bytes = Bytes::mib(64);

/// A fleet as a file gives it: nothing in it is believed yet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FleetFile {
    /// What this fleet is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The nodes.
    #[serde(default)]
    pub nodes: Vec<NodeEntry>,
    /// The links between them.
    #[serde(default)]
    pub links: LinkEntries,
}

/// A node as a file gives it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeEntry {
    /// The node's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The product, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// Where the figures are from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Memory that may be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
    /// What the process needs besides; [`DEFAULT_OVERHEAD`] where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overhead: Option<Quantity>,
    /// Read bandwidth of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bandwidth: Option<Quantity>,
    /// Matrix throughput.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput: Option<Quantity>,
    /// Read bandwidth of the weight store, or `none` where nothing may be streamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bandwidth: Option<Quantity>,
    /// Compact bytes per second that compute gets through; nothing is made compact where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compact_bandwidth: Option<Quantity>,
    /// Fixed cost of starting a block; zero where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_latency: Option<Quantity>,
    /// Speeds with weights of single formats.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub formats: BTreeMap<Format, FormatEntry>,
}

/// The speed with weights of one format as a file gives it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FormatEntry {
    /// Bytes of weights per second in products of one row.
    pub memory_bandwidth: Quantity,
    /// Operations per second in products of many rows.
    pub throughput: Quantity,
}

/// The links of a fleet: a default, and pairs that differ from it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LinkEntries {
    /// Every pair that `pairs` does not name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<LinkEntry>,
    /// Single pairs. Both ways, unless the way back is named too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pairs: Vec<PairEntry>,
}

/// A link as a file gives it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LinkEntry {
    /// Bits per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Quantity>,
    /// One way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Quantity>,
}

/// The link of one pair as a file gives it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PairEntry {
    /// A node's name.
    pub from: String,
    /// Another's.
    pub to: String,
    /// Bits per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Quantity>,
    /// One way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Quantity>,
}

/// Everything that is wrong with a fleet's file.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{}", .faults.join("; "))]
pub struct FleetError {
    /// One sentence for each fault.
    pub faults: Vec<String>,
}

impl FleetFile {
    /// Checks everything and gives plain numbers.
    ///
    /// # Errors
    /// All faults at once: missing, zero, negative and unbelievable values, names used twice, links that nobody gave.
    pub fn check(&self) -> Result<Fleet, FleetError> {
        let mut faults = Vec::new();
        if self.nodes.is_empty() {
            faults.push("the fleet has no nodes".to_owned());
        }
        let most = Limit::DEVICES.most;
        if self.nodes.len() as u64 > most {
            faults.push(format!("the fleet has {} nodes, at most {most} can be planned", self.nodes.len()));
            return Err(FleetError { faults });
        }
        let nodes: Vec<NodeProfile> =
            self.nodes.iter().enumerate().filter_map(|(index, entry)| entry.check(index, &mut faults)).collect();
        let mut names = BTreeSet::new();
        for node in &nodes {
            if !names.insert(node.name.as_str()) {
                faults.push(format!("two nodes are named {:?}", node.name));
            }
        }
        let links = self.links.check(&names, &mut faults);
        if !faults.is_empty() {
            return Err(FleetError { faults });
        }
        let of = |from: usize, to: usize| (nodes[from].name.clone(), nodes[to].name.clone());
        let fleet = Fleet::new(nodes.clone(), |from, to| {
            // The check above found a link for every pair of names.
            links.get(&of(from, to)).copied().unwrap_or(Link { bandwidth: 1, latency: Nanos(u64::MAX >> 8) })
        });
        Ok(fleet)
    }
}

impl NodeEntry {
    fn check(&self, index: usize, faults: &mut Vec<String>) -> Option<NodeProfile> {
        let name = self.name.as_deref().map(str::trim).filter(|name| !name.is_empty());
        let called = name.map_or_else(|| format!("node number {}", index + 1), |name| format!("node {name:?}"));
        if name.is_none() {
            faults.push(format!("{called} has no name"));
        }
        let before = faults.len();
        let mut needed = |value: &Option<Quantity>, kind: Kind| match value {
            None => {
                faults.push(format!("{called}: {} is missing (an example: {})", kind.name, kind.example));
                0
            }
            Some(value) => value.read(kind).unwrap_or_else(|fault| {
                faults.push(format!("{called}: {fault}"));
                0
            }),
        };
        let memory = Bytes(needed(&self.memory, Kind::MEMORY));
        let memory_bandwidth = needed(&self.memory_bandwidth, Kind::MEMORY_BANDWIDTH);
        let throughput = needed(&self.throughput, Kind::THROUGHPUT);
        let no_disk = matches!(&self.disk_bandwidth, Some(Quantity::Text(text)) if text == "none");
        let disk_bandwidth = (!no_disk).then(|| needed(&self.disk_bandwidth, Kind::DISK));
        let overhead = match &self.overhead {
            None => DEFAULT_OVERHEAD,
            given => Bytes(needed(given, Kind::MEMORY.named("overhead").within(0.0, Kind::MEMORY.most))),
        };
        let block_latency = match &self.block_latency {
            None => Nanos::ZERO,
            given => Nanos(needed(given, Kind::LATENCY.named("blockLatency"))),
        };
        let compact = Kind::MEMORY_BANDWIDTH.named("compactBandwidth");
        let compact_bandwidth = self.compact_bandwidth.is_some().then(|| needed(&self.compact_bandwidth, compact));
        let mut formats = BTreeMap::new();
        for (format, entry) in &self.formats {
            let mut read = |value: &Quantity, kind| {
                let fault = |fault: crate::quantity::QuantityError| faults.push(format!("{called}: {format}: {fault}"));
                value.read(kind).map_err(fault).ok()
            };
            let speed =
                (read(&entry.memory_bandwidth, Kind::MEMORY_BANDWIDTH), read(&entry.throughput, Kind::THROUGHPUT));
            if let (Some(memory_bandwidth), Some(throughput)) = speed {
                formats.insert(*format, FormatSpeed { memory_bandwidth, throughput });
            }
        }
        let name = name?.to_owned();
        (faults.len() == before).then_some(NodeProfile {
            name,
            memory,
            overhead,
            memory_bandwidth,
            compact_bandwidth,
            throughput,
            disk_bandwidth,
            block_latency,
            formats,
        })
    }
}

impl LinkEntries {
    fn check(&self, names: &BTreeSet<&str>, faults: &mut Vec<String>) -> BTreeMap<(String, String), Link> {
        let default = self
            .default
            .as_ref()
            .and_then(|entry| read_link("the default link", &entry.bandwidth, &entry.latency, faults));
        let mut links = BTreeMap::new();
        let mut explicit = BTreeSet::new();
        for pair in &self.pairs {
            let called = format!("the link from {:?} to {:?}", pair.from, pair.to);
            for end in [&pair.from, &pair.to] {
                if !names.contains(end.as_str()) {
                    faults.push(format!("{called}: no node is named {end:?}"));
                }
            }
            if pair.from == pair.to {
                faults.push(format!("{called} leads nowhere"));
            }
            if !explicit.insert((pair.from.clone(), pair.to.clone())) {
                faults.push(format!("{called} is given twice"));
            }
            if let Some(link) = read_link(&called, &pair.bandwidth, &pair.latency, faults) {
                links.insert((pair.from.clone(), pair.to.clone()), link);
            }
        }
        for (from, to) in &explicit {
            let back = (to.clone(), from.clone());
            if let (false, Some(link)) = (explicit.contains(&back), links.get(&(from.clone(), to.clone())).copied()) {
                links.insert(back, link);
            }
        }
        let every =
            names.iter().flat_map(|from| names.iter().map(move |to| (*from, *to))).filter(|(from, to)| from != to);
        let mut holes = Vec::new();
        for (from, to) in every {
            let key = (from.to_owned(), to.to_owned());
            match (links.contains_key(&key), default, self.default.is_some()) {
                (true, ..) => {}
                (false, Some(link), _) => {
                    links.insert(key, link);
                }
                (false, None, true) => {}
                (false, None, false) => holes.push(key),
            }
        }
        if let (Some((from, to)), count) = (holes.first(), holes.len()) {
            let more = if count > 1 { format!(" and {} more", count - 1) } else { String::new() };
            faults.push(format!("no link is given from {from:?} to {to:?}{more}; give each pair or a default"));
        }
        links
    }
}

fn read_link(
    called: &str,
    bandwidth: &Option<Quantity>,
    latency: &Option<Quantity>,
    faults: &mut Vec<String>,
) -> Option<Link> {
    let mut needed = |value: &Option<Quantity>, kind: Kind| match value {
        None => {
            faults.push(format!("{called}: {} is missing (an example: {})", kind.name, kind.example));
            None
        }
        Some(value) => value.read(kind).map_err(|fault| faults.push(format!("{called}: {fault}"))).ok(),
    };
    let bandwidth = needed(bandwidth, Kind::LINK);
    let latency = needed(latency, Kind::LATENCY);
    Some(Link { bandwidth: bandwidth?, latency: Nanos(latency?) })
}
