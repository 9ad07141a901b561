//! spec.endpoint and spec.transport: how clients reach the model, and how nodes reach one another.

// KubeSchema writes a second copy of the struct into a function.
#![allow(unreachable_pub)]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    exposure::{EndpointIngress, EndpointService},
    model::{SecretKeyRef, SecretRef},
    rules,
};

/// Where clients find the model.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// The port of the OpenAI-compatible API.
    #[serde(default = "Endpoint::default_port")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: i32,

    /// The Secret with the keys that clients must send, one a line. Without it, anyone who reaches the port is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_secret_ref: Option<SecretKeyRef>,

    /// The Secret, of type kubernetes.io/tls, with the certificate (`tls.crt`, `tls.key`) by which the API speaks TLS; a renewed one is
    /// taken up without a restart. The pod then tells health and figures, and nothing else, in plain HTTP at the port after its
    /// own. Without it the API speaks plain HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_secret_ref: Option<SecretRef>,

    /// Web pages, by their origins such as `https://chat.example`, whose scripts may ask and read the answers, beside pages on their
    /// reader's own machine; `*`: every page there is. Keys are asked for all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 260), regex(pattern = r"^(\*|null|[a-zA-Z][-+.a-zA-Z0-9]*://[^/@*\s]+/?)$"))
    )]
    pub allowed_origins: Vec<String>,

    /// How many seconds answers under way may go on when their gateway leaves: its node is drained, or an upgrade replaces it. Then they end
    /// with an error that clients may retry. Requests that come meanwhile wait in the gateway after it.
    #[serde(default = "Endpoint::default_drain_seconds")]
    #[schemars(range(min = 0, max = 3600))]
    pub drain_seconds: i32,

    /// Refuse requests with fields that are not known. Without it these are ignored, as other servers do, and named once in the gateway's
    /// log.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub strict: bool,

    /// The Service that clients reach the gateway by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(rules::SERVICE_NODE_PORT.0).message(rules::SERVICE_NODE_PORT.1))]
    #[x_kube(validation = Rule::new(rules::SERVICE_TRAFFIC.0).message(rules::SERVICE_TRAFFIC.1))]
    #[x_kube(validation = Rule::new(rules::SERVICE_BALANCER.0).message(rules::SERVICE_BALANCER.1))]
    #[x_kube(validation = Rule::new(rules::SERVICE_METADATA.0).message(rules::SERVICE_METADATA.1))]
    pub service: Option<EndpointService>,

    /// An Ingress in front of that Service. Without it there is none. For the Gateway API, make an HTTPRoute to the Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(rules::INGRESS_METADATA.0).message(rules::INGRESS_METADATA.1))]
    pub ingress: Option<EndpointIngress>,
}

impl Endpoint {
    fn default_port() -> i32 {
        8000
    }

    fn default_drain_seconds() -> i32 {
        120
    }
}

impl Default for Endpoint {
    fn default() -> Self {
        Self {
            port: Self::default_port(),
            api_key_secret_ref: None,
            tls_secret_ref: None,
            allowed_origins: Vec::new(),
            drain_seconds: Self::default_drain_seconds(),
            strict: false,
            service: None,
            ingress: None,
        }
    }
}

/// How the nodes talk to one another.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Transport {
    /// MutualTLS: encrypted, and only members of this deployment are let in. Plaintext: neither; for trusted networks.
    #[serde(default)]
    pub security: TransportSecurity,

    /// The port on which workers listen; at the one after it they tell the kubelet how they are. Deployments whose workers use the
    /// node's own network (`hostNetwork`) on the same nodes need ports of their own.
    #[serde(default = "Transport::default_port")]
    #[schemars(range(min = 1024, max = 65_534))]
    pub port: i32,
}

impl Transport {
    fn default_port() -> i32 {
        7000
    }
}

impl Default for Transport {
    fn default() -> Self {
        Self { security: TransportSecurity::default(), port: Self::default_port() }
    }
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
