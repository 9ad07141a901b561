//! What an administrator does on the second day, under streams that go on: every node drained in turn, another image, all agents at once,
//! a second release beside the first. Each answer is whole and that of one process, and Ready is True again after each.

use std::time::{Duration, Instant};

use lime_cluster_tests::Kubectl;
use serde_json::{Value, json};

use crate::away;
use crate::clients;
use crate::deployed::{Deployed, NAMESPACE, PATIENCE, condition, manifest, restrict, settled, text};
use crate::hand_over;
use crate::link_cut;
use crate::machine::{image, image_again, nodes};
use crate::operator::BUDGET;
use crate::release::{Release, SYSTEM, lend};
use crate::ring::{Device, answers};
use crate::story::Story;
use crate::streams::{Client, long_question};
use crate::volume::Models;

/// The namespace of the second release.
const OTHER: &str = "lime-other";
/// So long a second release is watched, while it might touch what is not its own: several of its visits.
const BESIDE: Duration = Duration::from_secs(25);

#[test]
#[ignore = "needs nodes and charts/lime: make test-nodes"]
fn drains_an_upgrade_agents_and_a_second_release_under_streams() {
    let cluster = Kubectl::connect().unwrap();
    let nodes = nodes(&cluster);
    let release = Release::install(&cluster, SYSTEM, &[]);
    lend(&cluster, &nodes, Some(BUDGET));
    let _namespace = cluster.namespace(NAMESPACE).unwrap();
    restrict(&cluster, NAMESPACE);
    let _models = Models::bundled(&cluster);
    cluster.run_with(&["apply", "-f", "-"], &manifest("bard.yaml")).unwrap();
    let bard = Deployed::bard(&cluster);
    bard.served(None);
    let long = [long_question(0.0), long_question(0.8)];
    let alone =
        answers(&cluster, "lime-test-bard-alone", 1, &[Device { node: nodes[0].clone(), memory: "64Mi" }], &long);
    let expected: Vec<&Value> = alone.iter().map(text).collect();
    let ask = |at: &str| -> Vec<Client> {
        long.iter().zip(&expected).map(|(question, expected)| Client::start(at, question, expected)).collect()
    };

    clients::are_refused(&bard);
    clients::give_places_back(&bard);
    clients::are_not_let_in(&bard);
    clients::are_not_short_of_memory(&bard);
    hand_over::keeps_answers(&bard, expected[0]);
    for node in &nodes {
        let clients = ask(&bard.endpoint());
        drained(&bard, node, clients);
    }
    // The last node is back, and may make for a better plan.
    settled(&bard);
    restarted_agents(&bard, ask(&bard.endpoint()));
    away::changes_nothing(&bard);
    upgraded(&bard, &release, ask(&bard.endpoint()));
    settled(&bard);
    two_releases(&bard, ask(&bard.endpoint()));
    link_cut::is_planned_around(&bard);
    hand_over::cuts_what_takes_too_long(&bard);

    bard.leaves_nothing();
    release.uninstall();
}

/// `kubectl drain`: the node's shard moves, the budget lets it go, and answers under way are whole. Where the gateway is on the node it ends
/// its answers, and another one takes what comes meanwhile.
fn drained(bard: &Deployed<'_>, node: &str, clients: Vec<Client>) {
    let had = (bard.shard_nodes().contains(&node.to_owned()), bard.gateway_node() == node);
    let story = Story::begin(bard);
    let began = Instant::now();
    let arguments = ["drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=180s"];
    bard.cluster.run(&arguments).unwrap_or_else(|error| panic!("{error}\n{}", bard.told()));
    let emptied = began.elapsed();
    bard.eventually(&format!("served without {node}"), PATIENCE, |it| {
        let shards = it["status"]["shards"].as_array()?;
        let gone = !shards.is_empty() && shards.iter().all(|shard| shard["node"] != node);
        (gone && condition(it, "Ready").status == "True").then_some(())
    });
    if had.1 {
        print!("{}", story.tell(began, "Ready"));
    }
    let what = match had {
        (true, true) => "with a shard and the gateway",
        (false, true) => "with the gateway",
        (true, false) => "with a shard",
        (false, false) => "without a part",
    };
    println!(
        "{node} ({what}) was drained in {:.0} s, served again after {:.0} s",
        emptied.as_secs_f64(),
        began.elapsed().as_secs_f64()
    );
    end(clients, had.1);
    bard.cluster.run(&["uncordon", node]).unwrap();
}

/// All agents are deleted at once: figures stay, nothing moves, and no plan is lost.
fn restarted_agents(bard: &Deployed<'_>, clients: Vec<Client>) {
    let plan = bard.served(None);
    let story = Story::begin(bard);
    let began = Instant::now();
    let agents = ["-n", SYSTEM, "delete", "pods", "-l", "app.kubernetes.io/component=agent", "--grace-period=1"];
    bard.cluster.run(&agents).unwrap();
    bard.cluster.run(&["-n", SYSTEM, "rollout", "status", "daemonset/lime-agent", "--timeout=120s"]).unwrap();
    let back = began.elapsed().as_secs_f64();
    let profiles = bard.cluster.get(&["limenodeprofiles"]).unwrap();
    for profile in profiles["items"].as_array().unwrap() {
        let status = &profile["status"];
        assert!(status["memoryBandwidthBytesPerSecond"].is_i64(), "what was measured is forgotten: {status}");
        assert!(status["disk"]["readBytesPerSecond"].is_i64(), "what was measured is forgotten: {status}");
    }
    // Longer than an agent's period, and than the operator's between two visits.
    std::thread::sleep(BESIDE);
    story.nothing_happened(began, &plan);
    println!("all agents were back {back:.0} s after they were deleted; nothing else happened");
    end(clients, false);
}

/// `helm upgrade` to another image: every pod of the ring runs it in the end, and answers that were under way are whole: the gateway goes
/// first, when it has ended them, and the workers after it.
fn upgraded(bard: &Deployed<'_>, release: &Release<'_>, clients: Vec<Client>) {
    let newer = image_again();
    assert_ne!(newer, image());
    let began = Instant::now();
    release.upgrade(&newer, &[]);
    let released = began.elapsed();
    let label = format!("lime.dev/deployment={}", bard.name);
    let everywhere = bard.cluster.eventually("every pod of the ring runs the new image", PATIENCE, || {
        let pods = bard.list(&["pods", "-l", &label])?;
        let new = |pod: &Value| pod["spec"]["containers"][0]["image"] == newer.as_str();
        let pods: Vec<_> = pods.iter().filter(|pod| pod["status"]["phase"] == "Running").collect();
        Ok((pods.len() >= 3 && pods.iter().all(|pod| new(pod))).then_some(()))
    });
    everywhere.unwrap_or_else(|error| panic!("{error}\n{}", bard.told()));
    bard.served(None);
    println!(
        "helm upgrade took {:.0} s, the ring served by the new image after {:.0} s",
        released.as_secs_f64(),
        began.elapsed().as_secs_f64()
    );
    end(clients, true);
}

/// A second release in another namespace: the first one keeps its deployment, and the second says so and writes nothing of it.
fn two_releases(bard: &Deployed<'_>, clients: Vec<Client>) {
    let (plan, generation) = (bard.served(None), gateway_generation(bard));
    let story = Story::begin(bard);
    let began = Instant::now();
    let values = ["agent.enabled=false", "crds.enabled=false", "operator.replicas=1"];
    let other = Release::install_as("lime-other", bard.cluster, OTHER, &values);
    let said = bard.cluster.eventually("the second says whose it is", PATIENCE, || {
        let events = bard.list(&["events", "--field-selector", "reason=OwnedByAnother"])?;
        Ok(events.first().and_then(|event| event["message"].as_str().map(str::to_owned)))
    });
    println!("{} s after the second release came: {}", began.elapsed().as_secs(), said.unwrap());
    std::thread::sleep(BESIDE);
    story.nothing_happened(began, &plan);
    assert_eq!(bard.object().unwrap()["status"]["operator"], json!(SYSTEM));
    assert_eq!(gateway_generation(bard), generation, "nobody writes the gateway anew");
    end(clients, false);
    other.uninstall();
    bard.cluster.run(&["delete", "namespace", OTHER, "--wait=false"]).unwrap();
    assert_eq!(bard.served(None), plan);
}

fn gateway_generation(bard: &Deployed<'_>) -> Value {
    let name = format!("{}-gateway", bard.name);
    bard.cluster.get(&["-n", bard.namespace, "deployment", &name]).unwrap()["metadata"]["generation"].take()
}

/// Every answer is whole and that of one process. A gateway that went has turned away who asked it for another one after that.
fn end(clients: Vec<Client>, gateway_went: bool) {
    for client in clients {
        let seen = client.stop();
        println!("  {seen:?}");
        assert!(seen.answers > 0, "no answer was whole");
        assert!(seen.turned_away.is_none() || gateway_went, "{seen:?}");
    }
}
