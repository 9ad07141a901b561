//! Two replicas: when the one that leads dies or is paused, the other takes over, and two never write.

use std::time::{Duration, Instant};

use crate::{
    PATIENCE, Stage,
    crashes::settled,
    deployment,
    operator::Operator,
    proxy::{Proxy, Script},
};

/// A Lease holds for 15 s and is looked at every 3 s; the rest is this machine's.
const TAKEOVER: Duration = Duration::from_secs(22);
/// Slow enough that the leader is in the middle of a visit when it is stopped.
const SLOW: Duration = Duration::from_millis(250);

#[test]
#[ignore = "needs a Kubernetes: make test-simulated"]
fn the_second_replica_takes_over_from_one_that_dies_and_from_one_that_sleeps() {
    let stage = Stage::new(3, 300);
    let namespace = stage.cluster.namespace("lime-test-failover").unwrap();
    let scope = ["-n", namespace.name()];
    let apply = |name: &str| {
        stage.cluster.run_with(&["-n", namespace.name(), "apply", "-f", "-"], &deployment(name, "")).unwrap()
    };
    let proxies = [1, 2, 3].map(|seed| stage.runtime.block_on(Proxy::start(seed)));
    let dying = Operator::replica("replica-a", &proxies[0]);
    leads(&stage, &dying);
    let mut sleeping = Operator::replica("replica-b", &proxies[1]);
    apply("m");
    settled(&stage, &scope, 0, PATIENCE);
    assert_eq!(writes(&proxies[1], None), Vec::<String>::new(), "the second replica stands by");

    // Killed in the middle of a replan, with no chance to give the Lease up.
    replan(&stage, &scope, 320);
    let killed = Instant::now();
    dying.kill();
    leads(&stage, &sleeping);
    println!("killed: the other leads {:.1} s later", killed.elapsed().as_secs_f64());
    assert!(killed.elapsed() < TAKEOVER);
    settled(&stage, &scope, 1, PATIENCE);

    // Paused in the middle of a visit, for longer than its Lease holds.
    let third = Operator::replica("replica-c", &proxies[2]);
    proxies[1].follow(Script { delay: SLOW, ..Script::default() });
    replan(&stage, &scope, 256);
    std::thread::sleep(Duration::from_secs(1));
    let paused = Instant::now();
    sleeping.pause();
    leads(&stage, &third);
    println!("paused: the other leads {:.1} s later", paused.elapsed().as_secs_f64());
    assert!(paused.elapsed() < TAKEOVER);
    let in_the_middle = proxies[1].asked_since(paused - SLOW);
    println!("the paused one waited for {} answers", in_the_middle.len());
    apply("between");
    settled_as(&stage, &scope, "between");
    settled(&stage, &scope, 2, PATIENCE);
    let awake = Instant::now();
    sleeping.go_on();
    replan(&stage, &scope, 320);
    settled(&stage, &scope, 3, PATIENCE);
    // It looks at the Lease every three seconds: by then it knows.
    std::thread::sleep(Duration::from_secs(5));
    assert!(sleeping.alive() && !sleeping.leads() && third.leads());
    assert_eq!(writes(&proxies[1], Some(awake)), Vec::<String>::new(), "two replicas write");
    assert!(!writes(&proxies[2], Some(awake)).is_empty());
}

/// Waits until a replica leads.
fn leads(stage: &Stage, replica: &Operator) {
    stage.cluster.eventually("it leads", PATIENCE, || Ok(replica.leads().then_some(()))).unwrap();
}

fn replan(stage: &Stage, scope: &[&str], context: u32) {
    let wish = format!(r#"{{"spec":{{"serving":{{"maxContextTokens":{context}}}}}}}"#);
    stage.cluster.run(&[scope, &["patch", "limed", "m", "--type=merge", "-p", &wish]].concat()).unwrap();
}

fn settled_as(stage: &Stage, scope: &[&str], name: &str) {
    let ready = ["wait", "limed", name, "--for=condition=Ready", "--timeout=60s"];
    stage.cluster.run(&[scope, &ready].concat()).unwrap();
}

/// What came by that changes something.
fn writes(proxy: &Proxy, since: Option<Instant>) -> Vec<String> {
    let asked = proxy.asked_since(since.unwrap_or_else(|| Instant::now() - Duration::from_secs(3600)));
    asked.iter().filter(|asked| asked.writes()).map(|asked| format!("{} {}", asked.method, asked.path)).collect()
}
