//! The agent as a DaemonSet: every node gets a profile, with measured links, and a heartbeat.

use lime_cluster_tests::{Kubectl, repository};

use crate::PATIENCE;
use crate::deployed::condition;
use crate::machine::{image, is_ours, nodes};

/// Most memory of an agent that waits, in KiB.
const AT_REST_KIB: u64 = 30 << 10;

#[test]
#[ignore = "needs nodes: make test-nodes"]
fn every_node_is_profiled_and_every_way_between_them() {
    let cluster = Kubectl::connect().unwrap();
    let nodes = nodes(&cluster);
    let namespace = cluster.namespace("lime-test-agents").unwrap();
    // What an earlier, failed run measured would look like this one's.
    cluster.run(&["delete", "limenodeprofiles", "--all"]).unwrap();
    let manifest = std::fs::read_to_string(repository().join("tests/cluster/nodes/agent.yaml")).unwrap();
    let manifest = manifest.replace("$IMAGE", &image()).replace("$NAMESPACE", namespace.name());
    cluster.run_with(&["apply", "-f", "-"], &manifest).unwrap();

    cluster
        .eventually("every way between nodes is measured", PATIENCE, || {
            let profiles = cluster.get(&["limenodeprofiles"])?;
            let complete = nodes.iter().all(|node| {
                let found =
                    profiles["items"].as_array().into_iter().flatten().find(|each| each["metadata"]["name"] == **node);
                found.is_some_and(|profile| {
                    condition(profile, "LinksMeasured").status == "True"
                        && condition(profile, "DiskMeasured").status == "True"
                        && profile["status"]["links"].as_array().is_some_and(|links| links.len() + 1 == nodes.len())
                })
            });
            Ok(complete.then_some(()))
        })
        .unwrap();

    for node in &nodes {
        let profile = cluster.get(&["limenodeprofile", node]).unwrap();
        assert_eq!(condition(&profile, "Fresh").status, "True");
        assert!(profile["status"]["memory"]["totalBytes"].as_i64().unwrap() > 1 << 28, "{profile}");
        assert!(profile["status"]["memoryBandwidthBytesPerSecond"].as_i64().unwrap() > 1 << 20, "{profile}");
        assert_eq!(profile["metadata"]["ownerReferences"][0]["kind"], "Node");
        let lease = cluster.get(&["-n", namespace.name(), "lease", &format!("lime-node-{node}")]).unwrap();
        assert_eq!(lease["spec"]["holderIdentity"], **node);
    }
    println!("{}", cluster.run(&["get", "limenodeprofiles"]).unwrap());
    an_agent_rests_in_little_memory();
    steady_state_is_heartbeats_only(&cluster, &nodes);
    cluster.run_with(&["delete", "-f", "-", "--wait=false"], &manifest).unwrap();
    cluster.run(&["delete", "limenodeprofiles", "--all"]).unwrap();
}

/// The agents' processes are this machine's too.
fn an_agent_rests_in_little_memory() {
    let mut seen = 0;
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let read = |file: &str| std::fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        if read("comm").trim() != "lime-agent" || !is_ours(&entry.path()) {
            continue;
        }
        let resident: Option<u64> = read("status")
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
        let Some(resident) = resident else { continue };
        println!("an agent at rest: {resident} KiB");
        assert!(resident < AT_REST_KIB, "an agent holds {resident} KiB");
        seen += 1;
    }
    assert!(seen > 0, "no agent runs");
}

/// Nothing moves: no profile is written while the Leases are renewed.
fn steady_state_is_heartbeats_only(cluster: &Kubectl, nodes: &[String]) {
    let generation = || {
        let all = cluster.get(&["limenodeprofiles"]).unwrap();
        let items = all["items"].as_array().unwrap().clone();
        items.iter().map(|each| each["metadata"]["resourceVersion"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let renewed = || {
        let all = cluster.get(&["-n", "lime-test-agents", "leases", "-l", "lime.dev/heartbeat=agent"]).unwrap();
        all["items"].as_array().unwrap().iter().map(|each| each["spec"]["renewTime"].to_string()).collect::<Vec<_>>()
    };
    let (before, beats) = (generation(), renewed());
    assert_eq!(beats.len(), nodes.len());
    std::thread::sleep(std::time::Duration::from_secs(25));
    let after = renewed();
    assert!(beats.iter().zip(&after).all(|(before, after)| before < after), "{beats:?} {after:?}");
    // Free memory may really move while others work on this machine: that is a change, and it is written.
    let written = before.iter().zip(generation()).filter(|(before, after)| *before != after).count();
    println!("profiles written in 25 s at rest: {written} of {}", nodes.len());
}
