//! What should be there for a plan in force: plain objects, made without a client. Nothing here can fail.

use k8s_openapi::api::{
    apps::v1 as apps, batch::v1 as batch, core::v1 as core, networking::v1 as networking, policy::v1 as policy,
};
use kube::core::{ApiResource, Resource};
use lime_api::TransportSecurity;
use serde_json::{Value, json};

use crate::{names, settings::Settings, snapshot::StoredCard, wish::Wish};

mod gateway;
mod inspection;
mod standing;
mod worker;

pub use gateway::{PLAN_FILE, gateway, plan_file};
pub use inspection::inspection;
pub use standing::standing;
pub use worker::{is_as_made, workers};

/// The port on which workers listen.
pub const RING_PORT: u16 = 7000;
/// The gateway's port inside its pod.
pub const HTTP_PORT: u16 = 8000;

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
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Pod,
        Self::Deployment,
        Self::Service,
        Self::ConfigMap,
        Self::Secret,
        Self::NetworkPolicy,
        Self::PodDisruptionBudget,
        Self::Job,
        Self::PersistentVolumeClaim,
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

/// What every pod of ours may do: nothing.
fn pod_security() -> Value {
    json!({
        "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": { "type": "RuntimeDefault" },
    })
}

/// What every container of ours may do: less.
fn container_security() -> Value {
    json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] },
    })
}

/// Where pods may be that are not pinned: on the nodes that the wish names, as the workers are.
fn affinity(wish: &Wish) -> Option<Value> {
    let selector = wish.spec.nodes.selector.as_ref()?;
    let labels = selector.match_labels.iter().flatten();
    let labels = labels.map(|(key, value)| json!({ "key": key, "operator": "In", "values": [value] }));
    let others = selector.match_expressions.iter().flatten().map(|it| json!(it));
    let expressions: Vec<Value> = labels.chain(others).collect();
    let required = json!({ "nodeSelectorTerms": [{ "matchExpressions": expressions }] });
    let affinity = json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": required } });
    (!expressions.is_empty()).then_some(affinity)
}

/// The model's folder inside pods, the volume behind it, and where it is mounted. Sources that are fetched have none.
fn model_volume(wish: &Wish) -> (String, Vec<Value>, Vec<Value>) {
    use lime_api::ModelSource::{Claim, File, Hub, Web};
    const AT: &str = "/model";
    match &wish.source {
        File { path } => (
            AT.to_owned(),
            vec![json!({ "name": "model", "hostPath": { "path": path, "type": "Directory" } })],
            vec![json!({ "name": "model", "mountPath": AT, "readOnly": true })],
        ),
        Claim { claim, path } => (
            AT.to_owned(),
            vec![json!({ "name": "model", "persistentVolumeClaim": { "claimName": claim, "readOnly": true } })],
            vec![json!({ "name": "model", "mountPath": AT, "subPath": path, "readOnly": true })],
        ),
        Hub { .. } | Web { .. } => (wish.source.to_string(), Vec::new(), Vec::new()),
    }
}

/// The environment of a process that fetches: from where, and with which token.
fn source_environment(wish: &Wish, settings: &Settings) -> Vec<Value> {
    let token = wish.spec.model.token_secret_ref.iter();
    let token = token.map(|token| json!({ "name": "HF_TOKEN", "valueFrom": { "secretKeyRef": { "name": token.name, "key": token.key } } }));
    let from_hub = matches!(wish.source, lime_api::ModelSource::Hub { .. });
    let endpoint = settings.hub_endpoint.iter().filter(|_| from_hub);
    token.chain(endpoint.map(|endpoint| json!({ "name": "HF_ENDPOINT", "value": endpoint }))).collect()
}

#[cfg(test)]
mod tests;
