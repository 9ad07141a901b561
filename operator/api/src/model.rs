//! spec.model: what is served.

// KubeSchema writes a second copy of the struct into a function.
#![allow(unreachable_pub)]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The model to serve.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Model {
    /// Where the model's folder comes from: `hf://ORGANISATION/NAME`, `pvc://CLAIM/PATH`, `file:///PATH` (present on every
    /// node) or `http(s)://HOST/PATH`. A GGUF file is named itself (`file:///PATH/NAME.gguf`), on the hub by its quantization
    /// (`hf://ORGANISATION/NAME-GGUF:Q4_K_M`) or its path (`hf://ORGANISATION/NAME/FILE.gguf`). It cannot be changed later: make another LimeDeployment for another model.
    #[x_kube(validation = Rule::new("self.matches('^(hf://[^/:@]+/[^/:@]+([:@/].+)?|pvc://[^/]+/.+|file:///.+|https?://[^/]+.*)$')").message("spec.model.source must be hf://ORGANISATION/NAME[:QUANT or /FILE.gguf], pvc://CLAIM/PATH, file:///PATH or http(s)://HOST/PATH"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("spec.model.source cannot be changed: make another LimeDeployment for another model"))]
    #[schemars(length(min = 1, max = 1024))]
    pub source: String,

    /// The commit of an `hf://` model. Without it, the newest one is looked up once and kept in the status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub revision: Option<String>,

    /// The model's name in the API. Default: the name of the LimeDeployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub served_name: Option<String>,

    /// The Secret that holds the token for a gated model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<SecretKeyRef>,
}

/// A Secret in the same namespace.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// One key of a Secret in the same namespace.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key within it.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}
