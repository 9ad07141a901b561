//! The rules that span fields: once as CEL for the API server, once here for files that no API server sees.

use crate::{Approval, LimeDeploymentSpec, ModelSource};

/// A rule that a spec breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The field, as a path from the object's root.
    pub field: &'static str,
    /// What is wrong and what to do.
    pub message: String,
}

pub(crate) const NAME: &str = "metadata.name must begin with a letter and have at most 40 lowercase letters, digits and dashes: the names of Services and pods are made from it";
pub(crate) const REVISION: &str =
    "revision belongs to hf:// sources only: remove spec.model.revision, or name an hf:// source";
pub(crate) const TOKEN: &str =
    "tokenSecretRef belongs to hf:// and http(s):// sources only: remove spec.model.tokenSecretRef";
pub(crate) const COUNTS: &str = "spec.nodes.maxCount must not be below spec.nodes.minCount";
pub(crate) const APPROVED: &str =
    "spec.placement.approvedPlan has a meaning only with approval: Manual: set that, or remove approvedPlan";

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
pub(crate) const PROFILE_BUDGET: (&str, &str) = quantity_of_bytes!("memoryBudget", "spec.memoryBudget");
pub(crate) const PROFILE_RESERVE: (&str, &str) = quantity_of_bytes!("memoryReserve", "spec.memoryReserve");
pub(crate) const PROFILE_DISK: (&str, &str) = quantity_of_bytes!("diskBudget", "spec.diskBudget");

impl LimeDeploymentSpec {
    /// Every rule across fields that this spec breaks. Types and ranges are the schema's business.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut add = |field, message: &str| faults.push(Fault { field, message: message.to_owned() });
        match self.model.source.parse::<ModelSource>() {
            Ok(source) => {
                if self.model.revision.is_some() && !matches!(source, ModelSource::Hub { .. }) {
                    add("spec.model.revision", REVISION);
                }
                let open = matches!(source, ModelSource::File { .. } | ModelSource::Claim { .. });
                if self.model.token_secret_ref.is_some() && open {
                    add("spec.model.tokenSecretRef", TOKEN);
                }
            }
            Err(error) => add("spec.model.source", &error.to_string()),
        }
        if self.nodes.max_count.is_some_and(|most| most < self.nodes.min_count) {
            add("spec.nodes.maxCount", COUNTS);
        }
        if self.placement.approved_plan.is_some() && self.placement.approval != Approval::Manual {
            add("spec.placement.approvedPlan", APPROVED);
        }
        let quantities = [
            ("spec.nodes.memoryReserve", &self.nodes.memory_reserve),
            ("spec.offload.maxDiskPerNode", &self.offload.max_disk_per_node),
        ];
        for (field, quantity) in quantities {
            if let Some(Err(error)) = quantity.as_ref().map(|quantity| crate::parse_bytes(&quantity.0)) {
                add(field, &error.to_string());
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn fields(spec: Value) -> Vec<&'static str> {
        let spec: LimeDeploymentSpec = serde_json::from_value(spec).unwrap();
        spec.faults().into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn each_rule_names_its_field_and_all_are_told_at_once() {
        assert_eq!(fields(json!({"model": {"source": "hf://a/b", "revision": "x"}})), Vec::<&str>::new());
        assert_eq!(fields(json!({"model": {"source": "s3://a"}})), ["spec.model.source"]);
        let many = json!({
            "model": {"source": "file:///m", "revision": "x", "tokenSecretRef": {"name": "a", "key": "b"}},
            "nodes": {"minCount": 3, "maxCount": 2, "memoryReserve": "lots"},
            "placement": {"approvedPlan": "p"},
        });
        let expected = [
            "spec.model.revision",
            "spec.model.tokenSecretRef",
            "spec.nodes.maxCount",
            "spec.placement.approvedPlan",
            "spec.nodes.memoryReserve",
        ];
        assert_eq!(fields(many), expected);
    }
}
