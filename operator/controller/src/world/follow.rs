//! One watch: a store that is kept in step with the cluster, and what is told of its events.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt::Debug,
    hash::Hash,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, channel::mpsc, stream::select_all};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Resource, ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        reflector::{ObjectRef, Store, store::Writer},
        utils::{Backoff, ResetTimerBackoff},
        watcher::{self, Event, watcher},
    },
};
use lime_api::LimeDeployment;
use serde::de::DeserializeOwned;

use super::gather::Gather;
use crate::{
    heartbeats::Heartbeats,
    missing::{Missing, is_unknown_kind},
};

/// A watch is asked for anew after so long, and a connection that died without a word is noticed a few seconds later.
const WATCH_SECONDS: u32 = 60;

/// Where visits are asked for.
type Sender = mpsc::UnboundedSender<Result<ObjectRef<LimeDeployment>, Infallible>>;

/// Where the watches tell what they find.
pub(super) struct Ends {
    /// Deployments that are to be visited.
    pub(super) sender: Sender,
    /// Kinds that are not served.
    pub(super) missing: Missing,
}

/// Keeps a store in step with the cluster and asks for visits.
pub(super) fn follow<K>(
    apis: Vec<Api<K>>,
    kind: K::DynamicType,
    config: watcher::Config,
    ends: &Ends,
    visit: impl FnMut(&K, &dyn Fn(ObjectRef<LimeDeployment>)) + Send + 'static,
) -> Store<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Clone + Debug + Eq + Hash + Send + Sync + Unpin,
{
    follow_changes(apis, kind, config, ends, |_| None, visit)
}

/// The same, where objects whose `digest` is what it was are not worth a visit.
pub(super) fn follow_changes<K>(
    apis: Vec<Api<K>>,
    kind: K::DynamicType,
    config: watcher::Config,
    ends: &Ends,
    digest: impl Fn(&K) -> Option<String> + Send + 'static,
    mut visit: impl FnMut(&K, &dyn Fn(ObjectRef<LimeDeployment>)) + Send + 'static,
) -> Store<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Clone + Debug + Eq + Hash + Send + Sync + Unpin,
{
    let sender = ends.sender.clone();
    let mut digests: BTreeMap<String, String> = BTreeMap::new();
    follow_events(
        apis,
        kind,
        config,
        ends,
        |_| {},
        move |event| {
            let send = |object: ObjectRef<LimeDeployment>| {
                // The queue is gone only when the process ends.
                let _ = sender.unbounded_send(Ok(object));
            };
            match event {
                Event::Apply(object) | Event::InitApply(object) => {
                    let now = digest(object);
                    if now.is_none() || now != digests.get(&object.name_any()).cloned() {
                        visit(object, &send);
                        digests.extend(now.map(|now| (object.name_any(), now)));
                    }
                }
                Event::Delete(object) => {
                    digests.remove(&object.name_any());
                    visit(object, &send);
                }
                Event::Init | Event::InitDone => {}
            }
        },
    )
}

/// Keeps a store of objects of which only a part is kept, and asks for no visits.
pub(super) fn follow_stripped<K>(apis: Vec<Api<K>>, config: watcher::Config, ends: &Ends, strip: fn(&mut K)) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    follow_events(apis, (), config, ends, strip, |_| {})
}

/// Keeps the heartbeats' Leases and notes when they change.
pub(super) fn follow_heartbeats(
    api: Api<Lease>,
    config: watcher::Config,
    ends: &Ends,
    heard: Heartbeats,
) -> Store<Lease> {
    follow_events(
        vec![api],
        (),
        config,
        ends,
        |_| {},
        move |event| match event {
            Event::Apply(lease) | Event::InitApply(lease) => heard.saw(lease, Instant::now()),
            Event::Delete(lease) => heard.gone(lease),
            Event::Init | Event::InitDone => {}
        },
    )
}

/// Keeps a store of objects that are changed as they come, and tells of each event. Each of `apis` is a part of the cluster.
fn follow_events<K>(
    apis: Vec<Api<K>>,
    kind: K::DynamicType,
    config: watcher::Config,
    ends: &Ends,
    change: impl Fn(&mut K) + Send + 'static,
    mut tell: impl FnMut(&Event<K>) + Send + 'static,
) -> Store<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Clone + Debug + Eq + Hash + Send + Sync + Unpin,
{
    let mut writer = Writer::new(kind.clone());
    let store = writer.as_reader();
    let missing = ends.missing.clone();
    tokio::spawn(async move {
        let name = K::kind(&kind).into_owned();
        let mut gather = Gather::new(apis.len());
        loop {
            let watches = apis.iter().cloned().enumerate().map(|(at, api)| {
                let pauses = ResetTimerBackoff::new(WatchPauses::default(), Duration::from_secs(20));
                let events = watcher(api, config.clone().timeout(WATCH_SECONDS)).backoff(pauses);
                events.map(move |event| (at, event)).boxed()
            });
            let mut events = select_all(watches);
            while let Some((at, event)) = events.next().await {
                match event {
                    Ok(event) => {
                        missing.found(&name);
                        let event = event.modify(|object| {
                            object.managed_fields_mut().clear();
                            change(object);
                        });
                        for event in gather.take(at, event) {
                            writer.apply_watcher_event(&event);
                            tell(&event);
                        }
                    }
                    Err(error) if is_unknown_kind(&error) => {
                        tracing::warn!(kind = name, %error, "the API server knows no such kind");
                        missing.note(&name);
                        break;
                    }
                    // A watch that fails starts over by itself, later and later.
                    Err(error) => tracing::warn!(kind = name, %error, "a watch failed and starts over"),
                }
            }
            // When the kind is there again everything is listed anew: what was in the store may have gone with it.
            tokio::time::sleep(UNKNOWN).await;
        }
    });
    store
}

/// How long a watch of a kind that is not served rests.
const UNKNOWN: Duration = Duration::from_secs(2);

/// How long a watch that failed rests before it starts over. kube's own pauses grow to half a minute and shrink only after two quiet
/// minutes: a watch that is cut every few seconds would be away most of the time.
#[derive(Debug)]
struct WatchPauses(lime_backoff::Pauses);

impl Default for WatchPauses {
    fn default() -> Self {
        let watching = lime_backoff::Backoff::doubling(Duration::from_millis(400), Duration::from_secs(5));
        Self(watching.pauses())
    }
}

impl Iterator for WatchPauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next()
    }
}

impl Backoff for WatchPauses {
    fn reset(&mut self) {
        self.0.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watches_rest_longer_and_longer_up_to_five_seconds() {
        let mut pauses = WatchPauses::default();
        let milliseconds: Vec<u128> = pauses.by_ref().take(6).map(|pause| pause.as_millis()).collect();
        assert_eq!(milliseconds, [400, 800, 1600, 3200, 5000, 5000]);
        pauses.reset();
        assert_eq!(pauses.next(), Some(Duration::from_millis(400)));
    }
}
