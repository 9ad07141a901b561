//! What happened to the ring lately, for people who look at it now.

use std::{
    collections::VecDeque,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::config::Event;

/// What is older has been seen, or nobody looked.
const KEPT: usize = 24;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Happening {
    /// Counted from one.
    pub(crate) number: u64,
    /// When: milliseconds since 1970.
    pub(crate) at_millis: u64,
    pub(crate) event: Event,
}

/// The last ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Happenings {
    last: u64,
    kept: VecDeque<Happening>,
}

impl Happenings {
    /// Takes one down. That blocks are loaded is no news: it goes on all the time until the ring is ready.
    pub(crate) fn note(&mut self, event: &Event) {
        if matches!(event, Event::Loading { .. }) {
            return;
        }
        self.last += 1;
        self.kept.push_back(Happening { number: self.last, at_millis: unix_millis(), event: event.clone() });
        while self.kept.len() > KEPT {
            self.kept.pop_front();
        }
    }

    /// The oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Happening> {
        self.kept.iter()
    }
}

/// Milliseconds since 1970.
pub(crate) fn unix_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use lime_plan::Bytes;

    use super::*;

    #[test]
    fn the_last_are_kept_and_loading_is_no_news() {
        let mut happenings = Happenings::default();
        happenings.note(&Event::Loading { device: "a".into(), loaded: Bytes(1), total: Bytes(2) });
        assert_eq!(happenings.iter().count(), 0);
        for epoch in 0..100 {
            happenings.note(&Event::Recovered { epoch });
        }
        let numbers: Vec<u64> = happenings.iter().map(|happening| happening.number).collect();
        assert_eq!(numbers, (100 - KEPT as u64 + 1..=100).collect::<Vec<_>>());
    }
}
