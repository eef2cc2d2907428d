//! Permits that are over after so many questions, or asked while something happens.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use failover_agent::effects::error::EffectError;
use failover_agent::effects::permit::Permit;

/// Says yes so many times, and no ever after.
#[derive(Debug)]
pub struct Expiring(AtomicUsize);

impl Expiring {
    pub fn after(questions: usize) -> Self {
        Self(AtomicUsize::new(questions))
    }
}

impl Permit for Expiring {
    fn still_held(&self) -> Result<Duration, EffectError> {
        let less = |left: usize| left.checked_sub(1);
        match self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
        {
            Ok(_) => Ok(Duration::from_secs(60)),
            Err(_) => Err(EffectError::retryable("the lease is over")),
        }
    }
}

/// Does something between the look and the change.
pub struct Meanwhile<F>(pub F);

impl<F> fmt::Debug for Meanwhile<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meanwhile")
    }
}

impl<F: Fn() + Send + Sync> Permit for Meanwhile<F> {
    fn still_held(&self) -> Result<Duration, EffectError> {
        (self.0)();
        Ok(Duration::MAX)
    }
}
