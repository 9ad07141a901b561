//! What Kubernetes refused to make for us. A pod that pod security or a quota forbids is not there, and where a controller should
//! have made it, only that controller's own words say why.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{Event, Pod},
};
use k8s_openapi::jiff::Timestamp;
use kube::{Api, ResourceExt as _, api::ListParams};

use crate::{build::Kind, context::Context, names};

/// Refusals by the object's name: those of our own writes (`own`), those of Jobs without a pod, and that of the gateway.
pub(super) async fn refused(
    context: &Context,
    namespace: &str,
    name: &str,
    jobs: &[Arc<Job>],
    pods: &[Arc<Pod>],
    own: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, kube::Error> {
    let mut found = own;
    for job in jobs {
        let job_name = job.name_any();
        let counts = job.status.as_ref();
        let begun = counts.is_some_and(|counts| {
            counts.active.unwrap_or(0) > 0 || counts.succeeded.unwrap_or(0) > 0 || counts.failed.unwrap_or(0) > 0
        });
        if begun || pods.iter().any(|pod| pod.labels().get("job-name") == Some(&job_name)) {
            continue;
        }
        found.extend(failed_create(context, namespace, job).await?.map(|why| (job_name, why)));
    }
    found.extend(gateway(context, namespace, name, pods).await?);
    Ok(found)
}

/// What the Job controller last said of a pod that it could not make.
async fn failed_create(context: &Context, namespace: &str, job: &Job) -> Result<Option<String>, kube::Error> {
    let events: Api<Event> = Api::namespaced(context.client.clone(), namespace);
    let uid = job.uid().unwrap_or_default();
    let wanted = ListParams::default().fields(&format!("involvedObject.uid={uid},reason=FailedCreate")).limit(20);
    Ok(latest(events.list(&wanted).await?.items))
}

/// Seconds that a pod may take to start before its kubelet's warnings are asked for.
const START: i64 = 10;
/// Most pods that are asked about at a visit.
const ASKED: usize = 8;

/// Why pods that have their node do not start, such as a volume that cannot be mounted: their statuses do not say it.
pub(super) async fn mishaps(
    context: &Context,
    namespace: &str,
    pods: &[Arc<Pod>],
    now: Timestamp,
) -> Result<BTreeMap<String, String>, kube::Error> {
    let events: Api<Event> = Api::namespaced(context.client.clone(), namespace);
    let mut found = BTreeMap::new();
    for pod in pods.iter().filter(|pod| is_stuck(pod, now)).take(ASKED) {
        let uid = pod.uid().unwrap_or_default();
        let wanted = ListParams::default().fields(&format!("involvedObject.uid={uid},type=Warning")).limit(20);
        let message = latest(events.list(&wanted).await?.items);
        found.extend(message.map(|message| (pod.name_any(), message)));
    }
    Ok(found)
}

/// Whether a pod has had its node for a while and none of its containers has begun.
fn is_stuck(pod: &Pod, now: Timestamp) -> bool {
    let Some(status) = &pod.status else { return false };
    let pending = status.phase.as_deref() == Some("Pending") && pod.metadata.deletion_timestamp.is_none();
    let placed = status.conditions.iter().flatten().find(|it| it.type_ == "PodScheduled" && it.status == "True");
    let since = placed.and_then(|placed| placed.last_transition_time.as_ref());
    pending && since.is_some_and(|since| now.as_second().saturating_sub(since.0.as_second()) >= START)
}

/// The message of the latest event.
fn latest(mut events: Vec<Event>) -> Option<String> {
    let when = |event: &Event| {
        let repeated = event.last_timestamp.as_ref().map(|time| time.0);
        repeated.or_else(|| event.event_time.as_ref().map(|time| time.0))
    };
    events.sort_by_key(when);
    events.pop().and_then(|event| event.message)
}

/// Why the gateway's Deployment has no pod, if it says so.
async fn gateway(
    context: &Context,
    namespace: &str,
    name: &str,
    pods: &[Arc<Pod>],
) -> Result<Option<(String, String)>, kube::Error> {
    let gateway = names::gateway(name);
    let has_pod =
        pods.iter().any(|pod| pod.labels().get(names::COMPONENT_LABEL).map(String::as_str) == Some("gateway"));
    let key = kube::runtime::reflector::ObjectRef::new_with(&gateway, Kind::Deployment.resource()).within(namespace);
    let made = context.world.owned.get(&Kind::Deployment).is_some_and(|store| store.get(&key).is_some());
    if has_pod || !made {
        return Ok(None);
    }
    let deployments: Api<Deployment> = Api::namespaced(context.client.clone(), namespace);
    let conditions =
        deployments.get_opt(&gateway).await?.and_then(|found| found.status?.conditions).unwrap_or_default();
    let failure = conditions.into_iter().find(|condition| condition.type_ == "ReplicaFailure");
    Ok(failure.and_then(|failure| Some((gateway, failure.message?))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_word_counts() {
        let event = |at: Option<&str>, message: &str| -> Event {
            let whole =
                serde_json::json!({ "metadata": {}, "involvedObject": {}, "lastTimestamp": at, "message": message });
            serde_json::from_value(whole).unwrap()
        };
        let events = vec![
            event(Some("2026-01-01T00:00:02Z"), "second"),
            event(None, "without a time"),
            event(Some("2026-01-01T00:00:01Z"), "first"),
        ];
        assert_eq!(latest(events).as_deref(), Some("second"));
        assert_eq!(latest(Vec::new()), None);
    }

    #[test]
    fn pods_that_take_long_to_start_are_asked_about() {
        let now = Timestamp::from_second(1_000).unwrap();
        let pod = |phase: &str, placed: &str, at: i64| -> Pod {
            let at = Timestamp::from_second(at).unwrap();
            let conditions =
                serde_json::json!([{ "type": "PodScheduled", "status": placed, "lastTransitionTime": at }]);
            serde_json::from_value(serde_json::json!({ "status": { "phase": phase, "conditions": conditions } }))
                .unwrap()
        };
        let table = [
            (pod("Pending", "True", 990), true),
            (pod("Pending", "True", 991), false),
            (pod("Pending", "False", 0), false),
            (pod("Running", "True", 0), false),
        ];
        for (index, (pod, expected)) in table.into_iter().enumerate() {
            assert_eq!(is_stuck(&pod, now), expected, "row {index}");
        }
    }
}
