//! What the agent says to the cluster: its Lease, its profile, and a look at the others' profiles.

use std::collections::BTreeMap;

use anyhow::Context as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, Resource as _};
use lime_api::{
    API_VERSION, HEARTBEAT_LABEL, HEARTBEAT_LEASE_SECONDS, LimeNodeProfile, LimeNodeProfileStatus, heartbeat_lease,
};
use serde_json::{Value, json};

/// The name under which the API server keeps which fields are ours.
const MANAGER: &str = "lime-agent";

/// The cluster, as the agent of one node sees it.
#[derive(Clone)]
pub struct Cluster {
    node: String,
    owner: OwnerReference,
    leases: Api<Lease>,
    profiles: Api<LimeNodeProfile>,
}

impl Cluster {
    /// Looks up the node, which will own the Lease and the profile: they go when it is deleted.
    ///
    /// # Errors
    /// If the API server does not answer, or there is no such node.
    pub async fn join(client: Client, node: &str, namespace: &str) -> anyhow::Result<Self> {
        let found =
            Api::<Node>::all(client.clone()).get(node).await.with_context(|| format!("looking up the node {node}"))?;
        let owner = OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: node.to_owned(),
            uid: found.meta().uid.clone().unwrap_or_default(),
            ..OwnerReference::default()
        };
        let leases = Api::namespaced(client.clone(), namespace);
        Ok(Self { node: node.to_owned(), owner, leases, profiles: Api::all(client) })
    }

    /// Shows that the agent lives.
    ///
    /// # Errors
    /// If the Lease cannot be written.
    pub async fn beat(&self, now: Timestamp) -> kube::Result<()> {
        let lease = lease(&self.node, &self.owner, now);
        let name = heartbeat_lease(&self.node);
        self.leases.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&lease)).await?;
        Ok(())
    }

    /// Makes the profile if it is not there; its spec is the administrator's, and left as it is.
    ///
    /// # Errors
    /// If it cannot be written, for instance because the kind is not installed yet.
    pub async fn ensure_profile(&self) -> kube::Result<LimeNodeProfile> {
        if let Some(found) = self.profiles.get_opt(&self.node).await? {
            return Ok(found);
        }
        let made = json!({
            "apiVersion": API_VERSION,
            "kind": "LimeNodeProfile",
            "metadata": {"name": self.node, "ownerReferences": [self.owner]},
            "spec": {},
        });
        self.profiles.patch(&self.node, &PatchParams::apply(MANAGER), &Patch::Apply(&made)).await
    }

    /// Writes the status. What others own of it, as the operator does `lent`, stays.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn write_status(&self, status: &LimeNodeProfileStatus) -> kube::Result<()> {
        let object = json!({
            "apiVersion": API_VERSION,
            "kind": "LimeNodeProfile",
            "metadata": {"name": self.node},
            "status": status,
        });
        self.profiles.patch_status(&self.node, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&object)).await?;
        Ok(())
    }

    /// Where the agents of the other nodes listen.
    ///
    /// # Errors
    /// If the profiles cannot be listed.
    pub async fn endpoints(&self) -> kube::Result<BTreeMap<String, String>> {
        let all = self.profiles.list(&ListParams::default()).await?;
        Ok(endpoints(all.items, &self.node))
    }
}

/// Of each profile but our own, where its agent listens.
fn endpoints(profiles: impl IntoIterator<Item = LimeNodeProfile>, own: &str) -> BTreeMap<String, String> {
    profiles
        .into_iter()
        .filter_map(|profile| Some((profile.metadata.name?, profile.status?.link_endpoint?)))
        .filter(|(node, _)| node != own)
        .collect()
}

fn lease(node: &str, owner: &OwnerReference, now: Timestamp) -> Value {
    // The API server wants six digits of the second, no more and no less.
    let renewed = now.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": heartbeat_lease(node),
            "labels": {HEARTBEAT_LABEL: "agent"},
            "ownerReferences": [owner],
        },
        "spec": {
            "holderIdentity": node,
            "leaseDurationSeconds": HEARTBEAT_LEASE_SECONDS,
            "renewTime": renewed,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_one_that_kubernetes_reads() {
        let now = Timestamp::new(1_700_000_000, 5_000).unwrap();
        let lease = lease("node-1", &OwnerReference::default(), now);
        assert_eq!(lease["spec"]["renewTime"], "2023-11-14T22:13:20.000005Z");
        let read: Lease = serde_json::from_value(lease).unwrap();
        assert_eq!(read.metadata.name.as_deref(), Some("lime-node-node-1"));
        assert_eq!(read.spec.unwrap().renew_time.unwrap().0, now);
    }

    #[test]
    fn only_the_others_that_listen_are_peers() {
        let profile = |name: &str, endpoint: Option<&str>| {
            let mut made = LimeNodeProfile::new(name, Default::default());
            let link_endpoint = endpoint.map(str::to_owned);
            made.status = Some(LimeNodeProfileStatus { link_endpoint, ..LimeNodeProfileStatus::default() });
            made
        };
        let mut silent = profile("d", None);
        silent.status = None;
        let all = [profile("a", Some("a:1")), profile("b", Some("b:1")), profile("c", None), silent];
        assert_eq!(endpoints(all, "a"), BTreeMap::from([("b".to_owned(), "b:1".to_owned())]));
    }
}
