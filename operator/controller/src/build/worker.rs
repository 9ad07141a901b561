//! The workers: a pod for each device of the plan, named after the plan and pinned to its node.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use lime_api::{Assignment, LimePlan, PodTemplate};
use serde_json::{Value, json};

use super::{Kind, Object, affinity, container_security, model_volume, secured, serving_environment, template};
use crate::{
    names,
    settings::{Settings, WeightStore},
    wish::Wish,
};

/// Where certificates are mounted.
pub(super) const TLS_AT: &str = "/tls";
pub(super) const STORE_AT: &str = "/store";

/// The workers' pods, and the claims that hold their weights.
pub fn workers(wish: &Wish, plan: &LimePlan, settings: &Settings) -> Vec<Object> {
    let parts = plan.spec.assignments.iter().enumerate();
    parts.flat_map(|(index, part)| worker(wish, plan, index, part, settings)).collect()
}

fn worker(wish: &Wish, plan: &LimePlan, index: usize, part: &Assignment, settings: &Settings) -> Vec<Object> {
    let plan_name = plan.metadata.name.clone().unwrap_or_default();
    let name = names::worker(&plan_name, index);
    let (model, mut volumes, mut mounts) = model_volume(wish);
    let (store, claim) = store(wish, part, settings);
    volumes.push(store);
    mounts.push(json!({ "name": "store", "mountPath": STORE_AT }));
    // At the second port a worker says whether it gets on, to the kubelet.
    let (ring_port, health_port) = (wish.ring_port(), wish.health_port());
    let given = wish.worker_template();
    let mut arguments = vec![
        "worker".to_owned(),
        "--name".into(),
        part.node.clone(),
        "--listen".into(),
        format!("0.0.0.0:{ring_port}"),
        "--health".into(),
        format!("0.0.0.0:{health_port}"),
        "--model".into(),
        model,
        "--store".into(),
        STORE_AT.into(),
        // While its gateway ends its answers.
        "--drain-seconds".into(),
        wish.spec.endpoint.drain_seconds.to_string(),
    ];
    if let Some(revision) = &wish.spec.model.revision {
        arguments.extend(["--revision".to_owned(), revision.clone()]);
    }
    if secured(wish, settings) {
        volumes.push(tls_volume(wish, "worker"));
        mounts.push(json!({ "name": "tls", "mountPath": TLS_AT, "readOnly": true }));
        arguments.extend(["--tls".to_owned(), TLS_AT.into()]);
    }
    // To the byte what the planner and the worker count, rounded up to what Kubernetes shows well.
    let mebibytes = u64::try_from(part.memory_bytes).unwrap_or_default().div_ceil(1 << 20).max(1);
    let memory = format!("{mebibytes}Mi");
    let mut spec = json!({
        "hostname": name,
        "subdomain": names::ring(&wish.name),
        "restartPolicy": "Always",
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": wish.drain_grace(),
        "affinity": affinity::pinned(&part.node, given),
        "containers": [{
            "name": "worker",
            "image": settings.image,
            "imagePullPolicy": settings.image_pull_policy,
            "command": ["lime"],
            "args": arguments,
            "env": serving_environment(wish, settings),
            "ports": [
                { "name": "ring", "containerPort": ring_port, "protocol": "TCP" },
                { "name": "health", "containerPort": health_port, "protocol": "TCP" },
            ],
            "resources": { "requests": { "cpu": "100m", "memory": memory }, "limits": { "memory": memory } },
            "securityContext": container_security(),
            // A probe of the kubelet's has no certificate of the ring: it opens the port and no more, and asks at another port whether the worker
            // gets on. Whether the ring serves is what the gateway's /ready says.
            "startupProbe": { "tcpSocket": { "port": "ring" }, "periodSeconds": 2, "failureThreshold": 150 },
            "readinessProbe": { "tcpSocket": { "port": "ring" }, "periodSeconds": 5, "timeoutSeconds": 5 },
            "livenessProbe": {
                "httpGet": { "path": "/health", "port": "health" },
                "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 3,
            },
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": mounts,
        }],
        "volumes": volumes,
    });
    if let Some(class) = &wish.spec.nodes.runtime_class_name {
        spec["runtimeClassName"] = class.clone().into();
    }
    let labels = json!({
        names::PLAN_LABEL: plan_name, names::NODE_LABEL: label_value(&part.node),
        names::TRANSPORT_LABEL: transport(wish, settings),
    });
    let mut rest = json!({ "metadata": { "labels": labels, "annotations": {} }, "spec": spec });
    template::add(&mut rest, given, settings, template::Part::Serving);
    rest["metadata"]["annotations"][names::TEMPLATE_ANNOTATION] = made_with(&rest["spec"], given).into();
    let pod = Object::new(wish, Kind::Pod, name, "worker", rest);
    claim.into_iter().chain([pod]).collect()
}

/// A digest of all that a pod is made with.
fn made_with(spec: &Value, template: Option<&PodTemplate>) -> String {
    let metadata = template.map(|template| (&template.labels, &template.annotations));
    names::digest(json!([spec, metadata]).to_string().as_bytes())
}

/// Whether a worker's pod is as it would be `made` now: pods are made once, and the image, the wish or the operator's settings may have
/// changed. Of pods of an operator that noted no template, image and transport are compared.
pub fn is_as_made(pod: &Pod, made: &Object) -> bool {
    let metadata = &made.body["metadata"];
    if let Some(template) = pod.annotations().get(names::TEMPLATE_ANNOTATION) {
        return metadata["annotations"][names::TEMPLATE_ANNOTATION] == template.as_str();
    }
    let spoken = pod.labels().get(names::TRANSPORT_LABEL).map_or(names::PLAINTEXT, String::as_str);
    let image = pod.spec.iter().flat_map(|spec| &spec.containers).find_map(|container| container.image.as_deref());
    metadata["labels"][names::TRANSPORT_LABEL] == spoken && made.body["spec"]["containers"][0]["image"] == json!(image)
}

fn transport(wish: &Wish, settings: &Settings) -> &'static str {
    if secured(wish, settings) { names::MUTUAL_TLS } else { names::PLAINTEXT }
}

/// The volume for fetched weights, and the claim behind it.
fn store(wish: &Wish, part: &Assignment, settings: &Settings) -> (Value, Option<Object>) {
    use lime_api::ModelSource::{Claim, File};
    let fetched = !matches!(wish.source, File { .. } | Claim { .. });
    match settings.weight_store {
        WeightStore::HostPath => {
            let source = json!({ "path": settings.weight_store_path, "type": "DirectoryOrCreate" });
            (json!({ "name": "store", "hostPath": source }), None)
        }
        WeightStore::Claim if fetched => {
            // Named after node and model: a new plan finds what an earlier one fetched.
            let digest = names::digest(format!("{} {}", part.node, wish.source_digest()).as_bytes());
            let digits: String = digest.chars().take(8).collect();
            let name = format!("{}-store-{digits}", wish.name);
            let weights = part.pinned_bytes.saturating_add(part.streamed_bytes);
            let gibibytes = u64::try_from(weights).unwrap_or_default().div_ceil(1 << 30).max(1);
            let mut spec = json!({
                "accessModes": ["ReadWriteOnce"],
                "resources": { "requests": { "storage": format!("{gibibytes}Gi") } },
            });
            if let Some(class) = &settings.weight_store_class {
                spec["storageClassName"] = class.clone().into();
            }
            let labels = json!({ names::NODE_LABEL: label_value(&part.node) });
            let rest = json!({ "metadata": { "labels": labels }, "spec": spec });
            let claim = Object::new(wish, Kind::PersistentVolumeClaim, name.clone(), "store", rest);
            (json!({ "name": "store", "persistentVolumeClaim": { "claimName": name } }), Some(claim))
        }
        // A model that is on the node already is only cut into blocks here.
        WeightStore::Claim | WeightStore::EmptyDir => (json!({ "name": "store", "emptyDir": {} }), None),
    }
}

/// The volume with the certificate of `component`.
pub(super) fn tls_volume(wish: &Wish, component: &str) -> Value {
    json!({ "name": "tls", "secret": { "secretName": names::certificate(&wish.name, component), "defaultMode": 0o440 } })
}

/// A node's name as a label's value, which has at most 63 characters.
fn label_value(node: &str) -> String {
    if node.len() <= 63 { node.to_owned() } else { names::digest(node.as_bytes()) }
}
