//! Which taints of nodes a deployment's workers tolerate.

use k8s_openapi::api::core::v1::{Taint, Toleration};

/// Whether pods with `tolerations` may be on a node with `taint`, as the scheduler sees it.
pub fn tolerated(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| {
        let effect = toleration.effect.as_deref().unwrap_or_default();
        let key = toleration.key.as_deref().unwrap_or_default();
        let same_value =
            || toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default();
        (effect.is_empty() || effect == taint.effect)
            && match toleration.operator.as_deref().unwrap_or("Equal") {
                "Exists" => key.is_empty() || key == taint.key,
                "Equal" | "" => key == taint.key && same_value(),
                _ => false,
            }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn taints_are_tolerated_as_the_scheduler_does_it() {
        let taint: Taint =
            serde_json::from_value(json!({ "key": "gpu", "value": "yes", "effect": "NoSchedule" })).unwrap();
        let table = [
            (json!({ "operator": "Exists" }), true),
            (json!({ "key": "gpu", "operator": "Exists" }), true),
            (json!({ "key": "gpu", "value": "yes" }), true),
            (json!({ "key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule" }), true),
            (json!({ "key": "gpu", "operator": "Exists", "effect": "NoExecute" }), false),
            (json!({ "key": "gpu", "value": "no" }), false),
            (json!({ "key": "gpu" }), false),
            (json!({ "key": "tpu", "operator": "Exists" }), false),
            (json!({ "key": "gpu", "operator": "Perhaps" }), false),
        ];
        let of = |toleration: &Value| vec![serde_json::from_value::<Toleration>(toleration.clone()).unwrap()];
        for (toleration, expected) in table {
            assert_eq!(tolerated(&of(&toleration), &taint), expected, "{toleration}");
        }
        assert!(!tolerated(&[], &taint));
    }
}
