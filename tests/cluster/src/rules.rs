//! The rules that a custom resource definition states beyond its types.

use serde_json::Value;

/// A CEL rule: where it stands, and the sentence with which it refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The kind that it belongs to.
    pub kind: String,
    /// The field that it guards, such as `spec.model`.
    pub path: String,
    /// What it says when it is broken.
    pub message: String,
}

/// Every CEL rule of a definition's newest version.
pub fn rules_of(definition: &Value) -> Vec<Rule> {
    let kind = definition["spec"]["names"]["kind"].as_str().unwrap_or_default();
    let mut found = Vec::new();
    for version in definition["spec"]["versions"].as_array().into_iter().flatten() {
        gather(kind, "", &version["schema"]["openAPIV3Schema"], &mut found);
    }
    found
}

fn gather(kind: &str, path: &str, schema: &Value, found: &mut Vec<Rule>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        found.push(Rule {
            kind: kind.to_owned(),
            path: path.to_owned(),
            message: rule["message"].as_str().unwrap_or_default().to_owned(),
        });
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        gather(kind, &below, field, found);
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            gather(kind, &format!("{path}[]"), &schema[inner], found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_found_at_every_depth() {
        let rule = |message: &str| serde_json::json!([{"rule": "true", "message": message}]);
        let definition = serde_json::json!({"spec": {"names": {"kind": "K"}, "versions": [{"schema": {"openAPIV3Schema": {
            "x-kubernetes-validations": rule("top"),
            "properties": {"spec": {"properties": {"list": {"items": {"x-kubernetes-validations": rule("deep")}}}}},
        }}}]}});
        let found = rules_of(&definition);
        let messages: Vec<_> = found.iter().map(|rule| (rule.path.as_str(), rule.message.as_str())).collect();
        assert_eq!(messages, [("", "top"), ("spec.list[]", "deep")]);
    }
}
