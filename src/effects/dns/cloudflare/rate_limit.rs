//! How much may still be asked, as every answer says. Whoever goes on past the end is refused for
//! five minutes. Source: Cloudflare API docs, "Rate limits".
//!
//! Answers do not come in the order of their requests, so a good one ends nothing: only time does.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::StatusCode;

use crate::effects::clock::boottime;
use crate::effects::http_client::Answer;
use crate::model::Moment;

/// Source: the same: a refusal lasts that long.
const REFUSED_FOR: Duration = Duration::from_secs(300);

/// Until when nothing is left.
#[derive(Debug, Default)]
pub(super) struct RateLimit {
    used_up_until: Mutex<Option<Moment>>,
}

impl RateLimit {
    /// For how long nothing is left.
    pub(super) fn left(&self) -> Option<Duration> {
        let until = *self
            .used_up_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let left = boottime().until(until?);
        (!left.is_zero()).then_some(left)
    }

    pub(super) fn note(&self, answer: &Answer) {
        let pause = if answer.status == StatusCode::TOO_MANY_REQUESTS {
            Some(answer.retry_after.unwrap_or(REFUSED_FOR))
        } else {
            answer.rate_limit.as_deref().and_then(used_up_for)
        };
        let until = pause.map(|it| boottime() + it.min(REFUSED_FOR));
        let known = &self.used_up_until;
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        *known = until.max(*known);
    }
}

/// The reset of a `Ratelimit` of which nothing is left: `"default";r=0;t=30`. Source: IETF draft
/// ratelimit-headers, 5: a list, of which the longest pause counts.
fn used_up_for(header: &str) -> Option<Duration> {
    let pauses = header.split(',').filter_map(|limit| {
        let parameter = |name: &str| {
            limit.split(';').find_map(|part| {
                let (key, value) = part.trim().split_once('=')?;
                (key == name).then(|| value.parse::<u64>().ok()).flatten()
            })
        };
        let used_up = parameter("r")? == 0;
        used_up.then(|| parameter("t")).flatten()
    });
    pauses.max().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: StatusCode, retry_after: Option<u64>, rate_limit: Option<&str>) -> Answer {
        Answer {
            status,
            retry_after: retry_after.map(Duration::from_secs),
            rate_limit: rate_limit.map(str::to_owned),
            body: Vec::new(),
        }
    }

    #[test]
    fn slower_good_answer_to_an_earlier_request_does_not_end_a_refusal() {
        let refused = StatusCode::TOO_MANY_REQUESTS;
        for (retry_after, least) in [(Some(60), 50), (None, 290)] {
            let limit = RateLimit::default();
            limit.note(&answer(refused, retry_after, None));
            for slower in [None, Some("\"default\";r=7;t=30"), Some("r=0;t=1")] {
                limit.note(&answer(StatusCode::OK, None, slower));
            }
            limit.note(&answer(refused, Some(1), None));
            let left = limit.left();
            assert!(left > Some(Duration::from_secs(least)), "{left:?}");
        }
        let limit = RateLimit::default();
        limit.note(&answer(refused, Some(0), None));
        assert_eq!(limit.left(), None, "only time ends it, and it does");
    }

    #[test]
    fn pause_is_told_only_when_nothing_is_left() {
        for (header, pause) in [
            ("\"default\";r=50;t=30", None),
            ("\"default\";r=0;t=30", Some(30)),
            ("\"burst\"; r=0; t=7, \"default\";r=900;t=200", Some(7)),
            ("\"burst\";r=0;t=7,\"default\";r=0;t=200", Some(200)),
            ("\"default\";r=0", None),
            ("r=;t=x", None),
            ("", None),
        ] {
            let expected = pause.map(Duration::from_secs);
            assert_eq!(used_up_for(header), expected, "{header}");
        }
    }
}
