//! From `helm install` to tokens: the operator, its agents and a model too large for any one node.
//!
//! `make test-nodes` leaves this out, and says so, while `charts/lime` is not there.

use std::process::Command;
use std::time::Duration;

use lime_cluster_tests::{Kubectl, repository};
use serde_json::{Value, json};

use crate::machine::{cluster as machine, image, model, nodes};
use crate::ring::{Device, answer, post, question};

/// From a change to a ring that answers: nodes share two cores with everything else here.
const PATIENCE: Duration = Duration::from_secs(180);
const SYSTEM: &str = "lime-system";
const NAMESPACE: &str = "lime-test-bard";
/// What a node lends: less than the model's 4.5 MiB of weights and what belongs to them.
const BUDGET: &str = "68Mi";

#[test]
#[ignore = "needs nodes and charts/lime: make test-nodes"]
fn a_model_too_large_for_a_node_is_served_survives_a_node_and_goes() {
    let cluster = Kubectl::connect().unwrap();
    let nodes = nodes(&cluster);
    install(&cluster);
    lend_little(&cluster, &nodes);
    let namespace = cluster.namespace(NAMESPACE).unwrap();
    cluster
        .run(&["label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=privileged", "--overwrite"])
        .unwrap();
    cluster.run_with(&["-n", namespace.name(), "apply", "-f", "-"], &wish()).unwrap();

    let first = served(&cluster, None);
    let shards = shard_nodes(&cluster);
    assert!(shards.len() >= 2, "one node alone cannot hold it: {shards:?}");
    let one_process = answer(&cluster, "lime-test-bard-alone", 1, &[Device { node: nodes[0].clone(), memory: "64Mi" }]);
    assert_eq!(ask(&cluster)["choices"], one_process["choices"]);

    let gateway = gateway_pod(&cluster)["nodeName"].as_str().unwrap().to_owned();
    let victim = shards.iter().find(|node| **node != gateway).expect("a shard without the gateway");
    machine(&["kill-node", victim]);
    let second = served(&cluster, Some(&first));
    assert!(!shard_nodes(&cluster).contains(victim), "{victim} is gone and still has a shard");
    assert_ne!(first, second);
    assert_eq!(ask(&cluster)["choices"], one_process["choices"]);
    machine(&["start-node", victim]);

    cluster.run(&["-n", NAMESPACE, "delete", "limedeployment", "bard", "--timeout=60s"]).unwrap();
    cluster
        .eventually("everything of the deployment is gone", PATIENCE, || {
            let left = cluster.run(&[
                "-n",
                NAMESPACE,
                "get",
                "pods,services,deployments,secrets,limeplans,pdb,networkpolicies",
                "-o",
                "name",
            ])?;
            Ok(left.trim().is_empty().then_some(()))
        })
        .unwrap();
    helm(&["uninstall", "lime", "--namespace", SYSTEM, "--wait"]);
    cluster.run(&["get", "crd", "limedeployments.lime.dev"]).expect("uninstalling keeps the definitions");
}

fn install(cluster: &Kubectl) {
    let image = image();
    let (repository_name, tag) = image.rsplit_once(':').unwrap();
    cluster.answer(&["create", "namespace", SYSTEM], "").unwrap();
    let chart = repository().join("charts/lime").display().to_string();
    helm(&[
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
        "--set",
        &format!("image.repository={repository_name}"),
        "--set",
        &format!("image.tag={tag}"),
        "--set",
        "image.pullPolicy=Never",
        "--set",
        "operator.addressing=pod-ip",
    ]);
    println!("{}", cluster.run(&["-n", SYSTEM, "get", "pods", "-o", "wide"]).unwrap());
}

fn helm(arguments: &[&str]) {
    let done = Command::new("helm").args(arguments).output().unwrap();
    assert!(done.status.success(), "helm {}: {}", arguments.join(" "), String::from_utf8_lossy(&done.stderr));
}

/// Waits for each node's profile and sets what its administrator lends.
fn lend_little(cluster: &Kubectl, nodes: &[String]) {
    let budget = json!({"spec": {"memoryBudget": BUDGET}}).to_string();
    for node in nodes {
        cluster
            .eventually(&format!("{node} is profiled"), PATIENCE, || {
                Ok(cluster
                    .answer(&["patch", "limenodeprofile", node, "--type=merge", "-p", &budget], "")?
                    .ok
                    .then_some(()))
            })
            .unwrap();
    }
}

fn wish() -> String {
    json!({
        "apiVersion": "lime.dev/v1alpha1", "kind": "LimeDeployment", "metadata": {"name": "bard"},
        "spec": {
            "model": {"source": format!("file://{}", model())},
            "serving": {"maxContextTokens": 512, "maxConcurrentRequests": 3, "prefillChunkTokens": 64},
            "nodes": {"minCount": 2, "memoryReserve": "0"},
            "failure": {"nodeLossGraceSeconds": 20},
            "placement": {"replan": {"stabilizationSeconds": 5}},
        },
    })
    .to_string()
}

/// Waits until the deployment is Ready by another plan than `before`, showing each step; returns the plan.
fn served(cluster: &Kubectl, before: Option<&str>) -> String {
    let mut shown = String::new();
    let ready = cluster.eventually("the deployment is Ready", PATIENCE, || {
        let row = cluster.run(&["-n", NAMESPACE, "get", "limedeployments", "--no-headers"])?;
        if row != shown {
            print!("{row}");
            shown = row;
        }
        let bard = cluster.get(&["-n", NAMESPACE, "limedeployment", "bard"])?;
        let plan = bard["status"]["currentPlan"].as_str().unwrap_or_default().to_owned();
        Ok((condition(&bard, "Ready") == "True" && Some(plan.as_str()) != before).then_some(plan))
    });
    ready.unwrap_or_else(|error| {
        let told = cluster.run(&["-n", NAMESPACE, "get", "limedeployment,limeplan,pods,events", "-o", "wide"]);
        let yaml = cluster.run(&["-n", NAMESPACE, "get", "limedeployment", "bard", "-o", "yaml"]);
        panic!("{error}\n{}\n{}", told.unwrap_or_default(), yaml.unwrap_or_default())
    })
}

fn shard_nodes(cluster: &Kubectl) -> Vec<String> {
    let bard = cluster.get(&["-n", NAMESPACE, "limedeployment", "bard"]).unwrap();
    let shards = bard["status"]["shards"].as_array().cloned().unwrap_or_default();
    shards.iter().filter_map(|shard| shard["node"].as_str().map(str::to_owned)).collect()
}

/// The pod behind the endpoint: there is no cluster DNS here, so it is found as kube-proxy finds it.
fn gateway_pod(cluster: &Kubectl) -> Value {
    let slices = cluster.get(&["-n", NAMESPACE, "endpointslices"]).unwrap();
    let port =
        |slice: &Value| slice["ports"].as_array().is_some_and(|ports| ports.iter().any(|port| port["port"] == 8000));
    let slices = slices["items"].as_array().unwrap().clone();
    let slice = slices.into_iter().find(port).expect("an EndpointSlice with port 8000");
    let ready = |endpoint: &&Value| endpoint["conditions"]["ready"] == true;
    slice["endpoints"].as_array().unwrap().iter().find(ready).expect("a ready gateway").clone()
}

fn ask(cluster: &Kubectl) -> Value {
    let endpoint = gateway_pod(cluster);
    let address = endpoint["addresses"][0].as_str().unwrap();
    post(&format!("{address}:8000"), &question()).unwrap()
}

fn condition<'a>(object: &'a Value, kind: &str) -> &'a str {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.filter(|each| each["type"] == kind).find_map(|each| each["status"].as_str()).unwrap_or_default()
}
