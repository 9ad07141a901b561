//! The restart budget: how often shards failed, the first and the last error kept.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use lime_api::{Failure, FailureStatus, ShardStatus};

use crate::shards::Shard;

/// Seconds without a failure after which the count starts anew.
pub const FORGIVEN_AFTER: i64 = 600;

/// Adds what failed since the last status; `None` once all is forgiven.
pub fn account(
    before: Option<&FailureStatus>,
    shards_before: &[ShardStatus],
    shards: &[Shard],
    now: Timestamp,
) -> Option<FailureStatus> {
    let mut restarts = 0_i32;
    let mut messages = Vec::new();
    for shard in shards {
        let earlier = shards_before.iter().find(|earlier| {
            earlier.node == shard.status.node && earlier.pod.is_some() && earlier.pod == shard.status.pod
        });
        let seen = earlier.map_or(0, |earlier| earlier.restarts.max(0));
        let was_over = earlier.is_some_and(|earlier| earlier.state == lime_api::ShardState::Crashed);
        let mut new = shard.status.restarts.saturating_sub(seen).max(0);
        // A pod that came to its end is made anew: that is a restart too, counted once.
        if shard.over && shard.ended.is_some() && !was_over {
            new = new.saturating_add(1);
        }
        if new > 0 {
            restarts = restarts.saturating_add(new);
            let why = shard.ended.clone().unwrap_or_else(|| format!("pod {} was restarted", shard.pod));
            messages.push(format!("{}: {why}", shard.status.node));
        }
    }
    if restarts == 0 {
        let last = before?.last_time.as_ref().map_or(0, |time| time.0.as_second());
        let forgiven = now.as_second().saturating_sub(last) > FORGIVEN_AFTER;
        return before.filter(|_| !forgiven).cloned();
    }
    let mut status = before.cloned().unwrap_or_default();
    status.restarts = status.restarts.saturating_add(restarts);
    status.last_message = messages.last().cloned();
    if status.first_message.is_none() {
        status.first_message = messages.into_iter().next();
    }
    status.last_time = Some(Time(now));
    Some(status)
}

/// Whether no further restart is allowed.
pub fn exhausted(failure: &Failure, status: Option<&FailureStatus>) -> bool {
    status.is_some_and(|status| status.restarts > failure.max_restarts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lime_api::ShardState;

    fn shard(restarts: i32, ended: Option<&str>) -> Shard {
        Shard {
            status: ShardStatus {
                node: "a".into(),
                pod: Some("p-0".into()),
                restarts,
                state: ShardState::Ready,
                ..ShardStatus::default()
            },
            pod: "p-0".into(),
            address: None,
            trouble: None,
            ended: ended.map(str::to_owned),
            over: false,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_first_error_is_kept_and_the_count_is_of_news_only() {
        assert_eq!(account(None, &[], &[shard(0, None)], at(0)), None);
        let first = account(None, &[], &[shard(1, Some("out of memory"))], at(10)).unwrap();
        assert_eq!((first.restarts, first.first_message.as_deref()), (1, Some("a: out of memory")));
        let seen = [shard(1, None).status];
        assert_eq!(account(Some(&first), &seen, &[shard(1, Some("out of memory"))], at(11)).as_ref(), Some(&first));
        let second = account(Some(&first), &seen, &[shard(4, Some("other"))], at(20)).unwrap();
        assert_eq!(second.restarts, 4);
        assert_eq!(second.first_message.as_deref(), Some("a: out of memory"));
        assert_eq!(second.last_message.as_deref(), Some("a: other"));
        let failure = Failure { max_restarts: 3, ..Failure::default() };
        assert!(!exhausted(&failure, Some(&first)));
        assert!(exhausted(&failure, Some(&second)));
        let seen = [shard(4, None).status];
        assert!(account(Some(&second), &seen, &[shard(4, None)], at(600)).is_some());
        assert_eq!(account(Some(&second), &seen, &[shard(4, None)], at(621)), None);
    }
}
