//! From a probe to the decision loop: a slot that holds the newest observation of one target.
//!
//! The loop's channel is bounded. When the loop is behind, old news of a target is worth nothing:
//! the newer observation replaces the one that still waits, and no probe is held up.

use tokio::sync::{mpsc, watch};

use crate::model::event::Event;
use crate::model::observation::Observation;

/// Where one probe puts what it saw. Never waits.
#[derive(Debug)]
pub struct Outlet(watch::Sender<Option<Observation>>);

/// The other end of an [`Outlet`].
#[derive(Debug)]
pub struct Delivery {
    slot: watch::Receiver<Option<Observation>>,
    events: mpsc::Sender<Event>,
}

/// A slot that is emptied into `events`.
#[must_use]
pub fn outlet(events: mpsc::Sender<Event>) -> (Outlet, Delivery) {
    let (sender, slot) = watch::channel(None);
    (Outlet(sender), Delivery { slot, events })
}

impl Outlet {
    /// Puts an observation into the slot, replacing one that still waits there.
    pub fn put(&self, observation: Observation) {
        self.0.send_replace(Some(observation));
    }
}

impl Delivery {
    /// Carries observations until the outlet or the receiver of the events is gone.
    pub async fn run(mut self) {
        while self.slot.changed().await.is_ok() {
            // Room first, then the newest: what is put meanwhile is not carried twice.
            let Ok(room) = self.events.reserve().await else {
                return;
            };
            let newest = self.slot.borrow_and_update().clone();
            if let Some(observation) = newest {
                room.send(Event::Observed(observation));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::Moment;
    use crate::model::observation::{ProcessSeen, Seen, Target};

    fn observation(pid: u32) -> Observation {
        Observation {
            target: Target::OwnProcess,
            at: Moment::default(),
            took: Duration::ZERO,
            seen: Seen::Process(ProcessSeen::Running { pid }),
        }
    }

    #[tokio::test]
    async fn newer_observation_replaces_one_that_waits_for_room() {
        let (events, mut received) = mpsc::channel(1);
        events.try_send(Event::Tick).unwrap();
        let (outlet, delivery) = outlet(events);
        let feed = async {
            for pid in 1..=3 {
                outlet.put(observation(pid));
                tokio::task::yield_now().await;
            }
            assert_eq!(received.recv().await, Some(Event::Tick));
            assert_eq!(received.recv().await, Some(Event::Observed(observation(3))));
            outlet.put(observation(4));
            assert_eq!(received.recv().await, Some(Event::Observed(observation(4))));
            drop(outlet);
            assert_eq!(received.recv().await, None);
        };
        tokio::join!(feed, delivery.run());
    }
}
