//! Objects of a namespace, of the operator's, and of the cluster, as YAML.

use std::collections::BTreeSet;

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{DaemonSet, Deployment},
        batch::v1::Job,
        coordination::v1::Lease,
        core::v1::{ConfigMap, Event, Node, PersistentVolumeClaim, Pod, Service},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
};
use kube::{Api, Resource, ResourceExt as _, core::DynamicObject};
use lime_api::{DEPLOYMENT_LABEL, LimeDeployment, LimeNodeProfile, LimePlan};
use serde::{Serialize, de::DeserializeOwned};

use super::{bundle::Bundle, redact::Redactor};
use crate::{
    cluster::{Cluster, list, named},
    forward,
};

/// What the chart installs carries this.
pub(crate) const OF_THE_CHART: &str = "app.kubernetes.io/name=lime,!lime.dev/deployment";

/// Most objects of a kind.
const MOST: usize = 2000;

struct Collector<'a> {
    cluster: &'a Cluster,
    bundle: &'a mut Bundle,
    redactor: &'a mut Redactor,
}

/// Collects everything but logs, and says of which deployments. Only a deployment that is named and not there is an error: whatever else is missing is noted.
pub(crate) async fn objects(
    cluster: &Cluster,
    deployment: Option<&str>,
    bundle: &mut Bundle,
    redactor: &mut Redactor,
) -> anyhow::Result<Vec<LimeDeployment>> {
    let deployments = match deployment {
        Some(name) => vec![cluster.deployment(Some(name)).await?],
        None => list(&cluster.api::<LimeDeployment>(), "LimeDeployments", "").await?,
    };
    let mut collector = Collector { cluster, bundle, redactor };
    collector.versions().await;
    collector.keep("limedeployments", &deployments);
    let wanted = |name: &str| deployment.is_none_or(|deployment| deployment == name);
    match list(&cluster.api::<LimePlan>(), "LimePlans", "").await {
        Ok(plans) => {
            let plans: Vec<LimePlan> = plans.into_iter().filter(|plan| wanted(&plan.spec.deployment)).collect();
            collector.keep("limeplans", &plans);
        }
        Err(error) => collector.bundle.fault(format!("{error:#}")),
    }
    collector.all("limenodeprofiles", Api::<LimeNodeProfile>::all(cluster.client.clone()), "").await;
    collector.all("nodes", Api::<Node>::all(cluster.client.clone()), "").await;
    let of_deployment = labels_of(deployment);
    collector.namespaced::<Pod>("pods", &of_deployment).await;
    collector.namespaced::<Deployment>("deployments", &of_deployment).await;
    collector.namespaced::<Job>("jobs", &of_deployment).await;
    collector.namespaced::<Service>("services", &of_deployment).await;
    collector.namespaced::<ConfigMap>("configmaps", &of_deployment).await;
    collector.namespaced::<PersistentVolumeClaim>("persistentvolumeclaims", &of_deployment).await;
    collector.namespaced::<PodDisruptionBudget>("poddisruptionbudgets", &of_deployment).await;
    collector.namespaced::<NetworkPolicy>("networkpolicies", &of_deployment).await;
    collector.namespaced::<Event>("events", "").await;
    for namespace in operators(&deployments) {
        let client = || cluster.client.clone();
        let of = |kind: &str| format!("operator/{namespace}/{kind}");
        collector.all(&of("pods"), Api::<Pod>::namespaced(client(), &namespace), OF_THE_CHART).await;
        collector.all(&of("deployments"), Api::<Deployment>::namespaced(client(), &namespace), OF_THE_CHART).await;
        collector.all(&of("daemonsets"), Api::<DaemonSet>::namespaced(client(), &namespace), OF_THE_CHART).await;
        collector.all(&of("leases"), Api::<Lease>::namespaced(client(), &namespace), "").await;
        collector.all(&of("events"), Api::<Event>::namespaced(client(), &namespace), "").await;
    }
    for deployment in &deployments {
        collector.gateway(deployment).await;
    }
    Ok(deployments)
}

/// The objects of one deployment, or of all.
pub(crate) fn labels_of(deployment: Option<&str>) -> String {
    match deployment {
        Some(name) => format!("{DEPLOYMENT_LABEL}={name}"),
        None => DEPLOYMENT_LABEL.to_owned(),
    }
}

/// The namespaces of the operators that look after `deployments`.
pub(crate) fn operators(deployments: &[LimeDeployment]) -> BTreeSet<String> {
    deployments.iter().filter_map(|deployment| deployment.status.as_ref()?.operator.clone()).collect()
}

impl Collector<'_> {
    async fn versions(&mut self) {
        let server = match self.cluster.client.apiserver_version().await {
            Ok(version) => format!("{} ({})", version.git_version, version.platform),
            Err(error) => format!("unknown: {error}"),
        };
        let text = format!("kubectl-lime: {}\nKubernetes: {server}\n", env!("CARGO_PKG_VERSION"));
        self.bundle.add("versions.txt", text);
    }

    async fn namespaced<K>(&mut self, folder: &str, labels: &str)
    where
        K: Resource<Scope = NamespaceResourceScope> + Serialize + DeserializeOwned + Clone + std::fmt::Debug,
        K::DynamicType: Default,
    {
        self.all(folder, self.cluster.api::<K>(), labels).await;
    }

    async fn all<K>(&mut self, folder: &str, api: Api<K>, labels: &str)
    where
        K: Resource + Serialize + DeserializeOwned + Clone + std::fmt::Debug,
        K::DynamicType: Default,
    {
        match list(&api, folder, labels).await {
            Ok(found) => self.keep(folder, &found),
            Err(error) => self.bundle.fault(format!("{error:#}")),
        }
    }

    fn keep<K>(&mut self, folder: &str, objects: &[K])
    where
        K: Resource + Serialize,
        K::DynamicType: Default,
    {
        if objects.len() > MOST {
            self.bundle.fault(format!("{folder}: the first {MOST} of {}", objects.len()));
        }
        for object in objects.iter().take(MOST) {
            let kept = named(object).and_then(|named: DynamicObject| {
                let redacted = self.redactor.object(serde_json::to_value(named)?);
                Ok(serde_saphyr::to_string(&redacted)?)
            });
            let name = object.meta().name.clone().unwrap_or_default();
            match kept {
                Ok(text) => self.bundle.add(format!("{folder}/{name}.yaml"), text),
                Err(error) => self.bundle.fault(format!("{folder}/{name}: {error:#}")),
            }
        }
    }

    /// What the gateway says of its ring.
    async fn gateway(&mut self, deployment: &LimeDeployment) {
        let name = deployment.name_any();
        let server = forward::status(self.cluster, deployment);
        for page in ["ready", "metrics"] {
            match server.get_text(&format!("/{page}")).await {
                Ok(text) => self.bundle.add(format!("gateways/{name}/{page}.txt"), self.redactor.text(&text)),
                Err(error) => self.bundle.fault(format!("the gateway of {name}, /{page}: {error}")),
            }
        }
    }
}
