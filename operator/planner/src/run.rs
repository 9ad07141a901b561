//! Playing a schedule event by event from an idle ring: for first tokens, timelines and shares.

use crate::schedule::Schedule;

/// When every event of every pass ended: `ends[pass][event]`.
#[derive(Clone, Debug)]
pub(crate) struct Played {
    pub(crate) ends: Vec<Vec<i64>>,
}

/// Plays `passes` passes from an idle ring whose buffers are full.
pub(crate) fn play(schedule: &Schedule, passes: usize) -> Played {
    let mut ends: Vec<Vec<i64>> = Vec::with_capacity(passes);
    for pass in 0..passes {
        let mut now = vec![0; schedule.events.len()];
        for index in 0..schedule.events.len() {
            let mut start = 0;
            for dependency in schedule.dependencies(index) {
                let from = dependency.from as usize;
                let ended = match dependency.passes {
                    0 => Some(now[from]),
                    _ => ends.last().map(|earlier: &Vec<i64>| earlier[from]),
                };
                start = ended.map_or(start, |ended| start.max(ended + dependency.delay));
            }
            let done = pass == 0 && schedule.ahead.binary_search(&(index as u32)).is_ok();
            now[index] = start + if done { 0 } else { schedule.events[index].duration };
        }
        ends.push(now);
    }
    Played { ends }
}

impl Played {
    /// When the last token of `pass` was known.
    pub(crate) fn end(&self, schedule: &Schedule, pass: usize) -> i64 {
        schedule.ends.iter().map(|&event| self.ends[pass][event as usize]).max().unwrap_or(0)
    }
}

/// When passes end that are played one after the other from an idle ring whose buffers are full.
pub(crate) struct Pace {
    /// The last token of pass `asked`, counted from one ...
    pub(crate) first: i64,
    /// ... and of the last pass that was asked for.
    pub(crate) last: i64,
    /// Passes that were played: from then on each took as long as the one before, whatever the event.
    pub(crate) played: usize,
}

/// Reusable space of [`pace`].
#[derive(Default)]
pub(crate) struct Ends {
    now: Vec<i64>,
    before: Vec<i64>,
}

/// As [`play`], for those who ask only when pass number `asked` and pass number `passes` end; `asked` is the earlier one. Events depend on
/// nothing but the pass before, so once all of them shift alike they do for good, and nothing more need be played.
pub(crate) fn pace(schedule: &Schedule, asked: usize, passes: usize, space: &mut Ends) -> Pace {
    let count = schedule.events.len();
    for ends in [&mut space.now, &mut space.before] {
        ends.clear();
        ends.resize(count, 0);
    }
    let end = |ends: &[i64]| schedule.ends.iter().map(|&event| ends[event as usize]).max().unwrap_or(0);
    let mut first = 0;
    for pass in 0..passes {
        std::mem::swap(&mut space.now, &mut space.before);
        let (now, before) = (&mut space.now[..count], &space.before[..count]);
        let mut ahead = schedule.ahead.iter().copied().filter(|_| pass == 0).peekable();
        let (mut least, mut most) = (i64::MAX, i64::MIN);
        for index in 0..count {
            let mut start = 0;
            for dependency in schedule.dependencies(index) {
                let from = dependency.from as usize;
                let ended = match dependency.passes {
                    0 => now[from],
                    _ if pass == 0 => continue,
                    _ => before[from],
                };
                start = start.max(ended + dependency.delay);
            }
            let done = ahead.next_if_eq(&(index as u32)).is_some();
            now[index] = start + if done { 0 } else { schedule.events[index].duration };
            let shift = now[index] - before[index];
            (least, most) = (least.min(shift), most.max(shift));
        }
        if pass + 1 == asked {
            first = end(now);
        }
        if pass > 0 && least == most {
            let after = |number: usize| end(now) + least * (number - pass - 1) as i64;
            let first = if pass + 1 > asked { first } else { after(asked) };
            return Pace { first, last: after(passes), played: pass + 1 };
        }
    }
    Pace { first, last: end(&space.now), played: passes }
}
