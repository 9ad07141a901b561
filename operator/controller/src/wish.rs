//! From a spec to a wish that has been checked: every fault is told at once.

use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{Resource as _, ResourceExt as _};
use lime_api::{
    Arithmetic, KvCacheType, LimeDeployment, LimeDeploymentSpec, ModelSource, PodTemplate, Serving, parse_bytes,
};
use lime_plan::{Bytes, Dtype, Goal, ModelCard};
use serde_json::json;

use crate::{
    names,
    settings::{Settings, WeightStore},
};

/// A wish that has been checked.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The deployment's name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its uid, for owner references.
    pub uid: String,
    /// The generation of its spec.
    pub generation: i64,
    /// Where the model comes from.
    pub source: ModelSource,
    /// Memory that is left to others on each node.
    pub reserve: Bytes,
    /// Most bytes on a node's disk.
    pub disk: Option<Bytes>,
    /// The spec.
    pub spec: LimeDeploymentSpec,
}

impl Wish {
    /// Checks a deployment.
    ///
    /// # Errors
    /// One sentence for each fault, the field first.
    pub fn check(deployment: &LimeDeployment) -> Result<Self, Vec<String>> {
        let mut faults: Vec<String> =
            deployment.spec.faults().into_iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect();
        let source = deployment.spec.model.source.parse::<ModelSource>();
        if let Ok(ModelSource::File { path }) = &source
            && !path.starts_with('/')
        {
            faults.push("spec.model.source: a file:// path must be absolute in a cluster: write file:///PATH".into());
        }
        let bytes = |quantity: &Option<k8s_openapi::apimachinery::pkg::api::resource::Quantity>| {
            quantity.as_ref().and_then(|quantity| parse_bytes(&quantity.0).ok())
        };
        match source {
            Ok(source) if faults.is_empty() => Ok(Self {
                name: deployment.name_any(),
                namespace: deployment.namespace().unwrap_or_default(),
                uid: deployment.uid().unwrap_or_default(),
                generation: deployment.metadata.generation.unwrap_or_default(),
                source,
                reserve: bytes(&deployment.spec.nodes.memory_reserve).unwrap_or_default(),
                disk: bytes(&deployment.spec.offload.max_disk_per_node),
                spec: deployment.spec.clone(),
            }),
            // A source that is none is among the faults.
            _ => Err(faults),
        }
    }

    /// A digest of all that bears on the plan; approval, replanning, failures, endpoint and suspension do not.
    pub fn hash(&self) -> String {
        let spec = &self.spec;
        // Auto goes by its older name: for a new name alone nothing is planned anew.
        let kv_cache_type = match spec.serving.kv_cache_type {
            KvCacheType::Auto => KvCacheType::Weights,
            said => said,
        };
        let serving = Serving { kv_cache_type, ..spec.serving.clone() };
        let mut parts = vec![
            json!(spec.model.source),
            json!(spec.model.revision),
            json!(serving),
            json!(spec.objective),
            json!(spec.nodes),
            json!(spec.offload),
        ];
        // What was asked for before there was a choice of it keeps its digest.
        if spec.arithmetic != Arithmetic::Exact {
            parts.push(json!(spec.arithmetic));
        }
        names::digest(json!(parts).to_string().as_bytes())
    }

    /// A digest of where the model comes from.
    pub fn source_digest(&self) -> String {
        let model = &self.spec.model;
        names::digest(json!([model.source, model.revision]).to_string().as_bytes())
    }

    /// Whether the model comes by way of a weight store wherever it is read: from a server, or from a GGUF file.
    pub fn is_fetched(&self) -> bool {
        matches!(self.source, ModelSource::Hub(_) | ModelSource::Web { .. }) || self.source.gguf().is_some()
    }

    /// Whether workers mount folders of their nodes.
    pub fn mounts_folders(&self, settings: &Settings) -> bool {
        self.is_on_nodes() || matches!(settings.weight_store, WeightStore::HostPath)
    }

    /// Whether the model is a folder of the nodes, which every pod that reads it mounts: not one of the image.
    pub fn is_on_nodes(&self) -> bool {
        matches!(&self.source, ModelSource::File { path } if !path.starts_with(names::IMAGE_MODELS))
    }

    /// The model's name in the API.
    pub fn served_name(&self) -> &str {
        self.spec.model.served_name.as_deref().unwrap_or(&self.name)
    }

    /// What the workers' pods have besides.
    pub fn worker_template(&self) -> Option<&PodTemplate> {
        self.spec.template.as_ref()?.worker.as_ref()
    }

    /// What the gateway's pod has besides.
    pub fn gateway_template(&self) -> Option<&PodTemplate> {
        self.spec.template.as_ref()?.gateway.as_ref()
    }

    /// The port on which workers listen.
    pub fn ring_port(&self) -> u16 {
        // The schema keeps it between 1024 and 65534.
        u16::try_from(self.spec.transport.port).unwrap_or(7000)
    }

    /// The port at which a worker says whether it gets on, to its kubelet.
    pub fn health_port(&self) -> u16 {
        self.ring_port().saturating_add(1)
    }

    /// Seconds that a pod of the ring may take to end: answers under way, and then the pod itself.
    pub fn drain_grace(&self) -> i64 {
        const CLOSING: i64 = 10;
        i64::from(self.spec.endpoint.drain_seconds).saturating_add(CLOSING)
    }

    /// The dtype of KV entries.
    pub const fn kv(&self, card: &ModelCard) -> Dtype {
        self.spec.serving.kv_cache_type.dtype(card.dtype())
    }

    /// What the planner is asked for, with a note where the model allows less than was asked.
    pub fn goal(&self, card: &ModelCard) -> (Goal, Option<String>) {
        self.spec.goal(card)
    }

    /// The owner of what is made for this wish.
    pub fn owner(&self) -> OwnerReference {
        OwnerReference {
            api_version: lime_api::API_VERSION.to_owned(),
            kind: "LimeDeployment".to_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }
}

/// A deployment, as events name it.
pub fn reference(deployment: &LimeDeployment) -> ObjectReference {
    deployment.object_ref(&())
}
