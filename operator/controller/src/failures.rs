//! The restart budget: how often shards failed of late, the first and the last error kept.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use lime_api::{Failure, FailureStatus, ShardStatus};

use crate::shards::Shard;

/// Seconds over which the count is forgotten: it falls to nothing in them, so that where failures come at an even pace it is the number of
/// those within this time.
pub const FORGIVEN_AFTER: i64 = 600;

/// What is left of a count after so many seconds without a failure: all of it begins to go at once, the last of it goes at the end.
fn left(count: i32, seconds: i64) -> i32 {
    let left = FORGIVEN_AFTER.saturating_sub(seconds.max(0)).max(0);
    let left = i64::from(count.max(0)).saturating_mul(left);
    i32::try_from(left / FORGIVEN_AFTER + i64::from(left % FORGIVEN_AFTER > 0)).unwrap_or(i32::MAX)
}

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
        if shard.over && shard.ended.is_some() && !was_over && !shard.told_to_go {
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
    let last = status.last_time.as_ref().map_or(0, |time| time.0.as_second());
    let seconds = now.as_second().saturating_sub(last);
    if seconds > FORGIVEN_AFTER {
        status = FailureStatus::default();
    }
    status.restarts = left(status.restarts, seconds).saturating_add(restarts);
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
            told_to_go: false,
        }
    }

    #[test]
    fn a_pod_that_is_told_to_go_has_not_failed_however_it_ends() {
        let died = shard(1, Some("ended with code 137"));
        let told = Shard { over: true, told_to_go: true, ..shard(1, Some("ended with code 137")) };
        let mut status = account(None, &[], std::slice::from_ref(&died), at(0));
        for second in 1..9 {
            status =
                account(status.as_ref(), std::slice::from_ref(&died.status), std::slice::from_ref(&told), at(second));
        }
        assert_eq!(status.unwrap().restarts, 1);
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Whether a shard that fails every so many seconds uses up a budget of five.
    fn exhausts(every: i64) -> bool {
        let failure = Failure { max_restarts: 5, ..Failure::default() };
        let (mut status, mut seen) = (None, shard(0, None).status);
        (1..=50).any(|restarts| {
            let now = shard(restarts, Some("killed"));
            status = account(
                status.as_ref(),
                std::slice::from_ref(&seen),
                std::slice::from_ref(&now),
                at(every * i64::from(restarts)),
            );
            seen = now.status;
            exhausted(&failure, status.as_ref())
        })
    }

    #[test]
    fn the_budget_is_one_over_time() {
        for (every, expected) in
            [(1, true), (60, true), (100, true), (120, false), (300, false), (590, false), (3600, false)]
        {
            assert_eq!(exhausts(every), expected, "every {every} s");
        }
        assert_eq!(
            [(5, 0), (5, 1), (5, 300), (5, 599), (5, 600), (0, 10), (5, -9)].map(|(count, after)| left(count, after)),
            [5, 5, 3, 1, 0, 0, 5]
        );
        // What is long past is no first error of what fails now.
        let first = account(None, &[], &[shard(1, Some("old"))], at(10));
        let seen = [shard(1, None).status];
        let second = account(first.as_ref(), &seen, &[shard(2, Some("new"))], at(1000)).unwrap();
        assert_eq!((second.restarts, second.first_message.as_deref()), (1, Some("a: new")));
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
