//! spec.endpoint and spec.transport: how clients reach the model, and how nodes reach one another.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::SecretKeyRef;

/// Where clients find the model.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// The port of the OpenAI-compatible API.
    #[serde(default = "Endpoint::default_port")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: i32,

    /// The Secret with the keys that clients must send, one a line. Without it, anyone who reaches the port is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_secret_ref: Option<SecretKeyRef>,
}

impl Endpoint {
    fn default_port() -> i32 {
        8000
    }
}

impl Default for Endpoint {
    fn default() -> Self {
        Self { port: Self::default_port(), api_key_secret_ref: None }
    }
}

/// How the nodes talk to one another.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Transport {
    /// MutualTLS: encrypted, and only members of this deployment are let in. Plaintext: neither; for trusted networks.
    #[serde(default)]
    pub security: TransportSecurity,
}

/// How connections between nodes are secured: MutualTLS or Plaintext.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TransportSecurity {
    /// Encrypted and authenticated on both sides, with a certificate authority of the deployment's own.
    #[default]
    #[serde(rename = "MutualTLS")]
    MutualTls,
    /// Neither.
    Plaintext,
}
