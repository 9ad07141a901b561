//! From readings to a shortage: how much of its budget a device should leave to others. Pure: it counts readings, not seconds.

use lime_engine::Shortage;
use lime_plan::{Bytes, DevicePlan};

use super::reading::Reading;

/// The machine keeps so much for everybody: a fiftieth of its memory, between these.
const LEAST_RESERVE: Bytes = Bytes::mib(64);
const MOST_RESERVE: Bytes = Bytes::mib(256);
/// A process waits for memory so much of the time, in per cent: too much.
const STALLED: f64 = 20.0;
/// And so little is none.
const FLOWING: f64 = 5.0;
/// Readings after which a reaction shows in the next one: at once in what is available, slowly in an average over ten seconds.
const AFTER_LOW: u32 = 2;
const AFTER_STALL: u32 = 20;
/// Readings for which all must be well before memory is taken back.
const CALM: u32 = 20;
/// The system keeps limits in whole pages, of at most this: what a limit is short of by less, nobody took.
const PAGE: u64 = 64 << 10;
/// Shortages are told in steps of this, so that noise is not told at all.
const STEP: u64 = 1 << 20;

/// A shortage, and why: for the compute thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Press {
    pub(crate) shortage: Shortage,
    pub(crate) why: String,
}

/// What was seen so far.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Left to others because the machine was short.
    left: Bytes,
    wait: u32,
    calm: u32,
    told: Option<Shortage>,
}

impl Watch {
    /// Takes a reading in for a device with `budget`; gives the shortage where it has changed.
    pub(crate) fn look(&mut self, reading: &Reading, budget: Bytes) -> Option<Press> {
        let over = |limit: Option<Bytes>| {
            let over = limit.map_or(Bytes::ZERO, |limit| budget.saturating_sub(limit));
            if over.0 < PAGE { Bytes::ZERO } else { over }
        };
        let (hard, soft) = (over(reading.limit), over(reading.soft_limit));
        let machine = self.machine(reading, budget);
        let why = match hard.max(soft).max(self.left) {
            Bytes::ZERO => "memory is no longer short".to_owned(),
            most if most == hard => limit_says("limit", reading.limit),
            most if most == soft => limit_says("soft limit", reading.soft_limit),
            _ => machine,
        };
        let shortage = Shortage { hard: whole(hard), soft: whole(hard.max(soft).max(self.left)) };
        if self.told.unwrap_or_default() == shortage {
            return None;
        }
        self.told = Some(shortage);
        Some(Press { shortage, why })
    }

    /// What was given last did not arrive.
    pub(crate) const fn not_told(&mut self) {
        self.told = None;
    }

    /// Follows what the machine has left; gives the sentence for the log.
    fn machine(&mut self, reading: &Reading, budget: Bytes) -> String {
        let (Some(available), Some(total)) = (reading.available, reading.total) else { return String::new() };
        let reserve = Bytes(total.0 / 50).max(LEAST_RESERVE).min(MOST_RESERVE);
        let stalled = reading.stalled.unwrap_or_default();
        // Others can wait for memory in groups of their own while the machine has plenty.
        let tight = available < Bytes(total.0 / 10);
        let (low, stuck) = (available < reserve, tight && stalled > STALLED);
        self.wait = self.wait.saturating_sub(1);
        if low || stuck {
            self.calm = 0;
            if self.wait == 0 {
                let more = if low { reserve.saturating_sub(available) } else { Bytes(budget.0 / 16) };
                self.left = (self.left + more).min(budget);
                self.wait = if low { AFTER_LOW } else { AFTER_STALL };
            }
        } else if self.left > Bytes::ZERO {
            // What is taken back must leave twice the reserve.
            let back = available.saturating_sub(reserve + reserve).min(self.left);
            self.calm = if back > Bytes::ZERO && stalled < FLOWING { self.calm + 1 } else { 0 };
            if self.calm >= CALM {
                self.left = self.left.saturating_sub(back);
                self.calm = 0;
            }
        }
        if stuck && !low {
            format!("processes wait for memory {stalled:.0} % of the time")
        } else {
            format!("the machine has {available} of memory left")
        }
    }
}

fn limit_says(what: &str, limit: Option<Bytes>) -> String {
    format!("the control group's {what} is {}", limit.unwrap_or_default())
}

/// What a shortage of `device` is of what its plan takes. Without steps that is less than it may, its pod's limit is just that, and the rest is
/// no memory that it lacks.
pub(crate) fn of_the_plan(shortage: Bytes, device: &DevicePlan) -> Bytes {
    shortage.saturating_sub(whole(device.memory.budget.saturating_sub(device.takes())))
}

fn whole(bytes: Bytes) -> Bytes {
    Bytes(bytes.0.next_multiple_of(STEP))
}

#[cfg(test)]
mod tests {
    use lime_plan::DeviceMemory;

    use super::*;

    const BUDGET: Bytes = Bytes::mib(1000);

    fn machine(available: u64, stalled: f64) -> Reading {
        let (available, total) = (Some(Bytes::mib(available)), Some(Bytes::gib(10)));
        Reading { available, total, stalled: Some(stalled), ..Reading::default() }
    }

    #[test]
    fn limits_are_followed_at_once_both_ways() {
        let mut watch = Watch::default();
        let with = |limit: Option<u64>, soft_limit: Option<u64>| Reading {
            limit: limit.map(Bytes::mib),
            soft_limit: soft_limit.map(Bytes::mib),
            ..machine(8000, 0.0)
        };
        assert_eq!(watch.look(&with(None, None), BUDGET), None);
        assert_eq!(watch.look(&with(Some(1000), Some(1 << 40)), BUDGET), None);
        let press = watch.look(&with(Some(1000), Some(900)), BUDGET).unwrap();
        assert_eq!(press.shortage, Shortage { hard: Bytes::ZERO, soft: Bytes::mib(100) });
        assert_eq!(press.why, "the control group's soft limit is 900.0 MiB");
        assert_eq!(watch.look(&with(Some(1000), Some(900)), BUDGET), None, "told once");
        let press = watch.look(&with(Some(700), Some(900)), BUDGET).unwrap();
        assert_eq!(press.shortage, Shortage { hard: Bytes::mib(300), soft: Bytes::mib(300) });
        assert_eq!(press.why, "the control group's limit is 700.0 MiB");
        watch.not_told();
        assert_eq!(watch.look(&with(Some(700), None), BUDGET), Some(press));
        let press = watch.look(&with(None, None), BUDGET).unwrap();
        assert_eq!((press.shortage, press.why.as_str()), (Shortage::default(), "memory is no longer short"));
    }

    #[test]
    fn a_limit_of_what_the_plan_takes_is_no_shortage() {
        let memory =
            DeviceMemory { pinned: Bytes(600_000_000), kv: Bytes::mib(50), budget: BUDGET, ..DeviceMemory::default() };
        let device = DevicePlan { name: "a".into(), ranges: vec![], blocks: vec![], memory, steps: vec![] };
        // As the operator limits a pod.
        let limit = device.takes().0.next_multiple_of(STEP);
        let told = |less: u64| {
            let reading = Reading { limit: Some(Bytes(limit - less)), ..machine(8000, 0.0) };
            of_the_plan(Watch::default().look(&reading, BUDGET).unwrap().shortage.hard, &device)
        };
        assert_eq!(told(0), Bytes::ZERO);
        assert!([Bytes::mib(9), Bytes::mib(10)].contains(&told(10 << 20)), "{}", told(10 << 20));
    }

    #[test]
    fn a_limit_in_whole_pages_is_the_limit_that_was_asked_for() {
        let (mut watch, budget) = (Watch::default(), Bytes(800_000_000));
        let with = |limit: u64| Reading { limit: Some(Bytes(limit)), ..machine(8000, 0.0) };
        for page in [4 << 10, 16 << 10, 64 << 10] {
            assert_eq!(watch.look(&with(budget.0 / page * page), budget), None);
        }
        assert!(watch.look(&with(budget.0 - (64 << 10)), budget).is_some());
    }

    #[test]
    fn a_machine_that_runs_short_gets_its_reserve_and_gives_it_back_when_all_is_calm() {
        let mut watch = Watch::default();
        let soft = |press: Option<Press>| press.map(|press| press.shortage.soft);
        // The reserve is 10 GiB / 50.
        assert_eq!(soft(watch.look(&machine(205, 0.0), BUDGET)), None);
        assert_eq!(soft(watch.look(&machine(104, 0.0), BUDGET)), Some(Bytes::mib(101)));
        assert_eq!(soft(watch.look(&machine(104, 0.0), BUDGET)), None, "it waits for what it did to show");
        assert_eq!(soft(watch.look(&machine(194, 0.0), BUDGET)), Some(Bytes::mib(112)));
        // Not yet enough to take anything back.
        assert!((0..100).all(|_| watch.look(&machine(409, 0.0), BUDGET).is_none()));
        let after = |watch: &mut Watch, reading: Reading| {
            (0..100).find_map(|at| Some((at, soft(watch.look(&reading, BUDGET))?)))
        };
        assert_eq!(after(&mut watch, machine(480, 9.0)), None, "others still wait for memory");
        let (at, left) = after(&mut watch, machine(480, 0.0)).unwrap();
        assert_eq!((at, left), (19, Bytes::mib(42)));
        assert_eq!(after(&mut watch, machine(480, 0.0)), Some((19, Bytes::ZERO)));
    }

    #[test]
    fn stalls_count_only_where_memory_is_tight() {
        let mut watch = Watch::default();
        assert!((0..50).all(|_| watch.look(&machine(8000, 90.0), BUDGET).is_none()));
        let press = watch.look(&machine(900, 30.0), BUDGET).unwrap();
        assert_eq!((press.shortage.hard, press.shortage.soft), (Bytes::ZERO, Bytes::mib(63)));
        assert_eq!(press.why, "processes wait for memory 30 % of the time");
        let more = (1..100).find(|_| watch.look(&machine(900, 30.0), BUDGET).is_some());
        assert_eq!(more, Some(20), "an average over ten seconds follows slowly");
    }

    #[test]
    fn a_device_leaves_no_more_than_it_has() {
        let mut watch = Watch::default();
        for _ in 0..1000 {
            watch.look(&machine(0, 100.0), BUDGET);
        }
        assert_eq!(watch.left, BUDGET);
    }
}
