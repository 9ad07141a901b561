use serde_json::json;

use super::*;

fn found(status: serde_json::Value, lost: bool) -> Shard {
    let assignment = Assignment { node: "a".into(), ..Assignment::default() };
    let pod = serde_json::from_value::<Pod>(json!({ "metadata": { "name": "p-0" }, "status": status })).unwrap();
    shard(&assignment, "p-0".into(), Some(&pod), lost, None, None)
}

#[test]
fn a_ring_that_answers_vouches_for_its_running_shards() {
    let assignment = Assignment { node: "a".into(), ..Assignment::default() };
    let running = container(json!({ "state": { "running": {} } }));
    let pod: Pod = serde_json::from_value(
        json!({ "metadata": { "name": "p-0" }, "status": { "phase": "Running", "containerStatuses": [running] } }),
    )
    .unwrap();
    let ring = RingReport { ready: true, ..RingReport::default() };
    for (ring, expected) in [
        (Some(ring), ShardState::Ready),
        (Some(RingReport::default()), ShardState::Loading),
        (None, ShardState::Loading),
    ] {
        let found = shard(&assignment, "p-0".into(), Some(&pod), false, ring.as_ref(), None);
        assert_eq!(found.status.state, expected);
    }
}

#[test]
fn a_refused_pod_says_why_and_what_to_do() {
    let assignment = Assignment { node: "a".into(), ..Assignment::default() };
    // Whatever its words: what the pod mounts is known here.
    for (folders, advised_words) in [(true, "pvc://"), (false, "")] {
        let refusal = Some(advised("verboten", folders));
        let cause = shard(&assignment, "p-0".into(), None, false, None, refusal).trouble.unwrap();
        assert_eq!(cause.reason, "ShardPending");
        for words in ["a: the pod p-0 cannot be made: verboten", advised_words] {
            assert!(cause.message.contains(words), "{words} is not in {}", cause.message);
        }
        assert_eq!(cause.message.contains("pvc://"), folders);
    }
}

fn container(rest: serde_json::Value) -> serde_json::Value {
    let mut container = json!({ "name": "worker", "image": "", "imageID": "", "ready": false, "restartCount": 2 });
    container.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    container
}

#[test]
fn states_are_read_from_pods() {
    let ready = json!({ "phase": "Running", "containerStatuses": [container(json!({ "ready": true }))] });
    let shard = found(ready.clone(), false);
    assert_eq!((shard.status.state, shard.status.restarts), (ShardState::Ready, 2));
    assert!(shard.trouble.is_none());
    assert_eq!(found(ready, true).trouble.unwrap().reason, "NodeLost");

    let looping = container(json!({
        "state": { "waiting": { "reason": "CrashLoopBackOff" } },
        "lastState": { "terminated": { "exitCode": 137, "reason": "OOMKilled" } },
    }));
    let shard = found(json!({ "phase": "Running", "containerStatuses": [looping] }), false);
    assert_eq!(shard.status.state, ShardState::Crashed);
    let cause = shard.trouble.unwrap();
    assert_eq!(cause.reason, "ShardCrashed");
    for word in ["a:", "p-0", "worker", "137", "OOMKilled"] {
        assert!(cause.message.contains(word), "{word} is not in {}", cause.message);
    }

    let pull =
        container(json!({ "state": { "waiting": { "reason": "ImagePullBackOff", "message": "no such image" } } }));
    let cause = found(json!({ "phase": "Pending", "containerStatuses": [pull] }), false).trouble.unwrap();
    assert!(cause.message.contains("ImagePullBackOff no such image"), "{}", cause.message);

    let unscheduled = json!({ "phase": "Pending", "conditions": [
        { "type": "PodScheduled", "status": "False", "message": "0/3 nodes are available: Insufficient memory." },
    ]});
    assert!(found(unscheduled, false).trouble.unwrap().message.contains("Insufficient memory"));
    assert!(found(json!({ "phase": "Failed", "reason": "Evicted" }), false).over);
}
