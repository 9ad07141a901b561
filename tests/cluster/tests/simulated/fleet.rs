//! Simulated nodes: what their kubelets and agents would write.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream};
use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{Node, Pod},
    },
    jiff::Timestamp,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use lime_api::{API_VERSION, HEARTBEAT_LABEL, LimeDeployment, LimeNodeProfile, heartbeat_lease};
use serde_json::{Value, json};

use crate::PATIENCE;

/// The operator's namespace, where agents' heartbeats are.
pub(crate) const SYSTEM: &str = "lime-system";
const LABEL: &str = "lime.dev/simulated";
/// The node controller of the test cluster gives a silent node up after 16 s.
const BEAT: Duration = Duration::from_secs(5);
const AT_ONCE: usize = 16;

fn name(index: usize) -> String {
    format!("simulated-{index:03}")
}

fn ours() -> PatchParams {
    PatchParams::apply("lime-simulated").force()
}

/// Makes the nodes, ready, profiled and with a first heartbeat.
pub(crate) async fn settle_in(client: &Client, nodes: usize, mebibytes: i64) {
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
    let system = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": SYSTEM } });
    namespaces.patch(SYSTEM, &ours(), &Patch::Apply(&system)).await.unwrap();
    stream::iter(0..nodes)
        .for_each_concurrent(AT_ONCE, |index| async move {
            let (kubelet, agent) = beats(client, index, &Silent::default()).await;
            kubelet.unwrap();
            agent.unwrap();
            node(client, &name(index)).await.unwrap();
            profile(client, &name(index), mebibytes).await.unwrap();
        })
        .await;
}

/// A node that was off says that it is ready, as its kubelet would.
pub(crate) async fn wakes(client: &Client, name: &str) -> kube::Result<()> {
    node(client, name).await
}

async fn node(client: &Client, name: &str) -> kube::Result<()> {
    let api: Api<Node> = Api::all(client.clone());
    let made = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name, "labels": { LABEL: "true" } } });
    api.patch(name, &ours(), &Patch::Apply(&made)).await?;
    let room = json!({ "cpu": "8", "memory": "16Gi", "pods": "110" });
    let status = json!({ "apiVersion": "v1", "kind": "Node", "status": {
        "capacity": room, "allocatable": room,
        "conditions": [{ "type": "Ready", "status": "True", "reason": "Simulated", "message": "",
            "lastHeartbeatTime": Timestamp::now(), "lastTransitionTime": Timestamp::now() }],
    }});
    api.patch_status(name, &ours(), &Patch::Apply(&status)).await.map(|_| ())
}

async fn profile(client: &Client, name: &str, mebibytes: i64) -> kube::Result<()> {
    let api: Api<LimeNodeProfile> = Api::all(client.clone());
    let head = |rest: Value| {
        let mut whole =
            json!({ "apiVersion": API_VERSION, "kind": "LimeNodeProfile", "metadata": { "name": name }, "spec": {} });
        whole.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        whole
    };
    api.patch(
        name,
        &ours(),
        &Patch::Apply(&head(json!({ "metadata": { "name": name, "labels": { LABEL: "true" } } }))),
    )
    .await?;
    let status = head(json!({ "status": {
        "architecture": "amd64",
        "memory": { "totalBytes": 1_i64 << 40, "availableBytes": mebibytes << 20 },
        "memoryBandwidthBytesPerSecond": 10_000_000_000_i64,
        "matrixOperationsPerSecond": 50_000_000_000_i64,
        "disk": { "readBytesPerSecond": 500_000_000, "freeBytes": 1_i64 << 40 },
        "conditions": [{ "type": "Fresh", "status": "True", "reason": "Simulated", "message": "",
            "lastTransitionTime": Timestamp::now() }],
    }}));
    api.patch_status(name, &ours(), &Patch::Apply(&status)).await.map(|_| ())
}

/// Nodes that are silent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Silence(Arc<Mutex<Silent>>);

#[derive(Clone, Debug, Default)]
struct Silent {
    kubelets: BTreeSet<String>,
    agents: BTreeSet<String>,
}

impl Silence {
    /// The whole node is off.
    pub(crate) fn of_node(&self, node: &str) {
        self.of_agent(node);
        self.0.lock().unwrap().kubelets.insert(node.to_owned());
    }

    /// The agent alone is off.
    pub(crate) fn of_agent(&self, node: &str) {
        self.0.lock().unwrap().agents.insert(node.to_owned());
    }

    /// Everything of it works again.
    pub(crate) fn ends(&self, node: &str) {
        let mut silent = self.0.lock().unwrap();
        silent.kubelets.remove(node);
        silent.agents.remove(node);
    }

    fn now(&self) -> Silent {
        self.0.lock().unwrap().clone()
    }
}

/// The kubelet's Lease and the agent's.
async fn beats(client: &Client, index: usize, silent: &Silent) -> (kube::Result<()>, kube::Result<()>) {
    let node = name(index);
    let beat = async |namespace: &str, lease: &str, seconds: i32| {
        let api: Api<Lease> = Api::namespaced(client.clone(), namespace);
        let renewed = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
        let made = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": { "name": lease, "labels": { HEARTBEAT_LABEL: "agent", LABEL: "true" } },
            "spec": { "holderIdentity": node, "leaseDurationSeconds": seconds, "renewTime": renewed },
        });
        api.patch(lease, &ours(), &Patch::Apply(&made)).await.map(|_| ())
    };
    let quiet = async || Ok(());
    let kubelet =
        if silent.kubelets.contains(&node) { quiet().await } else { beat("kube-node-lease", &node, 16).await };
    let agent = heartbeat_lease(&node);
    (kubelet, if silent.agents.contains(&node) { quiet().await } else { beat(SYSTEM, &agent, 40).await })
}

/// Keeps the nodes alive for as long as it is polled.
pub(crate) async fn beat(client: Client, nodes: usize, silence: Silence) {
    loop {
        tokio::time::sleep(BEAT).await;
        let (client, silent) = (&client, &silence.now());
        // A beat that fails is followed by another.
        stream::iter(0..nodes)
            .for_each_concurrent(AT_ONCE, |index| async move { drop(beats(client, index, silent).await) })
            .await;
    }
}

/// Waits until no deployment and none of their pods is left: pods of a fleet that has gone linger until the garbage collector of
/// pods looks, a minute later, and hold up their namespace and the next test.
async fn empty(client: &Client) {
    let ours = ListParams::default().labels("app.kubernetes.io/managed-by=lime-operator");
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let pods = Api::<Pod>::all(client.clone()).list(&ours).await;
        let deployments = Api::<LimeDeployment>::all(client.clone()).list(&ListParams::default()).await;
        if let (Ok(pods), Ok(deployments)) = (&pods, &deployments)
            && pods.items.is_empty()
            && deployments.items.is_empty()
        {
            return;
        }
        for pod in pods.into_iter().flatten().filter(|pod| pod.metadata.deletion_timestamp.is_some()) {
            let api = Api::<Pod>::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
            let _ = api.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Takes everything away again.
pub(crate) async fn move_out(client: &Client) {
    empty(client).await;
    let (all, now) = (ListParams::default().labels(LABEL), DeleteParams::default());
    let _ = Api::<Node>::all(client.clone()).delete_collection(&now, &all).await;
    let _ = Api::<LimeNodeProfile>::all(client.clone()).delete_collection(&now, &all).await;
    for namespace in ["kube-node-lease", SYSTEM] {
        let _ = Api::<Lease>::namespaced(client.clone(), namespace).delete_collection(&now, &all).await;
    }
}
