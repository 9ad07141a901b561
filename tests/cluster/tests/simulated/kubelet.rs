//! The kubelets of simulated nodes: pods run as soon as they are scheduled, an inspection answers with the simulated model's card,
//! and every gateway says that its ring answers, by the plan that its file says when its pod changes.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use futures::StreamExt as _;
use k8s_openapi::{
    api::core::v1::{ConfigMap, Pod},
    jiff::Timestamp,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
    runtime::{WatchStreamExt as _, watcher},
};
use lime_planner::{Architecture, BlockBytes, BriefCard, Bytes, Dtype, Inspection, ModelCard, PlanInForce};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The address of every pod but gateways, which have each their own: all are this machine's.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 1);

/// The simulated gateways by uid: where each listens, and what it answers.
type Gateways = BTreeMap<String, (Ipv4Addr, Arc<Mutex<String>>)>;

/// Plays kubelet for every pod of the operator's.
pub(crate) async fn play(client: Client) {
    let config = watcher::Config::default().labels("app.kubernetes.io/managed-by=lime-operator");
    let mut pods = watcher(Api::<Pod>::all(client.clone()), config).default_backoff().touched_objects().boxed();
    let mut gateways = Gateways::new();
    while let Some(pod) = pods.next().await {
        let Ok(pod) = pod else { continue };
        // What fails, because the pod has moved on, comes by again.
        let _ = serve(&client, &pod, &mut gateways).await;
    }
}

async fn serve(client: &Client, pod: &Pod, gateways: &mut Gateways) -> kube::Result<()> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let name = pod.name_any();
    if pod.metadata.deletion_timestamp.is_some() {
        return api.delete(&name, &DeleteParams::default().grace_period(0)).await.map(|_| ());
    }
    let placed = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    let pending = pod.status.as_ref().and_then(|status| status.phase.as_deref()).is_none_or(|phase| phase == "Pending");
    let component = pod.labels().get("lime.dev/component").cloned().unwrap_or_default();
    let address = if component == "gateway" { gateway(client, pod, gateways).await? } else { ADDRESS };
    if !placed || !pending {
        return Ok(());
    }
    let now = Timestamp::now();
    let ready = |truth: &str| json!([{ "type": "Ready", "status": truth, "lastTransitionTime": now }]);
    let container = pod.spec.as_ref().map(|spec| spec.containers[0].name.clone()).unwrap_or_default();
    let status = if component == "inspect" {
        let text = Inspection::Card(Box::new(BriefCard::new(&card(), None))).to_line();
        let ended =
            json!({ "terminated": { "exitCode": 0, "reason": "Completed", "message": text, "finishedAt": now } });
        json!({ "phase": "Succeeded", "conditions": ready("False"), "containerStatuses": [
            { "name": container, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": ended },
        ]})
    } else {
        json!({ "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }], "conditions": ready("True"),
            "containerStatuses": [{ "name": container, "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "state": { "running": { "startedAt": now } } }] })
    };
    let status = json!({ "status": status });
    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await.map(|_| ())
}

/// A gateway: it reads its plan file when its pod changes, and says whatever is asked that its ring is ready by that plan.
async fn gateway(client: &Client, pod: &Pod, gateways: &mut Gateways) -> kube::Result<Ipv4Addr> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let deployment = pod.labels().get("lime.dev/deployment").cloned().unwrap_or_default();
    let file = api.get(&format!("{deployment}-plan")).await?;
    let text = file.data.and_then(|mut data| data.remove("plan.json")).unwrap_or_default();
    let name = PlanInForce::from_json(&text).map(|plan| plan.name).unwrap_or_default();
    let plan = json!({ "name": name, "digest": PlanInForce::digest(&text) });
    let body = json!({ "status": "ready", "devices": [], "plan": plan }).to_string();
    let next = u16::try_from(gateways.len() + 1).unwrap().to_be_bytes();
    let (address, answer) = gateways.entry(pod.uid().unwrap_or_default()).or_insert_with(|| {
        let (address, answer) = (Ipv4Addr::new(127, 78, next[0], next[1]), Arc::<Mutex<String>>::default());
        tokio::spawn(answering(address, answer.clone()));
        (address, answer)
    });
    *answer.lock().unwrap() = body;
    Ok(*address)
}

async fn answering(address: Ipv4Addr, answer: Arc<Mutex<String>>) {
    let listener = tokio::net::TcpListener::bind((address, 8000)).await.unwrap();
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { continue };
        let body = answer.lock().unwrap().clone();
        tokio::spawn(async move {
            let mut asked = [0; 1024];
            let _ = stream.read(&mut asked).await;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
            let _ = stream.write_all(head.as_bytes()).await;
        });
    }
}

/// A model of 102 MiB in ten layers.
fn card() -> ModelCard {
    ModelCard {
        name: "m".into(),
        architecture: Architecture::Llama,
        dtype: Dtype::Bf16,
        layers: 10,
        hidden: 256,
        intermediate: 1024,
        heads: 8,
        kv_heads: 4,
        head_dim: 32,
        vocabulary: 1024,
        context: 512,
        tied: true,
        parameters: 50_000_000,
        encoding: Default::default(),
        compact: None,
        blocks: BlockBytes {
            embedding: Bytes::mib(1),
            attention: vec![Bytes::mib(4); 10],
            mlp: vec![Bytes::mib(6); 10],
            head: Bytes::mib(1),
            head_beside_embedding: Bytes::kib(4),
        },
    }
}
