//! The rules that span fields, as CEL for the API server, and their sentences. `faults.rs` has them for files that no API server sees.

pub(crate) const NAME: &str = "metadata.name must begin with a letter and have at most 40 lowercase letters, digits and dashes: the names of Services and pods are made from it";
pub(crate) const REVISION: &str =
    "revision belongs to hf:// sources only: remove spec.model.revision, or name an hf:// source";
pub(crate) const TOKEN: &str =
    "tokenSecretRef belongs to hf:// and http(s):// sources only: remove spec.model.tokenSecretRef";
pub(crate) const COUNTS: &str = "spec.nodes.maxCount must not be below spec.nodes.minCount";
pub(crate) const APPROVED: &str =
    "spec.placement.approvedPlan has a meaning only with approval: Manual: set that, or remove approvedPlan";

pub(crate) const SERVICE_NODE_PORT: (&str, &str) = (
    "!has(self.nodePort) || self.type != 'ClusterIP'",
    "nodePort has a meaning only with type: NodePort or LoadBalancer: set that, or remove spec.endpoint.service.nodePort",
);
pub(crate) const SERVICE_TRAFFIC: (&str, &str) = (
    "!has(self.externalTrafficPolicy) || self.type != 'ClusterIP'",
    "externalTrafficPolicy has a meaning only with type: NodePort or LoadBalancer: set that, or remove spec.endpoint.service.externalTrafficPolicy",
);
pub(crate) const SERVICE_BALANCER: (&str, &str) = (
    "self.type == 'LoadBalancer' || !(has(self.loadBalancerClass) || has(self.loadBalancerSourceRanges))",
    "loadBalancerClass and loadBalancerSourceRanges have a meaning only with type: LoadBalancer: set that, or remove them from spec.endpoint.service",
);
/// Keys of labels and annotations that are LIME's own.
macro_rules! foreign_keys {
    ($path:literal) => {
        (
            "(!has(self.labels) || self.labels.all(k, !k.startsWith('lime.dev/') && k != 'app.kubernetes.io/managed-by')) \
             && (!has(self.annotations) || self.annotations.all(k, !k.startsWith('lime.dev/') && k != 'app.kubernetes.io/managed-by'))",
            concat!(
                "labels and annotations of ",
                $path,
                " that begin with lime.dev/, and app.kubernetes.io/managed-by, are LIME's own: choose another key"
            ),
        )
    };
}
pub(crate) const SERVICE_METADATA: (&str, &str) = foreign_keys!("spec.endpoint.service");
pub(crate) const INGRESS_METADATA: (&str, &str) = foreign_keys!("spec.endpoint.ingress");

/// The CEL rule for an optional quantity of bytes, and its sentence. It takes what [`crate::parse_bytes`] takes: Kubernetes' own
/// quantities may be negative, or thousandths.
macro_rules! quantity_of_bytes {
    ($field:literal, $path:literal) => {
        (
            concat!(
                "!has(self.",
                $field,
                ") || (type(self.",
                $field,
                ") == int ? self.",
                $field,
                " >= 0 : self.",
                $field,
                ".matches('^([0-9]+[.]?[0-9]*|[.][0-9]+)(k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$') && quantity(self.",
                $field,
                ").isLessThan(quantity('16Ei')))"
            ),
            concat!(
                $path,
                " is not a quantity of bytes below 16Ei: write a number and a suffix such as 512Mi, 1.5Gi or 4G"
            ),
        )
    };
}

pub(crate) const MEMORY_RESERVE: (&str, &str) = quantity_of_bytes!("memoryReserve", "spec.nodes.memoryReserve");
pub(crate) const MAX_DISK: (&str, &str) = quantity_of_bytes!("maxDiskPerNode", "spec.offload.maxDiskPerNode");
pub(crate) const PREFIX_DISK: (&str, &str) = quantity_of_bytes!("disk", "spec.prefixCache.disk");
pub(crate) const PROFILE_BUDGET: (&str, &str) = quantity_of_bytes!("memoryBudget", "spec.memoryBudget");
pub(crate) const PROFILE_RESERVE: (&str, &str) = quantity_of_bytes!("memoryReserve", "spec.memoryReserve");
pub(crate) const PROFILE_DISK: (&str, &str) = quantity_of_bytes!("diskBudget", "spec.diskBudget");
