//! What keeps the agents from acting by themselves, cluster-wide: it travels in the cluster record.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// Automatic failovers that the record remembers at most: the highest limit that can be set.
pub const FAILOVERS_KEPT_MAX: usize = 10;
/// The longest reason, and the longest name of a person, in characters.
pub const TEXT_CHARS_MAX: usize = 200;

/// Whether an agent acts on what it sees.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Conduct {
    /// It does.
    #[default]
    Act,
    /// It looks, says what it would do, and does nothing.
    Observe,
}

/// The brakes as the record keeps them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Brakes {
    /// When the primary moved by automatic failovers that nobody acknowledged, the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failovers: Vec<Timestamp>,
    /// Somebody has looked at the last automatic failover.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Acknowledged>,
    /// Nothing is to happen by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    /// The handover under way was asked for by a person.
    #[serde(default, skip_serializing_if = "is_false")]
    pub planned: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// Who looked at the last automatic failover.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Acknowledged {
    /// Who, and where.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// A pause.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Paused {
    /// Who asked for it, and where.
    pub by: String,
    /// When.
    pub since: Timestamp,
    /// How long it lasts; `None`: until somebody resumes.
    pub length: Option<Duration>,
    /// Why.
    pub reason: Option<String>,
    /// The lease of the site whose node is the primary does not run out meanwhile, so nothing
    /// fences that node at a deadline: the lease is *pinned*.
    #[serde(default, skip_serializing_if = "is_false")]
    pub guard_off: bool,
}

impl Brakes {
    /// Nothing is to be remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The primary is about to move by itself.
    #[must_use]
    pub fn with_failover(&self, at: Timestamp) -> Self {
        let mut new = self.clone();
        new.failovers.push(at);
        let over = new.failovers.len().saturating_sub(FAILOVERS_KEPT_MAX);
        new.failovers.drain(..over);
        new.acknowledged = None;
        new
    }
}

/// What a person may do to the brakes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "brake", rename_all = "snake_case", deny_unknown_fields)]
pub enum Brake {
    /// The last automatic failovers were looked at: the next is not held back by them.
    Ack,
    /// Nothing is to happen by itself.
    Pause {
        /// For how long; `None`: until somebody resumes.
        length: Option<Duration>,
        /// Why.
        reason: Option<String>,
        /// Nothing is to fence the primary at the end of its lease either.
        #[serde(default)]
        guard_off: bool,
    },
    /// The pause is over.
    Resume,
}

impl fmt::Display for Brake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ack => f.write_str("ack"),
            Self::Pause {
                length,
                reason,
                guard_off,
            } => {
                f.write_str("pause")?;
                if *guard_off {
                    f.write_str(" with the guard off")?;
                }
                if let Some(length) = length {
                    write!(f, " for {}", span_words(*length))?;
                }
                reason.as_ref().map_or(Ok(()), |why| write!(f, " ({why})"))
            }
            Self::Resume => f.write_str("resume"),
        }
    }
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Braked {
    /// In words.
    pub text: String,
    /// The brakes afterwards (in a dry run: as they would be).
    pub brakes: Brakes,
    /// Nothing was changed: it was only asked what would be.
    pub dry_run: bool,
}

/// A span for people, to the second.
#[must_use]
pub fn span_words(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_failovers_are_remembered_and_the_newest_is_not_acknowledged() {
        let mut brakes = Brakes {
            acknowledged: Some(Acknowledged {
                by: "ada".to_owned(),
                at: Timestamp(1),
            }),
            ..Brakes::default()
        };
        for at in 0..30 {
            brakes = brakes.with_failover(Timestamp(at));
        }
        assert_eq!(brakes.failovers.len(), FAILOVERS_KEPT_MAX);
        assert_eq!(brakes.failovers.last(), Some(&Timestamp(29)));
        assert_eq!(brakes.acknowledged, None);
    }

    #[test]
    fn empty_brakes_leave_the_record_as_it_was_on_the_wire() {
        assert_eq!(serde_json::to_string(&Brakes::default()).unwrap(), "{}");
    }
}
