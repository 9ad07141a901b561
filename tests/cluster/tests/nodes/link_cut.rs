//! The packets between two workers are dropped while everything else goes on: both ends are named, and a plan without the link serves.

use std::process::Command;
use std::time::Instant;

use lime_cluster_tests::Kubectl;

use crate::deployed::{Deployed, PATIENCE, condition};
use crate::ring::question;

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

/// Cuts the link between two nodes of a deployment that serves from any two of three, and waits for a plan around it.
pub(crate) fn is_planned_around(bard: &Deployed<'_>) {
    let first = bard.served(None);
    let said = bard.ask(&question())["choices"].clone();
    let shards = bard.shard_nodes();
    let [one, other] = [&shards[0], &shards[1]];

    let cut = Cut::between(network(bard.cluster, one), [worker(bard, one), worker(bard, other)]);
    let began = Instant::now();
    let named = bard.eventually("both ends are named", PATIENCE, |it| {
        let degraded = condition(it, "Degraded");
        let both = degraded.message.contains(one.as_str()) && degraded.message.contains(other.as_str());
        (degraded.status == "True" && degraded.reason == "LinkLost" && both).then_some(degraded.message)
    });
    println!("named {} s after the cut: {named}", began.elapsed().as_secs());
    bard.served(Some(&first));
    println!("served again {} s after the cut", began.elapsed().as_secs());
    let around = bard.shard_nodes();
    assert!(
        !(around.contains(one) && around.contains(other) && around.len() < 4),
        "{around:?} use the link that is lost"
    );
    assert_eq!(bard.ask(&question())["choices"], said);
    let status = bard.object().unwrap()["status"].clone();
    assert_eq!(status["lostLinks"].as_array().map(Vec::len), Some(1), "{status:#}");
    drop(cut);
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
fn worker(bard: &Deployed<'_>, node: &str) -> String {
    let pods = bard.list(&["pods", "-l", "lime.dev/component=worker"]).unwrap();
    let pod = pods.iter().find(|pod| pod["spec"]["nodeName"] == node).unwrap();
    pod["status"]["podIP"].as_str().unwrap().to_owned()
}
