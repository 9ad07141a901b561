//! Gathers what is: from the watches' stores, and the few things that are asked for anew each time.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::core::v1::{ConfigMap, Pod, ResourceQuota, Secret},
    jiff::Timestamp,
};
use kube::{Api, ResourceExt as _, api::ListParams};
use lime_api::{LimeDeployment, LimePlan, SecretKeyRef};
use lime_plan::Bytes;

mod refusals;

use crate::{
    build,
    certificates::{self, Existing},
    context::Context,
    gateways, held, names, requests,
    snapshot::{Leaving, RingReport, SecretKey, Snapshot, StoredCard},
};

/// Gathers what is. `lent` is left empty, and `held` holds the deployment's own workers alone: both are read when the decision is made.
pub async fn observe(context: &Context, deployment: Arc<LimeDeployment>) -> Result<Snapshot, kube::Error> {
    let world = &context.world;
    let (name, namespace) = (deployment.name_any(), deployment.namespace().unwrap_or_default());
    let uid = deployment.uid().unwrap_or_default();
    let ours = |object: &dyn Fn() -> (Option<String>, Option<String>)| {
        object() == (Some(namespace.clone()), Some(name.clone()))
    };
    let label = |labels: &BTreeMap<String, String>| labels.get(names::DEPLOYMENT_LABEL).cloned();
    let of_ours = |plan: &LimePlan| {
        ours(&|| (plan.namespace(), Some(plan.spec.deployment.clone())))
            && plan.metadata.owner_references.iter().flatten().any(|owner| owner.uid == uid)
    };
    let mut plans = world.plans.state_filter(|plan| of_ours(plan));
    let current = deployment.status.as_ref().and_then(|status| status.current_plan.clone());
    if let Some(current) = current.filter(|current| plans.iter().all(|plan| plan.name_any() != *current)) {
        // The watch of plans may be behind that of deployments: the plan in force is not taken for gone because of that.
        let there = Api::<LimePlan>::namespaced(context.client.clone(), &namespace).get_opt(&current).await?;
        plans.extend(there.filter(of_ours).map(Arc::new));
    }
    let pods = world.pods.state_filter(|pod| ours(&|| (pod.namespace(), label(pod.labels()))));
    let jobs = world.jobs.state_filter(|job| ours(&|| (job.namespace(), label(job.labels()))));
    let ring = ring(context, &pods).await;
    let leaving = leaving(context, &pods).await;
    // Workers without a plan in force were made in a visit whose last word did not come through. Counted, they would make the same
    // nodes look larger than they did to that visit, and another plan of the same wish.
    let in_force = deployment.status.as_ref().is_some_and(|status| status.current_plan.is_some());
    let counted: &[Arc<Pod>] = if in_force { &pods } else { &[] };
    let held = held::held(counted, &uid, ring.as_ref(), context.settings.worker_overhead());
    let memory = context.recall(&uid);
    let refused = refusals::refused(context, &namespace, &name, &jobs, &pods, memory.refused).await?;
    Ok(Snapshot {
        now: Timestamp::now(),
        card: card(context, &namespace, &name).await?,
        token: key(context, &namespace, deployment.spec.model.token_secret_ref.as_ref()).await?,
        api_certificate: {
            let secret = deployment.spec.endpoint.tls_secret_ref.as_ref();
            let certificate =
                secret.map(|secret| SecretKeyRef { name: secret.name.clone(), key: "tls.crt".to_owned() });
            key(context, &namespace, certificate.as_ref()).await?
        },
        api_keys: key(context, &namespace, deployment.spec.endpoint.api_key_secret_ref.as_ref()).await?,
        nodes: world.nodes.state(),
        profiles: world.profiles.state(),
        heartbeats: world.heartbeats(),
        lent: BTreeMap::new(),
        held,
        requested: requests::of_others(&world.all_pods.state()),
        refused,
        mishaps: refusals::mishaps(context, &namespace, &pods, Timestamp::now()).await?,
        since: memory.since,
        tried: memory.tried,
        crowd: world.deployments.state().len(),
        cpu_limits: build::are_limited(&quotas(context, &namespace).await?),
        deployment,
        plans,
        pods,
        jobs,
        ring,
        leaving,
    })
}

/// Memory that the plans of other deployments take, by node.
pub fn lent(context: &Context, uid: &str) -> BTreeMap<String, Bytes> {
    let mut sums: BTreeMap<String, Bytes> = BTreeMap::new();
    let mut add = |node: &str, bytes: Bytes| {
        let sum = sums.entry(node.to_owned()).or_default();
        *sum = Bytes(sum.0.saturating_add(bytes.0));
    };
    let mut remembered = context.taken();
    for other in context.world.deployments.state() {
        let other_uid = other.uid().unwrap_or_default();
        if other_uid == uid {
            continue;
        }
        // What was decided here is newer than what the watches show.
        if let Some(taken) = remembered.remove(&other_uid) {
            taken.iter().for_each(|(node, bytes)| add(node, *bytes));
            continue;
        }
        let current = other.status.as_ref().and_then(|status| status.current_plan.clone());
        let Some(current) = current.filter(|_| !other.spec.asleep()) else { continue };
        let plan = world_plan(context, &other, &current);
        for part in plan.iter().flat_map(|plan| &plan.spec.assignments) {
            add(&part.node, Bytes(u64::try_from(part.memory_bytes).unwrap_or_default()));
        }
    }
    sums
}

/// Adds memory that the workers of other deployments hold, by node: as they said at their last visit.
pub fn add_held_by_others(context: &Context, uid: &str, sums: &mut BTreeMap<String, Bytes>) {
    for other in context.world.deployments.state() {
        let other_uid = other.uid().unwrap_or_default();
        if other_uid == uid {
            continue;
        }
        let held = context.recall(&other_uid).held.unwrap_or_else(|| {
            let (name, namespace) = (other.name_any(), other.namespace());
            let pods = context.world.pods.state_filter(|pod| {
                pod.namespace() == namespace && pod.labels().get(names::DEPLOYMENT_LABEL) == Some(&name)
            });
            held::held(&pods, &other_uid, None, context.settings.worker_overhead())
        });
        for (node, bytes) in held {
            let sum = sums.entry(node).or_default();
            *sum += bytes;
        }
    }
}

fn world_plan(context: &Context, deployment: &LimeDeployment, name: &str) -> Option<Arc<LimePlan>> {
    let namespace = deployment.namespace()?;
    let key = kube::runtime::reflector::ObjectRef::new(name).within(&namespace);
    context.world.plans.get(&key)
}

/// The Secrets of a deployment's certificates.
pub async fn existing_certificates(context: &Context, namespace: &str, name: &str) -> Result<Existing, kube::Error> {
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
    let (authority, member_names) = certificates::secrets_of(name);
    let mut members = Vec::new();
    for member in member_names {
        members.push(secrets.get_opt(&member).await?);
    }
    Ok(Existing { authority: secrets.get_opt(&authority).await?, members })
}

async fn card(context: &Context, namespace: &str, name: &str) -> Result<Option<StoredCard>, kube::Error> {
    let maps: Api<ConfigMap> = Api::namespaced(context.client.clone(), namespace);
    let Some(mut map) = maps.get_opt(&names::card(name)).await? else { return Ok(None) };
    let source_digest = map.annotations().get(names::SOURCE_ANNOTATION).cloned().unwrap_or_default();
    let text = map.data.as_mut().and_then(|data| data.remove("card.json")).unwrap_or_default();
    Ok(Some(StoredCard { source_digest, text }))
}

async fn key(context: &Context, namespace: &str, named: Option<&SecretKeyRef>) -> Result<SecretKey, kube::Error> {
    let Some(named) = named else { return Ok(SecretKey::NotNamed) };
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
    let found = secrets.get_opt(&named.name).await?;
    let there = found.and_then(|secret| secret.data).is_some_and(|data| data.contains_key(&named.key));
    Ok(if there { SecretKey::Present } else { SecretKey::Missing })
}

/// The quotas of the namespace.
async fn quotas(context: &Context, namespace: &str) -> Result<Vec<ResourceQuota>, kube::Error> {
    let quotas: Api<ResourceQuota> = Api::namespaced(context.client.clone(), namespace);
    match quotas.list(&ListParams::default()).await {
        Ok(found) => Ok(found.items),
        // An account of an earlier chart may not ask.
        Err(kube::Error::Api(status)) if status.code == 403 || status.code == 404 => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Asks the gateway's pod, if there is one.
async fn ring(context: &Context, pods: &[Arc<Pod>]) -> Option<RingReport> {
    let gateway = gateways::current(pods)?;
    let address = gateway.status.as_ref()?.pod_ip.clone().filter(|address| !address.is_empty())?;
    let report = context.probe.ask(&address, build::served_at(gateway)).await?;
    let reached = gateways::is_ready(gateway);
    let unreached =
        || "the gateway answers, but its pod is not ready yet, so its Service sends nobody there".to_owned();
    let trouble = if report.ready && !reached { Some(unreached()) } else { report.trouble.clone() };
    Some(RingReport { ready: report.ready && reached, trouble, ..report })
}

/// Asks the gateways that leave whether they have answers under way. One whose node is dead says nothing, and is not waited for.
async fn leaving(context: &Context, pods: &[Arc<Pod>]) -> Option<Leaving> {
    for (pod, until) in gateways::leaving(pods) {
        let Some(address) = pod.status.as_ref().and_then(|status| status.pod_ip.clone()) else { continue };
        let requests = context.probe.leaving(&address, build::served_at(pod)).await.unwrap_or_default();
        if requests > 0 && until >= Timestamp::now() {
            return Some(Leaving { pod: pod.name_any(), requests, until });
        }
    }
    None
}
