//! From `helm install` to tokens: the operator, its agents and a model too large for any one node.
//!
//! `make test-nodes` leaves this out, and says so, while `charts/lime` is not there.

use std::process::Command;
use std::time::{Duration, Instant};

use lime_cluster_tests::{Kubectl, repository};
use serde_json::{Value, json};

use crate::fetched;
use crate::machine::{cluster as machine, image, model, nodes};
use crate::ring::{Device, answers, exchange, post, question};
use crate::streams::{Client, long_question, stream};

/// From a change to a ring that answers: nodes share two cores with everything else here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);
const SYSTEM: &str = "lime-system";
/// The namespace of `tests/cluster/nodes/bard.yaml`.
pub(crate) const NAMESPACE: &str = "llm";
/// What a node lends: a process and 6 MiB. The model's weights and KV cache are 9 MiB: it takes two nodes, and any two do.
const BUDGET: &str = "70Mi";

#[test]
#[ignore = "needs nodes and charts/lime: make test-nodes"]
fn a_model_too_large_for_a_node_is_served_survives_a_node_and_goes() {
    let cluster = Kubectl::connect().unwrap();
    let nodes = nodes(&cluster);
    let hub = fetched::hub(&cluster);
    install(&cluster, hub.url());
    lend_little(&cluster, &nodes);
    let _namespace = cluster.namespace(NAMESPACE).unwrap();
    restrict(&cluster, NAMESPACE);
    cluster.run_with(&["apply", "-f", "-"], &manifest("models.yaml")).unwrap();
    cluster.run_with(&["apply", "-f", "-"], &manifest("bard.yaml")).unwrap();

    let first = served(&cluster, None);
    let shards = shard_nodes(&cluster);
    assert!(shards.len() >= 2, "one node alone cannot hold it: {shards:?}");
    let long = [long_question(0.0), long_question(0.8)];
    let alone = [Device { node: nodes[0].clone(), memory: "64Mi" }];
    let asked = [question(), long[0].clone(), long[1].clone()];
    let alone = answers(&cluster, "lime-test-bard-alone", 1, &alone, &asked);
    let (one_process, long_answers) = (&alone[0], &alone[1..]);
    assert_eq!(ask(&cluster)["choices"], one_process["choices"]);
    assert_eq!(streamed(&cluster), one_process["choices"][0]["text"]);

    let gateway = gateway_pod(&cluster)["nodeName"].as_str().unwrap().to_owned();
    let (endpoint, gateway_uid) = (endpoint(&cluster), uid_of_gateway(&cluster));
    let victim = shards.iter().find(|node| **node != gateway).expect("a shard without the gateway");
    // Whoever has an answer under way when the node dies waits for its end; whoever asks then waits for a new plan.
    let clients: Vec<Client> = long
        .iter()
        .zip(long_answers)
        .map(|(question, alone)| Client::start(&endpoint, question, text(alone)))
        .collect();
    std::thread::sleep(Duration::from_secs(1));
    machine(&["kill-node", victim]);
    let killed = Instant::now();
    let between = {
        let (endpoint, question) = (endpoint.clone(), question());
        std::thread::spawn(move || stream(&endpoint, &question, &mut Duration::default()))
    };
    served(&cluster, Some(&first));
    assert!(!shard_nodes(&cluster).contains(victim), "{victim} is gone and still has a shard");
    println!("served again {} s after {victim} was killed", killed.elapsed().as_secs());
    assert_eq!(between.join().unwrap().unwrap(), *text(one_process));
    assert!(!clients.iter().any(Client::is_over), "a client gave up");
    for (client, question) in clients.into_iter().zip(&long) {
        let seen = client.stop();
        println!("temperature {}: {seen:?}", question["temperature"]);
        assert!(seen.longest_pause > Duration::from_secs(2), "no answer was under way when the node died");
    }
    assert_eq!(uid_of_gateway(&cluster), gateway_uid, "a new plan makes no new gateway");
    assert_eq!(ask(&cluster)["choices"], one_process["choices"]);
    machine(&["start-node", victim]);
    profiled_again(&cluster, victim);
    loses_its_gateway(&cluster, text(one_process));

    leaves_nothing(&cluster);
    fetched::serves(&cluster, &hub, &one_process["choices"], (&long[0], text(&long_answers[0])));
    leaves_nothing(&cluster);
    cluster.run(&["delete", "pv", "models", "--wait=false"]).unwrap();
    crate::helm_test::streams_an_answer(SYSTEM);
    helm(&["uninstall", "lime", "--namespace", SYSTEM, "--wait"]);
    cluster.run(&["get", "crd", "limedeployments.lime.dev"]).expect("uninstalling keeps the definitions");
}

/// Deletes the deployment: everything of it goes.
fn leaves_nothing(cluster: &Kubectl) {
    cluster.run(&["-n", NAMESPACE, "delete", "limedeployment", "bard", "--timeout=60s"]).unwrap();
    cluster
        .eventually("everything of the deployment is gone", PATIENCE, || {
            let kinds = "pods,jobs,services,deployments,secrets,limeplans,pdb,networkpolicies";
            let left = cluster.run(&["-n", NAMESPACE, "get", kinds, "-o", "name"])?;
            Ok(left.trim().is_empty().then_some(()))
        })
        .unwrap();
}

/// The node of the gateway dies, and of a worker with it: another gateway serves, on another node.
fn loses_its_gateway(cluster: &Kubectl, answer: &Value) {
    let (gateway, before) = (gateway_pod(cluster), served(cluster, None));
    let node = gateway["nodeName"].as_str().unwrap();
    machine(&["kill-node", node]);
    let killed = Instant::now();
    let another = cluster.eventually("another gateway is ready", PATIENCE, || {
        let slices = cluster.get(&["-n", NAMESPACE, "endpointslices"])?;
        let endpoints = slices["items"].as_array().into_iter().flatten();
        let mut endpoints = endpoints.flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default());
        let kind = |endpoint: &Value| endpoint["targetRef"]["name"].as_str().is_some_and(|it| it.contains("-gateway-"));
        Ok(endpoints.find(|it| kind(it) && it["nodeName"] != node && it["conditions"]["ready"] == true))
    });
    another.unwrap();
    println!("another gateway {} s after {node} was killed", killed.elapsed().as_secs());
    served(cluster, Some(&before));
    let answered =
        cluster.eventually("the new gateway answers", PATIENCE, || Ok(post(&endpoint(cluster), &question()).ok()));
    println!("it serves {} s after {node} was killed", killed.elapsed().as_secs());
    assert_eq!(text(&answered.unwrap()), answer);
    machine(&["start-node", node]);
}

/// Waits until a node that was switched on again is one to plan with.
fn profiled_again(cluster: &Kubectl, node: &str) {
    let ready = cluster.eventually(&format!("{node} is back"), PATIENCE, || {
        let (node, profile) = (cluster.get(&["node", node])?, cluster.get(&["limenodeprofile", node])?);
        Ok((condition(&node, "Ready") == "True" && condition(&profile, "Fresh") != "False").then_some(()))
    });
    ready.unwrap();
}

fn install(cluster: &Kubectl, hub: &str) {
    let image = image();
    let (repository_name, tag) = image.rsplit_once(':').unwrap();
    cluster.answer(&["create", "namespace", SYSTEM], "").unwrap();
    restrict(cluster, SYSTEM);
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
        "--set",
        &format!("operator.hubEndpoint={hub}"),
        // Test machines are never idle.
        "--set",
        "agent.args={--longest-wait-seconds=15}",
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
    // A disk that is measured later changes what is worth planning, and with it the plan.
    for node in nodes {
        cluster
            .eventually(&format!("the disk of {node} is measured"), PATIENCE, || {
                let profile = cluster.get(&["limenodeprofile", node])?;
                Ok((condition(&profile, "DiskMeasured") == "True").then_some(()))
            })
            .unwrap();
    }
}

/// Nothing runs here that a namespace with restricted pod security would refuse.
fn restrict(cluster: &Kubectl, namespace: &str) {
    let label = "pod-security.kubernetes.io/enforce=restricted";
    cluster.run(&["label", "namespace", namespace, label, "--overwrite"]).unwrap();
}

pub(crate) fn manifest(name: &str) -> String {
    let text = std::fs::read_to_string(repository().join("tests/cluster/nodes").join(name)).unwrap();
    let models = model();
    text.replace("$MODELS", models.rsplit_once('/').unwrap().0)
}

/// Waits until the deployment is Ready by another plan than `before`, showing each step; returns the plan.
pub(crate) fn served(cluster: &Kubectl, before: Option<&str>) -> String {
    let mut shown = String::new();
    let ready = cluster.eventually("the deployment is Ready", PATIENCE, || {
        let row = cluster.run(&["-n", NAMESPACE, "get", "limedeployments", "--no-headers"])?;
        // The last column is the age.
        let cells = row.trim_end().rsplit_once(' ').map_or("", |(cells, _)| cells.trim_end());
        if cells != shown {
            print!("{row}");
            shown = cells.to_owned();
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

pub(crate) fn shard_nodes(cluster: &Kubectl) -> Vec<String> {
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
    let slice = slices.into_iter().find(port).unwrap_or_else(|| {
        let told =
            cluster.run(&["-n", NAMESPACE, "get", "limedeployment,limeplan,pods,endpointslices,events", "-o", "wide"]);
        panic!("no EndpointSlice with port 8000\n{}", told.unwrap_or_default())
    });
    let ready = |endpoint: &&Value| endpoint["conditions"]["ready"] == true;
    slice["endpoints"].as_array().unwrap().iter().find(ready).expect("a ready gateway").clone()
}

pub(crate) fn uid_of_gateway(cluster: &Kubectl) -> Value {
    let pods = cluster.get(&["-n", NAMESPACE, "pods", "-l", "lime.dev/component=gateway"]).unwrap();
    pods["items"].as_array().unwrap().iter().map(|pod| pod["metadata"]["uid"].clone()).collect()
}

fn text(answer: &Value) -> &Value {
    &answer["choices"][0]["text"]
}

pub(crate) fn endpoint(cluster: &Kubectl) -> String {
    format!("{}:8000", gateway_pod(cluster)["addresses"][0].as_str().unwrap())
}

pub(crate) fn ask(cluster: &Kubectl) -> Value {
    post(&endpoint(cluster), &question()).unwrap()
}

/// The same question as a stream of events: the text of all of them together.
fn streamed(cluster: &Kubectl) -> String {
    let mut question = question();
    question["stream"] = true.into();
    let events = exchange(&endpoint(cluster), &question).unwrap();
    let pieces: Vec<Value> =
        events.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect();
    assert!(pieces.len() > 10, "no stream: {events}");
    assert!(events.contains("data: [DONE]"), "{events}");
    pieces.iter().filter_map(|piece| piece["choices"][0]["text"].as_str()).collect()
}

fn condition<'a>(object: &'a Value, kind: &str) -> &'a str {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.filter(|each| each["type"] == kind).find_map(|each| each["status"].as_str()).unwrap_or_default()
}
