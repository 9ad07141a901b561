//! Where pods may be: what LIME needs, and beside it what the template says. Both hold.

use lime_api::PodTemplate;
use serde_json::{Value, json};

use crate::wish::Wish;

/// A worker's: the node that it is planned for. By affinity and not by `nodeName`, so that the scheduler still looks at resources and
/// taints.
pub(super) fn pinned(node: &str, template: Option<&PodTemplate>) -> Value {
    let pin = json!({ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": [node] }] });
    with_term(json!(template.and_then(|template| template.affinity.as_ref())), &pin)
}

/// That of a pod which is not pinned: on the nodes that the wish names, as the workers are.
pub(super) fn selected(wish: &Wish, template: Option<&PodTemplate>) -> Option<Value> {
    let given = json!(template.and_then(|template| template.affinity.as_ref()));
    match selector(wish) {
        Some(expressions) => Some(with_term(given, &json!({ "matchExpressions": expressions }))),
        None => Some(given).filter(|given| !given.is_null()),
    }
}

/// That of the inspection: what the template says of nodes, and nothing of other pods.
pub(super) fn of_inspection(wish: &Wish, template: Option<&PodTemplate>) -> Option<Value> {
    let mut affinity = selected(wish, template)?;
    affinity.as_object_mut()?.retain(|kind, _| kind == "nodeAffinity");
    affinity.as_object().is_some_and(|affinity| !affinity.is_empty()).then_some(affinity)
}

/// The wish's selector as a node affinity says it.
fn selector(wish: &Wish) -> Option<Vec<Value>> {
    let selector = wish.spec.nodes.selector.as_ref()?;
    let labels = selector.match_labels.iter().flatten();
    let labels = labels.map(|(key, value)| json!({ "key": key, "operator": "In", "values": [value] }));
    let others = selector.match_expressions.iter().flatten().map(|it| json!(it));
    let expressions: Vec<Value> = labels.chain(others).collect();
    (!expressions.is_empty()).then_some(expressions)
}

/// `affinity`, in which a node must also fulfil `ours`. Of terms one must hold, of the parts of a term all: ours is put into each.
fn with_term(mut affinity: Value, ours: &Value) -> Value {
    let required = &mut affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    let given = required["nodeSelectorTerms"].as_array().filter(|terms| !terms.is_empty()).cloned();
    let terms = given.unwrap_or_else(|| vec![json!({})]).into_iter().map(|mut term| {
        for (key, parts) in ours.as_object().into_iter().flatten() {
            let mut all = term[key].as_array().cloned().unwrap_or_default();
            all.extend(parts.as_array().into_iter().flatten().cloned());
            term[key] = all.into();
        }
        term
    });
    let terms: Vec<Value> = terms.collect();
    required["nodeSelectorTerms"] = terms.into();
    affinity
}
