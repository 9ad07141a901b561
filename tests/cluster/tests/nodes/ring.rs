//! A ring of pods made by hand: what the image, the nodes and the runtime can do before any operator has a say.
//!
//! Three nodes, none of which could hold the model, answer with exactly the tokens of one process.

use std::fmt::Write as _;
use std::process::Command;

use lime_cluster_tests::Kubectl;
use serde_json::{Value, json};

use crate::PATIENCE;
use crate::http::post;
use crate::machine::{image, model, nodes};

/// A device of the ring: on which node, and how much memory it lends.
pub(crate) struct Device {
    pub(crate) node: String,
    pub(crate) memory: &'static str,
}

#[test]
#[ignore = "needs nodes: make test-nodes"]
fn three_nodes_answer_as_one_process() {
    let cluster = Kubectl::connect().unwrap();
    let nodes = nodes(&cluster);
    assert!(nodes.len() >= 3, "three nodes are needed, there are {nodes:?}");
    let device = |at: usize, memory| Device { node: nodes[at].clone(), memory };
    let one = answer(&cluster, "lime-test-one-process", 1, &[device(0, "64Mi")]);
    let three = answer(&cluster, "lime-test-ring", 2, &[device(0, "3.5Mi"), device(1, "4Mi"), device(2, "4.4Mi")]);
    assert!(one["choices"][0]["text"].as_str().is_some_and(|text| text.len() > 40), "{one}");
    assert_eq!(one["choices"], three["choices"]);
    println!("three nodes said what one did: {}", three["choices"][0]["text"]);
}

/// What a ring of pods says to [`question`].
pub(crate) fn answer(cluster: &Kubectl, name: &str, segments: u32, devices: &[Device]) -> Value {
    answers(cluster, name, segments, devices, &[question()]).remove(0)
}

/// Lays out a ring of pods, asks it, and takes it away again.
pub(crate) fn answers(
    cluster: &Kubectl,
    name: &str,
    segments: u32,
    devices: &[Device],
    questions: &[Value],
) -> Vec<Value> {
    let namespace = cluster.namespace(name).unwrap();
    cluster.run(&["label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted"]).unwrap();
    cluster.run_with(&["apply", "-f", "-"], &volume(name)).unwrap();
    let scope = ["-n", namespace.name()];
    for device in devices {
        let arguments = json!(["worker", "--name", device.node, "--model", "/model", "--threads", "1"]);
        apply(
            cluster,
            &scope,
            &pod(&format!("worker-{}", device.node), &device.node, &arguments, &json!([]), &json!([])),
        );
    }
    let plan = plan(segments, devices);
    apply(
        cluster,
        &scope,
        &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "plan"}, "data": {"plan.json": plan}}),
    );

    let mut arguments = vec!["gateway".to_owned(), "--plan=/plan/plan.json".to_owned(), "--model=/model".to_owned()];
    for device in devices {
        let address = address(cluster, &scope, &format!("worker-{}", device.node));
        arguments.push(format!("--worker={}=http://{address}:7000", device.node));
    }
    let mounts = json!([{"name": "plan", "mountPath": "/plan"}]);
    let volumes = json!([{"name": "plan", "configMap": {"name": "plan"}}]);
    apply(cluster, &scope, &pod("gateway", &devices[0].node, &json!(arguments), &mounts, &volumes));
    let gateway = address(cluster, &scope, "gateway");
    let ask = |question| {
        let answered =
            cluster.eventually("an answer", PATIENCE, || Ok(post(&format!("{gateway}:8000"), question).ok()));
        answered.unwrap_or_else(|error| {
            let logs = cluster.run(&[&scope[..], &["logs", "gateway"]].concat());
            panic!("{error}: {logs:?}")
        })
    };
    let answered = questions.iter().map(ask).collect();
    cluster.run(&[&scope[..], &["delete", "pods", "--all", "--grace-period=2"]].concat()).unwrap();
    cluster.run(&["delete", "pv", name, "--wait=false"]).unwrap();
    answered
}

fn apply(cluster: &Kubectl, scope: &[&str], object: &Value) {
    cluster.run_with(&[scope, &["apply", "-f", "-"]].concat(), &object.to_string()).unwrap();
}

/// The model as a volume that restricted namespaces may mount: the same folder on every node.
fn volume(name: &str) -> String {
    let mut text = String::new();
    let size = "{storage: 1Gi}";
    writeln!(
        text,
        "apiVersion: v1\nkind: PersistentVolume\nmetadata: {{name: {name}}}\nspec:\n  capacity: {size}\n  accessModes: \
         [ReadOnlyMany]\n  storageClassName: ''\n  persistentVolumeReclaimPolicy: Retain\n  hostPath: {{path: '{}', type: \
         Directory}}\n  claimRef: {{namespace: {name}, name: model}}\n---",
        model()
    )
    .unwrap();
    writeln!(
        text,
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: model, namespace: {name}}}\nspec:\n  accessModes: \
         [ReadOnlyMany]\n  storageClassName: ''\n  volumeName: {name}\n  resources: {{requests: {size}}}"
    )
    .unwrap();
    text
}

fn pod(name: &str, node: &str, arguments: &Value, mounts: &Value, volumes: &Value) -> Value {
    let mut all_mounts = vec![json!({"name": "model", "mountPath": "/model", "readOnly": true})];
    all_mounts.extend(mounts.as_array().unwrap().clone());
    let mut all_volumes =
        vec![json!({"name": "model", "persistentVolumeClaim": {"claimName": "model", "readOnly": true}})];
    all_volumes.extend(volumes.as_array().unwrap().clone());
    let at_node = json!({"key": "metadata.name", "operator": "In", "values": [node]});
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": [{"matchFields": [at_node]}]}}},
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "lime", "image": image(), "imagePullPolicy": "Never", "args": arguments,
                "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": all_mounts,
            }],
            "volumes": all_volumes,
        },
    })
}

/// The pod's address, once it runs.
fn address(cluster: &Kubectl, scope: &[&str], name: &str) -> String {
    let ready =
        cluster.run(&[scope, &["wait", "--for=condition=Ready", "--timeout=90s", &format!("pod/{name}")]].concat());
    if let Err(error) = ready {
        let told = cluster.run(&[scope, &["describe", "pod", name]].concat());
        panic!("{name}: {error}\n{}", told.unwrap_or_default());
    }
    let pod = cluster.get(&[scope, &["pod", name]].concat()).unwrap();
    pod["status"]["podIP"].as_str().unwrap().to_owned()
}

/// The plan for such devices, by `lime plan`.
fn plan(segments: u32, devices: &[Device]) -> String {
    let fleet: Vec<_> =
        devices.iter().map(|device| json!({"name": device.node, "memory": device.memory, "threads": 1})).collect();
    let wish = json!({"apiVersion": "lime.dev/v1alpha1", "kind": "LimeDeployment", "metadata": {"name": "bard"}, "spec": {
        "model": {"source": format!("file://{}", model())},
        "serving": {"maxContextTokens": 512, "maxConcurrentRequests": 3, "prefillChunkTokens": 64},
        "nodes": {"minCount": devices.len()},
        "offload": {"policy": "Never"},
    }});
    let fleet = json!({"apiVersion": "lime.dev/v1alpha1", "kind": "LocalFleet", "metadata": {"name": "nodes"},
        "spec": {"segments": segments, "devices": fleet}});
    let file = std::env::temp_dir().join(format!("lime-test-wish-{}-{segments}.yaml", std::process::id()));
    std::fs::write(&file, format!("{wish}\n---\n{fleet}\n")).unwrap();
    let lime = std::env::var("LIME_BIN").expect("LIME_BIN is not set: run make test-nodes");
    let done = Command::new(lime).args(["plan", "-o", "json", "-f"]).arg(&file).output().unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// What every ring is asked: the answer holds the tokens and their probabilities.
pub(crate) fn question() -> Value {
    json!({"model": "bard", "prompt": "ROMEO:", "max_tokens": 60, "temperature": 0, "logprobs": 1})
}
