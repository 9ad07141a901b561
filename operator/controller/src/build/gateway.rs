//! The gateway: a Deployment of one, and the file that tells it which plan to follow. A new plan changes the file alone, so that
//! answers under way go on. Where the pod itself must be another, the new one is there first, and the old one ends its answers.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{
            ConfigMap, ConfigMapVolumeSource, Container, EnvVarSource, KeyToPath, ObjectFieldSelector, PodSpec,
            PodTemplateSpec, Probe, SecretVolumeSource, Toleration, Volume,
        },
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};
use lime_api::LimePlan;
use lime_plan::{Plan, PlanInForce, TokenBasis};
use serde_json::json;

use super::{
    Object, affinity, answers, container_port, container_security, http_port, model_volume, mount, opens, resources,
    scratch_volume, secured, selector, serving_environment, status_port, template, variable_from, worker,
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
    let labels = BTreeMap::from([(names::PLAN_LABEL.to_owned(), name)]);
    let file = ConfigMap {
        metadata: ObjectMeta { labels: Some(labels), ..Default::default() },
        data: Some(BTreeMap::from([(PLAN_FILE.to_owned(), text)])),
        ..Default::default()
    };
    Some((Object::new(wish, names::plan_file(&wish.name), "plan", file), digest))
}

/// Where the API's certificate is.
const API_TLS_AT: &str = "/api-tls";

/// The gateway. Nothing of it changes with the plan.
pub fn gateway(wish: &Wish, plan: &LimePlan, settings: &Settings) -> Object {
    let (model, mut volumes, mut mounts) = model_volume(wish);
    let port = http_port(wish);
    let file = ConfigMapVolumeSource { name: names::plan_file(&wish.name), ..Default::default() };
    volumes.push(Volume { name: "plan".to_owned(), config_map: Some(file), ..Default::default() });
    mounts.push(mount("plan", "/plan", true));
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
    let speculation = wish.spec.speculation.as_ref().and_then(lime_api::Speculation::told);
    arguments.extend(speculation.map(|window| format!("--speculate={window}")));
    if wish.spec.endpoint.strict {
        arguments.push("--strict".to_owned());
    }
    if wish.is_fetched() {
        // Tokenizer and templates of a model from a server.
        volumes.push(scratch_volume("store", None));
        mounts.push(mount("store", worker::STORE_AT, false));
        arguments.push(format!("--store={}", worker::STORE_AT));
        arguments.extend(wish.spec.model.revision.iter().map(|revision| format!("--revision={revision}")));
    }
    if let Some(keys) = &wish.spec.endpoint.api_key_secret_ref {
        let secret = SecretVolumeSource {
            secret_name: Some(keys.name.clone()),
            items: Some(vec![KeyToPath { key: keys.key.clone(), path: "keys".to_owned(), mode: None }]),
            default_mode: Some(0o440),
            ..Default::default()
        };
        volumes.push(Volume { name: "keys".to_owned(), secret: Some(secret), ..Default::default() });
        mounts.push(mount("keys", "/keys", true));
        arguments.push("--api-keys=/keys/keys".into());
    }
    let mut ports = vec![container_port("http", status_port(wish))];
    if let Some(certificate) = &wish.spec.endpoint.tls_secret_ref {
        let secret = SecretVolumeSource {
            secret_name: Some(certificate.name.clone()),
            default_mode: Some(0o440),
            ..Default::default()
        };
        volumes.push(Volume { name: "api-tls".to_owned(), secret: Some(secret), ..Default::default() });
        mounts.push(mount("api-tls", API_TLS_AT, true));
        arguments.push(format!("--api-tls-cert={API_TLS_AT}/tls.crt"));
        arguments.push(format!("--api-tls-key={API_TLS_AT}/tls.key"));
        // The kubelet, the operator and Prometheus have no business with the API, and need none of its certificates.
        arguments.push(format!("--status-listen=0.0.0.0:{}", status_port(wish)));
        ports.push(container_port("https", port));
    }
    arguments.extend(wish.spec.endpoint.allowed_origins.iter().map(|origin| format!("--allow-origin={origin}")));
    // What is so by itself is not said: gateways of before stay as they are.
    if !wish.spec.prefix_cache.enabled {
        arguments.push("--prefix-cache=off".to_owned());
    } else if wish.spec.prefix_cache.shared_across_keys {
        arguments.push("--prefixes-across-keys".to_owned());
    }
    if secured(wish, settings) {
        volumes.push(worker::tls_volume(wish, "gateway"));
        mounts.push(mount("tls", worker::TLS_AT, true));
        arguments.push(format!("--tls={}", worker::TLS_AT));
    }
    let document = planning::document(&plan.spec).ok();
    let tokens = document.as_ref().map(|plan| tokens(wish, plan)).unwrap_or_default();
    let memory = document.as_ref().map_or_else(GatewayMemory::default, |plan| GatewayMemory::of(plan.model.vocabulary));
    let mut environment = serving_environment(wish, settings);
    let own_name = ObjectFieldSelector { field_path: "metadata.name".to_owned(), ..Default::default() };
    let own_name = EnvVarSource { field_ref: Some(own_name), ..Default::default() };
    environment.push(variable_from("LIME_GATEWAY", own_name));
    let given = wish.gateway_template();
    let container = Container {
        name: "gateway".to_owned(),
        image: Some(settings.image.clone()),
        image_pull_policy: Some(settings.image_pull_policy.clone()),
        command: Some(vec!["lime".to_owned()]),
        args: Some(arguments),
        env: Some(environment),
        ports: Some(ports),
        resources: Some(resources("100m", &memory.request(), &memory.limit())),
        security_context: Some(container_security()),
        liveness_probe: Some(Probe { period_seconds: Some(10), timeout_seconds: Some(5), ..answers("/live", "http") }),
        readiness_probe: Some(Probe { period_seconds: Some(1), ..opens("http") }),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(mounts),
        ..Default::default()
    };
    let annotations = BTreeMap::from([(names::TOKENS_ANNOTATION.to_owned(), tokens)]);
    let mut pod = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(names::labels(&wish.name, "gateway")),
            annotations: Some(annotations),
            ..Default::default()
        }),
        spec: Some(PodSpec {
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            termination_grace_period_seconds: Some(wish.drain_grace()),
            affinity: affinity::selected(wish, given),
            tolerations: Some(tolerations(wish)),
            containers: vec![container],
            volumes: Some(volumes),
            ..Default::default()
        }),
    };
    template::add(&mut pod, given, settings, template::Part::Serving);
    let made_with = names::digest(json!(pod).to_string().as_bytes());
    let annotations = &mut pod.metadata.get_or_insert_default().annotations;
    annotations.get_or_insert_default().insert(names::TEMPLATE_ANNOTATION.to_owned(), made_with);
    let spec = DeploymentSpec {
        replicas: Some(1),
        // On their node's network two of them would want the same port.
        strategy: Some(if given.is_some_and(|template| template.host_network) { anew() } else { one_beside() }),
        selector: LabelSelector { match_labels: Some(selector(wish, "gateway")), ..Default::default() },
        template: pod,
        ..Default::default()
    };
    let gateway = Deployment { spec: Some(spec), ..Default::default() };
    Object::new(wish, names::gateway(&wish.name), "gateway", gateway)
}

/// The old one goes before the new one comes.
fn anew() -> DeploymentStrategy {
    DeploymentStrategy { type_: Some("Recreate".to_owned()), ..Default::default() }
}

/// The new one is there before the old one goes.
fn one_beside() -> DeploymentStrategy {
    let (max_surge, max_unavailable) = (Some(IntOrString::Int(1)), Some(IntOrString::Int(0)));
    DeploymentStrategy {
        type_: Some("RollingUpdate".to_owned()),
        rolling_update: Some(RollingUpdateDeployment { max_surge, max_unavailable }),
    }
}

/// Memory for a gateway. Its tokenizer takes most of what it rests at, and follows from the model alone, as this must: what
/// changes with the plan would have another gateway take over.
#[derive(Clone, Copy, Debug, Default)]
struct GatewayMemory {
    /// Of the tokenizer.
    kibibytes: u64,
}

impl GatewayMemory {
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
fn tolerations(wish: &Wish) -> Vec<Toleration> {
    let of = |condition: &str| Toleration {
        key: Some(format!("node.kubernetes.io/{condition}")),
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        toleration_seconds: Some(wish.spec.failure.node_loss_grace_seconds.into()),
        ..Default::default()
    };
    vec![of("not-ready"), of("unreachable")]
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
        let of = |vocabulary: u32| (GatewayMemory::of(vocabulary).request(), GatewayMemory::of(vocabulary).limit());
        let mib = |request: u32, limit: u32| (format!("{request}Mi"), format!("{limit}Mi"));
        assert_eq!(of(1024), mib(64, 512));
        assert_eq!(of(32_000), mib(128, 512));
        // Llama 3 and Gemma.
        assert_eq!(of(128_256), mib(256, 704));
        assert_eq!(of(262_144), mib(512, 896));
    }
}
