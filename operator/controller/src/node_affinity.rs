//! Which nodes a deployment's workers want to be on, by the node affinity that their template requires.

use k8s_openapi::api::core::v1::{Affinity, Node, NodeSelectorRequirement, NodeSelectorTerm};
use kube::ResourceExt as _;

/// Whether pods with `affinity` may be put on `node`, as the scheduler sees it. What is only preferred keeps nobody off.
pub fn wanted(affinity: Option<&Affinity>, node: &Node) -> bool {
    let required = affinity.and_then(|affinity| {
        affinity.node_affinity.as_ref()?.required_during_scheduling_ignored_during_execution.as_ref()
    });
    // Of the terms one must hold; without any the scheduler takes no node, and the API server no such pod.
    required.is_none_or(|required| required.node_selector_terms.iter().any(|term| holds(term, node)))
}

/// All of a term must hold; an empty one holds nowhere.
fn holds(term: &NodeSelectorTerm, node: &Node) -> bool {
    let label = |key: &str| node.labels().get(key).cloned();
    let field = |key: &str| (key == "metadata.name").then(|| node.name_any());
    let expressions = term.match_expressions.iter().flatten();
    let fields = term.match_fields.iter().flatten();
    let empty = expressions.clone().next().is_none() && fields.clone().next().is_none();
    !empty
        && expressions.clone().all(|wish| meets(wish, label(&wish.key).as_deref()))
        && fields.clone().all(|wish| meets(wish, field(&wish.key).as_deref()))
}

fn meets(wish: &NodeSelectorRequirement, found: Option<&str>) -> bool {
    let values = wish.values.as_deref().unwrap_or_default();
    let is_among = |found: &str| values.iter().any(|value| value == found);
    let number = |text: &str| text.parse::<i64>().ok();
    let bound = || values.first().and_then(|value| number(value));
    match (wish.operator.as_str(), found) {
        ("In", Some(found)) => is_among(found),
        ("NotIn", found) => !found.is_some_and(is_among),
        ("Exists", found) => found.is_some(),
        ("DoesNotExist", found) => found.is_none(),
        ("Gt", Some(found)) => number(found).zip(bound()).is_some_and(|(found, bound)| found > bound),
        ("Lt", Some(found)) => number(found).zip(bound()).is_some_and(|(found, bound)| found < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn required(terms: &Value) -> Affinity {
        let required = json!({ "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } });
        serde_json::from_value(json!({ "nodeAffinity": required })).unwrap()
    }

    #[test]
    fn nodes_are_wanted_as_the_scheduler_wants_them() {
        let node: Node =
            serde_json::from_value(json!({ "metadata": { "name": "a", "labels": { "disk": "nvme", "cores": "8" } } }))
                .unwrap();
        let part =
            |key: &str, operator: &str, values: &[&str]| json!({ "key": key, "operator": operator, "values": values });
        let labels = |parts: &[Value]| json!({ "matchExpressions": parts });
        let table = [
            (json!([labels(&[part("disk", "In", &["sata", "nvme"])])]), true),
            (json!([labels(&[part("disk", "In", &["sata"])])]), false),
            (json!([labels(&[part("disk", "NotIn", &["sata"]), part("zone", "NotIn", &["x"])])]), true),
            (json!([labels(&[part("disk", "Exists", &[]), part("zone", "DoesNotExist", &[])])]), true),
            (json!([labels(&[part("disk", "DoesNotExist", &[])])]), false),
            (json!([labels(&[part("cores", "Gt", &["4"]), part("cores", "Lt", &["9"])])]), true),
            (json!([labels(&[part("cores", "Gt", &["8"])])]), false),
            (json!([labels(&[part("disk", "Gt", &["1"])])]), false),
            // One term of several; all parts of a term; a term without parts.
            (json!([labels(&[part("disk", "In", &["sata"])]), labels(&[part("cores", "Exists", &[])])]), true),
            (json!([labels(&[part("disk", "Exists", &[]), part("zone", "Exists", &[])])]), false),
            (json!([{}]), false),
            (json!([{ "matchFields": [part("metadata.name", "In", &["a"])] }]), true),
            (json!([{ "matchFields": [part("metadata.name", "NotIn", &["a"])] }]), false),
        ];
        for (terms, expected) in table {
            assert_eq!(wanted(Some(&required(&terms)), &node), expected, "{terms}");
        }
        assert!(wanted(None, &node) && wanted(Some(&Affinity::default()), &node));
    }
}
