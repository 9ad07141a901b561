//! Whether what is being done still gets on. Pure: it is told the time and what was read.

use std::time::Duration;

/// What grows while a worker gets on with something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Steps that the compute thread has told of.
    pub(crate) beats: u64,
    /// Time that the processor gave the compute thread, in ticks.
    pub(crate) ticks: u64,
    /// Bytes that the process has had from disks.
    pub(crate) read: u64,
}

/// What was seen so far.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    last: Reading,
    /// When it was last seen to be another.
    moved: Duration,
}

impl Watch {
    /// Takes a reading of the moment `now` in, `busy` since then; gives how long nothing has moved.
    pub(crate) fn look(&mut self, now: Duration, reading: Reading, busy: Option<Duration>) -> Duration {
        let Some(since) = busy else {
            // Whoever has nothing to do is in time.
            self.moved = now;
            return Duration::ZERO;
        };
        if reading != self.last {
            (self.last, self.moved) = (reading, now);
        }
        now.saturating_sub(self.moved.max(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    #[test]
    fn only_what_is_busy_and_does_not_move_stands_still() {
        let mut watch = Watch::default();
        let idle = Reading { beats: 1, ..Reading::default() };
        assert_eq!(watch.look(at(1000), idle, None), at(0), "without work");
        assert_eq!(watch.look(at(2000), idle, Some(at(1999))), at(0), "work that has just come");
        let mut reading = idle;
        for step in 0..9 {
            match step % 3 {
                0 => reading.beats += 1,
                1 => reading.ticks += 1,
                _ => reading.read += 1,
            }
            assert_eq!(watch.look(at(2100 + 100 * step), reading, Some(at(1999))), at(0), "a long pass that gets on");
        }
        assert_eq!(watch.look(at(2930), reading, Some(at(1999))), at(30));
        assert_eq!(watch.look(at(2990), reading, Some(at(1999))), at(90));
        assert_eq!(watch.look(at(3000), reading, None), at(0), "it came out of it");
        assert_eq!(watch.look(at(3010), reading, Some(at(3005))), at(5), "the next work has its own time");
    }
}
