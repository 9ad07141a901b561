//! When a step is taken and when it is undone: a decision without I/O.

use lime_plan::{Bytes, Ladder, Nanos, Way};

/// Bytes of a device's budget that it should not use, because others need them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shortage {
    /// What a hard limit takes away: the KV cache must not grow beyond what is left.
    pub hard: Bytes,
    /// What would be polite to leave: blocks make room, and no pass is refused for it.
    pub soft: Bytes,
}

/// What to do before a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing.
    Stay,
    /// Take steps until so many are in force.
    Climb(usize),
    /// Undo the last step.
    Descend,
    /// Take steps until so many are in force, and have KV pages kept elsewhere until the others fit.
    HandOver(usize),
    /// Take steps until so many are in force, and bring a KV page back.
    BringBack(usize),
}

/// Where a device stands before a pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    /// Steps that are in force.
    pub(crate) level: usize,
    /// What the KV cache takes here with the pass, the buffers for pages elsewhere included.
    pub(crate) here: Bytes,
    /// What pages elsewhere would take here.
    pub(crate) elsewhere: Bytes,
    /// By how much they make a pass longer at the moment, or would.
    pub(crate) costs: Nanos,
}

/// Passes for which room must have been there before a step is undone: short answers in a row do not make a block come and go.
const CALM: u32 = 4;

/// Decides for one device.
#[derive(Debug, Default)]
pub(crate) struct Room {
    pub(crate) shortage: Shortage,
    calm: u32,
}

impl Room {
    /// What a device does before a pass.
    pub(crate) fn decide(&mut self, ladder: &Ladder, stand: &Standing) -> Verdict {
        let now = stand.level;
        let needed = stand.here + self.short();
        // The cache shrinks by whole sequences only. So calm, and no slack, keeps steps from coming and going, and a device gets
        // back to where the plan has it for the context that is expected.
        let wanted = ladder.level(needed, now, Bytes::ZERO);
        let way = self.way(ladder, stand);
        if wanted > now {
            self.calm = 0;
            return if way.elsewhere { Verdict::HandOver(way.level.max(now)) } else { Verdict::Climb(wanted) };
        }
        let better = if !stand.elsewhere.is_zero() && !way.elsewhere {
            Verdict::BringBack(way.level.max(now))
        } else if wanted < now {
            Verdict::Descend
        } else if way.elsewhere && way.level < now {
            Verdict::HandOver(way.level)
        } else {
            self.calm = 0;
            return Verdict::Stay;
        };
        self.calm += 1;
        if self.calm < CALM { Verdict::Stay } else { better }
    }

    /// The better way to hold what is here and what is elsewhere.
    pub(crate) fn way(&self, ladder: &Ladder, stand: &Standing) -> Way {
        let now = Way { level: stand.level, elsewhere: !stand.elsewhere.is_zero() };
        ladder.way(stand.here + stand.elsewhere + self.short(), now, stand.costs)
    }

    /// What others need.
    pub(crate) fn short(&self) -> Bytes {
        self.shortage.hard.max(self.shortage.soft)
    }

    /// A step was undone: the next one waits for calm again.
    pub(crate) const fn undone(&mut self) {
        self.calm = 0;
    }

    /// Whether a KV cache of `kv` fits here with every step taken.
    pub(crate) fn fits(&self, ladder: &Ladder, kv: Bytes) -> bool {
        kv + self.shortage.hard <= ladder.most()
    }
}

#[cfg(test)]
mod tests {
    use lime_plan::Plan;

    use super::*;

    /// A device of two layers of which one MLP streams; the other blocks of layers may. Room for 64 MiB of KV cache at first.
    fn ladder() -> Ladder {
        let plan = plan();
        Ladder::of(&plan, &plan.devices[0]).unwrap()
    }

    fn plan() -> Plan {
        let block = |kind: &str, layer: u32| serde_json::json!({ kind: layer });
        let mib = |count: u64| count << 20;
        let placed =
            |block: serde_json::Value, residency: &str| serde_json::json!({"block": block, "residency": residency});
        let step = |above: u64, block: serde_json::Value, frees: u64| serde_json::json!({"above": mib(above), "relief": {"stream": block}, "frees": mib(frees), "timePerToken": 1});
        serde_json::from_value(serde_json::json!({
            "version": 1, "inputHash": "", "arithmetic": "exact", "residual": "f32", "kv": "f32", "segments": 1, "head": 0,
            "model": {
                "name": "m", "architecture": "llama", "dtype": "f32", "layers": 2, "hidden": 32, "intermediate": 32, "heads": 1,
                "kvHeads": 1, "headDim": 32, "vocabulary": 10, "context": 64, "tied": false, "parameters": 0,
                "blocks": {
                    "embedding": 4096, "attention": [mib(10), mib(10)], "mlp": [mib(20), mib(20)], "head": 4096,
                    "head_beside_embedding": 4096,
                },
            },
            "serving": {"maxContextTokens": 64, "maxConcurrentRequests": 1, "prefillChunkTokens": 1},
            "devices": [{
                "name": "d", "layers": [{"start": 0, "end": 2}],
                "blocks": [
                    placed("embedding".into(), "pinned"), placed(block("attention", 0), "pinned"),
                    placed(block("mlp", 0), "streamed"), placed(block("attention", 1), "pinned"),
                    placed(block("mlp", 1), "pinned"), placed("head".into(), "pinned"),
                ],
                "memory": {
                    "pinned": mib(40) + 8192, "prefetch": mib(20), "kv": mib(64), "activations": 0, "overhead": 0,
                    "budget": mib(124) + 8192,
                },
                "steps": [step(64, block("mlp", 1), 20), step(84, block("attention", 0), 10)],
            }],
        }))
        .unwrap()
    }

    fn here(level: usize, mib: u64) -> Standing {
        Standing { level, here: Bytes::mib(mib), elsewhere: Bytes::ZERO, costs: Nanos::ZERO }
    }

    #[test]
    fn steps_are_taken_at_once_and_undone_after_a_calm() {
        let (ladder, mut room) = (ladder(), Room::default());
        let mut decide = |now, kv| room.decide(&ladder, &here(now, kv));
        assert_eq!(decide(0, 64), Verdict::Stay);
        assert_eq!(decide(0, 65), Verdict::Climb(1));
        assert_eq!(decide(0, 90), Verdict::Climb(2));
        assert!((0..9).all(|_| decide(1, 65) == Verdict::Stay));
        assert!((1..CALM).all(|_| decide(1, 64) == Verdict::Stay));
        assert_eq!([decide(1, 64), decide(1, 64)], [Verdict::Descend; 2], "until a pass has met the block");
        assert_eq!(decide(1, 65), Verdict::Stay);
        assert_eq!(decide(1, 64), Verdict::Stay, "the calm begins anew");
    }

    /// The same device with another one that keeps up to 40 MiB of pages; requests are long enough, and blocks take 10 ms a pass.
    fn lending() -> Ladder {
        let mut plan = serde_json::to_value(plan()).unwrap();
        let mib = |count: u64| count << 20;
        plan["model"]["layers"] = 3.into();
        plan["model"]["blocks"]["attention"] = serde_json::json!([mib(10), mib(10), mib(10)]);
        plan["model"]["blocks"]["mlp"] = serde_json::json!([mib(20), mib(20), mib(20)]);
        plan["model"]["context"] = (64 * 2560).into();
        plan["serving"]["maxContextTokens"] = (64 * 2560).into();
        plan["head"] = 1.into();
        let device = &mut plan["devices"][0];
        let head = device["blocks"].as_array_mut().unwrap().pop().unwrap();
        device["memory"]["pinned"] = (mib(40) + 4096).into();
        device["memory"]["budget"] = (mib(124) + 4096).into();
        // A page has 32 KiB, and is more than what two rows of one head of 32 are asked about.
        let (room, frees) = (mib(40), mib(40) - 2 * (32 << 10));
        let over = serde_json::json!({
            "above": mib(64), "relief": {"handOver": {"to": "k", "room": room, "costs": 1_000_000}}, "frees": frees,
            "timePerToken": 11_000_000,
        });
        let steps = device["steps"].as_array_mut().unwrap();
        for (index, step) in steps.iter_mut().enumerate() {
            step["above"] = (step["above"].as_u64().unwrap() + frees).into();
            step["timePerToken"] = (11_000_000 + 10_000_000 * index).into();
        }
        steps.insert(0, over);
        let pinned = |block: serde_json::Value| serde_json::json!({"block": block, "residency": "pinned"});
        let keeper = serde_json::json!({
            "name": "k", "layers": [{"start": 2, "end": 3}],
            "blocks": [pinned(serde_json::json!({"attention": 2})), pinned(serde_json::json!({"mlp": 2})), head],
            "memory": {
                "pinned": mib(30) + 4096, "prefetch": 0, "kv": mib(40), "activations": 0, "overhead": 0, "lent": mib(41),
                "budget": mib(200),
            },
        });
        plan["devices"].as_array_mut().unwrap().push(keeper);
        let plan: Plan = serde_json::from_value(plan).unwrap();
        Ladder::of(&plan, &plan.devices[0]).unwrap()
    }

    #[test]
    fn the_link_decides_which_way_room_is_made() {
        let ladder = lending();
        let decide = |level, here, elsewhere, millis: u64, calm| {
            let (here, elsewhere) = (Bytes::mib(here), Bytes::mib(elsewhere));
            let stand = Standing { level, here, elsewhere, costs: Nanos(millis * 1_000_000) };
            let mut room = Room::default();
            (1..calm).for_each(|_| assert_eq!(room.decide(&ladder, &stand), Verdict::Stay, "{stand:?}"));
            room.decide(&ladder, &stand)
        };
        let cases = [
            // Steps in force, MiB here and elsewhere, what the link costs, passes until something happens.
            ((0, 90, 0, 1, 1), Verdict::HandOver(0)),
            ((0, 90, 0, 50, 1), Verdict::Climb(2)),
            ((0, 65, 30, 1, 1), Verdict::HandOver(0)),
            ((0, 60, 30, 1, 99), Verdict::Stay),
            // The link gets slow, and fast again.
            ((0, 60, 30, 50, CALM), Verdict::BringBack(2)),
            ((2, 89, 1, 50, CALM), Verdict::BringBack(2)),
            ((2, 90, 0, 50, 99), Verdict::Stay),
            ((2, 90, 0, 1, CALM), Verdict::HandOver(0)),
            ((2, 64, 26, 1, CALM), Verdict::Descend),
            // It wavers: what is elsewhere stays, what is here too.
            ((0, 60, 30, 12, 99), Verdict::Stay),
            ((2, 90, 0, 12, 99), Verdict::Stay),
            // Shorter requests.
            ((0, 20, 30, 1, CALM), Verdict::BringBack(0)),
            ((2, 50, 0, 1, CALM), Verdict::Descend),
        ];
        for ((level, here, elsewhere, millis, calm), expected) in cases {
            let found = decide(level, here, elsewhere, millis, calm);
            assert_eq!(found, expected, "level {level}, {here} here, {elsewhere} elsewhere, {millis} ms");
        }
    }

    #[test]
    fn what_others_need_counts_as_if_the_cache_took_it() {
        let (ladder, mut room) = (ladder(), Room::default());
        room.shortage = Shortage { hard: Bytes::ZERO, soft: Bytes::mib(30) };
        assert_eq!(room.decide(&ladder, &here(0, 40)), Verdict::Climb(1));
        assert!(room.fits(&ladder, Bytes::mib(94)), "a soft limit refuses nothing");
        room.shortage.hard = Bytes::mib(10);
        assert!(room.fits(&ladder, Bytes::mib(84)) && !room.fits(&ladder, Bytes::mib(85)));
    }
}
