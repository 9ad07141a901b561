//! What should be there for a plan in force: plain objects, made without a client. Nothing here can fail.

use k8s_openapi::api::{
    apps::v1 as apps, batch::v1 as batch, core::v1 as core, networking::v1 as networking, policy::v1 as policy,
};
use kube::core::{ApiResource, Resource};
use lime_api::TransportSecurity;
use serde_json::{Value, json};

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

/// Models below this folder are in the image.
pub(crate) const IMAGE_MODELS: &str = "/usr/share/lime/models/";

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
}

impl Object {
    fn new(wish: &Wish, kind: Kind, name: String, component: &str, rest: Value) -> Self {
        let resource = kind.resource();
        let mut body = json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {
                "name": name,
                "namespace": wish.namespace,
                "labels": names::labels(&wish.name, component),
                "ownerReferences": wish.owner(),
            },
        });
        merge(&mut body, rest);
        Self { kind, name, body }
    }
}

/// Adds the fields of `more`; maps are merged, everything else is replaced.
fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more,
    }
}

/// The port at which the gateway of `wish` serves: on its node's network, the one that clients are told.
pub fn http_port(wish: &Wish) -> u16 {
    let on_node = wish.gateway_template().is_some_and(|template| template.host_network);
    Some(wish.spec.endpoint.port).filter(|_| on_node).and_then(|port| u16::try_from(port).ok()).unwrap_or(HTTP_PORT)
}

/// The port at which a gateway's pod serves, as it was made.
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
    let rest = json!({
        "metadata": { "annotations": { names::SOURCE_ANNOTATION: stored.source_digest } },
        "data": { "card.json": stored.text },
    });
    Object::new(wish, Kind::ConfigMap, names::card(&wish.name), "card", rest)
}

/// A Secret with `data` (base64).
pub fn secret(wish: &Wish, name: String, component: &str, data: Value) -> Object {
    Object::new(wish, Kind::Secret, name, component, json!({ "type": "Opaque", "data": data }))
}

/// What every container of ours may do: less.
fn container_security() -> Value {
    json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] },
    })
}

/// The model's folder inside pods, the volume behind it, and where it is mounted. Sources that are fetched have none.
fn model_volume(wish: &Wish) -> (String, Vec<Value>, Vec<Value>) {
    use lime_api::ModelSource::{Claim, File, Hub, Web};
    const AT: &str = "/model";
    // Of a GGUF file its folder is mounted: other parts of the model may lie beside it.
    let file = wish.source.gguf();
    let at = file.map_or(AT.to_owned(), |(_, name)| format!("{AT}/{name}"));
    match &wish.source {
        // The image's own: no volume, and so nothing that a namespace could refuse.
        File { path } if path.starts_with(IMAGE_MODELS) => (path.clone(), Vec::new(), Vec::new()),
        File { path } => {
            let folder = file.map_or(path.as_str(), |(folder, _)| if folder.is_empty() { "/" } else { folder });
            (
                at,
                vec![json!({ "name": "model", "hostPath": { "path": folder, "type": "Directory" } })],
                vec![json!({ "name": "model", "mountPath": AT, "readOnly": true })],
            )
        }
        Claim { claim, path } => {
            let folder = file.map_or(path.as_str(), |(folder, _)| folder);
            let mut mount = json!({ "name": "model", "mountPath": AT, "readOnly": true });
            if !folder.is_empty() {
                mount["subPath"] = folder.into();
            }
            (
                at,
                vec![json!({ "name": "model", "persistentVolumeClaim": { "claimName": claim, "readOnly": true } })],
                vec![mount],
            )
        }
        Hub(_) | Web { .. } => (wish.source.to_string(), Vec::new(), Vec::new()),
    }
}

/// The environment of a process that fetches: from where, and with which token.
fn source_environment(wish: &Wish, settings: &Settings) -> Vec<Value> {
    let token = wish.spec.model.token_secret_ref.iter();
    let token = token.map(|token| json!({ "name": "HF_TOKEN", "valueFrom": { "secretKeyRef": { "name": token.name, "key": token.key } } }));
    let from_hub = matches!(wish.source, lime_api::ModelSource::Hub(_));
    let endpoint = settings.hub_endpoint.iter().filter(|_| from_hub);
    token.chain(endpoint.map(|endpoint| json!({ "name": "HF_ENDPOINT", "value": endpoint }))).collect()
}

/// The same for those who serve, with where the traces of requests go, by the variables that OpenTelemetry's own tools know.
fn serving_environment(wish: &Wish, settings: &Settings) -> Vec<Value> {
    let mut environment = source_environment(wish, settings);
    if let Some(endpoint) = &settings.otlp_endpoint {
        let ratio = settings.trace_ratio.unwrap_or(1.0).to_string();
        environment.push(json!({ "name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": endpoint }));
        environment.push(json!({ "name": "OTEL_TRACES_SAMPLER_ARG", "value": ratio }));
    }
    environment
}

#[cfg(test)]
mod tests;
