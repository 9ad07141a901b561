//! The schema of each kind, for the cluster and for readers of files.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use serde_json::Value;

use crate::{deployment::LimeDeployment, plan::LimePlan, profile::LimeNodeProfile};

/// The CustomResourceDefinition of every kind.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![LimeDeployment::crd(), LimePlan::crd(), LimeNodeProfile::crd()]
}

/// The OpenAPI schema of a LimeDeployment, as the API server gets it.
pub fn deployment_schema() -> Value {
    let schema = LimeDeployment::crd().spec.versions.into_iter().next().and_then(|version| version.schema);
    serde_json::to_value(schema.and_then(|schema| schema.open_api_v3_schema)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every field below `schema`, as `path: schema`.
    fn fields(schema: &Value, path: &str, found: &mut Vec<(String, Value)>) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            found.push((path.clone(), field.clone()));
            fields(field, &path, found);
            fields(&field["items"], &path, found);
        }
    }

    fn spec_fields() -> Vec<(String, Value)> {
        let mut found = Vec::new();
        fields(&deployment_schema()["properties"]["spec"], "spec", &mut found);
        found
    }

    #[test]
    fn only_the_source_is_required() {
        let schema = deployment_schema();
        assert_eq!(schema["required"], serde_json::json!(["spec"]));
        assert_eq!(schema["properties"]["spec"]["required"], serde_json::json!(["model"]));
        let required = |field: &Value| field.get("required").cloned();
        let asks: Vec<_> = spec_fields().into_iter().filter(|(_, field)| required(field).is_some()).collect();
        let paths: Vec<&str> = asks.iter().map(|(path, _)| path.as_str()).collect();
        // What is asked for within an item of a list, or of an object that need not be there, is asked of nobody who names none.
        let known = |path: &&str| {
            ["spec.model", "Ref", "matchExpressions"].iter().any(|known| path.ends_with(known))
                || path.starts_with("spec.template.worker.")
                || path.starts_with("spec.template.gateway.")
        };
        assert!(paths.iter().all(known), "{paths:?}");
        assert_eq!(schema["properties"]["spec"]["properties"]["model"]["required"], serde_json::json!(["source"]));
    }

    #[test]
    fn every_field_says_what_it_is_in_few_words() {
        let found = spec_fields();
        assert!(found.len() > 30);
        for (path, field) in found {
            let description = field["description"].as_str().unwrap_or_default();
            assert!(!description.is_empty(), "{path} has no description");
            let ours = !path.contains("selector");
            assert!(!ours || description.len() < 400, "{path}: {description}");
        }
    }

    #[test]
    fn numbers_are_whole_and_signed_and_bounded() {
        for (path, field) in spec_fields() {
            assert_ne!(field["type"], "number", "{path}");
            if field["type"] == "integer" {
                assert!(!field["format"].as_str().unwrap_or_default().starts_with('u'), "{path}");
                assert!(field.get("minimum").is_some(), "{path} has no minimum");
            }
        }
    }

    #[test]
    fn the_rules_speak_in_sentences() {
        let schema = deployment_schema().to_string();
        for words in ["cannot be changed", "must not be below", "approval: Manual", "hf:// sources only"] {
            assert!(schema.contains(words), "no rule says {words:?}");
        }
    }

    #[test]
    fn a_minimal_wish_gets_every_default() {
        let json = serde_json::json!({
            "apiVersion": crate::API_VERSION, "kind": "LimeDeployment", "metadata": {"name": "m"},
            "spec": {"model": {"source": "hf://org/name"}},
        });
        let deployment: LimeDeployment = serde_json::from_value(json).unwrap();
        assert_eq!(deployment.spec.serving.max_context_tokens, 4096);
        assert_eq!(deployment.spec.endpoint.port, 8000);
        assert_eq!(deployment.spec.failure.max_restarts, 5);
        let written = serde_json::to_string(&deployment).unwrap();
        assert!(!written.contains("null"), "server-side apply would claim nulls: {written}");
    }
}
