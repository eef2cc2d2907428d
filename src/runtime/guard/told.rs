//! What the decision loop hears of the guard.

use tokio::sync::mpsc;

use crate::model::event::Event;

/// What the decision loop was told of the guard, and what it should be told. Never waits: a loop
/// that hangs must not keep the guard from its pushes.
#[derive(Debug, Default)]
pub(super) struct Told {
    wanted: Option<Option<String>>,
    told: Option<Option<String>>,
}

impl Told {
    pub(super) fn never(&self) -> bool {
        self.told.is_none()
    }

    pub(super) fn want(&mut self, lost: Option<String>) {
        // The first reason stays until the guard is back.
        let same = matches!((&self.wanted, &lost), (Some(Some(_)), Some(_)));
        if !same {
            self.wanted = Some(lost);
        }
    }

    pub(super) fn tell(&mut self, events: &mpsc::Sender<Event>) {
        let Some(wanted) = self.wanted.clone() else {
            return;
        };
        if self.told.as_ref() == Some(&wanted) {
            return;
        }
        let event = match &wanted {
            Some(why) => Event::GuardLost { why: why.clone() },
            None => Event::GuardBack,
        };
        if events.try_send(event).is_ok() {
            self.told = Some(wanted);
        }
    }
}
