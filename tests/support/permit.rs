//! A permit that is over after so many questions.

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
