//! spec.endpoint.service and spec.endpoint.ingress: how clients outside of the cluster reach the model.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The Service in front of the gateway.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointService {
    /// ClusterIP: reached within the cluster. NodePort: at a port of every node. LoadBalancer: at an address of its own.
    #[serde(default, rename = "type")]
    pub kind: ServiceType,

    /// Annotations of the Service, such as those of a load balancer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: BTreeMap<String, String>,

    /// Labels of the Service, besides LIME's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub labels: BTreeMap<String, String>,

    /// The port of every node, for NodePort and LoadBalancer. Default: one that Kubernetes picks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub node_port: Option<i32>,

    /// Which load balancer serves it, for LoadBalancer. Default: the cluster's. It cannot be changed later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub load_balancer_class: Option<String>,

    /// Networks whose clients are let in, such as `10.0.0.0/8`, for LoadBalancer. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 64)))]
    pub load_balancer_source_ranges: Vec<String>,

    /// Cluster: any node takes clients in. Local: only the gateway's own node, and their addresses are kept. For NodePort and
    /// LoadBalancer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<ExternalTrafficPolicy>,

    /// Whether the Service has an address of each family. Default: the cluster's first alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_family_policy: Option<IpFamilyPolicy>,
}

/// From where a Service is reached: ClusterIP, NodePort or LoadBalancer.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceType {
    /// Within the cluster.
    #[default]
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    /// At a port of every node.
    NodePort,
    /// At an address of its own.
    LoadBalancer,
}

/// Which nodes take clients in: Cluster or Local.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExternalTrafficPolicy {
    /// All.
    Cluster,
    /// The gateway's own.
    Local,
}

/// Address families of a Service: SingleStack, PreferDualStack or RequireDualStack.
#[derive(JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpFamilyPolicy {
    /// One.
    SingleStack,
    /// Both, where the cluster has both.
    PreferDualStack,
    /// Both.
    RequireDualStack,
}

/// An Ingress in front of the Service.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointIngress {
    /// Which controller serves it. Default: the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub class_name: Option<String>,

    /// Names under which clients find it. Default: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub hosts: Vec<String>,

    /// Paths that begin so are let in. The default lets the API in, and neither health nor metrics.
    #[serde(default = "EndpointIngress::default_path")]
    #[schemars(length(min = 1, max = 256), regex(pattern = "^/"))]
    pub path: String,

    /// The Secret with certificate and key for the hosts. Default: plain HTTP, or what the controller does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub tls_secret_name: Option<String>,

    /// Annotations of the Ingress, such as a certificate's issuer or a time-out. Answers stream for as long as they take: most
    /// controllers want a longer time-out, and no buffering.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: BTreeMap<String, String>,

    /// Labels of the Ingress, besides LIME's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub labels: BTreeMap<String, String>,
}

impl EndpointIngress {
    fn default_path() -> String {
        "/v1".into()
    }
}
