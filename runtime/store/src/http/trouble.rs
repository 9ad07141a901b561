//! How much trouble with a server is borne: bookkeeping without I/O.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::http::options::RemoteOptions;

/// Requests in vain that a server is granted, over all of a pull.
const GRANTED: u64 = 40;
/// So many bytes that came make up for one more.
const BYTES_FOR_ONE: u64 = 16 << 20;

/// What a server has cost so far, over all requests and threads of a pull.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    asked: AtomicU64,
    in_vain: AtomicU64,
    bytes: AtomicU64,
}

/// The requests of one wish.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    pub(crate) failures: u32,
}

impl Trouble {
    pub(crate) fn asked(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn came(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A request failed, so long after there was headway last. Why it is not repeated; `None` where it is.
    pub(crate) fn too_much(
        &self,
        tries: &mut Tries,
        headway: bool,
        idle: Duration,
        options: &RemoteOptions,
    ) -> Option<String> {
        tries.failures = if headway { 1 } else { tries.failures + 1 };
        let failures = tries.failures;
        if headway {
            return None;
        }
        let in_vain = self.in_vain.fetch_add(1, Ordering::Relaxed) + 1;
        if in_vain > GRANTED + self.bytes.load(Ordering::Relaxed) / BYTES_FOR_ONE {
            let asked = self.asked.load(Ordering::Relaxed);
            return Some(format!("{in_vain} of {asked} requests were in vain"));
        }
        if failures > options.retries {
            return Some(format!("tried {failures} times"));
        }
        (idle > options.deadline).then(|| format!("tried {failures} times in {} s", idle.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_fails_two_of_three_requests_for_ever_is_given_up() {
        let (trouble, options) = (Trouble::default(), RemoteOptions::at("http://127.0.0.1:1"));
        let refused = |tries: &mut Tries| trouble.too_much(tries, false, Duration::ZERO, &options);
        let given_up = (0..1000).position(|_| {
            let mut tries = Tries::default();
            trouble.asked();
            trouble.came(1000);
            (0..2).any(|_| refused(&mut tries).is_some())
        });
        assert_eq!(given_up, Some(GRANTED as usize / 2));
        // One that delivers makes up for it.
        trouble.came(BYTES_FOR_ONE * 100);
        assert_eq!(refused(&mut Tries::default()), None);
    }

    #[test]
    fn one_request_is_given_up_after_its_tries_or_its_time() {
        let (trouble, options) = (Trouble::default(), RemoteOptions::at("http://127.0.0.1:1"));
        let mut tries = Tries::default();
        let given_up = (0..20).position(|_| trouble.too_much(&mut tries, false, Duration::ZERO, &options).is_some());
        assert_eq!(given_up, Some(options.retries as usize));
        assert!(trouble.too_much(&mut tries, true, options.deadline * 2, &options).is_none(), "there was headway");
        let late = trouble.too_much(&mut Tries::default(), false, options.deadline * 2, &options);
        assert!(late.is_some_and(|said| said.contains("240 s")));
    }
}
