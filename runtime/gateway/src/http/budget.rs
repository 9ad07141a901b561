//! Memory for requests' bodies: all of them together have so much, and no client can take it all.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What nearly every request keeps within. These have a part of the budget that longer ones cannot take.
pub(super) const SMALL: usize = 64 << 10;
/// The semaphores count in bytes of this size.
const UNIT: usize = 1 << 10;

/// What bodies may take.
#[derive(Debug)]
pub(crate) struct BodyBudget {
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

/// There is none left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UsedUp;

impl BodyBudget {
    /// `bytes` in all, a quarter of which is for the first [`SMALL`] bytes of each.
    pub(crate) fn new(bytes: usize) -> Self {
        let of = |bytes: usize| Arc::new(Semaphore::new(bytes.div_ceil(UNIT).min(Semaphore::MAX_PERMITS)));
        Self { small: of(bytes / 4), large: of(bytes - bytes / 4) }
    }

    /// Nothing yet, for one body.
    pub(super) fn open(&self) -> Share<'_> {
        Share { budget: self, bytes: 0, small: None, large: None }
    }
}

/// What one body takes; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share<'a> {
    budget: &'a BodyBudget,
    bytes: usize,
    small: Option<OwnedSemaphorePermit>,
    large: Option<OwnedSemaphorePermit>,
}

/// A share whose body is complete.
#[derive(Debug)]
pub(super) struct Held {
    _small: Option<OwnedSemaphorePermit>,
    _large: Option<OwnedSemaphorePermit>,
}

impl Share<'_> {
    /// Takes `bytes` more. Nobody waits here: bodies that wait for each other with memory in hand would do so for ever.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), UsedUp> {
        self.bytes += bytes;
        take(&self.budget.small, &mut self.small, self.bytes.min(SMALL))?;
        take(&self.budget.large, &mut self.large, self.bytes.saturating_sub(SMALL))
    }

    /// The share apart from the budget that it was taken from.
    pub(super) fn close(self) -> Held {
        Held { _small: self.small, _large: self.large }
    }
}

/// Raises what is held of `pool` to `bytes`.
fn take(pool: &Arc<Semaphore>, held: &mut Option<OwnedSemaphorePermit>, bytes: usize) -> Result<(), UsedUp> {
    let has = held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
    let missing = bytes.div_ceil(UNIT).saturating_sub(has);
    if missing == 0 {
        return Ok(());
    }
    let missing = u32::try_from(missing).map_err(|_| UsedUp)?;
    let more = pool.clone().try_acquire_many_owned(missing).map_err(|_| UsedUp)?;
    match held {
        Some(held) => held.merge(more),
        None => *held = Some(more),
    }
    Ok(())
}

/// A body, with what it takes of the budget.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) bytes: Vec<u8>,
    pub(super) held: Held,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_bodies_leave_room_for_short_ones() {
        let budget = BodyBudget::new(1 << 20);
        let mut long = budget.open();
        long.grow(800 << 10).unwrap();
        assert_eq!(budget.open().grow(200 << 10), Err(UsedUp));
        let mut short = budget.open();
        for _ in 0..64 {
            short.grow(1000).unwrap();
        }
        // What is given back can be had again.
        drop((long, short));
        let all = budget.open().grow(832 << 10);
        assert_eq!(all, Ok(()));
        let held = {
            let mut share = budget.open();
            share.grow(832 << 10).unwrap();
            share.close()
        };
        assert_eq!(budget.open().grow(128 << 10), Err(UsedUp));
        drop(held);
        assert_eq!(budget.open().grow(128 << 10), Ok(()));
    }
}
