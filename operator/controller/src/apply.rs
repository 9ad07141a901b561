//! Makes what should be: server-side apply under one field manager, and what is not named any more goes.
//! What was applied and has not changed since is not written again: steady state makes no writes.

use std::collections::{BTreeMap, BTreeSet};

use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions},
};
use lime_api::{LimeDeployment, LimePlan};

use crate::{
    build::{Kind, Object},
    context::Context,
    decide::{Decision, Wake},
    names,
};

fn manager() -> PatchParams {
    PatchParams::apply(names::MANAGER).force()
}

/// Writes the plan down, makes objects and prunes others. What the API server refuses for good (pod security, a quota, an admission
/// policy, a value that it does not know) is remembered in its own words, for the status; the others are made all the same. Returns whether there is news of that.
///
/// # Errors
/// The first write that fails otherwise; the next visit goes on from there.
pub async fn apply(context: &Context, deployment: &LimeDeployment, decision: &Decision) -> Result<bool, kube::Error> {
    let namespace = deployment.namespace().unwrap_or_default();
    let uid = deployment.uid().unwrap_or_default();
    if let Some(plan) = &decision.new_plan {
        let plans: Api<LimePlan> = Api::namespaced(context.client.clone(), &namespace);
        context.metrics.wrote("LimePlan");
        plans.patch(&plan.name_any(), &manager(), &Patch::Apply(plan)).await?;
    }
    if !decision.prune {
        return Ok(false);
    }
    // Old pods go first: their memory is what new ones wait for.
    prune(context, deployment, decision).await?;
    let mut refused = BTreeMap::new();
    for object in &decision.objects {
        match ensure(context, &namespace, &uid, object).await {
            // 403: it may not be made. 422: it makes no sense, as a template's toleration may not.
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 422) => {
                context.metrics.failed("refused");
                tracing::warn!(name = object.name, message = status.message, "an object was refused");
                refused.insert(object.name.clone(), status.message.clone());
            }
            ensured => ensured?,
        }
    }
    gateway(context, &namespace, decision).await?;
    let news = context.recall(&uid).refused != refused;
    context.remember(&uid, |memory| memory.refused = refused);
    Ok(news)
}

/// After its plan file: the gateway is told of it. One that does not follow goes, and its Deployment makes another.
async fn gateway(context: &Context, namespace: &str, decision: &Decision) -> Result<(), kube::Error> {
    let pods: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), namespace, &Kind::Pod.resource());
    if let Some((pod, uid)) = &decision.stuck_gateway {
        let preconditions = Preconditions { uid: uid.clone(), resource_version: None };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        context.metrics.wrote(kind_name(Kind::Pod));
        return gone(pods.delete(pod, &parameters).await.map(|_| ()));
    }
    let Some(Wake { pod, patch }) = &decision.wake else { return Ok(()) };
    context.metrics.wrote(kind_name(Kind::Pod));
    let parameters = PatchParams { field_manager: Some(names::MANAGER.into()), ..PatchParams::default() };
    gone(pods.patch(pod, &parameters, &Patch::Merge(patch)).await.map(|_| ()))
}

async fn ensure(context: &Context, namespace: &str, uid: &str, object: &Object) -> Result<(), kube::Error> {
    let kind = object.kind;
    let version = version(context, namespace, object);
    if (kind.made_once() || object.stays) && version.is_some() {
        return Ok(());
    }
    let digest = names::digest(object.body.to_string().as_bytes());
    let key = (kind, object.name.clone());
    let applied = context.recall(uid).applied.get(&key).cloned();
    if let (Some(version), Some((known, at))) = (&version, &applied)
        && *known == digest
        && at == version
    {
        return Ok(());
    }
    let resource = kind.resource();
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), namespace, &resource);
    context.metrics.wrote(kind_name(kind));
    let written = api.patch(&object.name, &manager(), &Patch::Apply(&object.body)).await?;
    let version = mark(&written.metadata).unwrap_or_default();
    context.remember(uid, |memory| {
        memory.applied.insert(key, (digest, version));
    });
    Ok(())
}

/// What changes when an object's wish does: its generation, where the API server counts one; else its version, which its status
/// changes too.
fn mark(metadata: &kube::core::ObjectMeta) -> Option<String> {
    let generation = metadata.generation.filter(|generation| *generation > 0).map(|generation| generation.to_string());
    generation.or_else(|| metadata.resource_version.clone())
}

/// What marks an object as the watches know it; `None` if it is not there.
fn version(context: &Context, namespace: &str, object: &Object) -> Option<String> {
    let world = &context.world;
    match object.kind {
        Kind::Pod => {
            let key = kube::runtime::reflector::ObjectRef::new(&object.name).within(namespace);
            world.pods.get(&key).and_then(|pod| pod.resource_version())
        }
        Kind::Job => {
            let key = kube::runtime::reflector::ObjectRef::new(&object.name).within(namespace);
            world.jobs.get(&key).and_then(|job| job.resource_version())
        }
        kind => {
            let store = world.owned.get(&kind)?;
            let key = kube::runtime::reflector::ObjectRef::new_with(&object.name, kind.resource()).within(namespace);
            store.get(&key).and_then(|found| mark(&found.metadata))
        }
    }
}

async fn prune(context: &Context, deployment: &LimeDeployment, decision: &Decision) -> Result<(), kube::Error> {
    let (name, namespace) = (deployment.name_any(), deployment.namespace().unwrap_or_default());
    let uid = deployment.uid().unwrap_or_default();
    let wanted: BTreeSet<(Kind, &str)> =
        decision.objects.iter().map(|object| (object.kind, object.name.as_str())).collect();
    let mut superfluous: Vec<(Kind, String, Option<String>)> = Vec::new();
    let ours = |metadata: &kube::core::ObjectMeta| {
        metadata.namespace.as_deref() == Some(namespace.as_str())
            && metadata.owner_references.iter().flatten().any(|owner| owner.uid == uid)
            && metadata.deletion_timestamp.is_none()
            && metadata.labels.as_ref().and_then(|labels| labels.get(names::DEPLOYMENT_LABEL)) == Some(&name)
    };
    for pod in context.world.pods.state() {
        let pod_name = pod.name_any();
        let unwanted = !wanted.contains(&(Kind::Pod, pod_name.as_str())) || decision.finished_pods.contains(&pod_name);
        if ours(&pod.metadata) && unwanted {
            superfluous.push((Kind::Pod, pod_name, pod.uid()));
        }
    }
    for job in context.world.jobs.state() {
        if ours(&job.metadata) && !wanted.contains(&(Kind::Job, job.name_any().as_str())) {
            superfluous.push((Kind::Job, job.name_any(), job.uid()));
        }
    }
    for (kind, store) in &context.world.owned {
        // Fetched weights outlive plans and suspension.
        if *kind == Kind::PersistentVolumeClaim {
            continue;
        }
        for object in store.state() {
            if ours(&object.metadata) && !wanted.contains(&(*kind, object.name_any().as_str())) {
                superfluous.push((*kind, object.name_any(), object.uid()));
            }
        }
    }
    for (kind, object, object_uid) in superfluous {
        let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), &namespace, &kind.resource());
        // The very object that was seen: a namesake made since is another one.
        let preconditions = Preconditions { uid: object_uid, resource_version: None };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        context.metrics.wrote(kind_name(kind));
        gone(api.delete(&object, &parameters).await.map(|_| ()))?;
        context.remember(&uid, |memory| {
            memory.applied.remove(&(kind, object));
        });
    }
    Ok(())
}

/// Writes the states of plans and removes those that nobody needs.
///
/// # Errors
/// The first write that fails.
pub async fn plans(
    context: &Context,
    namespace: &str,
    decision: &Decision,
    known: &[std::sync::Arc<LimePlan>],
) -> Result<(), kube::Error> {
    let api: Api<LimePlan> = Api::namespaced(context.client.clone(), namespace);
    for (name, status) in &decision.plan_states {
        let before = known.iter().find(|plan| plan.name_any() == *name).and_then(|plan| plan.status.as_ref());
        if before == Some(status) {
            continue;
        }
        let patch = serde_json::json!({ "apiVersion": lime_api::API_VERSION, "kind": "LimePlan", "status": status });
        context.metrics.wrote("LimePlan");
        gone(api.patch_status(name, &manager(), &Patch::Apply(&patch)).await.map(|_| ()))?;
    }
    for name in &decision.old_plans {
        context.metrics.wrote("LimePlan");
        gone(api.delete(name, &DeleteParams::default()).await.map(|_| ()))?;
    }
    Ok(())
}

/// Writes the status, once, if it changed.
///
/// # Errors
/// If the write fails.
pub async fn status(context: &Context, deployment: &LimeDeployment, decision: &Decision) -> Result<(), kube::Error> {
    if deployment.status.as_ref() == Some(&decision.status) {
        return Ok(());
    }
    let api: Api<LimeDeployment> = Api::namespaced(context.client.clone(), &deployment.namespace().unwrap_or_default());
    let patch = serde_json::json!({
        "apiVersion": lime_api::API_VERSION, "kind": "LimeDeployment", "status": decision.status,
    });
    context.metrics.wrote("status");
    let written = api.patch_status(&deployment.name_any(), &manager(), &Patch::Apply(&patch)).await;
    if let Ok(written) = &written {
        let (uid, version) = (deployment.uid().unwrap_or_default(), written.resource_version());
        context.remember(&uid, |memory| memory.written = version);
    }
    gone(written.map(|_| ()))
}

/// What is gone already, or is another one by now, is no failure.
fn gone(result: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        result => result,
    }
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Pod => "Pod",
        Kind::Deployment => "Deployment",
        Kind::Service => "Service",
        Kind::ConfigMap => "ConfigMap",
        Kind::Secret => "Secret",
        Kind::NetworkPolicy => "NetworkPolicy",
        Kind::PodDisruptionBudget => "PodDisruptionBudget",
        Kind::Job => "Job",
        Kind::PersistentVolumeClaim => "PersistentVolumeClaim",
        Kind::Ingress => "Ingress",
    }
}
