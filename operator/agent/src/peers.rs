//! Which way to measure next.

use std::collections::BTreeMap;

use crate::figures::Link;

/// A way is measured again after this many seconds.
pub const REMEASURE_SECONDS: u64 = 3600;
/// A peer that did not answer is left alone for this many seconds.
pub const RETRY_SECONDS: u64 = 60;

/// The other nodes, where their agents listen, and when each was tried last.
#[derive(Clone, Debug, Default)]
pub struct Peers {
    endpoints: BTreeMap<String, String>,
    tried: BTreeMap<String, Tried>,
}

#[derive(Clone, Copy, Debug)]
struct Tried {
    seconds: u64,
    answered: bool,
}

impl Peers {
    /// Takes the endpoints that the profiles name now. What is known of a node that is gone is forgotten, and a node
    /// that moved to another address is measured anew.
    pub fn update(&mut self, endpoints: BTreeMap<String, String>, links: &mut BTreeMap<String, Link>) {
        let kept = |node: &String| self.endpoints.get(node) == endpoints.get(node);
        self.tried.retain(|node, _| kept(node));
        links.retain(|node, _| endpoints.contains_key(node));
        self.endpoints = endpoints;
    }

    /// The node whose measurement is due for longest, with its endpoint. One at a time: two would share the link.
    #[must_use]
    pub fn due(&self, now_seconds: u64) -> Option<(&str, &str)> {
        let age = |node: &str| match self.tried.get(node) {
            None => Some(u64::MAX),
            Some(tried) => {
                let wait = if tried.answered { REMEASURE_SECONDS } else { RETRY_SECONDS };
                let age = now_seconds.saturating_sub(tried.seconds);
                (age >= wait).then_some(age)
            }
        };
        self.endpoints
            .iter()
            .filter_map(|(node, endpoint)| Some((age(node)?, node, endpoint)))
            .max_by(|a, b| a.0.cmp(&b.0).then_with(|| b.1.cmp(a.1)))
            .map(|(_, node, endpoint)| (node.as_str(), endpoint.as_str()))
    }

    /// Notes that a node was tried.
    pub fn tried(&mut self, node: &str, now_seconds: u64, answered: bool) {
        self.tried.insert(node.to_owned(), Tried { seconds: now_seconds, answered });
    }

    /// How many did not answer when they were tried last.
    #[must_use]
    pub fn silent(&self) -> usize {
        self.tried.values().filter(|tried| !tried.answered).count()
    }

    /// How many other nodes there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.endpoints.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(nodes: &[&str]) -> BTreeMap<String, String> {
        nodes.iter().map(|node| ((*node).to_owned(), format!("{node}:7411"))).collect()
    }

    #[test]
    fn each_is_measured_once_an_hour_and_the_silent_sooner() {
        let mut peers = Peers::default();
        let mut links = BTreeMap::new();
        peers.update(endpoints(&["a", "b"]), &mut links);
        assert_eq!(peers.due(0), Some(("a", "a:7411")));
        peers.tried("a", 0, true);
        assert_eq!(peers.due(0), Some(("b", "b:7411")));
        peers.tried("b", 0, false);
        assert_eq!((peers.due(RETRY_SECONDS - 1), peers.silent()), (None, 1));
        assert_eq!(peers.due(RETRY_SECONDS), Some(("b", "b:7411")));
        peers.tried("b", RETRY_SECONDS, true);
        assert_eq!(peers.due(REMEASURE_SECONDS), Some(("a", "a:7411")));
    }

    #[test]
    fn who_left_is_forgotten_and_who_moved_is_new() {
        let mut peers = Peers::default();
        let link = Link { bits_per_second: 1, round_trip_microseconds: 1, measured_at: None };
        let mut links = BTreeMap::from([("a".to_owned(), link), ("b".to_owned(), link)]);
        peers.update(endpoints(&["a", "b"]), &mut links);
        peers.tried("a", 0, true);
        peers.tried("b", 0, true);
        peers.update(BTreeMap::from([("a".to_owned(), "elsewhere:1".to_owned())]), &mut links);
        assert_eq!(links.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(peers.due(1), Some(("a", "elsewhere:1")));
        assert_eq!(peers.count(), 1);
    }
}
