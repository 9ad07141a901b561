//! Results on their way to whoever subscribed: the gateway, as a rule alone.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use lime_ring::{MAX_IN_FLIGHT, proto::PassResult};
use tokio::sync::mpsc;
use tonic::Status;

type Subscriber = mpsc::Sender<Result<PassResult, Status>>;

/// Keeps results until somebody listens, then hands each to every listener.
#[derive(Debug, Default)]
pub(crate) struct ResultsHub {
    hub: Mutex<Hub>,
}

#[derive(Debug, Default)]
struct Hub {
    subscribers: Vec<Subscriber>,
    unheard: VecDeque<PassResult>,
}

impl ResultsHub {
    /// Room for what was not heard yet and for all that can be on the way.
    const ROOM: usize = 4 * MAX_IN_FLIGHT;

    fn lock(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new listener; the first also hears what came before it.
    pub(crate) fn subscribe(&self) -> mpsc::Receiver<Result<PassResult, Status>> {
        let (sender, receiver) = mpsc::channel(Self::ROOM);
        let mut hub = self.lock();
        for result in hub.unheard.drain(..) {
            // There is room: `unheard` is kept shorter than the channel.
            let _ = sender.try_send(Ok(result));
        }
        hub.subscribers.push(sender);
        receiver
    }

    /// Hands a result on. A listener that is gone or hopelessly late is dropped; false when nobody listens and too many
    /// results lie unheard.
    pub(crate) fn publish(&self, result: PassResult) -> bool {
        let mut hub = self.lock();
        if let [only] = hub.subscribers.as_slice() {
            // The usual case, without a copy.
            return match only.try_send(Ok(result)) {
                Ok(()) => true,
                Err(refused) => {
                    hub.subscribers.clear();
                    match refused.into_inner() {
                        Ok(result) => keep(&mut hub, result),
                        Err(_) => true,
                    }
                }
            };
        }
        hub.subscribers.retain(|subscriber| subscriber.try_send(Ok(result.clone())).is_ok());
        !hub.subscribers.is_empty() || keep(&mut hub, result)
    }
}

fn keep(hub: &mut Hub, result: PassResult) -> bool {
    if hub.unheard.len() >= MAX_IN_FLIGHT {
        return false;
    }
    hub.unheard.push_back(result);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(pass: u64) -> PassResult {
        PassResult { pass, ..PassResult::default() }
    }

    #[test]
    fn what_came_before_the_listener_is_kept() {
        let hub = ResultsHub::default();
        assert!(hub.publish(result(1)) && hub.publish(result(2)));
        let mut first = hub.subscribe();
        let mut second = hub.subscribe();
        assert!(hub.publish(result(3)));
        let heard = |receiver: &mut mpsc::Receiver<Result<PassResult, Status>>| {
            let mut passes = Vec::new();
            while let Ok(Ok(result)) = receiver.try_recv() {
                passes.push(result.pass);
            }
            passes
        };
        assert_eq!((heard(&mut first), heard(&mut second)), (vec![1, 2, 3], vec![3]));
    }

    #[test]
    fn unheard_results_are_bounded() {
        let hub = ResultsHub::default();
        let heard = (0..200).take_while(|pass| hub.publish(result(*pass))).count();
        assert_eq!(heard, MAX_IN_FLIGHT);
    }
}
