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
