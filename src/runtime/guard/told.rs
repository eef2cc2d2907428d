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

    /// There is no guard. The first reason for that stays until one is back: the later ones say
    /// only that it is still so.
    pub(super) fn gone(&mut self, why: String) {
        if !matches!(self.wanted, Some(Some(_))) {
            self.wanted = Some(Some(why));
        }
    }

    /// What a guard that answers says of itself: why it is unfit, or that it is not. Its newest
    /// word counts; the first one may be that it has not looked yet.
    pub(super) fn answered(&mut self, unfit: Option<String>) {
        self.wanted = Some(unfit);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(events: &mut mpsc::Receiver<Event>) -> Vec<Option<String>> {
        let mut all = Vec::new();
        while let Ok(event) = events.try_recv() {
            if let Event::GuardLost { why } = event {
                all.push(Some(why));
            } else {
                assert!(matches!(event, Event::GuardBack), "{event:?}");
                all.push(None);
            }
        }
        all
    }

    #[test]
    fn newest_word_of_a_guard_that_answers_counts() {
        let (events, mut loop_end) = mpsc::channel(8);
        let mut told = Told::default();
        for why in ["not looked at yet", "no such device", "no such device"] {
            told.answered(Some(why.to_owned()));
            told.tell(&events);
        }
        told.answered(None);
        told.tell(&events);
        let some = |why: &str| Some(why.to_owned());
        let expected = [some("not looked at yet"), some("no such device"), None];
        assert_eq!(heard(&mut loop_end), expected);
    }

    #[test]
    fn first_reason_for_a_guard_that_is_gone_stays() {
        let (events, mut loop_end) = mpsc::channel(8);
        let mut told = Told::default();
        for why in ["no such file", "still none"] {
            told.gone(why.to_owned());
            told.tell(&events);
        }
        assert_eq!(heard(&mut loop_end), [Some("no such file".to_owned())]);
    }

    #[test]
    fn what_the_loop_had_no_room_for_is_told_later() {
        let (events, mut loop_end) = mpsc::channel(1);
        let mut told = Told::default();
        told.gone("first".to_owned());
        told.tell(&events);
        told.answered(None);
        told.tell(&events);
        assert_eq!(heard(&mut loop_end), [Some("first".to_owned())]);
        told.tell(&events);
        assert_eq!(heard(&mut loop_end), [None]);
    }
}
