//! What a deployment's `spec.template` and the operator's settings add to the pods that LIME makes.

use lime_api::{PodSecurity, PodTemplate};
use serde_json::{Value, json};

use super::merge;
use crate::settings::Settings;

/// Which pod it is that something is added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A worker or the gateway: everything.
    Serving,
    /// The inspection: what it takes to run where the workers run, and to reach the source. It has arguments and resources of its own.
    Inspection,
}

/// Adds what `template` says to `pod`, which has `metadata` and `spec`. What LIME needs itself is there already, and no template names
/// it: `LimeDeploymentSpec::faults`.
pub(super) fn add(pod: &mut Value, template: Option<&PodTemplate>, settings: &Settings, part: Part) {
    let spec = &mut pod["spec"];
    let given = template.iter().flat_map(|template| &template.image_pull_secrets).map(|secret| &secret.name);
    let mut secrets: Vec<&String> = Vec::new();
    for secret in settings.image_pull_secrets.iter().chain(given) {
        if !secrets.contains(&secret) {
            secrets.push(secret);
        }
    }
    if !secrets.is_empty() {
        spec["imagePullSecrets"] = secrets.iter().map(|name| json!({ "name": name })).collect();
    }
    spec["securityContext"] = security(settings, template.and_then(|template| template.security_context.as_ref()));
    let Some(template) = template else { return };
    append(&mut spec["volumes"], &template.volumes);
    tolerate(&mut spec["tolerations"], template);
    if let Some(class) = &template.priority_class_name {
        spec["priorityClassName"] = class.clone().into();
    }
    if template.host_network {
        spec["hostNetwork"] = true.into();
        spec["dnsPolicy"] = "ClusterFirstWithHostNet".into();
    }
    let container = &mut spec["containers"][0];
    append(&mut container["env"], &template.env);
    append(&mut container["volumeMounts"], &template.volume_mounts);
    if part == Part::Serving {
        append(&mut container["args"], &template.args);
        if let Some(resources) = &template.resources {
            merge(&mut container["resources"], json!(resources));
        }
        append(&mut spec["topologySpreadConstraints"], &template.topology_spread_constraints);
    }
    for (key, map) in [("labels", &template.labels), ("annotations", &template.annotations)] {
        if !map.is_empty() {
            merge(&mut pod["metadata"][key], json!(map));
        }
    }
}

/// Who the processes of a pod are and what they may do: nothing, and never as root.
fn security(settings: &Settings, given: Option<&PodSecurity>) -> Value {
    let mut security = json!({
        "runAsNonRoot": true, "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": { "type": "RuntimeDefault" },
    });
    // Where the namespace's policy says who they are, nothing is said here: it refuses what it has not chosen.
    if let Some(user) = settings.pod_user.number() {
        merge(&mut security, json!({ "runAsUser": user, "runAsGroup": user, "fsGroup": user }));
    }
    if let Some(given) = given {
        // A profile replaces the other one whole.
        for (key, value) in json!(given).as_object().into_iter().flatten() {
            security[key] = value.clone();
        }
    }
    security
}

/// The pod's own tolerations go where the template says something about the same taint.
fn tolerate(tolerations: &mut Value, template: &PodTemplate) {
    if let Some(own) = tolerations.as_array_mut() {
        own.retain(|own| template.tolerations.iter().all(|given| given.key.as_deref() != own["key"].as_str()));
    }
    append(tolerations, &template.tolerations);
}

/// Adds items to a list that may not be there.
fn append<T: serde::Serialize>(list: &mut Value, items: &[T]) {
    if items.is_empty() {
        return;
    }
    let mut all = list.as_array().cloned().unwrap_or_default();
    all.extend(items.iter().map(|item| json!(item)));
    *list = all.into();
}
