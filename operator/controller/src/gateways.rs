//! A deployment's gateways: the one that clients are sent to, and those that leave, which end their answers first.

use std::sync::Arc;

use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::ResourceExt as _;

use crate::{build::Object, names};

/// The pods of gateways.
fn of(pods: &[Arc<Pod>]) -> impl Iterator<Item = &Arc<Pod>> {
    pods.iter().filter(|pod| pod.labels().get(names::COMPONENT_LABEL).map(String::as_str) == Some("gateway"))
}

/// The gateway that is asked and told: of those that stay, one that clients are sent to before one that is still starting, and the older
/// before the newer, which waits for it.
pub fn current(pods: &[Arc<Pod>]) -> Option<&Arc<Pod>> {
    let staying = of(pods).filter(|pod| pod.metadata.deletion_timestamp.is_none());
    staying.min_by_key(|pod| (!is_ready(pod), pod.creation_timestamp().map(|at| at.0), pod.name_any()))
}

/// Gateways that were told to leave and run, each with the moment by which it must have.
pub fn leaving(pods: &[Arc<Pod>]) -> impl Iterator<Item = (&Arc<Pod>, Timestamp)> {
    let runs = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
    of(pods).filter(move |pod| runs(pod)).filter_map(|pod| Some((pod, pod.metadata.deletion_timestamp.as_ref()?.0)))
}

/// A gateway that is not as it is `made` now, and stays until the one that is takes its place.
pub fn replaced<'a>(pods: &'a [Arc<Pod>], made: &Object) -> Option<&'a Arc<Pod>> {
    let template = &made.body["spec"]["template"]["metadata"]["annotations"][names::TEMPLATE_ANNOTATION];
    let as_made =
        |pod: &Pod| pod.annotations().get(names::TEMPLATE_ANNOTATION).map(String::as_str) == template.as_str();
    of(pods).find(|pod| pod.metadata.deletion_timestamp.is_none() && !as_made(pod))
}

/// Whether Services send clients to `pod`.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, component: &str, created: &str, ready: bool, deleted: Option<&str>) -> Arc<Pod> {
        let truth = if ready { "True" } else { "False" };
        let found = serde_json::from_value(json!({
            "metadata": {
                "name": name, "labels": names::labels("m", component), "creationTimestamp": created, "deletionTimestamp": deleted,
            },
            "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": truth }] },
        }));
        Arc::new(found.unwrap())
    }

    #[test]
    fn the_one_that_clients_are_sent_to_is_asked() {
        let (early, late) = ("2027-01-15T08:00:00Z", "2027-01-15T08:00:09Z");
        let asked = |pods: &[Arc<Pod>]| current(pods).map(|pod| pod.name_any());
        let starting = [pod("new", "gateway", late, false, None), pod("old", "gateway", early, true, None)];
        assert_eq!(asked(&starting).as_deref(), Some("old"));
        let both = [pod("new", "gateway", late, true, None), pod("old", "gateway", early, true, None)];
        assert_eq!(asked(&both).as_deref(), Some("old"));
        let handed = [pod("new", "gateway", late, false, None), pod("old", "gateway", early, true, Some(late))];
        assert_eq!(asked(&handed).as_deref(), Some("new"));
        assert_eq!(leaving(&handed).map(|(pod, _)| pod.name_any()).collect::<Vec<_>>(), ["old"]);
        assert_eq!(asked(&[pod("m-0", "worker", early, true, None)]), None);
    }
}
