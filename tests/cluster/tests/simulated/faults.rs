//! The API server fails one request in several, in every way it can: the operator ends where it would have ended.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    PATIENCE, Stage, condition,
    crashes::settled,
    deployment,
    operator::Operator,
    proxy::{Mishap, Proxy, Script},
};

/// Requests that fail, in percent. By hand another, and then each mishap has a life of its own: LIME_FAULT_PERCENT.
const PERCENT: u64 = 15;
/// Of those that never answer: each costs the operator ten seconds and more.
const SILENT_PERCENT: u64 = 2;
/// Mishaps that share a life where time is short.
const GROUPS: [&[Mishap]; 3] = [
    &[Mishap::Conflict, Mishap::Expired, Mishap::Busy, Mishap::Broken, Mishap::Unavailable],
    &[Mishap::Silent],
    &[Mishap::Reset, Mishap::Truncated],
];
/// Every watch ends after so long.
const CUT: Duration = Duration::from_secs(3);
/// Most requests in a second, on average over a deployment's life: about fifteen watches and one visit after another.
const MOST_PER_SECOND: f64 = 40.0;
/// Everything that the operator makes.
const KINDS: &str = "limeplans,pods,deployments,services,configmaps,secrets,networkpolicies,pdb,jobs,pvc";

#[test]
#[ignore = "needs a Kubernetes: make test-simulated"]
fn whatever_the_api_server_does_a_deployment_lives_and_dies_as_it_should() {
    let stage = Stage::new(4, 60);
    let namespace = stage.cluster.namespace("lime-test-faults").unwrap();
    let percent = std::env::var("LIME_FAULT_PERCENT").ok().and_then(|text| text.parse().ok());
    let proxy = stage.runtime.block_on(Proxy::start(20_261_126));
    let mut operator = Operator::behind(&proxy);
    let calm = live(&stage, namespace.name());
    let groups: Vec<Vec<Mishap>> = match percent {
        Some(_) => Mishap::ALL.into_iter().map(|mishap| vec![mishap]).collect(),
        None => GROUPS.iter().map(|group| group.to_vec()).collect(),
    };
    let failing = groups.into_iter().map(|mishaps| {
        let usual = if mishaps == [Mishap::Silent] { SILENT_PERCENT } else { PERCENT };
        Script { mishaps, percent: percent.unwrap_or(usual), ..Script::default() }
    });
    let cut = Script { cut_watches: Some(CUT), ..Script::default() };
    let everything = Mishap::ALL.into_iter().filter(|mishap| *mishap != Mishap::Silent).collect();
    let mixed = Script { mishaps: everything, percent: percent.unwrap_or(PERCENT), ..cut };
    for script in failing.chain([mixed]) {
        let began = Instant::now();
        proxy.follow(script.clone());
        let lived = live(&stage, namespace.name());
        let asked = proxy.asked_since(began);
        let failed = asked.iter().filter(|asked| asked.mishap.is_some()).count();
        let seconds = began.elapsed().as_secs_f64();
        let rate = asked.len() as f64 / seconds;
        println!(
            "{:?} {} %, watches cut after {:?}: {seconds:.1} s, {} requests ({rate:.1} a second), {failed} failed",
            script.mishaps,
            script.percent,
            script.cut_watches,
            asked.len()
        );
        assert!(operator.alive(), "the operator ended: {script:?}");
        assert_eq!(operator.figure("lime_operator_reconcile_errors_total{reason=\"step\"}"), None, "a step panicked");
        for (stage_of_life, (found, wanted)) in ["made", "replanned"].into_iter().zip(lived.iter().zip(&calm)) {
            differ_nowhere(found, wanted, &format!("{stage_of_life} under {script:?}"));
        }
        assert!(rate < MOST_PER_SECOND, "{rate} requests a second under {script:?}");
        assert!(script.percent == 0 || failed > 0, "nothing failed under {script:?}");
    }
}

/// From nothing to Ready, through a replan, to nothing. What was there after each of the two plans.
fn live(stage: &Stage, namespace: &str) -> [Value; 2] {
    let scope = ["-n", namespace];
    let patience = PATIENCE * 3;
    stage.cluster.run_with(&["-n", namespace, "apply", "-f", "-"], &deployment("m", "")).unwrap();
    settled(stage, &scope, 0, patience);
    let made = picture(stage, namespace);
    let wish = r#"{"spec":{"serving":{"maxContextTokens":320}}}"#;
    stage.cluster.run(&["-n", namespace, "patch", "limed", "m", "--type=merge", "-p", wish]).unwrap();
    settled(stage, &scope, 1, patience);
    let replanned = picture(stage, namespace);
    stage.cluster.run(&["-n", namespace, "delete", "limed", "m", "--timeout=60s"]).unwrap();
    let mut left = String::new();
    let gone = stage.cluster.eventually("everything is gone", patience, || {
        left = stage.cluster.run(&["-n", namespace, "get", KINDS, "-l", OURS, "-o", "name"])?;
        Ok(left.trim().is_empty().then_some(()))
    });
    gone.unwrap_or_else(|error| panic!("{error}: {left}"));
    [made, replanned]
}

const OURS: &str = "app.kubernetes.io/managed-by=lime-operator";

/// What is there once nothing moves, without what differs from run to run.
fn picture(stage: &Stage, namespace: &str) -> Value {
    let mut last = Value::Null;
    let still = stage.cluster.eventually("nothing moves", PATIENCE * 2, || {
        std::thread::sleep(Duration::from_millis(800));
        let now = look(stage, namespace)?;
        Ok((std::mem::replace(&mut last, now.clone()) == now).then_some(now))
    });
    still.unwrap()
}

fn look(stage: &Stage, namespace: &str) -> anyhow::Result<Value> {
    let found = stage.cluster.get(&["-n", namespace, KINDS, "-l", OURS])?;
    let mut objects: Vec<Value> = found["items"].as_array().into_iter().flatten().map(lasting).collect();
    objects.sort_by_key(ToString::to_string);
    let one = stage.cluster.get(&["-n", namespace, "limed", "m"])?;
    let conditions: Vec<Value> =
        ["Accepted", "Profiled", "Planned", "Approved", "WeightsReady", "ShardsReady", "Ready"]
            .into_iter()
            .chain(["Degraded", "Replanning"])
            .map(|kind| json!([kind, condition(&one, kind).0, condition(&one, kind).1]))
            .collect();
    let status = &one["status"];
    Ok(json!({
        "objects": objects, "conditions": conditions, "plan": status["currentPlan"], "shards": status["shards"],
        "generation": status["observedGeneration"],
    }))
}

/// Says where the first difference is: pictures are large.
fn differ_nowhere(found: &Value, wanted: &Value, path: &str) {
    match (found, wanted) {
        (Value::Object(one), Value::Object(other)) if one.keys().eq(other.keys()) => {
            one.iter().for_each(|(key, value)| differ_nowhere(value, &other[key], &format!("{path}, {key}")));
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                differ_nowhere(one, other, &format!("{path} [{index}]"));
            }
        }
        _ => assert_eq!(found, wanted, "{path}"),
    }
}

/// The data of a ConfigMap, without the time in a plan in force: its generation is that.
fn timeless(data: &Value) -> Value {
    let mut data = data.clone();
    let in_force = data["plan.json"].as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
    if let Some(mut in_force) = in_force.filter(|in_force| in_force.get("generation").is_some()) {
        in_force["generation"] = json!(0);
        data["plan.json"] = in_force;
    }
    data
}

/// Of an object, what the operator wrote.
fn lasting(object: &Value) -> Value {
    let kind = object["kind"].as_str().unwrap_or_default();
    // The gateway's pods are its Deployment's, which names them by chance.
    let by_chance = object["metadata"]["ownerReferences"][0]["kind"] == "ReplicaSet";
    let name = if by_chance { &Value::Null } else { &object["metadata"]["name"] };
    let ours = |key: &String| key.starts_with("lime.dev/") || key.starts_with("app.kubernetes.io/");
    let labels = object["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    let labels: serde_json::Map<_, _> = labels.into_iter().filter(|(key, _)| ours(key)).collect();
    let spec = &object["spec"];
    let said = match kind {
        "LimePlan" => json!([spec, object["status"]["state"]]),
        "ConfigMap" => timeless(&object["data"]),
        "Pod" => spec["containers"].clone(),
        "Deployment" => spec["template"].clone(),
        "Service" => json!([spec["ports"], spec["selector"]]),
        "NetworkPolicy" | "PodDisruptionBudget" => spec.clone(),
        _ => Value::Null,
    };
    json!({ "kind": kind, "name": name, "labels": labels, "said": said })
}
