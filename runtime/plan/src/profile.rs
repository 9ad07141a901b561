//! What nodes have: measured or stated, checked before anything is planned with it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{format::Format, outlook::Nanos, units::Bytes};

/// One node, in plain numbers that have been checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeProfile {
    /// The node's name, unique in its fleet.
    pub name: String,
    /// Memory that LIME may use there.
    pub memory: Bytes,
    /// What the process needs besides weights, buffers, KV cache and activations.
    pub overhead: Bytes,
    /// Bytes per second at which compute reads memory.
    pub memory_bandwidth: u64,
    /// Compact bytes per second that compute gets through; `None` where that is not known, and then nothing is made compact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compact_bandwidth: Option<u64>,
    /// Floating-point operations per second in matrix products of many rows.
    pub throughput: u64,
    /// Bytes per second read from the weight store; `None` where nothing may be streamed.
    pub disk_bandwidth: Option<u64>,
    /// Fixed cost of starting a block's computation.
    #[serde(default)]
    pub block_latency: Nanos,
    /// Speeds with weights of single formats, where they were measured: quantized ones take other arithmetic.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub formats: BTreeMap<Format, FormatSpeed>,
}

/// How fast a node computes with weights of one format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FormatSpeed {
    /// Bytes of weights per second in products of one row.
    pub memory_bandwidth: u64,
    /// Operations per second in products of many rows.
    pub throughput: u64,
}

impl NodeProfile {
    /// The speed with weights stored so: as it was measured, else that of weights in general.
    pub fn speed(&self, format: Format) -> FormatSpeed {
        let general = FormatSpeed { memory_bandwidth: self.memory_bandwidth, throughput: self.throughput };
        let measured = self.formats.get(&format).copied();
        match format {
            // Products of many rows expand it once: they run as those of bf16.
            Format::CompactBf16 => measured.unwrap_or_else(|| {
                let FormatSpeed { throughput, .. } = self.speed(Format::Bf16);
                FormatSpeed { memory_bandwidth: self.compact_bandwidth.unwrap_or(self.memory_bandwidth), throughput }
            }),
            _ => measured.unwrap_or(general),
        }
    }
}

/// The way from one node to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// Bytes per second.
    pub bandwidth: u64,
    /// From the last byte sent to the message handled.
    pub latency: Nanos,
}

/// Nodes and every link between them, sorted by name: the order in which they were given is forgotten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fleet {
    nodes: Vec<NodeProfile>,
    /// `links[from][to]`; the diagonal is free.
    links: Vec<Vec<Link>>,
}

const TO_ITSELF: Link = Link { bandwidth: u64::MAX, latency: Nanos::ZERO };

impl Fleet {
    /// A fleet of `nodes` whose links `link(from, to)` gives by index into `nodes`.
    pub fn new(nodes: Vec<NodeProfile>, link: impl Fn(usize, usize) -> Link) -> Self {
        let mut order: Vec<usize> = (0..nodes.len()).collect();
        order.sort_by(|&a, &b| nodes[a].name.cmp(&nodes[b].name));
        let row = |&from: &usize| order.iter().map(|&to| if from == to { TO_ITSELF } else { link(from, to) }).collect();
        let links = order.iter().map(row).collect();
        Self { nodes: order.iter().map(|&index| nodes[index].clone()).collect(), links }
    }

    /// A fleet in which every link is alike.
    pub fn uniform(nodes: Vec<NodeProfile>, link: Link) -> Self {
        Self::new(nodes, |_, _| link)
    }

    /// The nodes, sorted by name.
    pub fn nodes(&self) -> &[NodeProfile] {
        &self.nodes
    }

    /// The link from one node to another, by index into [`Self::nodes`].
    pub fn link(&self, from: usize, to: usize) -> Link {
        self.links[from][to]
    }

    /// The same fleet with its nodes changed one by one; names must stay.
    pub fn map_nodes(&self, change: impl Fn(&NodeProfile) -> NodeProfile) -> Self {
        Self { nodes: self.nodes.iter().map(change).collect(), links: self.links.clone() }
    }

    /// The same fleet and one more node, linked as the median of its links (or as `otherwise` where there are none).
    pub fn with_node(&self, node: NodeProfile, otherwise: Link) -> Self {
        let mut all: Vec<Link> = Vec::new();
        for (from, row) in self.links.iter().enumerate() {
            all.extend(row.iter().enumerate().filter(|(to, _)| *to != from).map(|(_, link)| *link));
        }
        all.sort_by_key(|link| (link.bandwidth, std::cmp::Reverse(link.latency)));
        let median = all.get(all.len() / 2).copied().unwrap_or(otherwise);
        let mut nodes = self.nodes.clone();
        nodes.push(node);
        let old = self.nodes.len();
        Self::new(nodes, |from, to| if from < old && to < old { self.links[from][to] } else { median })
    }
}
