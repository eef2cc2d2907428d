//! The one error of all effects: what was attempted, on what, why it failed, what may be done next.

use std::time::Duration;

use crate::model::outcome::{Failure, FailureKind};

/// A failed effect.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct EffectError {
    /// What may be done next; the executor looks at nothing else.
    pub kind: FailureKind,
    /// What was attempted, on what, and why it failed: lowercase, no final stop, no secret.
    pub what: String,
    /// What the operator can do about it.
    pub hint: Option<String>,
    /// How long the other side asked us to wait before trying again.
    pub retry_after: Option<Duration>,
    /// The cause, for logs.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl EffectError {
    /// Trying again may help.
    #[must_use]
    pub fn retryable(what: impl Into<String>) -> Self {
        Self::new(FailureKind::Retryable, what)
    }

    /// Trying again will not help.
    #[must_use]
    pub fn permanent(what: impl Into<String>) -> Self {
        Self::new(FailureKind::Permanent, what)
    }

    /// It may or may not have happened.
    #[must_use]
    pub fn unknown(what: impl Into<String>) -> Self {
        Self::new(FailureKind::OutcomeUnknown, what)
    }

    fn new(kind: FailureKind, what: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
            hint: None,
            retry_after: None,
            source: None,
        }
    }

    /// Adds what the operator can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Keeps the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }
}

impl From<EffectError> for Failure {
    /// The whole chain of causes goes into the text: the journal keeps no error objects.
    fn from(error: EffectError) -> Self {
        let mut what = error.what;
        let mut cause: Option<&dyn std::error::Error> = error
            .source
            .as_deref()
            .map(|source| source as &dyn std::error::Error);
        while let Some(source) = cause {
            what = format!("{what}: {source}");
            cause = source.source();
        }
        Self {
            kind: error.kind,
            what,
            hint: error.hint,
            retry_after: error.retry_after,
        }
    }
}
