//! From `helm install` to tokens: the operator, its agents and a model too large for any one node.
//!
//! `make test-nodes` leaves this out, and says so, while `charts/lime` is not there.

use std::time::{Duration, Instant};

use lime_cluster_tests::Kubectl;
use serde_json::Value;

use crate::deployed::{Deployed, NAMESPACE, PATIENCE, manifest, restrict, settled, text};
use crate::fetched;
use crate::helm_test;
use crate::http::post;
use crate::machine::{cluster as machine, nodes};
use crate::neighbours;
use crate::plugin;
use crate::quantized;
use crate::release::{Release, SYSTEM, lend, profiled_again};
use crate::ring::{Device, answers, question};
use crate::streams::{Client, long_question, stream};
use crate::volume::Models;

/// What a node lends: a process and 6 MiB. The model's weights and KV cache are 9 MiB: it takes two nodes, and any two do.
pub(crate) const BUDGET: &str = "70Mi";

#[test]
#[ignore = "needs nodes and charts/lime: make test-nodes"]
fn a_model_too_large_for_a_node_is_served_survives_a_node_and_goes() {
    let cluster = Kubectl::connect().unwrap();
    let nodes = nodes(&cluster);
    let models = tempfile::tempdir().unwrap();
    let hub = fetched::hub(&cluster, models.path());
    let release = Release::install(&cluster, SYSTEM, &[&format!("operator.hubEndpoint={}", hub.url())]);
    lend(&cluster, &nodes, Some(BUDGET));
    let _namespace = cluster.namespace(NAMESPACE).unwrap();
    restrict(&cluster, NAMESPACE);
    let _models = Models::bundled(&cluster);
    cluster.run_with(&["apply", "-f", "-"], &manifest("bard.yaml")).unwrap();

    let bard = Deployed::bard(&cluster);
    let first = bard.served(None);
    let shards = bard.shard_nodes();
    assert!(shards.len() >= 2, "one node alone cannot hold it: {shards:?}");
    let long = [long_question(0.0), long_question(0.8)];
    let alone = [Device { node: nodes[0].clone(), memory: "64Mi" }];
    let asked = [question(), long[0].clone(), long[1].clone()];
    let alone = answers(&cluster, "lime-test-bard-alone", 1, &alone, &asked);
    let (one_process, long_answers) = (&alone[0], &alone[1..]);
    assert_eq!(bard.ask(&question())["choices"], one_process["choices"]);
    assert_eq!(bard.streamed(&question()), one_process["choices"][0]["text"]);

    let gateway = bard.gateway_node();
    let (endpoint, gateway_uid) = (bard.endpoint(), bard.gateway_uid());
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
    bard.served(Some(&first));
    assert!(!bard.shard_nodes().contains(victim), "{victim} is gone and still has a shard");
    println!("served again {} s after {victim} was killed", killed.elapsed().as_secs());
    assert_eq!(between.join().unwrap().unwrap(), *text(one_process));
    assert!(!clients.iter().any(Client::is_over), "a client gave up");
    for (client, question) in clients.into_iter().zip(&long) {
        let seen = client.stop();
        println!("temperature {}: {seen:?}", question["temperature"]);
        assert!(seen.longest_pause > Duration::from_secs(2), "no answer was under way when the node died");
    }
    assert_eq!(bard.gateway_uid(), gateway_uid, "a new plan makes no new gateway");
    assert_eq!(bard.ask(&question())["choices"], one_process["choices"]);
    machine(&["start-node", victim]);
    profiled_again(&cluster, victim);
    returned(&bard, victim);
    plugin::shows_figures_and_talks(&bard, "ROMEO:", 8, text(one_process));
    loses_its_gateway(&bard, text(one_process));

    neighbours::are_served_too(&bard, text(one_process));
    lend(&cluster, &nodes, Some(BUDGET));
    bard.leaves_nothing();
    fetched::serves(&cluster, &hub, &one_process["choices"], (&long[0], text(&long_answers[0])));
    bard.leaves_nothing();
    quantized::is_served(&cluster, &hub);
    helm_test::streams_an_answer(SYSTEM);
    release.uninstall();
    cluster.run(&["get", "crd", "limedeployments.lime.dev"]).expect("uninstalling keeps the definitions");
}

/// A node that was off comes back to a deployment that goes on without it: no shard is there twice, and what was left on the node goes.
fn returned(bard: &Deployed<'_>, node: &str) {
    let began = Instant::now();
    settled(bard);
    let (plan, shards) = (bard.served(None), bard.shard_nodes());
    let alone = bard.cluster.eventually("nothing of an earlier plan is left", PATIENCE, || {
        let workers = bard.list(&["pods", "-l", "lime.dev/component=worker"])?;
        let of_plan = |pod: &Value| pod["metadata"]["labels"]["lime.dev/plan"] == plan.as_str();
        Ok((workers.len() == shards.len() && workers.iter().all(of_plan)).then_some(()))
    });
    alone.unwrap_or_else(|error| panic!("{error}\n{}", bard.told()));
    let part = if shards.iter().any(|shard| shard == node) { "is used again" } else { "is not needed" };
    println!("{node} is back and {part}; nothing is there twice after {:.0} s", began.elapsed().as_secs_f64());
}

/// The node of the gateway dies, and of a worker with it, if it has one: another gateway serves, on another node.
fn loses_its_gateway(bard: &Deployed<'_>, answer: &Value) {
    let (cluster, node, before) = (bard.cluster, bard.gateway_node(), bard.served(None));
    // Where it has no shard, the plan goes on.
    let another_plan = bard.shard_nodes().contains(&node).then_some(before.as_str());
    machine(&["kill-node", &node]);
    let killed = Instant::now();
    let another = cluster.eventually("another gateway is ready", PATIENCE, || {
        Ok(bard.gateway()?.filter(|gateway| gateway["nodeName"] != *node))
    });
    another.unwrap();
    println!("another gateway {} s after {node} was killed", killed.elapsed().as_secs());
    bard.served(another_plan);
    let answered =
        cluster.eventually("the new gateway answers", PATIENCE, || Ok(post(&bard.endpoint(), &question()).ok()));
    println!("it serves {} s after {node} was killed", killed.elapsed().as_secs());
    assert_eq!(text(&answered.unwrap()), answer);
    machine(&["start-node", &node]);
}
