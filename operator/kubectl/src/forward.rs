//! The way to a deployment's gateway: a port-forward of our own, without a port on this machine.

use std::io;

use anyhow::bail;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt as _};
use lime_api::{LimeDeployment, component_selector};
use lime_client::{ClientError, Dial, Server, Trust};

use crate::cluster::{Cluster, list};

/// The name of the port in the gateway's pod where it tells how it is; also the API's, where that speaks no TLS.
const STATUS: &str = "http";
/// The name of the API's port, where it speaks TLS.
const API: &str = "https";

/// What a deployment's gateway tells of itself, as a server. Which pod that is, is looked up for each connection: it may be made anew
/// meanwhile.
pub(crate) fn status(cluster: &Cluster, deployment: &LimeDeployment) -> Server {
    let (dial, authority) = forwarded(cluster, deployment, STATUS);
    Server::over(dial, &authority, None)
}

/// Its API. The API server leads to the very pod: whose name its certificate bears is of no matter on this way.
pub(crate) fn api(cluster: &Cluster, deployment: &LimeDeployment, key: Option<String>) -> Result<Server, ClientError> {
    if deployment.spec.endpoint.tls_secret_ref.is_none() {
        let (dial, authority) = forwarded(cluster, deployment, STATUS);
        return Ok(Server::over(dial, &authority, key));
    }
    let (dial, authority) = forwarded(cluster, deployment, API);
    Server::over_tls(dial, &authority, key, &Trust::TheWay)
}

fn forwarded(cluster: &Cluster, deployment: &LimeDeployment, port: &'static str) -> (Dial, String) {
    let name = deployment.name_any();
    let authority = format!("{name}.{}", cluster.namespace);
    let cluster = cluster.clone();
    let deployment = deployment.clone();
    let dial = Dial::new(move || {
        let (cluster, deployment) = (cluster.clone(), deployment.clone());
        async move {
            let api: Api<Pod> = cluster.api();
            let pods = list(&api, "pods", &component_selector(&deployment.name_any(), "gateway")).await;
            let (pod, port) = pods.and_then(|pods| gateway(&deployment, &pods, port)).map_err(io::Error::other)?;
            let mut forwarded = api.portforward(&pod, &[port]).await.map_err(io::Error::other)?;
            forwarded.take_stream(port).ok_or_else(|| io::Error::other(format!("pod {pod} gives no way to its port")))
        }
    });
    (dial, authority)
}

/// The gateway's pod that runs, and its port of that name.
fn gateway(deployment: &LimeDeployment, pods: &[Pod], name: &str) -> anyhow::Result<(String, u16)> {
    let running = |pod: &&Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
    };
    let Some(pod) = pods.iter().find(running) else {
        let name = deployment.name_any();
        let conditions = deployment.status.iter().flat_map(|status| &status.conditions);
        let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
        let why = ready.map_or_else(String::new, |it| format!(" ({}: {})", it.reason, it.message));
        bail!("no gateway of {name} runs{why}: kubectl lime explain {name} says more");
    };
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    let port = ports.find(|port| port.name.as_deref() == Some(name));
    let port = port.and_then(|port| u16::try_from(port.container_port).ok());
    match port {
        Some(port) => Ok((pod.name_any(), port)),
        None => bail!("pod {} names no port {name:?}: was it made by LIME?", pod.name_any()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::deployment;

    #[test]
    fn the_gateway_that_runs_is_found_and_its_absence_explained() {
        let pod = |name: &str, phase: &str| -> Pod {
            serde_json::from_value(json!({
                "metadata": { "name": name }, "status": { "phase": phase },
                "spec": { "containers": [{ "name": "gateway", "ports": [{ "name": "http", "containerPort": 8000 }] }] },
            }))
            .unwrap()
        };
        let pods = [pod("m-gateway-1", "Pending"), pod("m-gateway-2", "Running")];
        assert_eq!(gateway(&deployment(), &pods, STATUS).unwrap(), ("m-gateway-2".to_owned(), 8000));
        let away = gateway(&deployment(), &pods[..1], STATUS).unwrap_err().to_string();
        assert!(away.contains("kubectl lime explain m"), "{away}");
        let plain = gateway(&deployment(), &pods, API).unwrap_err().to_string();
        assert!(plain.contains("names no port"), "{plain}");
    }
}
