//! When each agent was last heard of, by this process's own clock: other machines' clocks are compared with nothing.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::{api::coordination::v1::Lease, jiff::Timestamp};

/// The agents' heartbeats as they were seen to change. Copies share what they know.
#[derive(Clone, Debug, Default)]
pub struct Heartbeats(Arc<Mutex<BTreeMap<String, Beat>>>);

#[derive(Clone, Debug)]
struct Beat {
    /// The agent's own time, which only ever tells one beat from another.
    mark: Option<Timestamp>,
    at: Instant,
    /// Whether it changed since it was seen first. A Lease that lies there may be that of an agent that is long gone.
    moved: bool,
}

impl Heartbeats {
    /// Takes in a Lease as it is seen now.
    pub fn saw(&self, lease: &Lease, now: Instant) {
        let Some(spec) = &lease.spec else { return };
        let Some(node) = spec.holder_identity.clone() else { return };
        self.note(&node, spec.renew_time.as_ref().map(|time| time.0), now);
    }

    /// Takes in the time that somebody last said it lived, by whatever clock.
    pub fn note(&self, who: &str, mark: Option<Timestamp>, now: Instant) {
        let mut beats = self.beats();
        match beats.get_mut(who) {
            Some(beat) if beat.mark == mark => {}
            Some(beat) => *beat = Beat { mark, at: now, moved: true },
            None => drop(beats.insert(who.to_owned(), Beat { mark, at: now, moved: false })),
        }
    }

    /// Forgets a Lease that is gone.
    pub fn gone(&self, lease: &Lease) {
        if let Some(node) = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_ref()) {
            self.beats().remove(node);
        }
    }

    /// How long each agent has been silent. Of one whose Lease has not changed yet since this process began, `doubted` is asked:
    /// if it says so, nothing is known of it.
    pub fn silences(&self, now: Instant, doubted: impl Fn(&str) -> bool) -> BTreeMap<String, Duration> {
        let beats = self.beats();
        let known = beats.iter().filter(|(node, beat)| beat.moved || !doubted(node));
        known.map(|(node, beat)| (node.clone(), now.saturating_duration_since(beat.at))).collect()
    }

    fn beats(&self) -> MutexGuard<'_, BTreeMap<String, Beat>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lease(node: &str, second: i64) -> Lease {
        let renewed = Timestamp::from_second(second).unwrap().strftime("%Y-%m-%dT%H:%M:%S.000000Z").to_string();
        serde_json::from_value(json!({ "spec": { "holderIdentity": node, "renewTime": renewed } })).unwrap()
    }

    #[test]
    fn no_clock_but_ours_counts() {
        let (beats, began) = (Heartbeats::default(), Instant::now());
        let after = |seconds| began + Duration::from_secs(seconds);
        let silent = |seconds| beats.silences(after(seconds), |_| false);
        let of = |seconds, node: &str| silent(seconds).get(node).map(Duration::as_secs);
        // One agent's clock is a day behind, one's a day ahead; the second dies after 10 s.
        for second in [0, 10, 20, 30] {
            beats.saw(&lease("behind", second - 86_400), after(second.unsigned_abs()));
            beats.saw(&lease("ahead", second.min(10) + 86_400), after(second.unsigned_abs()));
        }
        assert_eq!((of(35, "behind"), of(35, "ahead")), (Some(5), Some(25)));
        // A clock that is set back is a beat like any other.
        beats.saw(&lease("ahead", 3), after(36));
        assert_eq!(of(36, "ahead"), Some(0));
        beats.gone(&lease("ahead", 3));
        assert_eq!(of(36, "ahead"), None);
    }

    #[test]
    fn what_lay_there_is_doubted_until_it_moves() {
        let (beats, began) = (Heartbeats::default(), Instant::now());
        beats.saw(&lease("a", 5), began);
        beats.saw(&lease("a", 5), began + Duration::from_secs(9));
        let silences = |doubted: bool| beats.silences(began + Duration::from_secs(10), |_| doubted);
        assert_eq!(silences(false).get("a"), Some(&Duration::from_secs(10)));
        assert_eq!(silences(true).get("a"), None);
        beats.saw(&lease("a", 6), began + Duration::from_secs(10));
        assert_eq!(silences(true).get("a"), Some(&Duration::ZERO));
    }
}
