//! The labels by which what the operator makes is found.

/// Which LimeDeployment an object belongs to.
pub const DEPLOYMENT_LABEL: &str = "lime.dev/deployment";
/// The part that an object plays: worker, gateway or inspect.
pub const COMPONENT_LABEL: &str = "lime.dev/component";

/// The selector of a deployment's pods of a component, as text.
pub fn component_selector(deployment: &str, component: &str) -> String {
    format!("{DEPLOYMENT_LABEL}={deployment},{COMPONENT_LABEL}={component}")
}
