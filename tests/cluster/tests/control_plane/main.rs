//! LIME's kinds on a real API server, as a person meets them by `kubectl`. Run by `make test-cluster`.

#![allow(missing_docs, clippy::unwrap_used)]

mod alerts;
mod chart;
mod chart_checks;
mod deployments;
mod kinds;
mod plugin;
mod refusals;

/// A LimeDeployment of the given name, with the spec as YAML in flow style.
fn deployment(name: &str, spec: &str) -> String {
    format!("apiVersion: lime.dev/v1alpha1\nkind: LimeDeployment\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}
