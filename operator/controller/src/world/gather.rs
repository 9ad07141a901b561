//! Several watches, one for each namespace, as one: a store takes a single story, with one beginning.

use std::{collections::BTreeMap, mem};

use kube::{ResourceExt, runtime::watcher::Event};

/// The events of several watches of one kind, on their way to one store.
#[derive(Debug)]
pub(super) struct Gather<K> {
    watches: Vec<Watch<K>>,
    /// Whether the store has had its beginning: what every watch listed first.
    begun: bool,
}

#[derive(Debug)]
struct Watch<K> {
    /// Objects by name, as this watch last told of them.
    known: BTreeMap<String, K>,
    /// Those of a list that is under way.
    listing: BTreeMap<String, K>,
    listed: bool,
}

impl<K: ResourceExt + Clone> Gather<K> {
    /// For so many watches.
    pub(super) fn new(watches: usize) -> Self {
        let watch = || Watch { known: BTreeMap::new(), listing: BTreeMap::new(), listed: false };
        Self { watches: (0..watches).map(|_| watch()).collect(), begun: false }
    }

    /// What the store is told of an event of the watch at place `at`.
    pub(super) fn take(&mut self, at: usize, event: Event<K>) -> Vec<Event<K>> {
        let alone = self.watches.len() == 1;
        let begun = self.begun;
        let Some(watch) = self.watches.get_mut(at).filter(|_| !alone) else { return vec![event] };
        match event {
            Event::Init => watch.listing.clear(),
            Event::InitApply(object) => drop(watch.listing.insert(object.name_any(), object)),
            Event::InitDone => {
                watch.listed = true;
                let now = mem::take(&mut watch.listing);
                let before = mem::replace(&mut watch.known, now);
                if begun {
                    // Listed anew: what is not among it has gone meanwhile.
                    let gone = before.into_iter().filter(|(name, _)| !watch.known.contains_key(name));
                    let gone: Vec<_> = gone.map(|(_, object)| Event::Delete(object)).collect();
                    return watch.known.values().cloned().map(Event::Apply).chain(gone).collect();
                }
                return self.begin();
            }
            Event::Apply(object) => {
                watch.known.insert(object.name_any(), object.clone());
                return if begun { vec![Event::Apply(object)] } else { Vec::new() };
            }
            Event::Delete(object) => {
                watch.known.remove(&object.name_any());
                return if begun { vec![Event::Delete(object)] } else { Vec::new() };
            }
        }
        Vec::new()
    }

    /// The beginning, once every watch has listed.
    fn begin(&mut self) -> Vec<Event<K>> {
        if self.watches.iter().any(|watch| !watch.listed) {
            return Vec::new();
        }
        self.begun = true;
        let all = self.watches.iter().flat_map(|watch| watch.known.values().cloned().map(Event::InitApply));
        [Event::Init].into_iter().chain(all).chain([Event::InitDone]).collect()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use kube::runtime::reflector::store::Writer;

    use super::*;

    fn pod(namespace: &str, name: &str) -> Pod {
        serde_json::from_value(serde_json::json!({ "metadata": { "name": name, "namespace": namespace } })).unwrap()
    }

    /// What a store holds after these events, or nothing while it is not filled.
    fn after(watches: usize, events: Vec<(usize, Event<Pod>)>) -> Option<Vec<String>> {
        let (mut gather, mut writer) = (Gather::new(watches), Writer::<Pod>::default());
        let store = writer.as_reader();
        let mut filled = false;
        for (at, event) in events {
            for event in gather.take(at, event) {
                filled |= matches!(event, Event::InitDone);
                writer.apply_watcher_event(&event);
            }
        }
        let mut names: Vec<String> =
            store.state().iter().map(|pod| format!("{}/{}", pod.namespace().unwrap(), pod.name_any())).collect();
        names.sort();
        filled.then_some(names)
    }

    fn list(at: usize, namespace: &str, names: &[&str]) -> Vec<(usize, Event<Pod>)> {
        let pods = names.iter().map(|name| (at, Event::InitApply(pod(namespace, name))));
        [(at, Event::Init)].into_iter().chain(pods).chain([(at, Event::InitDone)]).collect()
    }

    #[test]
    fn a_store_is_filled_when_every_watch_has_listed() {
        let first = || list(0, "a", &["x", "y"]);
        let second = || list(1, "b", &["x"]);
        assert_eq!(after(2, first()), None);
        // Changes before the last list count too.
        let early = vec![(0, Event::Delete(pod("a", "y"))), (0, Event::Apply(pod("a", "z")))];
        assert_eq!(after(2, [first(), early, second()].concat()).unwrap(), ["a/x", "a/z", "b/x"]);
        // A list anew is of its own namespace alone.
        let again = list(0, "a", &["w"]);
        assert_eq!(after(2, [first(), second(), again].concat()).unwrap(), ["a/w", "b/x"]);
        let late = vec![(1, Event::Delete(pod("b", "x"))), (1, Event::Apply(pod("b", "y")))];
        assert_eq!(after(2, [first(), second(), late].concat()).unwrap(), ["a/x", "a/y", "b/y"]);
        // A list that breaks off changes nothing.
        let broken = vec![(1, Event::Init), (1, Event::InitApply(pod("b", "q")))];
        assert_eq!(after(2, [first(), second(), broken].concat()).unwrap(), ["a/x", "a/y", "b/x"]);
    }

    #[test]
    fn a_single_watch_goes_through_as_it_is() {
        let again = [list(0, "a", &["x"]), list(0, "a", &["y"])].concat();
        assert_eq!(after(1, again).unwrap(), ["a/y"]);
    }
}
