//! `kubectl lime chat`: a conversation through a port-forward.

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt as _};
use lime_api::LimeDeployment;
use lime_client::{Manner, talk};

use crate::{args::ChatArgs, cluster::Cluster, forward};

/// Talks until /quit or the end of input.
pub(crate) async fn run(cluster: &Cluster, args: ChatArgs) -> anyhow::Result<()> {
    let deployment = cluster.deployment(args.deployment.as_deref()).await?;
    if deployment.spec.asleep() {
        let name = deployment.name_any();
        bail!("{name} is asleep: kubectl -n {} scale limedeployment {name} --replicas=1 wakes it", cluster.namespace);
    }
    let key = match args.api_key {
        Some(key) => Some(key),
        None => key(cluster, &deployment).await?,
    };
    let manner = Manner {
        model: None,
        prompt: args.prompt,
        system: args.system,
        max_tokens: args.max_tokens,
        temperature: args.temperature,
        seed: args.seed,
    };
    Ok(talk(&forward::api(cluster, &deployment, key)?, &manner).await?)
}

/// The first key of the deployment's Secret, where it has one.
async fn key(cluster: &Cluster, deployment: &LimeDeployment) -> anyhow::Result<Option<String>> {
    let Some(reference) = &deployment.spec.endpoint.api_key_secret_ref else { return Ok(None) };
    let api: Api<Secret> = cluster.api();
    let hint = || {
        format!(
            "{} wants a key, and its Secret {} cannot be read: give --api-key KEY",
            deployment.name_any(),
            reference.name
        )
    };
    let secret = api.get(&reference.name).await.with_context(hint)?;
    let keys = secret.data.and_then(|mut data| data.remove(&reference.key)).with_context(hint)?;
    let text = String::from_utf8_lossy(&keys.0).into_owned();
    let first = text.lines().map(str::trim).find(|line| !line.is_empty());
    Ok(Some(first.with_context(hint)?.to_owned()))
}
