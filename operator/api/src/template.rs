//! spec.template: what the pods of workers and gateway have besides what LIME itself needs there. A bounded part of a pod template.

// KubeSchema writes a second copy of the struct into a function.
#![allow(unreachable_pub)]

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        Affinity, AppArmorProfile, CSIVolumeSource, ConfigMapVolumeSource, EmptyDirVolumeSource, EnvVarSource,
        HostPathVolumeSource, PersistentVolumeClaimVolumeSource, SELinuxOptions, SeccompProfile, SecretVolumeSource,
        Toleration, TopologySpreadConstraint,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{foreign, template_rules as rules};

/// What the deployment's pods have besides what LIME itself needs there.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Template {
    /// The workers' pods. The pod that reads the model's headers is scheduled, labelled and secured as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new(rules::worker_memory()).message(rules::WORKER_MEMORY))]
    pub worker: Option<PodTemplate>,

    /// The gateway's pod. A change here makes it anew: the new one takes over when the old one has ended its answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<PodTemplate>,
}

/// What pods of one part have besides.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(rules::mounts_have_volumes()).message(rules::MOUNT_WITHOUT_VOLUME))]
pub struct PodTemplate {
    /// Labels of the pods, besides LIME's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(validation = Rule::new(rules::labels()).message(rules::LABELS))]
    pub labels: BTreeMap<String, String>,

    /// Annotations of the pods, besides LIME's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(validation = Rule::new(rules::annotations()).message(rules::ANNOTATIONS))]
    pub annotations: BTreeMap<String, String>,

    /// Environment variables of the container, such as HTTPS_PROXY, or SSL_CERT_FILE for a bundle of authorities.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[x_kube(validation = Rule::new(rules::env()).message(rules::ENV))]
    #[x_kube(validation = Rule::new(rules::env_value()).message(rules::ENV_VALUE))]
    pub env: Vec<Variable>,

    /// Further arguments of `lime worker` or `lime gateway`, each as one word: `--threads=4`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 1024)))]
    #[x_kube(validation = Rule::new(rules::arg_form()).message(rules::ARG_FORM))]
    #[x_kube(validation = Rule::new(rules::args()).message(rules::ARGS))]
    pub args: Vec<String>,

    /// Further volumes, each with one source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[x_kube(validation = Rule::new(rules::volume_names()).message(rules::VOLUME_NAMES))]
    #[x_kube(validation = Rule::new(rules::volume_sources()).message(rules::VOLUME_SOURCES))]
    pub volumes: Vec<ExtraVolume>,

    /// Where the further volumes are mounted in the container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["mountPath".into()]))]
    #[x_kube(validation = Rule::new(rules::mount_form()).message(rules::MOUNT_FORM))]
    #[x_kube(validation = Rule::new(rules::mount_paths()).message(rules::MOUNT_PATHS))]
    pub volume_mounts: Vec<ExtraMount>,

    /// What the container requests and may take. A worker's memory follows from the plan; the gateway's from the model's tokenizer,
    /// unless it is given here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,

    /// Taints that the pods tolerate. Plans count on nodes whose taints the workers tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[schemars(transform = foreign::adopt_tolerations)]
    pub tolerations: Vec<Toleration>,

    /// Where the pods may be, beside the node that a worker is planned for (or `spec.nodes.selector`, which the gateway obeys):
    /// both hold. What keeps a worker from its node makes for a plan without that node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = foreign::adopt)]
    pub affinity: Option<Affinity>,

    /// How the pods are spread over zones and the like.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[schemars(transform = foreign::adopt_spread)]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,

    /// The PriorityClass of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,

    /// Secrets of this namespace for pulling the image, besides those that the operator was given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub image_pull_secrets: Vec<PullSecret>,

    /// Use the node's own network instead of a pod's. Workers then listen on `spec.transport.port` and the port after it, the gateway
    /// on `spec.endpoint.port`, of the node; NetworkPolicies do not apply, and namespaces with baseline pod security refuse it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub host_network: bool,

    /// Who the processes are and what confines them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<PodSecurity>,
}

/// An environment variable.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Variable {
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[-._a-zA-Z][-._a-zA-Z0-9]*$"))]
    pub name: String,
    /// Its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32_768))]
    pub value: Option<String>,
    /// Where its value comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = foreign::adopt)]
    pub value_from: Option<EnvVarSource>,
}

/// A volume with one source.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExtraVolume {
    /// Its name, by which mounts name it.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// A ConfigMap, such as a bundle of authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = foreign::adopt)]
    pub config_map: Option<ConfigMapVolumeSource>,
    /// A Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = foreign::adopt)]
    pub secret: Option<SecretVolumeSource>,
    /// A claim of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = foreign::adopt)]
    pub persistent_volume_claim: Option<PersistentVolumeClaimVolumeSource>,
    /// A folder that goes with the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = foreign::adopt)]
    pub empty_dir: Option<EmptyDirVolumeSource>,
    /// A folder of the node. Namespaces with restricted pod security refuse it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = foreign::adopt)]
    pub host_path: Option<HostPathVolumeSource>,
    /// A volume of a CSI driver that goes with the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = foreign::adopt)]
    pub csi: Option<CSIVolumeSource>,
}

impl ExtraVolume {
    /// How many sources it names: one is right.
    pub(crate) fn sources(&self) -> usize {
        let named = [
            self.config_map.is_some(),
            self.secret.is_some(),
            self.persistent_volume_claim.is_some(),
            self.empty_dir.is_some(),
            self.host_path.is_some(),
            self.csi.is_some(),
        ];
        named.into_iter().filter(|named| *named).count()
    }
}

/// Where a volume is mounted.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExtraMount {
    /// The volume, one of `volumes`.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The folder in the container.
    #[schemars(length(min = 2, max = 512))]
    pub mount_path: String,
    /// A path within the volume instead of its root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub sub_path: Option<String>,
    /// True mounts it so that it cannot be written.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// What a container requests and may take.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What is set aside, by resource: `cpu: 500m`, `nvidia.com/gpu: 1`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16), transform = foreign::adopt)]
    pub requests: BTreeMap<String, Quantity>,
    /// What it may take at most.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16), transform = foreign::adopt)]
    pub limits: BTreeMap<String, Quantity>,
}

/// Who the processes are and what confines them. Never root, whatever is said here.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSecurity {
    /// The user's number. Default: the operator's `--pod-user`, which is 65532, or what the namespace's policy sets (OpenShift).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4_294_967_295_i64))]
    pub run_as_user: Option<i64>,
    /// The group's number. Default: as for the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4_294_967_295_i64))]
    pub run_as_group: Option<i64>,
    /// The group of the files in volumes. Default: as for the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4_294_967_295_i64))]
    pub fs_group: Option<i64>,
    /// Further groups of the processes, such as the one that owns a device.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(range(min = 1, max = 4_294_967_295_i64)))]
    pub supplemental_groups: Vec<i64>,
    /// The seccomp profile. Default: RuntimeDefault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = foreign::adopt_profile)]
    pub seccomp_profile: Option<SeccompProfile>,
    /// The AppArmor profile. Default: the container runtime's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = foreign::adopt_profile)]
    pub app_armor_profile: Option<AppArmorProfile>,
    /// The SELinux label. Default: the container runtime's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = foreign::adopt)]
    pub se_linux_options: Option<SELinuxOptions>,
}

/// A Secret of this namespace for pulling the image.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PullSecret {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}
