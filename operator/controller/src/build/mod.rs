//! What should be there for a plan in force: plain objects, made without a client. Nothing here can fail.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::{apps::v1 as apps, batch::v1 as batch, core::v1 as core, networking::v1 as networking, policy::v1 as policy},
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use kube::core::{ApiResource, Resource};
use lime_api::TransportSecurity;
use serde::Serialize;
use serde_json::Value;

use crate::{names, settings::Settings, snapshot::StoredCard, wish::Wish};

mod affinity;
mod exposure;
mod gateway;
mod inspection;
mod processors;
mod standing;
mod template;
mod worker;

pub use gateway::{PLAN_FILE, gateway, plan_file};
pub use inspection::inspection;
pub use processors::{are_limited, limit_processors};
pub use standing::standing;
pub use worker::{is_as_made, workers};

/// The gateway's port inside a pod with a network of its own.
const HTTP_PORT: u16 = 8000;

/// A kind that the operator makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Workers.
    Pod,
    /// The gateway.
    Deployment,
    /// Ways to workers and gateway.
    Service,
    /// Plans and cards as files.
    ConfigMap,
    /// Certificates.
    Secret,
    /// Who may reach whom.
    NetworkPolicy,
    /// How many pods may go at once.
    PodDisruptionBudget,
    /// Inspections.
    Job,
    /// Weight stores.
    PersistentVolumeClaim,
    /// Ways to gateways from outside.
    Ingress,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Pod,
        Self::Deployment,
        Self::Service,
        Self::ConfigMap,
        Self::Secret,
        Self::NetworkPolicy,
        Self::PodDisruptionBudget,
        Self::Job,
        Self::PersistentVolumeClaim,
        Self::Ingress,
    ];

    /// The kind as the API server knows it.
    pub fn resource(self) -> ApiResource {
        fn of<K: Resource<DynamicType = ()>>() -> ApiResource {
            ApiResource::erase::<K>(&())
        }
        match self {
            Self::Pod => of::<core::Pod>(),
            Self::Deployment => of::<apps::Deployment>(),
            Self::Service => of::<core::Service>(),
            Self::ConfigMap => of::<core::ConfigMap>(),
            Self::Secret => of::<core::Secret>(),
            Self::NetworkPolicy => of::<networking::NetworkPolicy>(),
            Self::PodDisruptionBudget => of::<policy::PodDisruptionBudget>(),
            Self::Job => of::<batch::Job>(),
            Self::PersistentVolumeClaim => of::<core::PersistentVolumeClaim>(),
            Self::Ingress => of::<networking::Ingress>(),
        }
    }

    /// Kinds that are made once and then left alone: most of their fields cannot be changed.
    pub const fn made_once(self) -> bool {
        matches!(self, Self::Pod | Self::Job | Self::PersistentVolumeClaim)
    }
}

/// An object that should be there.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// All of it, as it is applied.
    pub body: Value,
    /// Left as it is for the moment where it is there already.
    pub stays: bool,
}

/// A kind of Kubernetes' own that the operator makes.
trait Made: Resource<DynamicType = ()> + k8s_openapi::Metadata<Ty = ObjectMeta> + Serialize {
    /// The kind.
    const OURS: Kind;
}

macro_rules! made {
    ($($type:ty: $kind:ident),* $(,)?) => {
        $(impl Made for $type {
            const OURS: Kind = Kind::$kind;
        })*
    };
}

made! {
    core::Pod: Pod,
    apps::Deployment: Deployment,
    core::Service: Service,
    core::ConfigMap: ConfigMap,
    core::Secret: Secret,
    networking::NetworkPolicy: NetworkPolicy,
    policy::PodDisruptionBudget: PodDisruptionBudget,
    batch::Job: Job,
    core::PersistentVolumeClaim: PersistentVolumeClaim,
    networking::Ingress: Ingress,
}

impl Object {
    /// `object`, with the name, the labels and the owner that everything of a deployment has.
    fn new<K: Made>(wish: &Wish, name: String, component: &str, mut object: K) -> Self {
        let metadata = object.metadata_mut();
        metadata.name = Some(name.clone());
        metadata.namespace = Some(wish.namespace.clone());
        metadata.labels.get_or_insert_default().extend(names::labels(&wish.name, component));
        metadata.owner_references = Some(vec![wish.owner()]);
        // What Kubernetes' types have is text, numbers, lists and maps with text for keys: all of that is JSON.
        Self { kind: K::OURS, name, body: serde_json::to_value(&object).unwrap_or_default(), stays: false }
    }
}

/// The port at which the gateway of `wish` serves: on its node's network, the one that clients are told.
pub fn http_port(wish: &Wish) -> u16 {
    let on_node = wish.gateway_template().is_some_and(|template| template.host_network);
    Some(wish.spec.endpoint.port).filter(|_| on_node).and_then(|port| u16::try_from(port).ok()).unwrap_or(HTTP_PORT)
}

/// The port at which the gateway of `wish` tells health and figures in plain HTTP: its own, unless that speaks TLS.
fn status_port(wish: &Wish) -> u16 {
    let port = http_port(wish);
    if wish.spec.endpoint.tls_secret_ref.is_none() { port } else { port.checked_add(1).unwrap_or(port - 1) }
}

/// What the API speaks.
pub fn api_scheme(wish: &Wish) -> &'static str {
    if wish.spec.endpoint.tls_secret_ref.is_some() { "https" } else { "http" }
}

/// The port at which a gateway's pod tells how it is, as it was made.
pub fn served_at(pod: &core::Pod) -> u16 {
    let ports =
        pod.spec.iter().flat_map(|spec| &spec.containers).flat_map(|container| container.ports.iter().flatten());
    let http = ports.into_iter().find(|port| port.name.as_deref() == Some("http"));
    http.and_then(|port| u16::try_from(port.container_port).ok()).unwrap_or(HTTP_PORT)
}

/// Whether the ring of `wish` speaks mutual TLS: when it is asked for and the image can.
pub fn secured(wish: &Wish, settings: &Settings) -> bool {
    wish.spec.transport.security == TransportSecurity::MutualTls && settings.ring_tls
}

/// The card, kept: the inspection's pod does not last.
pub fn card(wish: &Wish, stored: &StoredCard) -> Object {
    let annotations = BTreeMap::from([(names::SOURCE_ANNOTATION.to_owned(), stored.source_digest.clone())]);
    let card = core::ConfigMap {
        metadata: ObjectMeta { annotations: Some(annotations), ..Default::default() },
        data: Some(BTreeMap::from([("card.json".to_owned(), stored.text.clone())])),
        ..Default::default()
    };
    Object::new(wish, names::card(&wish.name), "card", card)
}

/// A Secret with `data`.
pub fn secret<const N: usize>(wish: &Wish, name: String, component: &str, data: [(&str, &str); N]) -> Object {
    let data = data.map(|(key, text)| (key.to_owned(), ByteString(text.as_bytes().to_vec())));
    let secret = core::Secret { type_: Some("Opaque".to_owned()), data: Some(data.into()), ..Default::default() };
    Object::new(wish, name, component, secret)
}

/// The labels by which Services, policies and budgets find the pods of `component`.
fn selector(wish: &Wish, component: &str) -> BTreeMap<String, String> {
    let labels = [(names::DEPLOYMENT_LABEL, wish.name.as_str()), (names::COMPONENT_LABEL, component)];
    labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// What every container of ours may do: less.
fn container_security() -> core::SecurityContext {
    core::SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(core::Capabilities { drop: Some(vec!["ALL".to_owned()]), ..Default::default() }),
        ..Default::default()
    }
}

/// A mount of the volume `name`.
fn mount(name: &str, at: &str, read_only: bool) -> core::VolumeMount {
    core::VolumeMount {
        name: name.to_owned(),
        mount_path: at.to_owned(),
        read_only: read_only.then_some(true),
        ..Default::default()
    }
}

/// A folder that goes with its pod.
fn scratch_volume(name: &str, limit: Option<&str>) -> core::Volume {
    let empty_dir = core::EmptyDirVolumeSource { size_limit: limit.map(quantity), ..Default::default() };
    core::Volume { name: name.to_owned(), empty_dir: Some(empty_dir), ..Default::default() }
}

fn quantity(text: impl Into<String>) -> Quantity {
    Quantity(text.into())
}

/// What a container sets aside of processors and memory, and the memory that it may take at most.
fn resources(processors: &str, memory: &str, most: &str) -> core::ResourceRequirements {
    let of =
        |amounts: &[(&str, &str)]| amounts.iter().map(|(name, text)| ((*name).to_owned(), quantity(*text))).collect();
    core::ResourceRequirements {
        requests: Some(of(&[("cpu", processors), ("memory", memory)])),
        limits: Some(of(&[("memory", most)])),
        ..Default::default()
    }
}

/// A port of a container.
fn container_port(name: &str, port: u16) -> core::ContainerPort {
    core::ContainerPort {
        name: Some(name.to_owned()),
        container_port: port.into(),
        protocol: Some("TCP".to_owned()),
        ..Default::default()
    }
}

/// Opens the port called `port` and no more.
fn opens(port: &str) -> core::Probe {
    let tcp_socket = core::TCPSocketAction { port: IntOrString::String(port.to_owned()), ..Default::default() };
    core::Probe { tcp_socket: Some(tcp_socket), ..Default::default() }
}

/// Asks `path` at the port called `port`.
fn answers(path: &str, port: &str) -> core::Probe {
    let port = IntOrString::String(port.to_owned());
    let http_get = core::HTTPGetAction { path: Some(path.to_owned()), port, ..Default::default() };
    core::Probe { http_get: Some(http_get), ..Default::default() }
}

/// The model's folder inside pods, the volume behind it, and where it is mounted. Sources that are fetched have none.
fn model_volume(wish: &Wish) -> (String, Vec<core::Volume>, Vec<core::VolumeMount>) {
    use lime_api::ModelSource::{Claim, File, Hub, Web};
    const AT: &str = "/model";
    // Of a GGUF file its folder is mounted: other parts of the model may lie beside it.
    let file = wish.source.gguf();
    let at = file.map_or(AT.to_owned(), |(_, name)| format!("{AT}/{name}"));
    let volume = core::Volume { name: "model".to_owned(), ..Default::default() };
    match &wish.source {
        // The image's own: no volume, and so nothing that a namespace could refuse.
        File { path } if path.starts_with(names::IMAGE_MODELS) => (path.clone(), Vec::new(), Vec::new()),
        File { path } => {
            let folder = file.map_or(path.as_str(), |(folder, _)| if folder.is_empty() { "/" } else { folder });
            let host_path = core::HostPathVolumeSource { path: folder.to_owned(), type_: Some("Directory".to_owned()) };
            (at, vec![core::Volume { host_path: Some(host_path), ..volume }], vec![mount("model", AT, true)])
        }
        Claim { claim, path } => {
            let folder = file.map_or(path.as_str(), |(folder, _)| folder);
            let sub_path = (!folder.is_empty()).then(|| folder.to_owned());
            let claim = core::PersistentVolumeClaimVolumeSource { claim_name: claim.clone(), read_only: Some(true) };
            (
                at,
                vec![core::Volume { persistent_volume_claim: Some(claim), ..volume }],
                vec![core::VolumeMount { sub_path, ..mount("model", AT, true) }],
            )
        }
        Hub(_) | Web { .. } => (wish.source.to_string(), Vec::new(), Vec::new()),
    }
}

/// An environment variable.
fn variable(name: &str, value: impl Into<String>) -> core::EnvVar {
    core::EnvVar { name: name.to_owned(), value: Some(value.into()), ..Default::default() }
}

/// An environment variable whose value comes from elsewhere.
fn variable_from(name: &str, from: core::EnvVarSource) -> core::EnvVar {
    core::EnvVar { name: name.to_owned(), value_from: Some(from), ..Default::default() }
}

/// The environment of a process that fetches: from where, and with which token.
fn source_environment(wish: &Wish, settings: &Settings) -> Vec<core::EnvVar> {
    let token = wish.spec.model.token_secret_ref.iter().map(|token| {
        let key = core::SecretKeySelector { name: token.name.clone(), key: token.key.clone(), ..Default::default() };
        variable_from("HF_TOKEN", core::EnvVarSource { secret_key_ref: Some(key), ..Default::default() })
    });
    let from_hub = matches!(wish.source, lime_api::ModelSource::Hub(_));
    let endpoint = settings.hub_endpoint.iter().filter(|_| from_hub);
    token.chain(endpoint.map(|endpoint| variable("HF_ENDPOINT", endpoint))).collect()
}

/// The same for those who serve, with where the traces of requests go, by the variables that OpenTelemetry's own tools know.
fn serving_environment(wish: &Wish, settings: &Settings) -> Vec<core::EnvVar> {
    let mut environment = source_environment(wish, settings);
    if let Some(endpoint) = &settings.otlp_endpoint {
        let ratio = settings.trace_ratio.unwrap_or(1.0).to_string();
        environment.push(variable("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint));
        environment.push(variable("OTEL_TRACES_SAMPLER_ARG", ratio));
    }
    environment
}

#[cfg(test)]
mod tests;
