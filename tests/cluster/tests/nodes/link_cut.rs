//! The packets between two workers are dropped while everything else goes on: both ends are named, and a plan without the link serves.

use std::process::Command;
use std::time::Instant;

use lime_cluster_tests::{Kubectl, repository};
use serde_json::{Value, json};

use crate::machine::{image, nodes};
use crate::operator::{NAMESPACE, PATIENCE, ask, manifest, served, shard_nodes};

const SYSTEM: &str = "lime-system";
/// Two nodes hold the model, and any two do.
const BUDGET: &str = "70Mi";

/// Packets between two addresses that the node's network drops, until this is dropped.
struct Cut {
    /// The node's network namespace.
    network: String,
    ends: [String; 2],
}

impl Cut {
    fn between(network: String, ends: [String; 2]) -> Self {
        let cut = Self { network, ends };
        cut.rules("-I").unwrap_or_else(|error| panic!("{error}"));
        cut
    }

    fn rules(&self, action: &str) -> Result<(), String> {
        let [one, other] = &self.ends;
        for (from, to) in [(one, other), (other, one)] {
            let network = format!("--net=/run/netns/{}", self.network);
            let rule = [&network, "iptables", "-w", action, "FORWARD", "-s", from, "-d", to, "-j", "DROP"];
            let done = Command::new("nsenter").args(rule).output().map_err(|error| error.to_string())?;
            if !done.status.success() {
                return Err(format!("{rule:?}: {}", String::from_utf8_lossy(&done.stderr)));
            }
        }
        Ok(())
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        // The namespace goes with the cluster, whatever becomes of this.
        let _ = self.rules("-D");
    }
}

#[test]
#[ignore = "needs nodes and charts/lime: make test-nodes"]
fn a_cut_between_two_workers_is_named_and_planned_around() {
    let cluster = Kubectl::connect().unwrap();
    let nodes = nodes(&cluster);
    install(&cluster);
    lend_little(&cluster, &nodes);
    let namespace = cluster.namespace(NAMESPACE).unwrap();
    cluster.run_with(&["apply", "-f", "-"], &manifest("models.yaml")).unwrap();
    cluster.run_with(&["apply", "-f", "-"], &manifest("bard.yaml")).unwrap();
    let first = served(&cluster, None);
    let said = ask(&cluster)["choices"].clone();
    let shards = shard_nodes(&cluster);
    let [one, other] = [&shards[0], &shards[1]];

    let cut = Cut::between(network(&cluster, one), [worker(&cluster, one), worker(&cluster, other)]);
    let began = Instant::now();
    let named = cluster.eventually("both ends are named", PATIENCE, || {
        let (truth, reason, message) = condition(&cluster, "Degraded")?;
        let both = message.contains(one.as_str()) && message.contains(other.as_str());
        Ok((truth == "True" && reason == "LinkLost" && both).then_some(message))
    });
    println!("named {} s after the cut: {}", began.elapsed().as_secs(), named.unwrap());
    served(&cluster, Some(&first));
    println!("served again {} s after the cut", began.elapsed().as_secs());
    let around = shard_nodes(&cluster);
    assert!(
        !(around.contains(one) && around.contains(other) && around.len() < 4),
        "{around:?} use the link that is lost"
    );
    assert_eq!(ask(&cluster)["choices"], said);
    let bard = cluster.get(&["-n", NAMESPACE, "limedeployment", "bard"]).unwrap();
    assert_eq!(bard["status"]["lostLinks"].as_array().map(Vec::len), Some(1), "{:#}", bard["status"]);
    drop(cut);

    cluster.run(&["-n", NAMESPACE, "delete", "limedeployment", "bard", "--timeout=60s"]).unwrap();
    drop(namespace);
    cluster.run(&["delete", "pv", "models", "--wait=false"]).unwrap();
    helm(&["uninstall", "lime", "--namespace", SYSTEM, "--wait"]);
}

/// The network namespace of a node: tests/cluster/harness/network.go names it after the cluster's slot, as the nodes' addresses are.
fn network(cluster: &Kubectl, node: &str) -> String {
    let found = cluster.get(&["node", node]).unwrap();
    let addresses = found["status"]["addresses"].as_array().unwrap();
    let internal =
        addresses.iter().find(|address| address["type"] == "InternalIP").unwrap()["address"].as_str().unwrap();
    let second: u32 = internal.split('.').nth(1).unwrap().parse().unwrap();
    format!("lime{}-{node}", second - 80)
}

/// The address of the worker on a node.
fn worker(cluster: &Kubectl, node: &str) -> String {
    let pods = cluster.get(&["-n", NAMESPACE, "pods", "-l", "lime.dev/component=worker"]).unwrap();
    let pods = pods["items"].as_array().unwrap();
    let pod = pods.iter().find(|pod| pod["spec"]["nodeName"] == node).unwrap();
    pod["status"]["podIP"].as_str().unwrap().to_owned()
}

fn condition(cluster: &Kubectl, kind: &str) -> anyhow::Result<(String, String, String)> {
    let bard = cluster.get(&["-n", NAMESPACE, "limedeployment", "bard"])?;
    let conditions = bard["status"]["conditions"].as_array().into_iter().flatten();
    let found = conditions.into_iter().find(|each| each["type"] == kind).cloned().unwrap_or(Value::Null);
    let word = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
    Ok((word("status"), word("reason"), word("message")))
}

fn install(cluster: &Kubectl) {
    let image = image();
    let (name, tag) = image.rsplit_once(':').unwrap();
    cluster.answer(&["create", "namespace", SYSTEM], "").unwrap();
    let chart = repository().join("charts/lime").display().to_string();
    let values = [
        format!("image.repository={name}"),
        format!("image.tag={tag}"),
        "image.pullPolicy=Never".into(),
        "operator.addressing=pod-ip".into(),
        // Test machines are never idle.
        "agent.args={--longest-wait-seconds=15}".into(),
    ];
    let mut arguments = vec![
        "upgrade",
        "--install",
        "lime",
        &chart,
        "--namespace",
        SYSTEM,
        "--wait",
        "--timeout",
        "120s",
        "--take-ownership",
    ];
    arguments.extend(values.iter().flat_map(|value| ["--set", value.as_str()]));
    helm(&arguments);
}

fn helm(arguments: &[&str]) {
    let done = Command::new("helm").args(arguments).output().unwrap();
    assert!(done.status.success(), "helm {}: {}", arguments.join(" "), String::from_utf8_lossy(&done.stderr));
}

/// Waits for each node's profile, and sets what its administrator lends.
fn lend_little(cluster: &Kubectl, nodes: &[String]) {
    let budget = json!({ "spec": { "memoryBudget": BUDGET } }).to_string();
    for node in nodes {
        let profiled = cluster.eventually(&format!("{node} is profiled"), PATIENCE, || {
            let lent = cluster.answer(&["patch", "limenodeprofile", node, "--type=merge", "-p", &budget], "")?;
            let profile = cluster.get(&["limenodeprofile", node])?;
            let conditions = profile["status"]["conditions"].as_array().into_iter().flatten();
            let measured = conditions.into_iter().any(|it| it["type"] == "DiskMeasured" && it["status"] == "True");
            Ok((lent.ok && measured).then_some(()))
        });
        profiled.unwrap();
    }
}
