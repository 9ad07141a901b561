//! When a step is taken and when it is undone: a decision without I/O.

use lime_plan::{Bytes, DeviceSteps, Nanos, StepsInForce};

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
pub(crate) enum Decision {
    /// Nothing.
    Stay,
    /// Take steps until so many are in force.
    TakeSteps(usize),
    /// Undo the last step.
    UndoStep,
    /// Take steps until so many are in force, and have KV pages kept elsewhere until the others fit.
    HandOver(usize),
    /// Take steps until so many are in force, and bring a KV page back.
    BringBack(usize),
}

/// What a device's memory is used for before a pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MemoryUse {
    /// Steps that are in force.
    pub(crate) level: usize,
    /// What the KV cache takes here with the pass, the buffers for remote pages included.
    pub(crate) here: Bytes,
    /// What remote pages would take here.
    pub(crate) remote: Bytes,
    /// By how much they make a pass longer at the moment, or would.
    pub(crate) costs: Nanos,
}

/// Passes for which room must have been there before a step is undone: short answers in a row do not make a block come and go.
const CALM: u32 = 4;

/// Decides for one device.
#[derive(Debug, Default)]
pub(crate) struct StepPolicy {
    pub(crate) shortage: Shortage,
    calm: u32,
}

impl StepPolicy {
    /// What a device does before a pass.
    pub(crate) fn decide(&mut self, steps: &DeviceSteps, used: &MemoryUse) -> Decision {
        let now = used.level;
        let needed = used.here + self.short();
        // The cache shrinks by whole sequences only. So calm, and no slack, keeps steps from coming and going, and a device gets
        // back to where the plan has it for the context that is expected.
        let wanted = steps.level(needed, now, Bytes::ZERO);
        let best = self.choose(steps, used);
        if wanted > now {
            self.calm = 0;
            return if best.remote { Decision::HandOver(best.level.max(now)) } else { Decision::TakeSteps(wanted) };
        }
        let better = if !used.remote.is_zero() && !best.remote {
            Decision::BringBack(best.level.max(now))
        } else if wanted < now {
            Decision::UndoStep
        } else if best.remote && best.level < now {
            Decision::HandOver(best.level)
        } else {
            self.calm = 0;
            return Decision::Stay;
        };
        self.calm += 1;
        if self.calm < CALM { Decision::Stay } else { better }
    }

    /// The better way to hold what is here and what is elsewhere.
    pub(crate) fn choose(&self, steps: &DeviceSteps, used: &MemoryUse) -> StepsInForce {
        let now = StepsInForce { level: used.level, remote: !used.remote.is_zero() };
        steps.choose(used.here + used.remote + self.short(), now, used.costs)
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
    pub(crate) fn fits(&self, steps: &DeviceSteps, kv: Bytes) -> bool {
        kv + self.shortage.hard <= steps.most()
    }
}

#[cfg(test)]
mod tests {
    use lime_plan::Plan;

    use super::*;

    /// A device of two layers of which one MLP streams; the other blocks of layers may. StepPolicy for 64 MiB of KV cache at first.
    fn steps() -> DeviceSteps {
        let plan = plan();
        DeviceSteps::of(&plan, &plan.devices[0]).unwrap()
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

    fn here(level: usize, mib: u64) -> MemoryUse {
        MemoryUse { level, here: Bytes::mib(mib), remote: Bytes::ZERO, costs: Nanos::ZERO }
    }

    #[test]
    fn steps_are_taken_at_once_and_undone_after_a_calm() {
        let (steps, mut policy) = (steps(), StepPolicy::default());
        let mut decide = |now, kv| policy.decide(&steps, &here(now, kv));
        assert_eq!(decide(0, 64), Decision::Stay);
        assert_eq!(decide(0, 65), Decision::TakeSteps(1));
        assert_eq!(decide(0, 90), Decision::TakeSteps(2));
        assert!((0..9).all(|_| decide(1, 65) == Decision::Stay));
        assert!((1..CALM).all(|_| decide(1, 64) == Decision::Stay));
        assert_eq!([decide(1, 64), decide(1, 64)], [Decision::UndoStep; 2], "until a pass has met the block");
        assert_eq!(decide(1, 65), Decision::Stay);
        assert_eq!(decide(1, 64), Decision::Stay, "the calm begins anew");
    }

    /// The same device with another one that keeps up to 40 MiB of pages; requests are long enough, and blocks take 10 ms a pass.
    fn lending() -> DeviceSteps {
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
        DeviceSteps::of(&plan, &plan.devices[0]).unwrap()
    }

    #[test]
    fn the_link_decides_which_way_room_is_made() {
        let steps = lending();
        let decide = |level, here, remote, millis: u64, calm| {
            let (here, remote) = (Bytes::mib(here), Bytes::mib(remote));
            let used = MemoryUse { level, here, remote, costs: Nanos(millis * 1_000_000) };
            let mut policy = StepPolicy::default();
            (1..calm).for_each(|_| assert_eq!(policy.decide(&steps, &used), Decision::Stay, "{used:?}"));
            policy.decide(&steps, &used)
        };
        let cases = [
            // Steps in force, MiB here and elsewhere, what the link costs, passes until something happens.
            ((0, 90, 0, 1, 1), Decision::HandOver(0)),
            ((0, 90, 0, 50, 1), Decision::TakeSteps(2)),
            ((0, 65, 30, 1, 1), Decision::HandOver(0)),
            ((0, 60, 30, 1, 99), Decision::Stay),
            // The link gets slow, and fast again.
            ((0, 60, 30, 50, CALM), Decision::BringBack(2)),
            ((2, 89, 1, 50, CALM), Decision::BringBack(2)),
            ((2, 90, 0, 50, 99), Decision::Stay),
            ((2, 90, 0, 1, CALM), Decision::HandOver(0)),
            ((2, 64, 26, 1, CALM), Decision::UndoStep),
            // It wavers: what is remote stays, what is here too.
            ((0, 60, 30, 12, 99), Decision::Stay),
            ((2, 90, 0, 12, 99), Decision::Stay),
            // Shorter requests.
            ((0, 20, 30, 1, CALM), Decision::BringBack(0)),
            ((2, 50, 0, 1, CALM), Decision::UndoStep),
        ];
        for ((level, here, remote, millis, calm), expected) in cases {
            let found = decide(level, here, remote, millis, calm);
            assert_eq!(found, expected, "level {level}, {here} here, {remote} remote, {millis} ms");
        }
    }

    #[test]
    fn what_others_need_counts_as_if_the_cache_took_it() {
        let (steps, mut policy) = (steps(), StepPolicy::default());
        policy.shortage = Shortage { hard: Bytes::ZERO, soft: Bytes::mib(30) };
        assert_eq!(policy.decide(&steps, &here(0, 40)), Decision::TakeSteps(1));
        assert!(policy.fits(&steps, Bytes::mib(94)), "a soft limit refuses nothing");
        policy.shortage.hard = Bytes::mib(10);
        assert!(policy.fits(&steps, Bytes::mib(84)) && !policy.fits(&steps, Bytes::mib(85)));
    }
}
