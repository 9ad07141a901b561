//! The fleet as figures: what nodes have and lend, the ways between those that serve together, who holds which layers, and what
//! speed was promised. All from objects that are watched anyway; every replica says the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kube::ResourceExt as _;
use lime_api::{DiskStatus, LimeDeployment, LimeNodeProfile, MemoryStatus, PerformanceFigures, ShardStatus};
use lime_metrics::{Figure, Samples};
use prometheus_client::registry::Registry;

const OF_NODES: [Figure<LimeNodeProfile>; 6] = [
    Figure::gauge("lime_node_memory_total_bytes", "Memory of the node", |node| Some(memory(node)?.total_bytes as f64)),
    Figure::gauge("lime_node_memory_available_bytes", "Memory of the node that could be had now", |node| {
        Some(memory(node)?.available_bytes as f64)
    }),
    Figure::gauge("lime_node_memory_low_water_bytes", "The least memory that was available in the last hour", |node| {
        Some(memory(node)?.low_water_bytes? as f64)
    }),
    Figure::gauge("lime_node_disk_read_bytes_per_second", "How fast the weight store reads", |node| {
        Some(disk(node)?.read_bytes_per_second? as f64)
    }),
    Figure::gauge("lime_node_disk_free_bytes", "Room on the weight store's disk", |node| {
        Some(disk(node)?.free_bytes? as f64)
    }),
    Figure::gauge("lime_node_memory_bandwidth_bytes_per_second", "How fast compute reads memory", |node| {
        Some(node.status.as_ref()?.memory_bandwidth_bytes_per_second? as f64)
    }),
];

const OF_SHARDS: [Figure<ShardStatus>; 2] = [
    Figure::gauge("lime_shard_restarts", "Restarts of the shard's container", |shard| Some(f64::from(shard.restarts))),
    Figure::gauge("lime_shard_weights_ratio", "Share of the shard's weights that has arrived", |shard| {
        Some(f64::from(shard.weights_percent?) / 100.0)
    }),
];

const SPEEDS: [Figure<PerformanceFigures>; 2] = [
    Figure::gauge(
        "lime_deployment_time_per_token_seconds",
        "Time per token; kind: predicted by the plan, measured by the gateway",
        |speed| Some(f64::from(speed.time_per_token_milliseconds?) / 1e3),
    ),
    Figure::gauge(
        "lime_deployment_time_to_first_token_seconds",
        "Time to the first token; kind: predicted by the plan, measured by the gateway",
        |speed| Some(f64::from(speed.time_to_first_token_milliseconds?) / 1e3),
    ),
];

fn memory(node: &LimeNodeProfile) -> Option<&MemoryStatus> {
    node.status.as_ref()?.memory.as_ref()
}

fn disk(node: &LimeNodeProfile) -> Option<&DiskStatus> {
    node.status.as_ref()?.disk.as_ref()
}

/// Namespace and name.
type Key = (String, String);

/// Puts the fleet into `registry`.
pub fn register(registry: &mut Registry, profiles: &[Arc<LimeNodeProfile>], deployments: &[Arc<LimeDeployment>]) {
    let profiles: BTreeMap<String, &LimeNodeProfile> =
        profiles.iter().map(|profile| (profile.name_any(), profile.as_ref())).collect();
    let deployments: BTreeMap<Key, &LimeDeployment> =
        deployments.iter().map(|it| ((it.namespace().unwrap_or_default(), it.name_any()), it.as_ref())).collect();
    for figure in &OF_NODES {
        let nodes = profiles.iter().map(|(node, profile)| ([("node", node.clone())], *profile));
        registry.register_collector(Box::new(figure.over(nodes)));
    }
    links(registry, &profiles, &deployments);
    shards(registry, &deployments);
    speeds(registry, &deployments);
}

/// Between nodes that serve one deployment together: all pairs of a large fleet would be more than anyone looks at.
fn links(
    registry: &mut Registry,
    profiles: &BTreeMap<String, &LimeNodeProfile>,
    deployments: &BTreeMap<Key, &LimeDeployment>,
) {
    let mut pairs = BTreeSet::new();
    for deployment in deployments.values() {
        let nodes: Vec<&String> = shards_of(deployment).map(|shard| &shard.node).collect();
        pairs.extend(nodes.iter().flat_map(|from| nodes.iter().map(move |to| (*from, *to))));
    }
    let measured = profiles
        .iter()
        .flat_map(|(node, profile)| profile.measured_links().map(move |(peer, link)| (node, peer.to_owned(), link)))
        .filter(|(node, peer, _)| pairs.contains(&(*node, peer)));
    let (mut bits, mut latency) = (Vec::new(), Vec::new());
    for (node, peer, link) in measured {
        let labels = || [("node", node.clone()), ("peer", peer.clone())];
        bits.push((labels(), link.bandwidth.saturating_mul(8) as f64));
        latency.push((labels(), link.latency.seconds()));
    }
    let help = "Bandwidth to another node of the same ring, as measured";
    registry.register_collector(Box::new(Samples::gauge("lime_node_link_bits_per_second", help, bits)));
    let help = "One way to another node of the same ring, as measured";
    registry.register_collector(Box::new(Samples::gauge("lime_node_link_latency_seconds", help, latency)));
}

fn shards(registry: &mut Registry, deployments: &BTreeMap<Key, &LimeDeployment>) {
    let all = || deployments.iter().flat_map(|(key, it)| shards_of(it).map(move |shard| (key, shard)));
    let info = all().map(|(key, shard)| {
        let [namespace, deployment] = labels(key);
        let (layers, state) = (shard.layers.clone().unwrap_or_default(), format!("{:?}", shard.state));
        ([namespace, deployment, ("node", shard.node.clone()), ("layers", layers), ("state", state)], 1.0)
    });
    let help = "Who holds which layers, and what it is doing";
    registry.register_collector(Box::new(Samples::gauge("lime_shard_info", help, info.collect())));
    for figure in &OF_SHARDS {
        let shards = all().map(|(key, shard)| {
            let [namespace, deployment] = labels(key);
            ([namespace, deployment, ("node", shard.node.clone())], shard)
        });
        registry.register_collector(Box::new(figure.over(shards)));
    }
}

fn speeds(registry: &mut Registry, deployments: &BTreeMap<Key, &LimeDeployment>) {
    let performance =
        |it: &&LimeDeployment| it.status.as_ref().and_then(|it| it.performance.clone()).unwrap_or_default();
    let told: Vec<_> = deployments
        .iter()
        .map(|(key, deployment)| (key, performance(deployment)))
        .flat_map(|(key, told)| [(key, "predicted", told.predicted), (key, "measured", told.measured)])
        .filter_map(|(key, kind, figures)| Some((key, kind, figures?)))
        .collect();
    for figure in &SPEEDS {
        let speeds = told.iter().map(|(key, kind, figures)| {
            let [namespace, deployment] = labels(key);
            ([namespace, deployment, ("kind", (*kind).to_owned())], figures)
        });
        registry.register_collector(Box::new(figure.over(speeds)));
    }
}

fn shards_of(deployment: &LimeDeployment) -> impl Iterator<Item = &ShardStatus> {
    deployment.status.iter().flat_map(|status| &status.shards)
}

fn labels((namespace, deployment): &Key) -> [(&'static str, String); 2] {
    [("namespace", namespace.clone()), ("deployment", deployment.clone())]
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
        let mut registry = Registry::default();
        register(&mut registry, &[profile("a", "b\""), profile("b\"", "a")], &[Arc::new(deployment)]);
        let text = lime_metrics::text(&registry);
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
