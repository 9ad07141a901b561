//! Who is in the middle of a handshake, and who has to go when another one comes. Pure.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv6Addr},
};

/// Handshakes at once.
const ALL: usize = 128;
/// Of them, those of one address.
const SHARE: usize = 32;

/// Handshakes under way, the oldest first. One more is always let in: a member's takes milliseconds, so that what makes room for it is the
/// oldest, of the same address where that has its share.
#[derive(Debug)]
pub(crate) struct Handshakes<T> {
    pending: VecDeque<Pending<T>>,
    last: u64,
}

#[derive(Debug)]
struct Pending<T> {
    number: u64,
    from: IpAddr,
    guest: T,
}

impl<T> Default for Handshakes<T> {
    fn default() -> Self {
        Self { pending: VecDeque::new(), last: 0 }
    }
}

impl<T> Handshakes<T> {
    /// The number of the next one, to leave with.
    pub(crate) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Lets one in; gives the one that is to be broken off for it.
    pub(crate) fn enter(&mut self, number: u64, from: IpAddr, guest: T) -> Option<T> {
        let from = network(from);
        let own = self.pending.iter().filter(|pending| pending.from == from).count();
        let oldest = if own >= SHARE {
            self.pending.iter().position(|pending| pending.from == from)
        } else {
            (self.pending.len() >= ALL).then_some(0)
        };
        let displaced = oldest.and_then(|place| self.pending.remove(place));
        self.pending.push_back(Pending { number, from, guest });
        displaced.map(|pending| pending.guest)
    }

    /// One is at its end, however it ended.
    pub(crate) fn leave(&mut self, number: u64) {
        self.pending.retain(|pending| pending.number != number);
    }
}

/// A host has a whole network of IPv6 addresses to itself.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(handshakes: &mut Handshakes<u64>, from: &str) -> Option<u64> {
        let number = handshakes.number();
        handshakes.enter(number, from.parse().unwrap(), number)
    }

    #[test]
    fn the_oldest_goes_of_the_same_address_first() {
        let mut handshakes = Handshakes::default();
        assert_eq!(enter(&mut handshakes, "10.0.0.1"), None);
        for _ in 0..SHARE {
            assert_eq!(enter(&mut handshakes, "10.0.0.2"), None);
        }
        assert_eq!(enter(&mut handshakes, "10.0.0.2"), Some(2), "the first of its own, not the first of all");
        assert_eq!(enter(&mut handshakes, "::ffff:10.0.0.2"), Some(3), "the same address, written otherwise");
        let others = (0..ALL - SHARE - 1).map(|host| format!("10.0.1.{host}"));
        for other in others.collect::<Vec<_>>() {
            assert_eq!(enter(&mut handshakes, &other), None);
        }
        assert_eq!(enter(&mut handshakes, "10.0.3.1"), Some(1), "the first of all where there is no more room");
        assert_eq!(handshakes.pending.len(), ALL);
    }

    #[test]
    fn who_has_left_needs_no_room_and_a_network_is_one_guest() {
        let mut handshakes = Handshakes::default();
        for _ in 0..3 * ALL {
            assert_eq!(enter(&mut handshakes, "10.0.0.1"), None);
            handshakes.leave(handshakes.last);
        }
        for host in 0..SHARE {
            assert_eq!(enter(&mut handshakes, &format!("2001:db8::{host:x}")), None);
        }
        assert!(enter(&mut handshakes, "2001:db8::ffff").is_some());
        assert_eq!(enter(&mut handshakes, "2001:db8:0:1::1"), None);
    }
}
