//! What people do to the brakes, and when: drawn apart from what goes wrong.

use std::time::Duration;

use failover_agent::model::brakes::Brake;
use failover_agent::model::event::Wish;

use crate::clock::{Real, Rng, SEC};
use crate::faults::Fault;
use crate::world::{World, name};

/// What an operator does to the brakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pull {
    /// For so long; true: with the guard off.
    Pause(Option<Real>, bool),
    Resume,
    Ack,
}

/// Draws what operators do to the brakes, of its own randomness: the other faults stay as they are.
pub(crate) fn draw(rng: &mut Rng, from: Real, heal: Real) -> Vec<(Real, Fault)> {
    let mut faults = Vec::new();
    if rng.chance(300) {
        let length = rng.pick(&[None, None, Some(SEC), Some(4 * SEC), Some(3600 * SEC)]);
        let at = rng.within(from - SEC, heal);
        let guard_off = rng.chance(300);
        faults.push((at, Fault::Brake(rng.site(), Pull::Pause(length, guard_off))));
        if rng.chance(300) {
            let at = rng.within(at, heal);
            faults.push((at, Fault::Brake(rng.site(), Pull::Resume)));
        }
        // In the end somebody remembers it, at one of the sites or at both.
        for _ in 0..2 {
            let at = heal + rng.within(SEC, 6 * SEC);
            faults.push((at, Fault::Brake(rng.site(), Pull::Resume)));
        }
    }
    if rng.chance(300) {
        let at = rng.within(from, heal + 4 * SEC);
        faults.push((at, Fault::Brake(rng.site(), Pull::Ack)));
    }
    faults
}

impl World {
    /// Somebody asks the agent of this site.
    pub(crate) fn pull(&mut self, site: usize, pull: Pull) {
        let brake = match pull {
            Pull::Pause(length, guard_off) => Brake::Pause {
                length: length.map(Duration::from_nanos),
                reason: None,
                guard_off,
            },
            Pull::Resume => Brake::Resume,
            Pull::Ack => Brake::Ack,
        };
        let running = self.sites[site].agent.as_ref().is_some_and(|a| !a.frozen);
        if running {
            let by = format!("operator at {}", name(site));
            let dry_run = false;
            self.wish(site, Wish::Brake { brake, by, dry_run });
        }
    }
}
