//! The watches: what is in the cluster, and which deployments are to be visited when it changes.

use std::{collections::BTreeMap, convert::Infallible, time::Instant};

use futures::channel::mpsc;
use k8s_openapi::{
    api::{
        batch::v1::Job,
        coordination::v1::Lease,
        core::v1::{Node, Pod},
    },
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    core::{DynamicObject, NamespaceResourceScope, PartialObjectMeta},
    runtime::{
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use lime_api::{HEARTBEAT_LABEL, LimeDeployment, LimeNodeProfile, LimePlan};

mod follow;
mod gather;

use crate::{build::Kind, heartbeats::Heartbeats, missing::Missing, names, requests, settings::Settings};
use follow::{Ends, follow, follow_changes, follow_heartbeats, follow_stripped};

/// What is in the cluster, as the watches tell.
#[derive(Clone)]
pub struct World {
    /// Every LimeDeployment.
    pub deployments: Store<LimeDeployment>,
    /// Every LimePlan.
    pub plans: Store<LimePlan>,
    /// Every LimeNodeProfile.
    pub profiles: Store<LimeNodeProfile>,
    /// Every node.
    pub nodes: Store<Node>,
    /// Pods that the operator made.
    pub pods: Store<Pod>,
    /// Every pod of the namespaces that are watched that has not ended, with nothing but its node and what it requests.
    pub all_pods: Store<Pod>,
    /// Inspections.
    pub jobs: Store<Job>,
    /// The agents' heartbeats: the Leases themselves,
    pub leases: Store<Lease>,
    /// and when they were seen to change.
    pub heard: Heartbeats,
    /// Kinds that the API server does not serve.
    pub missing: Missing,
    /// What else the operator made, by kind: metadata only.
    pub owned: BTreeMap<Kind, Store<PartialObjectMeta<DynamicObject>>>,
}

/// Deployments that are to be visited.
pub type Queue = mpsc::UnboundedReceiver<Result<ObjectRef<LimeDeployment>, Infallible>>;

/// Starts every watch. Each ends only with the process.
pub fn watch(client: &Client, settings: &Settings) -> (World, Queue) {
    let (sender, queue) = mpsc::unbounded();
    let (missing, namespaces) = (Missing::default(), settings.namespaces());
    let ends = Ends { sender, missing: missing.clone() };
    let ours = || watcher::Config::default().labels(&format!("{}={}", names::MANAGED_BY.0, names::MANAGED_BY.1));
    let heartbeats = || watcher::Config::default().labels(&format!("{HEARTBEAT_LABEL}=agent"));
    let everything = watcher::Config::default;
    let deployments = follow(within::<LimeDeployment>(client, &namespaces), (), everything(), &ends, |object, send| {
        send(ObjectRef::from_obj(object));
    });
    let owner = |labels: &BTreeMap<String, String>, namespace: Option<String>| {
        let name = labels.get(names::DEPLOYMENT_LABEL)?;
        Some(ObjectRef::<LimeDeployment>::new(name).within(&namespace?))
    };
    let all = deployments.clone();
    let every_deployment = move |send: &dyn Fn(ObjectRef<LimeDeployment>)| {
        for deployment in all.state() {
            send(ObjectRef::from_obj(&*deployment));
        }
    };
    let (on_profile, on_node) = (every_deployment.clone(), every_deployment);
    let plans = follow(within::<LimePlan>(client, &namespaces), (), everything(), &ends, move |object, send| {
        owner(object.labels(), object.namespace()).into_iter().for_each(send);
    });
    let pods = follow(within::<Pod>(client, &namespaces), (), ours(), &ends, move |object, send| {
        owner(object.labels(), object.namespace()).into_iter().for_each(send);
    });
    let jobs = follow(within::<Job>(client, &namespaces), (), ours(), &ends, move |object, send| {
        owner(object.labels(), object.namespace()).into_iter().for_each(send);
    });
    let api = Api::<LimeNodeProfile>::all(client.clone());
    let profiles = follow_changes(vec![api], (), everything(), &ends, plannable, move |_, send| on_profile(send));
    // Kubelets renew their status all the time, and what matters of it changes rarely.
    let nodes = Api::<Node>::all(client.clone());
    let nodes = follow_changes(vec![nodes], (), everything(), &ends, eligible, move |_, send| on_node(send));
    // What others request is read at the visits; a pod that comes or goes is no reason for one.
    let unfinished = everything().fields("status.phase!=Succeeded,status.phase!=Failed");
    let all_pods = follow_stripped(within::<Pod>(client, &namespaces), unfinished, &ends, requests::strip);
    // Heartbeats are many and say only "still here": silence is noticed by the visits' own clock.
    let heard = Heartbeats::default();
    let leases = Api::<Lease>::namespaced(client.clone(), &settings.namespace);
    let leases = follow_heartbeats(leases, heartbeats(), &ends, heard.clone());
    let mut owned = BTreeMap::new();
    for kind in Kind::ALL.into_iter().filter(|kind| !matches!(kind, Kind::Pod | Kind::Job)) {
        let resource = kind.resource();
        let of = |namespace: &Option<String>| -> Api<PartialObjectMeta<DynamicObject>> {
            match namespace {
                Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
                None => Api::all_with(client.clone(), &resource),
            }
        };
        let apis = namespaces.iter().map(of).collect();
        let store = follow(apis, resource, ours(), &ends, move |object, send| {
            owner(object.labels(), object.namespace()).into_iter().for_each(send);
        });
        owned.insert(kind, store);
    }
    (World { deployments, plans, profiles, nodes, pods, all_pods, jobs, leases, heard, missing, owned }, queue)
}

/// The kind in each of the namespaces; `None` stands for all of them.
fn within<K>(client: &Client, namespaces: &[Option<String>]) -> Vec<Api<K>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    let of = |namespace: &Option<String>| match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    namespaces.iter().map(of).collect()
}

/// Of a profile, what plans are made from: not what is written for people, the operator's own lines among it.
fn plannable(profile: &LimeNodeProfile) -> Option<String> {
    let mut status = profile.status.clone().unwrap_or_default();
    (status.lent, status.measured_at) = (None, None);
    // That a link was measured anew is seen at the visits of who waits for it.
    status.links.iter_mut().for_each(|link| link.measured_at = None);
    status.conditions.clear();
    let text = serde_json::to_vec(&(&profile.spec, &status)).ok()?;
    Some(names::digest(&text))
}

/// Of a node, what plans and their fate depend on: labels, taints, what it may give, and which conditions hold.
fn eligible(node: &Node) -> Option<String> {
    let (spec, status) = (node.spec.as_ref(), node.status.as_ref());
    let conditions: Vec<_> = status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .map(|condition| (&condition.type_, &condition.status, &condition.reason))
        .collect();
    let scheduling = spec.map(|spec| (&spec.unschedulable, &spec.taints));
    let allocatable = status.and_then(|status| status.allocatable.as_ref());
    let text = serde_json::to_vec(&(node.labels(), scheduling, allocatable, conditions)).ok()?;
    Some(names::digest(&text))
}

impl World {
    /// When each node's agent was last heard of, by our own clock.
    pub fn heartbeats(&self) -> BTreeMap<String, Timestamp> {
        let now = Timestamp::now();
        // A Lease that has not changed since we began is not believed against a word of before.
        let profiles = self.profiles.state();
        let silent = |node: &str| {
            let profile = profiles.iter().find(|profile| profile.name_any() == node);
            let mut conditions = profile.iter().flat_map(|it| it.status.iter().flat_map(|it| &it.conditions));
            conditions.any(|condition| condition.type_ == "Fresh" && condition.status == "False")
        };
        let silences = self.heard.silences(Instant::now(), silent).into_iter();
        silences.filter_map(|(node, silence)| Some((node, now.checked_sub(silence).ok()?))).collect()
    }

    /// Waits until every store has been filled once.
    pub async fn filled(&self) {
        // A writer is dropped only with its task, which ends with the process.
        let _ = self.deployments.wait_until_ready().await;
        let _ = self.plans.wait_until_ready().await;
        let _ = self.profiles.wait_until_ready().await;
        let _ = self.nodes.wait_until_ready().await;
        let _ = self.pods.wait_until_ready().await;
        let _ = self.all_pods.wait_until_ready().await;
        let _ = self.jobs.wait_until_ready().await;
        let _ = self.leases.wait_until_ready().await;
        for store in self.owned.values() {
            let _ = store.wait_until_ready().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_only_reports_is_no_reason_for_a_visit() {
        let node = |change: fn(&mut serde_json::Value)| {
            let mut whole = crate::testing::node("a");
            change(&mut whole);
            eligible(&serde_json::from_value(whole).unwrap())
        };
        let before = node(|_| {});
        let reports: [fn(&mut serde_json::Value); 3] = [
            |it| it["metadata"]["annotations"] = serde_json::json!({ "seen": "now" }),
            |it| it["status"]["conditions"][0]["lastHeartbeatTime"] = "2026-01-01T00:00:00Z".into(),
            |it| it["status"]["images"] = serde_json::json!([{ "names": ["x"] }]),
        ];
        reports.into_iter().for_each(|change| assert_eq!(node(change), before));
        let matters: [fn(&mut serde_json::Value); 4] = [
            |it| it["metadata"]["labels"]["pool"] = "b".into(),
            |it| it["spec"] = serde_json::json!({ "unschedulable": true }),
            |it| it["status"]["conditions"][0]["status"] = "Unknown".into(),
            |it| it["status"]["allocatable"] = serde_json::json!({ "memory": "1Gi" }),
        ];
        matters.into_iter().for_each(|change| assert_ne!(node(change), before));
    }

    #[test]
    fn what_is_written_for_people_is_no_reason_for_a_visit() {
        let profile = |change: fn(&mut serde_json::Value)| {
            let mut whole = crate::testing::profile("a", 60);
            change(&mut whole);
            plannable(&serde_json::from_value(whole).unwrap())
        };
        let before = profile(|_| {});
        assert_eq!(profile(|whole| whole["status"]["lent"] = "1Gi: llm/m".into()), before);
        assert_eq!(profile(|whole| whole["status"]["measuredAt"] = "2026-01-01T00:00:00Z".into()), before);
        let links = |at: &str| {
            let links = serde_json::json!([{ "peer": "b", "measuredAt": at }]);
            let mut whole = crate::testing::profile("a", 60);
            whole["status"]["links"] = links;
            plannable(&serde_json::from_value(whole).unwrap())
        };
        assert_eq!(links("2026-01-01T00:00:00Z"), links("2026-01-01T01:00:00Z"));
        assert_ne!(profile(|whole| whole["status"]["memory"]["availableBytes"] = 5.into()), before);
        assert_ne!(profile(|whole| whole["spec"]["excluded"] = true.into()), before);
    }
}
