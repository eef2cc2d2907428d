//! Whether a token is good: asked once for all records that have it. With a question for each
//! record, agents with many of them would use up the limit that a move needs.

use std::time::Duration;

use reqwest::Method;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::api::{Api, Ask};
use crate::effects::clock::boottime;
use crate::effects::error::EffectError;
use crate::model::outcome::FailureKind;
use crate::model::{Moment, Timestamp};

/// A token, as the API called it last. Held while it is asked: who waits takes that answer, too.
#[derive(Debug, Default)]
pub(super) struct Token(Mutex<Option<(Moment, Said)>>);

#[derive(Debug)]
enum Said {
    /// It is good, until then as far as that is said.
    Good(Option<Timestamp>),
    /// It is not.
    Ended { status: String },
    /// Nothing.
    Unanswered { retry_after: Option<Duration> },
}

impl Token {
    /// Until when it is good, as far as that is said; asked when the last good answer is older.
    pub(super) async fn good_until(
        &self,
        api: &Api,
        age_max: Duration,
    ) -> Result<Option<Timestamp>, EffectError> {
        let begun = boottime();
        // bounded: each who holds it asks once, and those who waited meanwhile do not ask again
        let mut known = self.0.lock().await;
        match known.as_ref() {
            Some((at, Said::Good(until))) if boottime().since(*at) < age_max => return Ok(*until),
            Some((at, said)) if *at >= begun => return said.told(api),
            Some(_) | None => {}
        }
        let (said, outcome) = match ask(api).await {
            Ok(said) => {
                let outcome = said.told(api);
                (said, outcome)
            }
            Err(error) => {
                let retry_after = error.retry_after;
                (Said::Unanswered { retry_after }, Err(error))
            }
        };
        *known = Some((boottime(), said));
        outcome
    }
}

impl Said {
    /// For a record of this token.
    fn told(&self, api: &Api) -> Result<Option<Timestamp>, EffectError> {
        let target = &api.target;
        match self {
            Self::Good(until) => Ok(*until),
            Self::Ended { status } => {
                let text = format!("dns {target}: the token is {status}");
                Err(EffectError::permanent(text)
                    .hint("create another one, with Zone / DNS / Edit for this zone"))
            }
            Self::Unanswered { retry_after } => {
                let mut error = EffectError::retryable(format!(
                    "dns {target}: cannot verify the token at cloudflare: another record that has \
                     it was just not answered"
                ));
                error.retry_after = *retry_after;
                Err(error)
            }
        }
    }
}

async fn ask(api: &Api) -> Result<Said, EffectError> {
    let what = "verify the token";
    let request = api.request(Method::GET, &["user", "tokens", "verify"]);
    match api.ask::<ApiToken>(what, request, Ask::Look).await {
        Ok(answer) => match answer.result {
            Some(token) if token.status == "active" => {
                let expires = token.expires_on.and_then(|at| at.parse().ok());
                let expires = expires.map(|at: jiff::Timestamp| at.as_millisecond());
                Ok(Said::Good(expires.map(Timestamp)))
            }
            Some(ApiToken { status, .. }) => Ok(Said::Ended {
                status: status.escape_default().to_string(),
            }),
            None => Err(api.unreadable(what)),
        },
        // A token that belongs to an account is unknown there: reading the record proves it.
        // Source: Cloudflare docs, account API tokens.
        Err(error) if error.kind == FailureKind::Permanent => Ok(Said::Good(None)),
        Err(error) => Err(error),
    }
}

/// Source: Cloudflare API v4 reference, verify token: `active`, `disabled` or `expired`.
#[derive(Debug, Deserialize)]
struct ApiToken {
    status: String,
    /// RFC 3339; a token without an end has none.
    expires_on: Option<String>,
}
