//! Pages that can be restored, by their names: what every device has told that it has, in memory or on its disk, and what has been kept
//! since. It is believed and no more: what a device turns out not to have is computed again. Pure.

use std::collections::{BTreeSet, HashMap, HashSet};

use lime_plan::{PageName, TokenBasis};
use lime_ring::Restorable;

/// What stands before the first page of each key's sequences.
#[derive(Clone, Debug)]
pub(crate) struct Roots {
    everybody: PageName,
    of_keys: Vec<PageName>,
}

impl Roots {
    /// Of sequences of which the tokens depend on `basis`, for clients with these API keys.
    ///
    /// # Errors
    /// When the basis has no JSON form.
    pub(crate) fn new(basis: &TokenBasis, keys: &[String]) -> Result<Self, serde_json::Error> {
        let of_keys: Result<_, _> = keys.iter().map(|key| PageName::root(basis, Some(key))).collect();
        Ok(Self { everybody: PageName::root(basis, None)?, of_keys: of_keys? })
    }

    /// Before those of the key with this number; without one, of everybody's.
    pub(super) fn of(&self, key: Option<usize>) -> Option<PageName> {
        key.map_or(Some(self.everybody), |number| self.of_keys.get(number).copied())
    }
}

/// Names of pages that all devices have, the least recently used of them first.
#[derive(Debug, Default)]
pub(super) struct Stored {
    used: HashMap<PageName, u64>,
    order: BTreeSet<(u64, PageName)>,
    clock: u64,
    /// How many pages every disk has room for.
    disk: usize,
}

impl Stored {
    /// What all of these devices have.
    pub(super) fn of(devices: &[Restorable]) -> Self {
        let Some((first, others)) = devices.split_first() else { return Self::default() };
        let others: Vec<HashSet<&PageName>> = others.iter().map(|device| device.names.iter().collect()).collect();
        let disk = devices.iter().map(|device| device.disk_pages).min().unwrap_or_default();
        let mut this = Self { disk: disk as usize, ..Self::default() };
        let everywhere = first.names.iter().rev().filter(|name| others.iter().all(|names| names.contains(name)));
        everywhere.for_each(|name| this.insert(*name));
        this
    }

    /// Whether pages go to disks.
    pub(super) const fn has_disk(&self) -> bool {
        self.disk > 0
    }

    pub(super) fn has(&self, name: &PageName) -> bool {
        self.used.contains_key(name)
    }

    /// A page is kept from now on, and goes to the disks.
    pub(super) fn add(&mut self, name: PageName) {
        if self.has_disk() {
            self.insert(name);
            while self.used.len() > self.disk
                && let Some((_, last)) = self.order.pop_first()
            {
                self.used.remove(&last);
            }
        }
    }

    /// A page is of use: others go before it.
    pub(super) fn touch(&mut self, name: &PageName) {
        if self.has(name) {
            self.insert(*name);
        }
    }

    pub(super) fn remove(&mut self, name: &PageName) {
        if let Some(used) = self.used.remove(name) {
            self.order.remove(&(used, *name));
        }
    }

    fn insert(&mut self, name: PageName) {
        self.clock += 1;
        if let Some(used) = self.used.insert(name, self.clock) {
            self.order.remove(&(used, name));
        }
        self.order.insert((self.clock, name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u32) -> PageName {
        PageName::try_from([7; 32].as_slice()).unwrap().followed_by(&[number])
    }

    #[test]
    fn what_all_devices_have_can_be_restored() {
        let device = |numbers: &[u32], disk_pages| Restorable {
            names: numbers.iter().map(|number| name(*number)).collect(),
            disk_pages,
        };
        let mut stored = Stored::of(&[device(&[1, 2, 3], 4), device(&[3, 4, 2], 3)]);
        assert_eq!([1, 2, 3, 4].map(|number| stored.has(&name(number))), [false, true, true, false]);
        stored.add(name(5));
        stored.touch(&name(3));
        stored.add(name(6));
        let has = [2, 3, 5, 6].map(|number| stored.has(&name(number)));
        assert_eq!(has, [false, true, true, true], "the smallest disk has room for three");
        stored.remove(&name(5));
        assert!(!stored.has(&name(5)));
        let mut memory = Stored::of(&[device(&[1], 0), device(&[1], 9)]);
        memory.add(name(2));
        assert!(memory.has(&name(1)) && !memory.has(&name(2)), "without disks nothing is believed of new pages");
        assert!(!Stored::of(&[]).has(&name(1)));
    }
}
