//! The gateway: a Deployment of one, which follows the plan.

use lime_api::LimePlan;
use serde_json::json;

use super::{HTTP_PORT, Kind, Object, RING_PORT, container_security, model_volume, pod_security, secured, worker};
use crate::{
    names,
    settings::{Addressing, Settings},
    shards::Shard,
    wish::Wish,
};

/// The gateway; `None` while workers have no addresses and are to be reached by them.
pub fn gateway(wish: &Wish, plan: &LimePlan, shards: &[Shard], settings: &Settings) -> Option<Object> {
    let plan_name = plan.metadata.name.clone().unwrap_or_default();
    let secured = secured(wish, settings);
    let scheme = if secured { "https" } else { "http" };
    let mut peers = Vec::new();
    for shard in shards {
        let host = match settings.addressing {
            Addressing::Dns => format!("{}.{}.{}.svc", shard.pod, names::ring(&wish.name), wish.namespace),
            Addressing::PodIp => bracketed(shard.address.as_deref()?),
        };
        peers.push(format!("--worker={}={scheme}://{host}:{RING_PORT}", shard.status.node));
    }
    let (model, mut volumes, mut mounts) = model_volume(wish);
    volumes.push(json!({ "name": "plan", "configMap": { "name": plan_name } }));
    mounts.push(json!({ "name": "plan", "mountPath": "/plan", "readOnly": true }));
    let mut arguments = vec![
        "gateway".to_owned(),
        "--plan=/plan/plan.json".into(),
        format!("--model={model}"),
        format!("--served-name={}", wish.served_name()),
        format!("--listen=0.0.0.0:{HTTP_PORT}"),
    ];
    arguments.extend(peers);
    if let Some(keys) = &wish.spec.endpoint.api_key_secret_ref {
        let items = json!([{ "key": keys.key, "path": "keys" }]);
        volumes.push(
            json!({ "name": "keys", "secret": { "secretName": keys.name, "items": items, "defaultMode": 0o440 } }),
        );
        mounts.push(json!({ "name": "keys", "mountPath": "/keys", "readOnly": true }));
        arguments.push("--api-keys=/keys/keys".into());
    }
    if secured {
        volumes.push(worker::tls_volume(wish, "gateway"));
        mounts.push(json!({ "name": "tls", "mountPath": worker::TLS_AT, "readOnly": true }));
        arguments.push(format!("--tls={}", worker::TLS_AT));
    }
    let name = names::gateway(&wish.name);
    let mut labels = names::labels(&wish.name, "gateway");
    let selector = json!({ names::DEPLOYMENT_LABEL: wish.name, names::COMPONENT_LABEL: "gateway" });
    labels.insert(names::PLAN_LABEL.to_owned(), plan_name);
    let rest = json!({ "spec": {
        "replicas": 1,
        // Two gateways would configure one ring against each other.
        "strategy": { "type": "Recreate" },
        "selector": { "matchLabels": selector },
        "template": {
            "metadata": { "labels": labels },
            "spec": {
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "securityContext": pod_security(),
                "containers": [{
                    "name": "gateway",
                    "image": settings.image,
                    "imagePullPolicy": settings.image_pull_policy,
                    "command": ["lime"],
                    "args": arguments,
                    "ports": [{ "name": "http", "containerPort": HTTP_PORT, "protocol": "TCP" }],
                    "resources": { "requests": { "cpu": "100m", "memory": "128Mi" }, "limits": { "memory": "512Mi" } },
                    "securityContext": container_security(),
                    "livenessProbe": { "httpGet": { "path": "/health", "port": "http" }, "periodSeconds": 10, "timeoutSeconds": 5 },
                    "readinessProbe": { "tcpSocket": { "port": "http" }, "periodSeconds": 1 },
                    "terminationMessagePolicy": "FallbackToLogsOnError",
                    "volumeMounts": mounts,
                }],
                "volumes": volumes,
            },
        },
    }});
    Some(Object::new(wish, Kind::Deployment, name, "gateway", rest))
}

/// An address as URLs want it.
fn bracketed(address: &str) -> String {
    if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
}
