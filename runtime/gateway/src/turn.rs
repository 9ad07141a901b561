//! Whose turn it is: a ring has one gateway at a time. One that comes waits until the one before it has ended its answers.

use std::time::Duration;

use tokio::time::Instant;

use crate::ring::Holder;

/// A gateway that went without a word has so long to come back to its ring: it may have lost it, and have answers under way.
const RETURN: Duration = Duration::from_secs(15);
/// For so much longer than its answers may go on, a gateway that leaves may be there.
const CLOSING: Duration = Duration::from_secs(15);

/// The place of one gateway among those of a ring.
#[derive(Debug)]
pub(crate) struct Turn {
    /// Its name, where it has one: else it waits for nobody.
    name: Option<String>,
    /// The longest that it waits before it has served.
    longest: Duration,
    /// Since when it has waited.
    since: Option<Instant>,
}

/// What follows for one that asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The ring is free, or its own.
    Ours,
    /// It belongs to this gateway still.
    After(String),
    /// It has belonged to this one for longer than a gateway that leaves may keep it.
    Overdue(String),
}

impl Turn {
    /// The turn of a gateway with this name, whose answers may go on for `grace` when it leaves, as those of the one before it may.
    pub(crate) fn new(name: Option<String>, grace: Duration) -> Self {
        Self { name, longest: grace.saturating_add(CLOSING), since: None }
    }

    /// The name that it gives.
    pub(crate) fn name(&self) -> Option<&String> {
        self.name.as_ref()
    }

    /// Where it stands, by what the workers say. One that has `served` waits for as long as it takes: another took its place.
    pub(crate) fn place(&mut self, holders: &[Holder], served: bool, now: Instant) -> Place {
        let Some(own) = &self.name else { return Place::Ours };
        let another = holders.iter().find(|holder| holder.gateway != *own && holder.away < RETURN);
        let Some(another) = another else {
            self.since = None;
            return Place::Ours;
        };
        let since = *self.since.get_or_insert(now);
        let name = another.gateway.clone();
        if !served && now.duration_since(since) >= self.longest { Place::Overdue(name) } else { Place::After(name) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_comes_waits_for_the_one_before_it_and_not_for_ever() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let held = |gateway: &str, away| Holder { gateway: gateway.into(), away: Duration::from_secs(away) };
        let mut turn = Turn::new(Some("new".into()), Duration::from_secs(60));
        assert_eq!(turn.place(&[], false, at(0)), Place::Ours);
        assert_eq!(turn.place(&[held("new", 0)], false, at(0)), Place::Ours);
        let both = [held("new", 0), held("old", 0)];
        assert_eq!(turn.place(&both, false, at(0)), Place::After("old".into()));
        assert_eq!(turn.place(&[held("old", 14)], false, at(10)), Place::After("old".into()), "it may come back");
        assert_eq!(turn.place(&[held("old", 15)], false, at(20)), Place::Ours);
        assert_eq!(turn.place(&both, false, at(30)), Place::After("old".into()), "the time begins anew");
        assert_eq!(turn.place(&both, false, at(104)), Place::After("old".into()));
        assert_eq!(turn.place(&both, false, at(105)), Place::Overdue("old".into()));
        assert_eq!(
            turn.place(&both, true, at(1000)),
            Place::After("old".into()),
            "who was replaced takes nothing back"
        );
        let mut nameless = Turn::new(None, Duration::ZERO);
        assert_eq!(nameless.place(&both, false, at(0)), Place::Ours);
    }
}
