//! The pulse of every ring: its gateway is asked every other second whether it serves, and a deployment is visited at once when that has
//! changed. Visits alone come every half minute while all is well. Asks gateways, and never the API server.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt as _;
use kube::{ResourceExt as _, runtime::reflector::ObjectRef};
use lime_api::LimeDeployment;

use crate::{
    build,
    context::Context,
    gateways, names,
    snapshot::{RingCause, RingReport},
};

/// How often each gateway is asked.
const EVERY: Duration = Duration::from_secs(2);
/// Gateways that are asked at once.
const AT_ONCE: usize = 32;

/// What of a gateway's word is worth a visit when it changes; `None` where it says nothing.
type Word = Option<(bool, Option<RingCause>)>;

/// Feels every ring's pulse for as long as the process runs; `visit` has a deployment visited.
pub async fn feel(context: Arc<Context>, visit: impl Fn(ObjectRef<LimeDeployment>)) {
    let mut last: BTreeMap<String, Word> = BTreeMap::new();
    let mut clock = tokio::time::interval(EVERY);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        if !context.leadership.holds() {
            last.clear();
            continue;
        }
        let serving = |it: &Arc<LimeDeployment>| it.status.as_ref().is_some_and(|it| it.current_plan.is_some());
        let asked: Vec<_> = context.world.deployments.state().into_iter().filter(serving).collect();
        let asked = asked.into_iter().map(|deployment| word(context.clone(), deployment));
        let words: Vec<_> = futures::stream::iter(asked).buffer_unordered(AT_ONCE).collect().await;
        let known: BTreeSet<String> =
            words.iter().map(|(deployment, _)| deployment.uid().unwrap_or_default()).collect();
        last.retain(|uid, _| known.contains(uid));
        for (deployment, word) in words {
            if is_news(&mut last, deployment.uid().unwrap_or_default(), word) {
                visit(ObjectRef::from_obj(&*deployment));
            }
        }
    }
}

async fn word(context: Arc<Context>, deployment: Arc<LimeDeployment>) -> (Arc<LimeDeployment>, Word) {
    let (name, namespace) = (deployment.name_any(), deployment.namespace());
    let ours = |pod: &k8s_openapi::api::core::v1::Pod| {
        pod.namespace() == namespace && pod.labels().get(names::DEPLOYMENT_LABEL) == Some(&name)
    };
    let pods = context.world.pods.state_filter(|pod| ours(pod));
    let gateway = gateways::current(&pods);
    let address = gateway.and_then(|pod| Some((pod.status.as_ref()?.pod_ip.clone()?, build::served_at(pod))));
    let report = match address {
        Some((address, port)) => context.probe.pulse(&address, port).await,
        None => None,
    };
    (deployment, report.map(readiness))
}

fn readiness(report: RingReport) -> (bool, Option<RingCause>) {
    (report.ready, report.cause)
}

/// Notes what was said; whether it is something else than before. What is heard for the first time was seen by a visit.
fn is_news(last: &mut BTreeMap<String, Word>, uid: String, word: Word) -> bool {
    let changed = last.get(&uid).is_some_and(|before| *before != word);
    last.insert(uid, word);
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::links::Ends;

    #[test]
    fn a_visit_follows_what_changed_and_nothing_else() {
        let mut last = BTreeMap::new();
        let cut = || Some((false, Some(RingCause::Link(Ends::of("a", "b")))));
        let words =
            [Some((true, None)), Some((true, None)), None, cut(), cut(), Some((false, None)), Some((true, None))];
        let news = words.map(|word| is_news(&mut last, "uid".into(), word));
        assert_eq!(news, [false, false, true, true, false, true, true]);
    }
}
