//! The operator is killed at any moment of a replan, and the next one ends where it would have ended.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{PATIENCE, Stage, condition, deployment, operator::Operator};

/// How often, by hand more: LIME_KILLS.
const KILLS: u32 = 4;

#[test]
#[ignore = "needs a Kubernetes: make test-simulated"]
fn killed_in_a_replan_it_leaves_nothing_twice_and_nothing_behind() {
    let stage = Stage::new(4, 60);
    let namespace = stage.cluster.namespace("lime-test-crashes").unwrap();
    let scope = ["-n", namespace.name()];
    let kills = std::env::var("LIME_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    let mut operator = Operator::start();
    stage.cluster.run_with(&[&scope[..], &["apply", "-f", "-"]].concat(), &deployment("m", "")).unwrap();
    settled(&stage, &scope, 0, PATIENCE);
    let gateway = || {
        let pods = stage.cluster.get(&[&scope[..], &["pods", "-l", "lime.dev/component=gateway"]].concat()).unwrap();
        pods["items"].as_array().unwrap().iter().map(|pod| pod["metadata"]["uid"].to_string()).collect::<Vec<_>>()
    };
    let first_gateway = gateway();
    for round in 1..=kills {
        let wish = format!(r#"{{"spec":{{"serving":{{"maxContextTokens":{}}}}}}}"#, 256 + round % 2 * 64);
        stage.cluster.run(&[&scope[..], &["patch", "limed", "m", "--type=merge", "-p", &wish]].concat()).unwrap();
        // From before the first look to after the last write: a replan takes about a second here.
        std::thread::sleep(Duration::from_millis(u64::from(round.wrapping_mul(2_654_435_761) % 1200)));
        operator.kill();
        operator = Operator::start();
        let took = Instant::now();
        let found = settled(&stage, &scope, i64::from(round), PATIENCE);
        println!("kill {round}: as it should be {:.1} s later: {found}", took.elapsed().as_secs_f64());
    }
    assert_eq!(gateway(), first_gateway, "no replan makes the gateway anew");
    stage.cluster.run(&[&scope[..], &["delete", "limed", "m", "--timeout=60s"]].concat()).unwrap();
    let left = stage.cluster.eventually("everything is gone", PATIENCE, || {
        let kinds = "pods,deployments,jobs,services,limeplans,pdb,networkpolicies";
        let left = stage.cluster.run(&[&scope[..], &["get", kinds, "-o", "name"]].concat())?;
        Ok(left.trim().is_empty().then_some(()))
    });
    left.unwrap();
}

/// Waits until the deployment `m` is Ready by a plan of its newest spec, with exactly that plan's pods.
pub(crate) fn settled(stage: &Stage, scope: &[&str], changes: i64, patience: Duration) -> String {
    let mut last = String::new();
    let found = stage.cluster.eventually("exactly the pods of the plan", patience, || {
        let one = stage.cluster.get(&[scope, &["limed", "m"]].concat())?;
        let status = &one["status"];
        let current = one["metadata"]["generation"] == status["observedGeneration"]
            && one["metadata"]["generation"].as_i64() > Some(changes);
        let of_ours = "lime.dev/deployment=m,lime.dev/component in (worker,gateway)";
        let pods = stage.cluster.get(&[scope, &["pods", "-l", of_ours]].concat())?;
        let mut names: Vec<String> = pods["items"].as_array().unwrap().iter().map(described).collect();
        names.sort_unstable();
        let plan = status["currentPlan"].as_str().unwrap_or_default();
        let shards = status["shards"].as_array().map_or(0, Vec::len);
        let of_plan = names.iter().filter(|name| name.ends_with(&format!(" {plan}"))).count();
        last = format!("{plan}: {names:?}");
        let ready = condition(&one, "Ready").0 == "True" && condition(&one, "Replanning").0 == "False";
        let planned = stage.cluster.get(&[scope, &["limeplan", plan]].concat());
        let of_wish = planned.is_ok_and(|planned| {
            let document = planned["spec"]["document"].as_str().unwrap_or_default();
            let asked = one["spec"]["serving"]["maxContextTokens"].as_i64().unwrap_or_default();
            document.contains(&format!("\"maxContextTokens\":{}", asked.min(512)))
        });
        let exact = shards > 0 && names.len() == shards + 1 && of_plan == names.len();
        Ok((current && ready && of_wish && exact).then_some(()))
    });
    found.unwrap_or_else(|error| panic!("{error}: {last}"));
    last
}

/// A pod's name and its plan.
fn described(pod: &Value) -> String {
    let plan = pod["metadata"]["labels"]["lime.dev/plan"].as_str().unwrap_or_default();
    format!("{} {plan}", pod["metadata"]["name"].as_str().unwrap_or_default())
}
