//! The last question before an act that cannot be taken back: may it still be done (S2)?
//!
//! Asked by the effect itself, after whatever it had to wait for, because a step that was allowed
//! when it began may have been held up by a disk, a network or a frozen process.

use std::fmt;
use std::time::Duration;

use super::error::EffectError;

/// Says whether the lease under which a step began is still held, with time to spare.
pub trait Permit: fmt::Debug + Send + Sync {
    /// Whether the act may be done now, and how long the lease is held at least.
    ///
    /// # Errors
    /// `Retryable`, saying what is over. Nothing has been done then.
    fn still_held(&self) -> Result<Duration, EffectError>;
}

/// For acts that need no lease, and for whoever drives a node by itself.
#[derive(Debug, Clone, Copy)]
pub struct Unconditional;

impl Permit for Unconditional {
    fn still_held(&self) -> Result<Duration, EffectError> {
        Ok(Duration::MAX)
    }
}
