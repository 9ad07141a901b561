//! The gateway: a Deployment of one, and the file that tells it which plan to follow. A new plan changes the file alone, so that
//! answers under way go on. Where the pod itself must be another, the new one is there first, and the old one ends its answers.

use std::collections::BTreeMap;

use lime_api::LimePlan;
use lime_plan::{Plan, PlanInForce, TokenBasis};
use serde_json::{Value, json};

use super::{
    Kind, Object, affinity, container_security, http_port, model_volume, secured, serving_environment, template, worker,
};
use crate::{
    names, planning,
    settings::{Addressing, Settings},
    shards::Shard,
    wish::Wish,
};

/// The file's key in its ConfigMap.
pub const PLAN_FILE: &str = "plan.json";

/// The plan in force as the file that the gateway follows, and the digest of its text. `generation` rises with each plan.
/// `None` for a plan that cannot be read.
pub fn plan_file(
    wish: &Wish,
    plan: &LimePlan,
    shards: &[Shard],
    settings: &Settings,
    generation: u64,
) -> Option<(Object, String)> {
    let name = plan.metadata.name.clone().unwrap_or_default();
    let scheme = if secured(wish, settings) { "https" } else { "http" };
    let mut workers = BTreeMap::new();
    for shard in shards {
        let host = match settings.addressing {
            Addressing::Dns => Some(format!("{}.{}.{}.svc", shard.pod, names::ring(&wish.name), wish.namespace)),
            Addressing::PodIp => shard.address.as_deref().map(bracketed),
        };
        let uri = host.map(|host| format!("{scheme}://{host}:{}", wish.ring_port()));
        workers.extend(uri.map(|uri| (shard.status.node.clone(), uri)));
    }
    let in_force = PlanInForce { name: name.clone(), generation, workers, plan: planning::document(&plan.spec).ok()? };
    let text = in_force.to_json().ok()?;
    let digest = PlanInForce::digest(&text);
    let rest = json!({ "metadata": { "labels": { names::PLAN_LABEL: name } }, "data": { PLAN_FILE: text } });
    Some((Object::new(wish, Kind::ConfigMap, names::plan_file(&wish.name), "plan", rest), digest))
}

/// The gateway. Nothing of it changes with the plan.
pub fn gateway(wish: &Wish, plan: &LimePlan, settings: &Settings) -> Object {
    let (model, mut volumes, mut mounts) = model_volume(wish);
    let port = http_port(wish);
    volumes.push(json!({ "name": "plan", "configMap": { "name": names::plan_file(&wish.name) } }));
    mounts.push(json!({ "name": "plan", "mountPath": "/plan", "readOnly": true }));
    let mut arguments = vec![
        "gateway".to_owned(),
        format!("--follow=/plan/{PLAN_FILE}"),
        format!("--model={model}"),
        format!("--served-name={}", wish.served_name()),
        format!("--listen=0.0.0.0:{port}"),
        // By its name workers tell one gateway from the next, which waits for its turn.
        "--name=$(LIME_GATEWAY)".to_owned(),
        format!("--drain-seconds={}", wish.spec.endpoint.drain_seconds),
    ];
    if wish.is_fetched() {
        // Tokenizer and templates of a model from a server.
        volumes.push(json!({ "name": "store", "emptyDir": {} }));
        mounts.push(json!({ "name": "store", "mountPath": worker::STORE_AT }));
        arguments.push(format!("--store={}", worker::STORE_AT));
        arguments.extend(wish.spec.model.revision.iter().map(|revision| format!("--revision={revision}")));
    }
    if let Some(keys) = &wish.spec.endpoint.api_key_secret_ref {
        let items = json!([{ "key": keys.key, "path": "keys" }]);
        volumes.push(
            json!({ "name": "keys", "secret": { "secretName": keys.name, "items": items, "defaultMode": 0o440 } }),
        );
        mounts.push(json!({ "name": "keys", "mountPath": "/keys", "readOnly": true }));
        arguments.push("--api-keys=/keys/keys".into());
    }
    if secured(wish, settings) {
        volumes.push(worker::tls_volume(wish, "gateway"));
        mounts.push(json!({ "name": "tls", "mountPath": worker::TLS_AT, "readOnly": true }));
        arguments.push(format!("--tls={}", worker::TLS_AT));
    }
    let name = names::gateway(&wish.name);
    let labels = names::labels(&wish.name, "gateway");
    let selector = json!({ names::DEPLOYMENT_LABEL: wish.name, names::COMPONENT_LABEL: "gateway" });
    let document = planning::document(&plan.spec).ok();
    let tokens = document.as_ref().map(|plan| tokens(wish, plan)).unwrap_or_default();
    let memory = document.as_ref().map_or_else(Memory::default, |plan| Memory::of(plan.model.vocabulary));
    let mut environment = serving_environment(wish, settings);
    environment.push(json!({ "name": "LIME_GATEWAY", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }));
    let given = wish.gateway_template();
    // On their node's network two of them would want the same port.
    let on_node = given.is_some_and(|template| template.host_network);
    let strategy = if on_node {
        json!({ "type": "Recreate" })
    } else {
        json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } })
    };
    let mut rest = json!({ "spec": {
        "replicas": 1,
        "strategy": strategy,
        "selector": { "matchLabels": selector },
        "template": {
            "metadata": { "labels": labels, "annotations": { names::TOKENS_ANNOTATION: tokens } },
            "spec": {
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "terminationGracePeriodSeconds": wish.drain_grace(),
                "tolerations": tolerations(wish),
                "containers": [{
                    "name": "gateway",
                    "image": settings.image,
                    "imagePullPolicy": settings.image_pull_policy,
                    "command": ["lime"],
                    "args": arguments,
                    "env": environment,
                    "ports": [{ "name": "http", "containerPort": port, "protocol": "TCP" }],
                    "resources": {
                        "requests": { "cpu": "100m", "memory": memory.request() },
                        "limits": { "memory": memory.limit() },
                    },
                    "securityContext": container_security(),
                    "livenessProbe": { "httpGet": { "path": "/live", "port": "http" }, "periodSeconds": 10, "timeoutSeconds": 5 },
                    "readinessProbe": { "tcpSocket": { "port": "http" }, "periodSeconds": 1 },
                    "terminationMessagePolicy": "FallbackToLogsOnError",
                    "volumeMounts": mounts,
                }],
                "volumes": volumes,
            },
        },
    }});
    template::add(&mut rest["spec"]["template"], given, settings, template::Part::Serving);
    if let Some(affinity) = affinity::selected(wish, given) {
        rest["spec"]["template"]["spec"]["affinity"] = affinity;
    }
    let made_with = names::digest(rest["spec"]["template"].to_string().as_bytes());
    rest["spec"]["template"]["metadata"]["annotations"][names::TEMPLATE_ANNOTATION] = made_with.into();
    Object::new(wish, Kind::Deployment, name, "gateway", rest)
}

/// Memory for a gateway. Its tokenizer takes most of what it rests at, and follows from the model alone, as this must: what
/// changes with the plan would have another gateway take over.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    /// Of the tokenizer.
    kibibytes: u64,
}

impl Memory {
    /// For a vocabulary: Llama 3's 128,256 tokens were measured at 181 MB, all told.
    fn of(vocabulary: u32) -> Self {
        /// Strings, merges and tables of one token, with room to spare.
        const TOKEN: f64 = 1.6;
        Self { kibibytes: (f64::from(vocabulary) * TOKEN) as u64 }
    }

    /// What it rests at.
    fn request(self) -> String {
        self.beside(48)
    }

    /// With requests being read and answered: 64 MiB of bodies, their values, texts that become tokens, connections.
    fn limit(self) -> String {
        self.beside(448)
    }

    /// In steps of 64 MiB: a few tokens more or less are another model and no other pod.
    fn beside(self, mebibytes: u64) -> String {
        format!("{}Mi", (self.kibibytes.div_ceil(1 << 10) + mebibytes).next_multiple_of(64))
    }
}

/// On a node that is lost a gateway is waited for no longer than the deployment's workers are; Kubernetes would wait 300 s.
fn tolerations(wish: &Wish) -> Value {
    let of = |condition: &str| {
        json!({
            "key": format!("node.kubernetes.io/{condition}"), "operator": "Exists", "effect": "NoExecute",
            "tolerationSeconds": wish.spec.failure.node_loss_grace_seconds,
        })
    };
    json!([of("not-ready"), of("unreachable")])
}

/// A digest of all that tokens depend on: answers cannot go on by a plan that differs in it, and gateways refuse it.
fn tokens(wish: &Wish, plan: &Plan) -> String {
    let parts = json!([wish.source_digest(), TokenBasis::of(plan)]);
    names::digest(parts.to_string().as_bytes())
}

/// An address as URLs want it.
fn bracketed(address: &str) -> String {
    if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_follows_from_the_tokenizer() {
        let of = |vocabulary: u32| (Memory::of(vocabulary).request(), Memory::of(vocabulary).limit());
        let mib = |request: u32, limit: u32| (format!("{request}Mi"), format!("{limit}Mi"));
        assert_eq!(of(1024), mib(64, 512));
        assert_eq!(of(32_000), mib(128, 512));
        // Llama 3 and Gemma.
        assert_eq!(of(128_256), mib(256, 704));
        assert_eq!(of(262_144), mib(512, 896));
    }
}
