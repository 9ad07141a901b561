//! What a spec breaks of the rules that span fields: for files that no API server sees.

use crate::{
    deployment::LimeDeploymentSpec,
    exposure::{EndpointService, ServiceType},
    fault::Fault,
    placement::Approval,
    quantity::parse_bytes,
    rules::{
        APPROVED, COUNTS, INGRESS_METADATA, REVISION, SERVICE_BALANCER, SERVICE_METADATA, SERVICE_NODE_PORT,
        SERVICE_TRAFFIC, TOKEN,
    },
    source::ModelSource,
    template::{PodTemplate, Template},
};

impl LimeDeploymentSpec {
    /// Every rule across fields that this spec breaks. Types and ranges are the schema's business.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut add =
            |field: &str, message: &str| faults.push(Fault { field: field.to_owned(), message: message.to_owned() });
        match self.model.source.parse::<ModelSource>() {
            Ok(source) => {
                if self.model.revision.is_some() && !matches!(source, ModelSource::Hub(_)) {
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
            ("spec.prefixCache.disk", &self.prefix_cache.disk),
        ];
        for (field, quantity) in quantities {
            if let Some(Err(error)) = quantity.as_ref().map(|quantity| parse_bytes(&quantity.0)) {
                add(field, &error.to_string());
            }
        }
        let service = self.endpoint.service.iter();
        service.for_each(|service| service_faults(service, &mut add));
        let ingress = self.endpoint.ingress.iter();
        if ingress.flat_map(|ingress| ingress.labels.keys().chain(ingress.annotations.keys())).any(is_own) {
            add("spec.endpoint.ingress", INGRESS_METADATA.1);
        }
        if let Some(message) = self.port_on_node() {
            add("spec.endpoint.port", &message);
        }
        faults.extend(self.template.iter().flat_map(Template::faults));
        faults
    }
}

impl LimeDeploymentSpec {
    /// Why the gateway cannot have its port on its node's network.
    fn port_on_node(&self) -> Option<String> {
        let on_node = |part: Option<&PodTemplate>| part.is_some_and(|part| part.host_network);
        let template = self.template.as_ref()?;
        let (port, ring) = (self.endpoint.port, self.transport.port);
        if !on_node(template.gateway.as_ref()) {
            return None;
        }
        if port < 1024 {
            return Some(format!(
                "only root may have port {port} of a node, as hostNetwork asks: choose one from 1024 on"
            ));
        }
        let taken = on_node(template.worker.as_ref()) && (ring..=ring.saturating_add(1)).contains(&port);
        taken.then(|| format!("the workers have the ports {ring} and {} of the same nodes: choose another", ring + 1))
    }
}

fn service_faults(service: &EndpointService, add: &mut impl FnMut(&str, &str)) {
    let kind = service.kind;
    if service.node_port.is_some() && kind == ServiceType::ClusterIp {
        add("spec.endpoint.service.nodePort", SERVICE_NODE_PORT.1);
    }
    if service.external_traffic_policy.is_some() && kind == ServiceType::ClusterIp {
        add("spec.endpoint.service.externalTrafficPolicy", SERVICE_TRAFFIC.1);
    }
    let balanced = service.load_balancer_class.is_some() || !service.load_balancer_source_ranges.is_empty();
    if balanced && kind != ServiceType::LoadBalancer {
        add("spec.endpoint.service.type", SERVICE_BALANCER.1);
    }
    if service.labels.keys().chain(service.annotations.keys()).any(is_own) {
        add("spec.endpoint.service", SERVICE_METADATA.1);
    }
}

/// Whether a label's or annotation's key is LIME's own.
fn is_own(key: &String) -> bool {
    key.starts_with("lime.dev/") || key == "app.kubernetes.io/managed-by"
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn fields(spec: Value) -> Vec<String> {
        let spec: LimeDeploymentSpec = serde_json::from_value(spec).unwrap();
        spec.faults().into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn ports_of_nodes_are_not_roots_and_not_taken() {
        let found = |port: i32, gateway: bool, worker: bool| {
            fields(json!({
                "model": {"source": "hf://a/b"}, "endpoint": {"port": port}, "transport": {"port": 7100},
                "template": {"gateway": {"hostNetwork": gateway}, "worker": {"hostNetwork": worker}},
            }))
        };
        for (port, gateway, worker, fine) in [
            (80, false, true, true),
            (80, true, false, false),
            (1024, true, true, true),
            (7100, true, true, false),
            (7101, true, true, false),
            (7102, true, true, true),
            (7100, true, false, true),
        ] {
            assert_eq!(found(port, gateway, worker).is_empty(), fine, "{port} {gateway} {worker}");
        }
    }

    #[test]
    fn ways_in_from_outside_that_have_no_meaning_are_named() {
        let spec = json!({"model": {"source": "hf://a/b"}, "endpoint": {
            "service": {
                "nodePort": 30000, "externalTrafficPolicy": "Local", "loadBalancerSourceRanges": ["10.0.0.0/8"],
                "labels": {"lime.dev/component": "x"},
            },
            "ingress": {"annotations": {"lime.dev/x": ""}},
        }});
        let expected = [
            "spec.endpoint.service.nodePort",
            "spec.endpoint.service.externalTrafficPolicy",
            "spec.endpoint.service.type",
            "spec.endpoint.service",
            "spec.endpoint.ingress",
        ];
        assert_eq!(fields(spec), expected);
    }

    #[test]
    fn each_rule_names_its_field_and_all_are_told_at_once() {
        assert_eq!(fields(json!({"model": {"source": "hf://a/b", "revision": "x"}})), Vec::<String>::new());
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
