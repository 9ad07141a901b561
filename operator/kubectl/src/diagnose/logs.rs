//! The ends of logs, of a deployment's pods and of the operator's.

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt as _, api::LogParams};

use super::{bundle::Bundle, redact::Redactor};
use crate::cluster::{Cluster, list, not_there};

/// Most bytes of one log.
const MOST_BYTES: i64 = 1 << 20;
/// Most pods whose logs are collected, for each namespace.
const MOST_PODS: usize = 200;

/// Collects the logs of every container of pods in `places` (namespace and labels), and those of the containers before them where they were restarted.
pub(crate) async fn logs(
    cluster: &Cluster,
    places: &[(String, String)],
    lines: i64,
    bundle: &mut Bundle,
    redactor: &Redactor,
) {
    if lines == 0 {
        return;
    }
    for (namespace, labels) in places {
        let api: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
        let pods = match list(&api, &format!("pods of {namespace}"), labels).await {
            Ok(pods) => pods,
            Err(error) => {
                bundle.fault(format!("{error:#}"));
                continue;
            }
        };
        if pods.len() > MOST_PODS {
            bundle.fault(format!("logs of {namespace}: of the first {MOST_PODS} pods of {}", pods.len()));
        }
        for pod in pods.iter().take(MOST_PODS) {
            of_pod(&api, namespace, pod, lines, bundle, redactor).await;
        }
    }
}

async fn of_pod(api: &Api<Pod>, namespace: &str, pod: &Pod, lines: i64, bundle: &mut Bundle, redactor: &Redactor) {
    let name = pod.name_any();
    let status = pod.status.clone().unwrap_or_default();
    let all = [status.init_container_statuses, status.container_statuses];
    for container in all.into_iter().flatten().flatten() {
        // What has never begun has no log.
        let begun =
            container.state.as_ref().is_some_and(|state| state.waiting.is_none()) || container.restart_count > 0;
        let previous = (container.restart_count > 0).then_some((true, "previous"));
        let asked = begun.then_some((false, "log")).into_iter().chain(previous);
        for (previous, which) in asked {
            let asked = LogParams {
                container: Some(container.name.clone()),
                tail_lines: Some(lines),
                limit_bytes: Some(MOST_BYTES),
                timestamps: true,
                previous,
                ..LogParams::default()
            };
            match api.logs(&name, &asked).await {
                Ok(text) => {
                    bundle.add(format!("logs/{namespace}/{name}/{}.{which}.txt", container.name), redactor.text(&text));
                }
                Err(error) if previous || not_there(&error) => {}
                Err(error) => bundle.fault(format!("the log of {namespace}/{name}/{}: {error}", container.name)),
            }
        }
    }
}
