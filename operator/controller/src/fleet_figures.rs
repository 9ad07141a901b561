//! The fleet as figures: what nodes have and lend, the ways between those that serve together, who holds which layers, and what
//! speed was promised. All from objects that are watched anyway; every replica says the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
};

use kube::ResourceExt as _;
use lime_api::{LimeDeployment, LimeNodeProfile, PerformanceFigures, ShardStatus};

/// Name, help, and a node's value.
type NodeFigure = (&'static str, &'static str, fn(&LimeNodeProfile) -> Option<f64>);

/// Name, help, and a deployment's milliseconds.
type SpeedFigure = (&'static str, &'static str, fn(&PerformanceFigures) -> Option<i32>);

const OF_NODES: &[NodeFigure] = &[
    ("lime_node_memory_total_bytes", "Memory of the node.", |node| Some(memory(node)?.total_bytes as f64)),
    ("lime_node_memory_available_bytes", "Of it, what could be had now.", |node| {
        Some(memory(node)?.available_bytes as f64)
    }),
    ("lime_node_memory_low_water_bytes", "The least that was available in the last hour.", |node| {
        Some(memory(node)?.low_water_bytes? as f64)
    }),
    ("lime_node_disk_read_bytes_per_second", "How fast the weight store reads.", |node| {
        Some(node.status.as_ref()?.disk.as_ref()?.read_bytes_per_second? as f64)
    }),
    ("lime_node_disk_free_bytes", "Room on the weight store's disk.", |node| {
        Some(node.status.as_ref()?.disk.as_ref()?.free_bytes? as f64)
    }),
    ("lime_node_memory_bandwidth_bytes_per_second", "How fast compute reads memory.", |node| {
        Some(node.status.as_ref()?.memory_bandwidth_bytes_per_second? as f64)
    }),
];

fn memory(node: &LimeNodeProfile) -> Option<&lime_api::MemoryStatus> {
    node.status.as_ref()?.memory.as_ref()
}

/// The fleet in the text form that Prometheus reads.
pub fn render(profiles: &[Arc<LimeNodeProfile>], deployments: &[Arc<LimeDeployment>]) -> String {
    let profiles: BTreeMap<String, &LimeNodeProfile> =
        profiles.iter().map(|profile| (profile.name_any(), profile.as_ref())).collect();
    let deployments: BTreeMap<(String, String), &LimeDeployment> =
        deployments.iter().map(|it| ((it.namespace().unwrap_or_default(), it.name_any()), it.as_ref())).collect();
    let mut text = String::new();
    for (name, help, value) in OF_NODES {
        head(&mut text, name, help);
        for (node, profile) in &profiles {
            if let Some(value) = value(profile) {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{name}{{node=\"{}\"}} {value}", escaped(node));
            }
        }
    }
    links(&mut text, &profiles, &deployments);
    shards(&mut text, &deployments);
    speeds(&mut text, &deployments);
    text
}

/// Between nodes that serve one deployment together: all pairs of a large fleet would be more than anyone looks at.
fn links(
    text: &mut String,
    profiles: &BTreeMap<String, &LimeNodeProfile>,
    deployments: &BTreeMap<(String, String), &LimeDeployment>,
) {
    let mut pairs = BTreeSet::new();
    for deployment in deployments.values() {
        let nodes: Vec<&String> = shards_of(deployment).map(|shard| &shard.node).collect();
        pairs.extend(nodes.iter().flat_map(|from| nodes.iter().map(move |to| (*from, *to))));
    }
    let measured: Vec<_> = profiles
        .iter()
        .flat_map(|(node, profile)| profile.measured_links().map(move |(peer, link)| (node, peer.to_owned(), link)))
        .filter(|(node, peer, _)| pairs.contains(&(*node, peer)))
        .collect();
    head(text, "lime_node_link_bits_per_second", "Bandwidth to another node of the same ring, as measured.");
    for (node, peer, link) in &measured {
        let bits = link.bandwidth.saturating_mul(8);
        let labels = format!("node=\"{}\",peer=\"{}\"", escaped(node), escaped(peer));
        let _ = writeln!(text, "lime_node_link_bits_per_second{{{labels}}} {bits}");
    }
    head(text, "lime_node_link_latency_seconds", "One way to another node of the same ring, as measured.");
    for (node, peer, link) in &measured {
        let labels = format!("node=\"{}\",peer=\"{}\"", escaped(node), escaped(peer));
        let _ = writeln!(text, "lime_node_link_latency_seconds{{{labels}}} {}", link.latency.seconds());
    }
}

fn shards(text: &mut String, deployments: &BTreeMap<(String, String), &LimeDeployment>) {
    let all: Vec<(String, &ShardStatus)> = deployments
        .iter()
        .flat_map(|(key, deployment)| shards_of(deployment).map(move |shard| (labels(key), shard)))
        .collect();
    head(text, "lime_shard_info", "Who holds which layers, and what it is doing.");
    for (labels, shard) in &all {
        let layers = shard.layers.as_deref().unwrap_or_default();
        let node = escaped(&shard.node);
        let _ = writeln!(
            text,
            "lime_shard_info{{{labels},node=\"{node}\",layers=\"{}\",state=\"{:?}\"}} 1",
            escaped(layers),
            shard.state
        );
    }
    head(text, "lime_shard_restarts", "Restarts of the shard's container.");
    for (labels, shard) in &all {
        let _ = writeln!(text, "lime_shard_restarts{{{labels},node=\"{}\"}} {}", escaped(&shard.node), shard.restarts);
    }
    head(text, "lime_shard_weights_ratio", "Share of the shard's weights that has arrived.");
    for (labels, shard) in all.iter().filter(|(_, shard)| shard.weights_percent.is_some()) {
        let ratio = f64::from(shard.weights_percent.unwrap_or_default()) / 100.0;
        let _ = writeln!(text, "lime_shard_weights_ratio{{{labels},node=\"{}\"}} {ratio}", escaped(&shard.node));
    }
}

fn speeds(text: &mut String, deployments: &BTreeMap<(String, String), &LimeDeployment>) {
    let figures: [SpeedFigure; 2] = [
        ("lime_deployment_time_per_token_seconds", "Time per token.", |it| it.time_per_token_milliseconds),
        ("lime_deployment_time_to_first_token_seconds", "Time to the first token.", |it| {
            it.time_to_first_token_milliseconds
        }),
    ];
    for (name, help, value) in figures {
        head(text, name, &format!("{help} kind: predicted by the plan, measured by the gateway."));
        for (key, deployment) in deployments {
            let performance = deployment.status.as_ref().and_then(|status| status.performance.clone());
            let performance = performance.unwrap_or_default();
            for (kind, figures) in [("predicted", performance.predicted), ("measured", performance.measured)] {
                if let Some(milliseconds) = figures.as_ref().and_then(value) {
                    let seconds = f64::from(milliseconds) / 1e3;
                    let _ = writeln!(text, "{name}{{{},kind=\"{kind}\"}} {seconds}", labels(key));
                }
            }
        }
    }
}

fn shards_of(deployment: &LimeDeployment) -> impl Iterator<Item = &ShardStatus> {
    deployment.status.iter().flat_map(|status| &status.shards)
}

fn labels((namespace, deployment): &(String, String)) -> String {
    format!("namespace=\"{namespace}\",deployment=\"{deployment}\"")
}

fn head(text: &mut String, name: &str, help: &str) {
    let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n");
}

/// A label's value: agents write profiles, and may write anything.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_fleet_is_told_as_it_is() {
        let profile = |name: &str, peer: &str| -> Arc<LimeNodeProfile> {
            let links = json!([
                { "peer": peer, "bandwidthBitsPerSecond": 1_000_000_000, "roundTripMicroseconds": 400 },
                { "peer": "stranger", "bandwidthBitsPerSecond": 1_000_000_000, "roundTripMicroseconds": 400 },
            ]);
            let status = json!({ "memory": { "totalBytes": 1000, "availableBytes": 400 }, "links": links });
            let metadata = json!({ "name": name });
            Arc::new(serde_json::from_value(json!({ "metadata": metadata, "spec": {}, "status": status })).unwrap())
        };
        let mut deployment = crate::testing::deployment(json!({}));
        deployment.status = Some(
            serde_json::from_value(json!({
                "shards": [
                    { "node": "a", "layers": "0-3", "state": "Ready", "restarts": 2, "weightsPercent": 50 },
                    { "node": "b\"", "state": "Pending", "restarts": 0 },
                ],
                "performance": { "predicted": { "timePerTokenMilliseconds": 120 } },
            }))
            .unwrap(),
        );
        let text = render(&[profile("a", "b\""), profile("b\"", "a")], &[Arc::new(deployment)]);
        for line in [
            "lime_node_memory_total_bytes{node=\"a\"} 1000",
            "lime_node_memory_available_bytes{node=\"b\\\"\"} 400",
            "lime_node_link_bits_per_second{node=\"a\",peer=\"b\\\"\"} 1000000000",
            "lime_node_link_latency_seconds{node=\"a\",peer=\"b\\\"\"} 0.0002",
            "lime_shard_info{namespace=\"llm\",deployment=\"m\",node=\"a\",layers=\"0-3\",state=\"Ready\"} 1",
            "lime_shard_restarts{namespace=\"llm\",deployment=\"m\",node=\"a\"} 2",
            "lime_shard_weights_ratio{namespace=\"llm\",deployment=\"m\",node=\"a\"} 0.5",
            "lime_deployment_time_per_token_seconds{namespace=\"llm\",deployment=\"m\",kind=\"predicted\"} 0.12",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("stranger"), "links to nodes outside of the ring: {text}");
        assert!(!text.contains("measured\"} "), "{text}");
    }
}
