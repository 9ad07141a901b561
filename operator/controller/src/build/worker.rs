//! The workers: a pod for each device of the plan, named after the plan and pinned to its node.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        Container, HostPathVolumeSource, PersistentVolumeClaim, PersistentVolumeClaimSpec,
        PersistentVolumeClaimVolumeSource, Pod, PodSpec, PodTemplateSpec, Probe, SecretVolumeSource, Volume,
        VolumeResourceRequirements,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::ResourceExt as _;
use lime_api::{Assignment, LimePlan, PodTemplate};
use serde_json::json;

use super::{
    Object, affinity, answers, container_port, container_security, model_volume, mount, opens, quantity, resources,
    scratch_volume, secured, serving_environment, template,
};
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
    mounts.push(mount("store", STORE_AT, false));
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
    // What is so by itself is not said: workers of before stay as they are.
    if let Some(disk) = wish.spec.prefix_cache.disk_bytes() {
        arguments.extend(["--prefix-disk".to_owned(), disk.0.to_string()]);
    }
    if secured(wish, settings) {
        volumes.push(tls_volume(wish, "worker"));
        mounts.push(mount("tls", TLS_AT, true));
        arguments.extend(["--tls".to_owned(), TLS_AT.into()]);
    }
    // To the byte what the planner and the worker count, rounded up to what Kubernetes shows well.
    let mebibytes = u64::try_from(part.memory_bytes).unwrap_or_default().div_ceil(1 << 20).max(1);
    let memory = format!("{mebibytes}Mi");
    let container = Container {
        name: "worker".to_owned(),
        image: Some(settings.image.clone()),
        image_pull_policy: Some(settings.image_pull_policy.clone()),
        command: Some(vec!["lime".to_owned()]),
        args: Some(arguments),
        env: Some(serving_environment(wish, settings)),
        ports: Some(vec![container_port("ring", ring_port), container_port("health", health_port)]),
        resources: Some(resources("100m", &memory, &memory)),
        security_context: Some(container_security()),
        // A probe of the kubelet's has no certificate of the ring: it opens the port and no more, and asks at another port whether the
        // worker gets on. Whether the ring serves is what the gateway's /ready says.
        startup_probe: Some(Probe { period_seconds: Some(2), failure_threshold: Some(150), ..opens("ring") }),
        readiness_probe: Some(Probe { period_seconds: Some(5), timeout_seconds: Some(5), ..opens("ring") }),
        liveness_probe: Some(Probe {
            period_seconds: Some(10),
            timeout_seconds: Some(5),
            failure_threshold: Some(3),
            ..answers("/health", "health")
        }),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(mounts),
        ..Default::default()
    };
    let spec = PodSpec {
        hostname: Some(name.clone()),
        subdomain: Some(names::ring(&wish.name)),
        restart_policy: Some("Always".to_owned()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(wish.drain_grace()),
        affinity: Some(affinity::pinned(&part.node, given)),
        containers: vec![container],
        volumes: Some(volumes),
        runtime_class_name: wish.spec.nodes.runtime_class_name.clone(),
        ..Default::default()
    };
    let labels = [
        (names::PLAN_LABEL, plan_name),
        (names::NODE_LABEL, label_value(&part.node)),
        (names::TRANSPORT_LABEL, transport(wish, settings).to_owned()),
    ];
    let labels = labels.map(|(key, value)| (key.to_owned(), value)).into();
    let metadata = ObjectMeta { labels: Some(labels), ..Default::default() };
    let mut made = PodTemplateSpec { metadata: Some(metadata), spec: Some(spec) };
    template::add(&mut made, given, settings, template::Part::Serving);
    let mut metadata = made.metadata.unwrap_or_default();
    let digest = made_with(made.spec.as_ref(), given);
    metadata.annotations.get_or_insert_default().insert(names::TEMPLATE_ANNOTATION.to_owned(), digest);
    let pod = Object::new(wish, name, "worker", Pod { metadata, spec: made.spec, ..Default::default() });
    claim.into_iter().chain([pod]).collect()
}

/// A digest of all that a pod is made with.
fn made_with(spec: Option<&PodSpec>, template: Option<&PodTemplate>) -> String {
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
fn store(wish: &Wish, part: &Assignment, settings: &Settings) -> (Volume, Option<Object>) {
    use lime_api::ModelSource::{Claim, File};
    let fetched = !matches!(wish.source, File { .. } | Claim { .. });
    let volume = Volume { name: "store".to_owned(), ..Default::default() };
    match settings.weight_store {
        WeightStore::HostPath => {
            let path = settings.weight_store_path.clone();
            let host_path = HostPathVolumeSource { path, type_: Some("DirectoryOrCreate".to_owned()) };
            (Volume { host_path: Some(host_path), ..volume }, None)
        }
        WeightStore::Claim if fetched => {
            // Named after node and model: a new plan finds what an earlier one fetched.
            let digest = names::digest(format!("{} {}", part.node, wish.source_digest()).as_bytes());
            let digits: String = digest.chars().take(8).collect();
            let name = format!("{}-store-{digits}", wish.name);
            let claim = PersistentVolumeClaimVolumeSource { claim_name: name.clone(), ..Default::default() };
            let made = Object::new(wish, name, "store", store_claim(wish, part, settings));
            (Volume { persistent_volume_claim: Some(claim), ..volume }, Some(made))
        }
        // A model that is on the node already is only cut into blocks here.
        WeightStore::Claim | WeightStore::EmptyDir => (scratch_volume("store", None), None),
    }
}

fn store_claim(wish: &Wish, part: &Assignment, settings: &Settings) -> PersistentVolumeClaim {
    let weights = u64::try_from(part.pinned_bytes.saturating_add(part.streamed_bytes)).unwrap_or_default();
    let pages = wish.spec.prefix_cache.disk_bytes().unwrap_or_default();
    let gibibytes = weights.saturating_add(pages.0).div_ceil(1 << 30).max(1);
    let storage = BTreeMap::from([("storage".to_owned(), quantity(format!("{gibibytes}Gi")))]);
    let labels = BTreeMap::from([(names::NODE_LABEL.to_owned(), label_value(&part.node))]);
    PersistentVolumeClaim {
        metadata: ObjectMeta { labels: Some(labels), ..Default::default() },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            resources: Some(VolumeResourceRequirements { requests: Some(storage), ..Default::default() }),
            storage_class_name: settings.weight_store_class.clone(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The volume with the certificate of `component`.
pub(super) fn tls_volume(wish: &Wish, component: &str) -> Volume {
    let secret = SecretVolumeSource {
        secret_name: Some(names::certificate(&wish.name, component)),
        default_mode: Some(0o440),
        ..Default::default()
    };
    Volume { name: "tls".to_owned(), secret: Some(secret), ..Default::default() }
}

/// A node's name as a label's value, which has at most 63 characters.
fn label_value(node: &str) -> String {
    if node.len() <= 63 { node.to_owned() } else { names::digest(node.as_bytes()) }
}
