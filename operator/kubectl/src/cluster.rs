//! The cluster, as the person's kubeconfig names it, and what is asked of it often.

use anyhow::{Context as _, bail};
use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Config, Error, Resource, ResourceExt as _,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig},
    core::DynamicObject,
};
use lime_api::{LimeDeployment, LimeNodeProfile, LimePlan};
use serde::de::DeserializeOwned;

use crate::args::ClusterArgs;

/// A cluster and a namespace of it.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) namespace: String,
}

impl Cluster {
    /// The cluster that the arguments name. Nothing is asked of it yet.
    pub(crate) async fn connect(args: &ClusterArgs) -> anyhow::Result<Self> {
        let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
        let config = match &args.kubeconfig {
            Some(path) => {
                let fault = || format!("the kubeconfig {} cannot be used", path.display());
                let file = Kubeconfig::read_from(path).with_context(fault)?;
                Config::from_custom_kubeconfig(file, &options).await.with_context(fault)?
            }
            None if args.context.is_some() => {
                Config::from_kubeconfig(&options).await.context("the context cannot be used")?
            }
            None => Config::infer().await.context("no cluster is named: set KUBECONFIG, or give --kubeconfig FILE")?,
        };
        let namespace = args.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).context("the kubeconfig's credentials cannot be used")?;
        Ok(Self { client, namespace })
    }

    /// Objects of this namespace.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The LimeDeployment of that name, or the only one of the namespace.
    pub(crate) async fn deployment(&self, name: Option<&str>) -> anyhow::Result<LimeDeployment> {
        let api: Api<LimeDeployment> = self.api();
        if let Some(name) = name {
            return api.get(name).await.map_err(|error| match not_there(&error) {
                true => self.unknown(name),
                false => explained(error, "LimeDeployments"),
            });
        }
        let mut found = list(&api, "LimeDeployments", "").await?;
        match found.len() {
            1 => Ok(found.remove(0)),
            0 => bail!(
                "namespace {} has no LimeDeployment: name another with -n (kubectl get limedeployments -A lists all)",
                self.namespace
            ),
            _ => {
                let names: Vec<String> = found.iter().map(kube::ResourceExt::name_any).collect();
                bail!("namespace {} has several LimeDeployments, name one: {}", self.namespace, names.join(", "))
            }
        }
    }

    /// A 404 speaks of an object, or of a kind that the server does not know; either way this one is not there.
    fn unknown(&self, name: &str) -> anyhow::Error {
        anyhow::anyhow!(
            "there is no LimeDeployment {name} in namespace {}: kubectl get limedeployments -A lists all",
            self.namespace
        )
    }

    /// The plans of a deployment, the newest first.
    pub(crate) async fn plans(&self, deployment: &str) -> anyhow::Result<Vec<LimePlan>> {
        let mut plans = list(&self.api::<LimePlan>(), "LimePlans", "").await?;
        plans.retain(|plan| plan.spec.deployment == deployment);
        plans.sort_by_key(|plan| std::cmp::Reverse(plan.creation_timestamp().map(|time| time.0)));
        Ok(plans)
    }

    /// What the nodes have.
    pub(crate) async fn profiles(&self) -> anyhow::Result<Vec<LimeNodeProfile>> {
        list(&Api::all(self.client.clone()), "LimeNodeProfiles", "").await
    }
}

/// Objects with `labels`, of a kind that people call `what`.
pub(crate) async fn list<K>(api: &Api<K>, what: &str, labels: &str) -> anyhow::Result<Vec<K>>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let asked = ListParams::default().labels(labels);
    Ok(api.list(&asked).await.map_err(|error| explained(error, what))?.items)
}

/// Whether the server says that something is not there.
pub(crate) fn not_there(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 404)
}

/// An error as a sentence that says what to do.
pub(crate) fn explained(error: Error, what: &str) -> anyhow::Error {
    match error {
        Error::Api(status) if status.code == 404 => anyhow::anyhow!(
            "this cluster knows no {what}: is LIME installed there (helm install lime charts/lime), and is this the right --context?"
        ),
        Error::Api(status) if status.code == 403 => {
            anyhow::anyhow!("you may not read {what}: ask for it ({})", status.message)
        }
        Error::Api(status) if status.code == 401 => {
            anyhow::anyhow!("the cluster does not accept your credentials: log in again ({})", status.message)
        }
        error => anyhow::Error::new(error)
            .context(format!("the API server cannot be asked for {what}: check --context and --kubeconfig")),
    }
}

/// An object as it is written down for people and programs: with its kind, which lists leave out.
pub(crate) fn named<K>(object: &K) -> anyhow::Result<DynamicObject>
where
    K: Resource + serde::Serialize,
    K::DynamicType: Default,
{
    let mut json = serde_json::to_value(object)?;
    let kind = K::DynamicType::default();
    json["apiVersion"] = K::api_version(&kind).into();
    json["kind"] = K::kind(&kind).into();
    Ok(serde_json::from_value(json)?)
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn what_the_server_refuses_says_what_to_do() {
        let of = |code: u16| {
            let status = Status { code, message: "its words".into(), ..Status::default() };
            explained(Error::Api(status.boxed()), "LimePlans").to_string()
        };
        for (code, words) in
            [(404, "helm install"), (403, "you may not read LimePlans"), (401, "log in again"), (500, "--context")]
        {
            assert!(of(code).contains(words), "{code}: {}", of(code));
        }
    }
}
