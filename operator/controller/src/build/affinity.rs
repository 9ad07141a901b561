//! Where pods may be: what LIME needs, and beside it what the template says. Both hold.

use k8s_openapi::api::core::v1::{Affinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};
use lime_api::PodTemplate;

use crate::wish::Wish;

/// A worker's: the node that it is planned for. By affinity and not by `nodeName`, so that the scheduler still looks at resources and
/// taints.
pub(super) fn pinned(node: &str, template: Option<&PodTemplate>) -> Affinity {
    let pin = requirement("metadata.name", "In", vec![node.to_owned()]);
    with_term(given(template), NodeSelectorTerm { match_fields: Some(vec![pin]), ..Default::default() })
}

/// That of a pod which is not pinned: on the nodes that the wish names, as the workers are.
pub(super) fn selected(wish: &Wish, template: Option<&PodTemplate>) -> Option<Affinity> {
    let given = template.and_then(|template| template.affinity.clone());
    match selector(wish) {
        Some(expressions) => {
            let term = NodeSelectorTerm { match_expressions: Some(expressions), ..Default::default() };
            Some(with_term(given.unwrap_or_default(), term))
        }
        None => given,
    }
}

/// That of the inspection: what the template says of nodes, and nothing of other pods.
pub(super) fn of_inspection(wish: &Wish, template: Option<&PodTemplate>) -> Option<Affinity> {
    let node_affinity = selected(wish, template)?.node_affinity?;
    Some(Affinity { node_affinity: Some(node_affinity), ..Default::default() })
}

fn given(template: Option<&PodTemplate>) -> Affinity {
    template.and_then(|template| template.affinity.clone()).unwrap_or_default()
}

/// The wish's selector as a node affinity says it.
fn selector(wish: &Wish) -> Option<Vec<NodeSelectorRequirement>> {
    let selector = wish.spec.nodes.selector.as_ref()?;
    let labels = selector.match_labels.iter().flatten();
    let labels = labels.map(|(key, value)| requirement(key, "In", vec![value.clone()]));
    let others = selector.match_expressions.iter().flatten();
    let others = others.map(|it| NodeSelectorRequirement {
        key: it.key.clone(),
        operator: it.operator.clone(),
        values: it.values.clone(),
    });
    let expressions: Vec<NodeSelectorRequirement> = labels.chain(others).collect();
    (!expressions.is_empty()).then_some(expressions)
}

fn requirement(key: &str, operator: &str, values: Vec<String>) -> NodeSelectorRequirement {
    NodeSelectorRequirement { key: key.to_owned(), operator: operator.to_owned(), values: Some(values) }
}

/// `affinity`, in which a node must also fulfil `ours`. Of terms one must hold, of the parts of a term all: ours is put into each.
fn with_term(mut affinity: Affinity, ours: NodeSelectorTerm) -> Affinity {
    let nodes = affinity.node_affinity.get_or_insert_default();
    let required = nodes.required_during_scheduling_ignored_during_execution.take();
    let given = required.map(|required| required.node_selector_terms).filter(|terms| !terms.is_empty());
    let terms = given.unwrap_or_else(|| vec![NodeSelectorTerm::default()]).into_iter().map(|term| NodeSelectorTerm {
        match_expressions: both(term.match_expressions, &ours.match_expressions),
        match_fields: both(term.match_fields, &ours.match_fields),
    });
    let required = NodeSelector { node_selector_terms: terms.collect() };
    nodes.required_during_scheduling_ignored_during_execution = Some(required);
    affinity
}

fn both<T: Clone>(given: Option<Vec<T>>, ours: &Option<Vec<T>>) -> Option<Vec<T>> {
    let Some(ours) = ours else { return given };
    let mut all = given.unwrap_or_default();
    all.extend(ours.iter().cloned());
    Some(all)
}
