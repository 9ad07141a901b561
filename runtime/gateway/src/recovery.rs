//! How long a ring that broke may take to serve again, and when the weights are compared meanwhile. Pure: the moments are given.

use std::{collections::BTreeMap, time::Duration};

use lime_ring::{Peer, Verified, proto::FailureKind};
use tokio::time::Instant;

use crate::schedule::Restart;

/// Weights that were compared and found whole are believed for so long: logits that are no numbers have another cause then. Whoever can
/// bring such logits about by what they ask does not have all weights read again and again.
const BELIEVED: Duration = Duration::from_secs(300);

/// The time that a ring has to serve again. It runs from the first trouble after a pass that was served; what is loaded for the first time
/// in that trouble begins it anew.
#[derive(Debug)]
pub(crate) struct Recovery {
    patience: Duration,
    since: Option<Instant>,
    /// The most that each worker has told of since then.
    loaded: BTreeMap<(String, String), u64>,
    given_up: bool,
}

impl Recovery {
    /// A ring without trouble.
    pub(crate) fn new(patience: Duration) -> Self {
        Self { patience, since: None, loaded: BTreeMap::new(), given_up: false }
    }

    /// Something went wrong; the first time counts.
    pub(crate) fn trouble(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// All is well: a pass was served, or nobody waits for one.
    pub(crate) fn over(&mut self) {
        self.since = None;
        self.loaded.clear();
        self.given_up = false;
    }

    /// The worker at `peer` has loaded so much.
    pub(crate) fn loaded(&mut self, peer: &Peer, bytes: u64, now: Instant) {
        let most = self.loaded.entry((peer.device.clone(), peer.uri.clone())).or_default();
        if bytes > *most {
            *most = bytes;
            self.goes_on(now);
        }
    }

    /// A worker is at something that has no end in bytes, and gets on with it.
    pub(crate) fn goes_on(&mut self, now: Instant) {
        self.since = self.since.map(|_| now);
    }

    /// When those who wait have waited long enough; `None` without trouble, and once they have been told.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.since.filter(|_| !self.given_up).map(|since| since + self.patience)
    }

    /// They have been told.
    pub(crate) fn give_up(&mut self) {
        self.given_up = true;
    }
}

/// What is to be compared, and what comparing found.
#[derive(Debug, Default)]
pub(crate) struct Repair {
    wanted: bool,
    /// When all was compared last and found whole.
    clean: Option<Instant>,
}

impl Repair {
    /// A pass has failed; says what the ring begins anew for.
    pub(crate) fn failed(&mut self, kind: FailureKind, now: Instant) -> Restart {
        let believed = self.clean.is_some_and(|clean| now.duration_since(clean) < BELIEVED);
        self.wanted |= kind == FailureKind::Damaged || (kind == FailureKind::NotFinite && !believed);
        match kind {
            FailureKind::Damaged | FailureKind::NotFinite if !believed => Restart::Damaged,
            // Damage that comparing does not find is a disk that reads wrongly: a fault of its device as any other.
            _ => Restart::PassFailed,
        }
    }

    /// Whether the next ring compares before it serves.
    pub(crate) fn wanted(&self) -> bool {
        self.wanted
    }

    /// A ring is ready that was asked to compare.
    pub(crate) fn done(&mut self, found: Verified, now: Instant) {
        if std::mem::take(&mut self.wanted) {
            self.clean = (found.mended == 0).then_some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(120);

    fn peer(port: u16) -> Peer {
        Peer { device: "a".into(), uri: format!("http://a:{port}") }
    }

    #[test]
    fn the_time_runs_from_the_first_trouble_and_only_new_bytes_move_it() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut recovery = Recovery::new(PATIENCE);
        recovery.loaded(&peer(1), 500, at(0));
        assert_eq!(recovery.deadline(), None);
        recovery.trouble(at(10));
        recovery.trouble(at(50));
        assert_eq!(recovery.deadline(), Some(at(130)));
        // Told before the trouble or not: these bytes are there.
        recovery.loaded(&peer(1), 500, at(60));
        recovery.loaded(&peer(1), 600, at(60));
        assert_eq!(recovery.deadline(), Some(at(180)));
        for second in 61..80 {
            recovery.loaded(&peer(1), second, at(second));
            recovery.loaded(&peer(1), 600, at(second));
        }
        assert_eq!(recovery.deadline(), Some(at(180)), "the same bytes again and again are no progress");
        recovery.loaded(&peer(2), 100, at(90));
        assert_eq!(recovery.deadline(), Some(at(210)), "another process loads for itself");
        recovery.goes_on(at(100));
        recovery.give_up();
        assert_eq!(recovery.deadline(), None);
        recovery.trouble(at(300));
        assert_eq!(recovery.deadline(), None, "once is enough");
        recovery.over();
        recovery.trouble(at(400));
        assert_eq!(recovery.deadline(), Some(at(520)));
    }

    #[test]
    fn weights_are_compared_for_damage_and_now_and_then_for_logits_that_are_no_numbers() {
        use FailureKind::{Damaged, NoRoom, NotFinite, Refused, Unspecified};
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut repair = Repair::default();
        for kind in [Unspecified, Refused, NoRoom] {
            assert_eq!((repair.failed(kind, at(0)), repair.wanted()), (Restart::PassFailed, false));
        }
        assert_eq!((repair.failed(NotFinite, at(1)), repair.wanted()), (Restart::Damaged, true));
        assert_eq!(
            (repair.failed(Unspecified, at(1)), repair.wanted()),
            (Restart::PassFailed, true),
            "until it is done"
        );
        repair.done(Verified { compared: 9, mended: 0 }, at(10));
        assert_eq!((repair.failed(NotFinite, at(11)), repair.wanted()), (Restart::PassFailed, false), "all is whole");
        assert_eq!((repair.failed(Damaged, at(12)), repair.wanted()), (Restart::PassFailed, true), "a disk that lies");
        repair.done(Verified { compared: 9, mended: 1 }, at(13));
        assert_eq!((repair.failed(NotFinite, at(14)), repair.wanted()), (Restart::Damaged, true), "it was not");
        repair.done(Verified { compared: 9, mended: 0 }, at(20));
        assert_eq!(repair.failed(NotFinite, at(320)), Restart::Damaged, "much may happen in five minutes");
    }
}
