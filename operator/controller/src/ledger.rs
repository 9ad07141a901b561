//! What the operator writes into the profiles of nodes: that an agent has fallen silent, and what is lent to whom.
//!
//! An agent says of itself that its profile is fresh; that it has stopped saying anything only another can tell. Each of the
//! two has a field manager of its own, so that neither takes the other's fields away.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::coordination::v1::Lease,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
    runtime::reflector::ObjectRef,
};
use lime_api::{API_VERSION, HEARTBEAT_LEASE_SECONDS, LimeNodeProfile, binary_bytes, heartbeat_lease};
use lime_plan::Bytes;
use serde_json::{Value, json};

use crate::{context::Context, names};

/// How often the profiles are gone through.
const PERIOD: Duration = Duration::from_secs(5);
/// Deployments that are named one by one.
const NAMED: usize = 3;
/// The condition that says whether a profile is to be believed.
const FRESH: &str = "Fresh";

/// What deployments take of one node: name with namespace, and bytes.
type Loans = BTreeMap<String, Bytes>;

/// Keeps the profiles, for as long as it is polled and while this replica leads.
pub async fn keep(context: Arc<Context>) {
    context.until_filled().await;
    loop {
        tokio::time::sleep(PERIOD).await;
        if !context.leadership.holds() {
            continue;
        }
        let (heartbeats, loans) = (context.world.heartbeats(), loans(&context));
        for profile in context.world.profiles.state() {
            let name = profile.name_any();
            // What fails is tried again in a moment.
            if let Err(error) = look_after(&context, &profile, heartbeats.get(&name).copied(), loans.get(&name)).await {
                tracing::warn!(node = name, %error, "a profile could not be written");
            }
        }
    }
}

async fn look_after(
    context: &Context,
    profile: &LimeNodeProfile,
    heartbeat: Option<Timestamp>,
    loans: Option<&Loans>,
) -> Result<(), kube::Error> {
    let name = profile.name_any();
    let mut freshness = freshness(profile, heartbeat, Timestamp::now());
    if freshness.as_ref().is_some_and(|condition| condition.status == "False") {
        // The watch may be behind, and no node is called silent for that.
        let leases: Api<Lease> = Api::namespaced(context.client.clone(), &context.settings.namespace);
        if let Some(lease) = leases.get_opt(&heartbeat_lease(&name)).await? {
            context.world.heard.saw(&lease, Instant::now());
        }
        let last = context.world.heartbeats().get(&name).copied();
        freshness = self::freshness(profile, last, Timestamp::now());
    }
    if let Some(condition) = freshness {
        write(context, &name, "lime-operator-freshness", json!({ "conditions": [condition] })).await?;
    }
    // An operator of some namespaces does not know what others have lent, and two of them would write one field against each other.
    let knows_all = context.settings.watch_namespaces.is_empty();
    if let Some(lent) = lending(profile, loans).filter(|_| knows_all) {
        write(context, &name, names::MANAGER, lent.map_or(json!({}), |lent| json!({ "lent": lent }))).await?;
    }
    Ok(())
}

async fn write(context: &Context, name: &str, manager: &str, status: Value) -> Result<(), kube::Error> {
    let profiles: Api<LimeNodeProfile> = Api::all(context.client.clone());
    let whole = json!({ "apiVersion": API_VERSION, "kind": "LimeNodeProfile", "status": status });
    context.metrics.wrote("LimeNodeProfile");
    match profiles.patch_status(name, &PatchParams::apply(manager).force(), &Patch::Apply(&whole)).await {
        // Gone since it was seen.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        written => written.map(|_| ()),
    }
}

/// The Fresh condition that is to be written, if the one that is there is wrong.
fn freshness(profile: &LimeNodeProfile, heartbeat: Option<Timestamp>, now: Timestamp) -> Option<Condition> {
    let status = profile.status.as_ref()?;
    let before = status.conditions.iter().find(|condition| condition.type_ == FRESH);
    let silent = heartbeat
        .is_none_or(|last| now.as_second().saturating_sub(last.as_second()) > i64::from(HEARTBEAT_LEASE_SECONDS));
    let truth = if silent { "False" } else { "True" };
    if before.is_some_and(|before| before.status == truth) {
        return None;
    }
    let (reason, message) = match heartbeat.filter(|_| silent) {
        Some(last) => {
            let since = Timestamp::from_second(last.as_second()).unwrap_or(last);
            ("Silent", format!("the agent has sent no heartbeat since {since}: plans do not count on this node"))
        }
        None if silent => ("Silent", "no agent has sent a heartbeat: plans do not count on this node".to_owned()),
        None => ("Reporting", "the agent reports; its heartbeat is the Lease of the node".to_owned()),
    };
    Some(Condition {
        type_: FRESH.to_owned(),
        status: truth.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: Time(now),
        observed_generation: None,
    })
}

/// `lent` as it is to be written, if what is there is wrong; `Some(None)` takes it away.
fn lending(profile: &LimeNodeProfile, loans: Option<&Loans>) -> Option<Option<String>> {
    let before = profile.status.as_ref().and_then(|status| status.lent.clone());
    let now = loans.filter(|loans| !loans.is_empty()).map(describe);
    (before != now).then_some(now)
}

/// `4.5Gi: llm/m, llm/n`.
fn describe(loans: &Loans) -> String {
    let sum = loans.values().fold(0_u64, |sum, bytes| sum.saturating_add(bytes.0));
    let named: Vec<&str> = loans.keys().map(String::as_str).take(NAMED).collect();
    let more = loans.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}: {}{more}", binary_bytes(sum), named.join(", "))
}

/// What the plans in force take, by node.
fn loans(context: &Context) -> BTreeMap<String, Loans> {
    let mut all: BTreeMap<String, Loans> = BTreeMap::new();
    for deployment in context.world.deployments.state() {
        let (Some(namespace), status) = (deployment.namespace(), deployment.status.as_ref()) else { continue };
        let current = status.and_then(|status| status.current_plan.as_deref()).filter(|_| !deployment.spec.asleep());
        let plan = current.and_then(|name| context.world.plans.get(&ObjectRef::new(name).within(&namespace)));
        for part in plan.iter().flat_map(|plan| &plan.spec.assignments) {
            let bytes = Bytes(u64::try_from(part.memory_bytes).unwrap_or_default());
            let name = format!("{namespace}/{}", deployment.name_any());
            all.entry(part.node.clone()).or_default().insert(name, bytes);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, NOW};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn profile(fresh: Option<&str>, lent: Option<&str>) -> LimeNodeProfile {
        let mut whole = testing::profile("a", 60);
        let condition = |status| json!([{ "type": FRESH, "status": status, "reason": "R", "message": "", "lastTransitionTime": at(0) }]);
        whole["status"]["conditions"] = fresh.map_or(json!([]), condition);
        whole["status"]["lent"] = json!(lent);
        serde_json::from_value(whole).unwrap()
    }

    #[test]
    fn a_silent_agent_is_told_once_and_so_is_its_return() {
        let table = [
            (Some("True"), Some(NOW - 5), None),
            (Some("True"), Some(NOW - 40), None),
            (Some("True"), Some(NOW - 41), Some(("False", "Silent"))),
            (Some("True"), None, Some(("False", "Silent"))),
            (Some("False"), Some(NOW - 500), None),
            (Some("False"), Some(NOW - 5), Some(("True", "Reporting"))),
            (Some("Unknown"), Some(NOW - 5), Some(("True", "Reporting"))),
            (None, Some(NOW - 500), Some(("False", "Silent"))),
            // A clock that is ahead makes nobody silent.
            (Some("True"), Some(NOW + 500), None),
        ];
        for (before, heartbeat, expected) in table {
            let found = freshness(&profile(before, None), heartbeat.map(at), at(NOW));
            let found = found.as_ref().map(|found| (found.status.as_str(), found.reason.as_str()));
            assert_eq!(found, expected, "{before:?} {heartbeat:?}");
        }
        let mut unmeasured = profile(None, None);
        unmeasured.status = None;
        assert_eq!(freshness(&unmeasured, None, at(NOW)), None);
        let said = freshness(&profile(Some("True"), None), Some(at(NOW - 90)), at(NOW)).unwrap().message;
        assert!(said.contains("since 2027-01-15T07:58:30Z"), "{said}");
    }

    #[test]
    fn what_is_lent_to_whom_is_written_when_it_changes() {
        let loans =
            |names: &[&str]| -> Loans { names.iter().map(|name| ((*name).to_owned(), Bytes::mib(512))).collect() };
        let table = [
            (None, loans(&[]), None),
            (None, loans(&["llm/m"]), Some(Some("512Mi: llm/m"))),
            (Some("512Mi: llm/m"), loans(&["llm/m"]), None),
            (Some("512Mi: llm/m"), loans(&["llm/m", "llm/n"]), Some(Some("1Gi: llm/m, llm/n"))),
            (None, loans(&["a/1", "a/2", "a/3", "a/4", "a/5"]), Some(Some("2.5Gi: a/1, a/2, a/3 and 2 more"))),
            (Some("512Mi: llm/m"), loans(&[]), Some(None)),
        ];
        for (before, loans, expected) in table {
            let found = lending(&profile(None, before), Some(&loans));
            assert_eq!(found.as_ref().map(Option::as_deref), expected, "{before:?} {loans:?}");
        }
        assert_eq!(lending(&profile(None, Some("gone")), None), Some(None));
    }
}
