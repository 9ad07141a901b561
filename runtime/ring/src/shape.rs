//! Shaping of a link: one machine plays a slow network. The sender holds each message back until it would have arrived.

use std::{
    thread,
    time::{Duration, Instant},
};

/// What a shaped link gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkShape {
    /// Bits in a second.
    pub bandwidth_bits: u64,
    /// Time from the last byte sent to its arrival.
    pub latency: Duration,
}

/// A token bucket without burst, in virtual time: messages leave one after another at the link's bandwidth and arrive a
/// latency later. The latency of one message overlaps the sending of the next, as on a real link.
#[derive(Clone, Debug)]
pub struct LinkSchedule {
    shape: LinkShape,
    busy_until: Duration,
}

impl LinkSchedule {
    /// An idle link at time zero.
    pub const fn new(shape: LinkShape) -> Self {
        Self { shape, busy_until: Duration::ZERO }
    }

    /// When a message of `bytes` that is ready at `ready` has arrived. Calls must come in order of sending.
    pub fn arrival(&mut self, ready: Duration, bytes: u64) -> Duration {
        let starts = self.busy_until.max(ready);
        self.busy_until = starts.saturating_add(self.transmission(bytes));
        self.busy_until.saturating_add(self.shape.latency)
    }

    fn transmission(&self, bytes: u64) -> Duration {
        let bandwidth = u128::from(self.shape.bandwidth_bits.max(1));
        let nanos = (u128::from(bytes) * 8 * 1_000_000_000).div_ceil(bandwidth);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// A link whose sender waits itself until its message would have arrived: for what is asked and answered by turns.
#[derive(Debug)]
pub struct ShapedLink {
    schedule: LinkSchedule,
    origin: Instant,
}

impl ShapedLink {
    /// An idle link.
    pub fn new(shape: LinkShape) -> Self {
        Self { schedule: LinkSchedule::new(shape), origin: Instant::now() }
    }

    /// Returns when `message` may be handed on. Not for a thread that runs a runtime.
    pub fn carry(&mut self, message: &impl prost::Message) {
        let arrival = self.schedule.arrival(self.origin.elapsed(), message.encoded_len() as u64);
        thread::sleep(arrival.saturating_sub(self.origin.elapsed()));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn latency_overlaps_the_next_message() {
        // 8 Mbit/s: 1000 bytes take 1 ms.
        let mut link = LinkSchedule::new(LinkShape { bandwidth_bits: 8_000_000, latency: ms(10) });
        assert_eq!(link.arrival(ms(0), 1000), ms(11));
        assert_eq!(link.arrival(ms(0), 1000), ms(12));
        assert_eq!(link.arrival(ms(1), 2000), ms(14));
        assert_eq!(link.arrival(ms(100), 1000), ms(111));
    }

    #[test]
    fn absurd_shapes_do_not_overflow() {
        let mut link = LinkSchedule::new(LinkShape { bandwidth_bits: 0, latency: Duration::MAX });
        assert_eq!(link.arrival(ms(1), u64::MAX), Duration::MAX);
        assert_eq!(link.arrival(ms(1), u64::MAX), Duration::MAX);
    }

    proptest! {
        /// Arrivals keep order, never beat latency plus transmission, and a busy link carries exactly its bandwidth.
        #[test]
        fn a_link_never_gives_more_than_it_has(
            bandwidth_bits in 1_000u64..10_000_000_000,
            latency in 0u64..100_000,
            messages in prop::collection::vec((0u64..5_000, 0u64..4_000_000), 1..50),
        ) {
            let latency = Duration::from_micros(latency);
            let mut link = LinkSchedule::new(LinkShape { bandwidth_bits, latency });
            let (mut ready, mut previous, mut sent) = (Duration::ZERO, Duration::ZERO, 0u128);
            for (gap, bytes) in messages {
                ready += Duration::from_micros(gap);
                let arrival = link.arrival(ready, bytes);
                let alone = bytes as f64 * 8.0 / bandwidth_bits as f64;
                prop_assert!(arrival >= previous);
                prop_assert!((arrival - ready).as_secs_f64() >= latency.as_secs_f64() + alone * 0.999_999);
                sent += u128::from(bytes) * 8;
                let carried = u128::from(bandwidth_bits) * (arrival - latency).as_nanos() / 1_000_000_000;
                prop_assert!(sent <= carried + 1);
                previous = arrival;
            }
        }
    }
}
