//! How much may still be asked, as every answer says. Whoever goes on past the end is refused for
//! five minutes. Source: Cloudflare API docs, "Rate limits".

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
            answer.retry_after
        } else {
            answer.rate_limit.as_deref().and_then(used_up_for)
        };
        let until = pause.map(|it| boottime() + it.min(REFUSED_FOR));
        *self
            .used_up_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = until;
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
