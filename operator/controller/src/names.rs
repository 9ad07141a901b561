//! The names and labels of what the operator makes.

use std::collections::BTreeMap;

pub use lime_api::{COMPONENT_LABEL, DEPLOYMENT_LABEL, component_selector as selector};

/// Models below this folder are in the image.
pub(crate) const IMAGE_MODELS: &str = "/usr/share/lime/models/";
/// The field manager of every write.
pub const MANAGER: &str = "lime-operator";
/// The plan that an object belongs to; on the gateway's pod: the plan that it was told of last.
pub const PLAN_LABEL: &str = "lime.dev/plan";
/// On the gateway's pod: the digest of the plan file that it was told of last.
pub const TOLD_ANNOTATION: &str = "lime.dev/plan-digest";
/// On the gateway's pod: when it was told, in seconds since 1970.
pub const TOLD_AT_ANNOTATION: &str = "lime.dev/told-at";
/// On the template of the gateway's pod: a digest of all that tokens depend on. Another model needs another gateway.
pub const TOKENS_ANNOTATION: &str = "lime.dev/tokens";
/// The node that a worker was planned for.
pub const NODE_LABEL: &str = "lime.dev/node";
/// What a worker's pod was told to speak: [`PLAINTEXT`] or [`MUTUAL_TLS`].
pub const TRANSPORT_LABEL: &str = "lime.dev/transport";
/// On the pods of workers and gateways: a digest of all that they were made with. They are made anew when this changes.
pub const TEMPLATE_ANNOTATION: &str = "lime.dev/template";
/// Plain text; also what pods without the label speak.
pub const PLAINTEXT: &str = "plaintext";
/// Mutual TLS.
pub const MUTUAL_TLS: &str = "mutual-tls";
/// What all objects of the operator carry.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", MANAGER);
/// The digest of the model's source that a card was read from.
pub const SOURCE_ANNOTATION: &str = "lime.dev/source-digest";

/// The labels of an object of `deployment`.
pub fn labels(deployment: &str, component: &str) -> BTreeMap<String, String> {
    [
        (MANAGED_BY.0, MANAGED_BY.1),
        ("app.kubernetes.io/name", "lime"),
        ("app.kubernetes.io/instance", deployment),
        ("app.kubernetes.io/component", component),
        (DEPLOYMENT_LABEL, deployment),
        (COMPONENT_LABEL, component),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

/// A plan's name: the deployment and the beginning of the digest of its inputs.
pub fn plan(deployment: &str, input_hash: &str) -> String {
    let digits: String = input_hash.chars().filter(char::is_ascii_hexdigit).take(8).collect();
    format!("{deployment}-{}", digits.to_ascii_lowercase())
}

/// The worker pod at place `index` of the ring of `plan`.
pub fn worker(plan: &str, index: usize) -> String {
    format!("{plan}-{index}")
}

/// The headless Service of a deployment's workers.
pub fn ring(deployment: &str) -> String {
    format!("{deployment}-ring")
}

/// The gateway Deployment.
pub fn gateway(deployment: &str) -> String {
    format!("{deployment}-gateway")
}

/// The ConfigMap with the plan in force, which the gateway follows.
pub fn plan_file(deployment: &str) -> String {
    format!("{deployment}-plan")
}

/// The ConfigMap that keeps the model's card.
pub fn card(deployment: &str) -> String {
    format!("{deployment}-model")
}

/// The Job that reads the model's card, one for each source.
pub fn inspection(deployment: &str, source_digest: &str) -> String {
    let digits: String = source_digest.chars().take(8).collect();
    format!("{deployment}-inspect-{digits}")
}

/// The Secret with a deployment's certificate authority.
pub fn authority(deployment: &str) -> String {
    format!("{deployment}-ca")
}

/// The Secret with the certificate of `component`.
pub fn certificate(deployment: &str, component: &str) -> String {
    format!("{deployment}-{component}-tls")
}

/// The names in the certificate of `component`: one by which clients of the ring know a server's part whatever its
/// address, the same for all deployments, since each has its own authority (`lime_ring::SERVER_NAME` is that of workers; a
/// test in `tests/` holds the two together); and one for people.
pub fn in_certificate(deployment: &str, namespace: &str, component: &str) -> [String; 2] {
    [format!("{component}.lime.internal"), format!("{component}.{deployment}.{namespace}.lime.internal")]
}

/// The first 16 hexadecimal digits of the SHA-256 of `text`.
pub fn digest(text: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
