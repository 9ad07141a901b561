//! Whose ring an epoch is: the gateway that configured it, as long as it is there. Another one asks before it takes the ring.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A gateway's hold on one epoch. It is there while a stream of it is.
#[derive(Debug)]
pub(crate) struct Holder {
    /// Its name; `None` where it gave none.
    name: Option<String>,
    streams: Mutex<Streams>,
}

#[derive(Debug)]
struct Streams {
    open: usize,
    /// When the last one ended, or the epoch began.
    last: Instant,
}

impl Holder {
    pub(crate) fn new(name: Option<String>) -> Self {
        Self { name, streams: Mutex::new(Streams { open: 0, last: Instant::now() }) }
    }

    /// Its name, where it gave one.
    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// For how long it has had no stream here.
    pub(crate) fn away(&self) -> Duration {
        let streams = self.lock();
        if streams.open > 0 { Duration::ZERO } else { streams.last.elapsed() }
    }

    /// A stream of it, from now until the value is dropped.
    pub(crate) fn stream(self: &Arc<Self>) -> HeldStream {
        self.lock().open += 1;
        HeldStream(self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream between a gateway and this device.
#[derive(Debug)]
pub(crate) struct HeldStream(Arc<Holder>);

impl Drop for HeldStream {
    fn drop(&mut self) {
        let mut streams = self.0.lock();
        streams.open -= 1;
        streams.last = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_there_while_a_stream_is() {
        let holder = Arc::new(Holder::new(Some("g".into())));
        let (one, other) = (holder.stream(), holder.stream());
        drop(one);
        assert_eq!(holder.away(), Duration::ZERO);
        drop(other);
        std::thread::sleep(Duration::from_millis(2));
        assert!(holder.away() >= Duration::from_millis(2));
        let again = holder.stream();
        assert_eq!(holder.away(), Duration::ZERO);
        drop(again);
    }
}
