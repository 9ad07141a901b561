//! Two deployments of one name in two namespaces. The second cannot start at first: its workers die, again and again, until the budget ends
//! that; who asks meanwhile is told that it loads. Then both serve at once.

use serde_json::{Value, json};

use crate::deployed::{Deployed, PATIENCE, condition, restrict};
use crate::machine::nodes;
use crate::release::lend;
use crate::ring::question;
use crate::streams::{TurnedAway, stream};

/// What a node lends while two are served: each of them takes less than half.
const BOTH: &str = "150Mi";
const NAMESPACE: &str = "llm-two";

/// A deployment whose workers end at once, with a word on why.
fn broken() -> Value {
    json!({
        "apiVersion": "lime.dev/v1alpha1", "kind": "LimeDeployment", "metadata": { "name": "bard" },
        "spec": {
            "model": { "source": "file:///usr/share/lime/models/bard-2m", "servedName": "bard" },
            "serving": { "maxContextTokens": 512, "maxConcurrentRequests": 3, "prefillChunkTokens": 64 },
            "nodes": { "memoryReserve": "0" },
            "offload": { "policy": "Never" },
            "failure": { "maxRestarts": 1 },
            "template": { "worker": { "args": ["--isa=abacus"] } },
        },
    })
}

/// `answer` is what one process says to [`question`].
pub(crate) fn are_served_too(bard: &Deployed<'_>, answer: &Value) {
    let cluster = bard.cluster;
    lend(cluster, &nodes(cluster), Some(BOTH));
    let _namespace = cluster.namespace(NAMESPACE).unwrap();
    restrict(cluster, NAMESPACE);
    let other = Deployed { cluster, namespace: NAMESPACE, name: "bard" };
    cluster.run_with(&["-n", NAMESPACE, "apply", "-f", "-"], &broken().to_string()).unwrap();
    let told = cluster.eventually("its gateway says that it loads", PATIENCE, || {
        let Some(gateway) = other.gateway()? else { return Ok(None) };
        let at = format!("{}:8000", gateway["addresses"][0].as_str().unwrap_or_default());
        let turned_away = stream(&at, &question(), &mut Default::default()).err();
        Ok(turned_away.and_then(|error| Some(error.downcast_ref::<TurnedAway>()?.to_string())))
    });
    let told = told.unwrap_or_else(|error| panic!("{error}\n{}", other.told()));
    println!("asked while it cannot load: {told}");
    assert!(told.contains(" 503 ") && told.contains("model_loading") && told.contains("retry-after: "), "{told}");

    let stopped = other.eventually("the budget of restarts ends it", PATIENCE, |it| {
        let shards = condition(it, "ShardsReady");
        (shards.reason == "RestartBudgetExhausted").then(|| (shards.message, it["status"]["failures"].clone()))
    });
    println!("{}; {}", stopped.0, stopped.1);
    assert!(stopped.1["firstMessage"].as_str().unwrap_or_default().contains("abacus"), "{:#}", stopped.1);
    let gone = cluster.eventually("its pods are taken away", PATIENCE, || {
        Ok(other.list(&["pods", "-l", "lime.dev/component=worker"])?.is_empty().then_some(()))
    });
    gone.unwrap_or_else(|error| panic!("{error}\n{}", other.told()));

    let sound = r#"{"spec":{"template":null}}"#;
    other.run(&["patch", "limedeployment", "bard", "--type=merge", "-p", sound]).unwrap();
    other.served(None);
    bard.served(None);
    assert_ne!(other.endpoint(), bard.endpoint());
    for deployed in [&other, bard] {
        assert_eq!(deployed.ask(&question())["choices"][0]["text"], *answer, "{}", deployed.namespace);
    }
    let lent = cluster.run(&["get", "limenodeprofiles"]).unwrap();
    println!("{lent}");
    assert!(lent.contains("llm/bard") && lent.contains("llm-two/bard"), "a node says whom it lends to");
    other.leaves_nothing();
}
