//! The operator itself, as a process, on a real API server with simulated nodes: their kubelets and gateways are played here.
//! Run by `make test-simulated`, one test at a time.

#![allow(missing_docs, clippy::unwrap_used)]

mod crashes;
mod cut_links;
mod failover;
mod faults;
mod fleet;
mod garbage;
#[allow(dead_code, reason = "the store's own tests use all of it")]
#[path = "../../../../runtime/store/tests/common/server.rs"]
mod hub;
mod kinds_gone;
mod kubelet;
#[allow(dead_code, reason = "the model's own tests use all of it")]
#[path = "../../../../runtime/model/tests/formats/made.rs"]
mod made;
mod namespaces;
mod operator;
mod proxy;
mod refused;
mod returning;
mod scale;
mod second_day;
mod sources;

use std::time::Duration;

use lime_cluster_tests::Kubectl;
use serde_json::Value;

/// How long a deployment may take to settle here.
const PATIENCE: Duration = Duration::from_secs(60);

/// A test's own stage: a runtime, a fleet with its kubelets, and an operator.
struct Stage {
    cluster: Kubectl,
    client: kube::Client,
    /// Nodes of which the kubelet, the agent or both are silent.
    silence: fleet::Silence,
    /// Links between nodes that are cut.
    cuts: kubelet::Cuts,
    // Dropped last: its tasks play the nodes.
    runtime: tokio::runtime::Runtime,
}

impl Stage {
    /// `nodes` simulated nodes that lend `mebibytes` each.
    fn new(nodes: usize, mebibytes: i64) -> Self {
        Self::staged(nodes, mebibytes, None)
    }

    /// The same with a model hub, which inspections of `hf://` models ask.
    fn with_hub(nodes: usize, mebibytes: i64, hub: &str) -> Self {
        Self::staged(nodes, mebibytes, Some(hub.to_owned()))
    }

    fn staged(nodes: usize, mebibytes: i64, hub: Option<String>) -> Self {
        let cluster = Kubectl::connect().unwrap();
        // What an earlier test left behind takes memory of the nodes until it is gone.
        let gone = cluster.eventually("earlier deployments are gone", PATIENCE, || {
            let left = cluster.run(&["get", "limedeployments", "--all-namespaces", "-o", "name"])?;
            Ok(left.trim().is_empty().then_some(()))
        });
        gone.unwrap();
        let (silence, cuts) = (fleet::Silence::default(), kubelet::Cuts::default());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let client = runtime.block_on(async {
            let client = kube::Client::try_default().await.unwrap();
            fleet::settle_in(&client, nodes, mebibytes).await;
            tokio::spawn(fleet::beat(client.clone(), nodes, silence.clone()));
            tokio::spawn(kubelet::play(client.clone(), hub, cuts.clone()));
            client
        });
        Self { cluster, client, silence, cuts, runtime }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.runtime.block_on(fleet::move_out(&self.client));
    }
}

/// A LimeDeployment of the simulated model.
fn deployment(name: &str, more: &str) -> String {
    format!(
        "{{apiVersion: lime.dev/v1alpha1, kind: LimeDeployment, metadata: {{name: {name}}}, spec: {{model: {{source: \
         'file:///models/m'}}, nodes: {{memoryReserve: '0', maxCount: 4}}, transport: {{security: Plaintext}}{more}}}}}"
    )
}

fn condition<'a>(object: &'a Value, kind: &str) -> (&'a str, &'a str, &'a str) {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    let found = conditions.into_iter().find(|each| each["type"] == kind);
    let word = |name: &str| found.and_then(|found| found[name].as_str()).unwrap_or_default();
    (word("status"), word("reason"), word("message"))
}
