//! The kubelets of simulated nodes: pods run as soon as they are scheduled, an inspection answers with the simulated model's card,
//! and every gateway says that its ring answers, by the plan that its file says when its pod changes. Workers hold no memory, as the
//! simulated agents' figures do not fall.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use futures::StreamExt as _;
use k8s_openapi::{
    api::core::v1::{ConfigMap, Pod, Secret},
    jiff::Timestamp,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
    runtime::{WatchStreamExt as _, watcher},
};
use lime_plan::{BriefCard, Inspection, ModelCard, PlanInForce};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The address of every pod but gateways, which have each their own: all are this machine's.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 1);

/// The simulated gateways by uid.
type Gateways = Arc<Mutex<BTreeMap<String, Gateway>>>;

/// Where a gateway listens, which plan it follows, and what it answers.
struct Gateway {
    address: Ipv4Addr,
    generation: u64,
    answers: Arc<Mutex<Answers>>,
}

/// What a gateway says at `/ready`, and at `/metrics`.
#[derive(Clone, Default)]
struct Answers {
    ready: Value,
    /// The ring, in its order.
    ring: Vec<String>,
    metrics: String,
}

/// Links between two nodes that are cut: a ring that uses one does not serve.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cuts(Arc<Mutex<Vec<[String; 2]>>>);

impl Cuts {
    /// Cuts the link between two nodes.
    pub(crate) fn between(&self, one: &str, other: &str) {
        self.0.lock().unwrap().push([one.to_owned(), other.to_owned()]);
    }

    /// Mends all of them.
    pub(crate) fn mend(&self) {
        self.0.lock().unwrap().clear();
    }

    /// The cut that a ring meets.
    fn of(&self, ring: &[String]) -> Option<[String; 2]> {
        let next = ring.iter().cycle().skip(1);
        let mut hops = ring.iter().zip(next).filter(|(from, to)| from != to);
        let cuts = self.0.lock().unwrap();
        let cut = |from: &String, to: &String| cuts.iter().any(|cut| cut.contains(from) && cut.contains(to));
        hops.find(|(from, to)| cut(from, to)).map(|(from, to)| [from.clone(), to.clone()])
    }
}

/// Plays kubelet for every pod of the operator's.
pub(crate) async fn play(client: Client, hub: Option<String>, cuts: Cuts) {
    let config = watcher::Config::default().labels("app.kubernetes.io/managed-by=lime-operator");
    let mut pods = watcher(Api::<Pod>::all(client.clone()), config).default_backoff().touched_objects().boxed();
    let gateways = Gateways::default();
    while let Some(pod) = pods.next().await {
        let Ok(pod) = pod else { continue };
        let (client, hub) = (client.clone(), hub.clone());
        // What fails, because the pod has moved on, comes by again.
        let (gateways, cuts) = (gateways.clone(), cuts.clone());
        tokio::spawn(async move { drop(serve(&client, &pod, &gateways, &cuts, hub.as_deref()).await) });
    }
}

async fn serve(client: &Client, pod: &Pod, gateways: &Gateways, cuts: &Cuts, hub: Option<&str>) -> kube::Result<()> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let name = pod.name_any();
    if pod.metadata.deletion_timestamp.is_some() {
        return api.delete(&name, &DeleteParams::default().grace_period(0)).await.map(|_| ());
    }
    let placed = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    let pending = pod.status.as_ref().and_then(|status| status.phase.as_deref()).is_none_or(|phase| phase == "Pending");
    let component = pod.labels().get("lime.dev/component").cloned().unwrap_or_default();
    let address = if component == "gateway" { gateway(client, pod, gateways, cuts).await? } else { ADDRESS };
    if !placed || !pending {
        return Ok(());
    }
    let now = Timestamp::now();
    let ready = |truth: &str| json!([{ "type": "Ready", "status": truth, "lastTransitionTime": now }]);
    let container = pod.spec.as_ref().map(|spec| spec.containers[0].name.clone()).unwrap_or_default();
    let status = if component == "inspect" {
        let (code, text) = inspected(client, pod, hub).await?;
        let (reason, phase) = if code == 0 { ("Completed", "Succeeded") } else { ("Error", "Failed") };
        let ended = json!({ "terminated": { "exitCode": code, "reason": reason, "message": text, "finishedAt": now } });
        json!({ "phase": phase, "conditions": ready("False"), "containerStatuses": [
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
async fn gateway(client: &Client, pod: &Pod, gateways: &Gateways, cuts: &Cuts) -> kube::Result<Ipv4Addr> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let deployment = pod.labels().get("lime.dev/deployment").cloned().unwrap_or_default();
    let file = api.get(&format!("{deployment}-plan")).await?;
    let text = file.data.and_then(|mut data| data.remove("plan.json")).unwrap_or_default();
    let in_force = PlanInForce::from_json(&text);
    let devices = in_force.iter().flat_map(|in_force| &in_force.plan.devices);
    let ring: Vec<String> = devices.map(|device| device.name.clone()).collect();
    let metrics = ring.iter().map(|device| format!("lime_worker_pinned_bytes{{device=\"{device}\"}} 0\n")).collect();
    let (name, generation) = in_force.map(|plan| (plan.name, plan.generation)).unwrap_or_default();
    let plan = json!({ "name": name, "digest": PlanInForce::digest(&text) });
    let ready = json!({ "status": "ready", "devices": [], "plan": plan });
    let mut gateways = gateways.lock().unwrap();
    let next = u16::try_from(gateways.len() + 1).unwrap().to_be_bytes();
    let gateway = gateways.entry(pod.uid().unwrap_or_default()).or_insert_with(|| {
        let (address, answers) = (Ipv4Addr::new(127, 78, next[0], next[1]), Arc::<Mutex<Answers>>::default());
        tokio::spawn(answering(address, answers.clone(), cuts.clone()));
        Gateway { address, generation: 0, answers }
    });
    // Two looks at the file may come in the wrong order.
    if generation >= gateway.generation {
        gateway.generation = generation;
        *gateway.answers.lock().unwrap() = Answers { ready, ring, metrics };
    }
    Ok(gateway.address)
}

/// An inspection's exit code and termination message: of a folder the simulated model's card, of anything else what the pod's
/// own command says, run here.
async fn inspected(client: &Client, pod: &Pod, hub: Option<&str>) -> kube::Result<(i32, String)> {
    let container = &pod.spec.as_ref().unwrap().containers[0];
    let arguments = container.args.clone().unwrap_or_default();
    let Some(hub) = hub.filter(|_| arguments.iter().any(|argument| argument.contains("://"))) else {
        return Ok((0, Inspection::Card(Box::new(BriefCard::new(&card(), None))).to_line()));
    };
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("termination-log");
    let (standard, here) = (container.termination_message_path.as_deref().unwrap(), log.to_str().unwrap());
    let program = std::env::var("LIME_BIN").expect("LIME_BIN is not set: run make test-simulated");
    let mut command = tokio::process::Command::new(program);
    command.args(arguments.iter().map(|argument| if argument == standard { here } else { argument }));
    command.env_clear().env("HF_ENDPOINT", hub).env("TMPDIR", folder.path()).kill_on_drop(true);
    for variable in container.env.iter().flatten() {
        let Some(key) = variable.value_from.as_ref().and_then(|from| from.secret_key_ref.as_ref()) else { continue };
        let secrets: Api<Secret> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
        let data = secrets.get(&key.name).await?.data.unwrap_or_default();
        let value = data.get(&key.key).map(|value| String::from_utf8_lossy(&value.0).into_owned());
        command.envs(value.map(|value| (variable.name.clone(), value)));
    }
    let output = command.output().await.unwrap();
    let message = std::fs::read_to_string(&log).unwrap_or_default();
    Ok((output.status.code().unwrap_or(-1), message.chars().take(4096).collect()))
}

async fn answering(address: Ipv4Addr, answers: Arc<Mutex<Answers>>, cuts: Cuts) {
    let listener = tokio::net::TcpListener::bind((address, 8000)).await.unwrap();
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { continue };
        let (answers, cuts) = (answers.lock().unwrap().clone(), cuts.clone());
        tokio::spawn(async move {
            let mut asked = [0; 1024];
            let read = stream.read(&mut asked).await.unwrap_or_default();
            let mut ready = answers.ready;
            if let Some([from, to]) = cuts.of(&answers.ring) {
                ready["status"] = "recovering".into();
                ready["reason"] = format!("the link from device {from:?} to device {to:?} is lost").into();
                ready["cause"] = json!({ "kind": "link", "from": from, "to": to });
            }
            let body = if asked[..read].starts_with(b"GET /metrics") { answers.metrics } else { ready.to_string() };
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
            let _ = stream.write_all(head.as_bytes()).await;
        });
    }
}

/// A model of 102 MiB in ten layers.
fn card() -> ModelCard {
    serde_json::from_str(include_str!("../../../fixtures/cards/ten-layers.json")).unwrap()
}
