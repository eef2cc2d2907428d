//! How an effect ended. The executor looks at nothing else.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What kind of failure this is, which decides what may be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// Trying again may help; nothing was changed, or changing it twice is harmless.
    Retryable,
    /// Trying again will not help: a human or another plan must.
    Permanent,
    /// It may or may not have happened: look before doing anything (never a blind retry).
    OutcomeUnknown,
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Retryable => "can be retried",
            Self::Permanent => "permanent",
            Self::OutcomeUnknown => "outcome unknown",
        })
    }
}

/// A failed effect, as it is journalled and shown. Never contains a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What may be done next.
    pub kind: FailureKind,
    /// What was attempted, on what, and why it failed.
    pub what: String,
    /// What the operator can do about it, where that is known.
    pub hint: Option<String>,
    /// How long the other side asked to be left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Duration>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}
