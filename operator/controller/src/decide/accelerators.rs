//! Degraded/CpuFallback: what could compute faster and does not.

use std::sync::Arc;

use kube::ResourceExt as _;
use lime_api::{LimeNodeProfile, LimePlan};

use crate::conditions::Cause;

/// Nodes that are named one by one.
const NAMED: usize = 5;

/// Why the plan's nodes compute on their processors though accelerators are there or were asked for; images of this release have
/// no arithmetic for any. `None` where nobody expects one.
pub(super) fn unused(plan: &LimePlan, profiles: &[Arc<LimeNodeProfile>], runtime_class: Option<&str>) -> Option<Cause> {
    let of = |node: &str| {
        let profile = profiles.iter().find(|profile| profile.name_any() == node)?;
        let name = profile.status.as_ref()?.accelerator.as_ref()?.name.clone();
        (!name.is_empty()).then(|| format!("{node} has {}", name.chars().take(60).collect::<String>()))
    };
    let found: Vec<String> = plan.spec.assignments.iter().filter_map(|part| of(&part.node)).collect();
    let asked = runtime_class.filter(|class| class.contains("nvidia"));
    let why = match (found.is_empty(), asked) {
        (false, _) => found.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", "),
        (true, Some(class)) => format!("spec.nodes.runtimeClassName is {class}"),
        (true, None) => return None,
    };
    let text =
        format!("{why}; workers of this image compute on the processor, and the plan's figures are the processor's");
    Some(Cause::new("CpuFallback", text))
}

#[cfg(test)]
mod tests {
    use lime_api::{Assignment, LimePlanSpec};
    use serde_json::json;

    use super::*;
    use crate::testing;

    #[test]
    fn an_accelerator_that_nobody_uses_is_told() {
        let part = |node: &str| Assignment { node: node.into(), ..Assignment::default() };
        let spec = LimePlanSpec { assignments: vec![part("a"), part("b")], ..LimePlanSpec::default() };
        let plan = LimePlan::new("p", spec);
        let profile = |node: &str, accelerator: &str| {
            let mut whole = testing::profile(node, 60);
            whole["status"]["accelerator"] = json!({ "name": accelerator });
            Arc::new(serde_json::from_value(whole).unwrap())
        };
        let table = [
            (vec![], None, None),
            (vec![profile("a", "")], None, None),
            (vec![profile("a", "Orin"), profile("b", "Orin Nano")], None, Some("a has Orin, b has Orin Nano; ")),
            // A node that is not in the plan does not count.
            (vec![profile("c", "Orin")], None, None),
            (vec![], Some("nvidia"), Some("spec.nodes.runtimeClassName is nvidia; ")),
            (vec![], Some("gvisor"), None),
        ];
        for (index, (profiles, class, expected)) in table.into_iter().enumerate() {
            let found = unused(&plan, &profiles, class);
            assert_eq!(found.is_some(), expected.is_some(), "row {index}");
            if let (Some(found), Some(begin)) = (found, expected) {
                assert_eq!(found.reason, "CpuFallback");
                assert!(found.message.starts_with(begin), "{}", found.message);
            }
        }
    }
}
