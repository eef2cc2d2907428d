//! A person wants to change this site's files now. The change itself is no plan: it moves nobody,
//! and the files have locks and epochs of their own (S8). Here it is only allowed, and made known
//! to the journal before it happens (S11).

use crate::decision::decide::Action;
use crate::decision::guard_words::ONLY_OBSERVES;
use crate::decision::policy::Policy;
use crate::decision::state::{Phase, State};
use crate::model::brakes::Conduct;
use crate::model::event::Answer;
use crate::model::journal::JournalEntry;

/// Answers the wish with this id, which is to do `what`; with `anyway`, also during a move.
pub fn handle(
    policy: &Policy,
    state: &State,
    (id, what, anyway): (u64, &str, bool),
    actions: &mut Vec<Action>,
) {
    let answer = match against(policy, state, anyway) {
        Some(reason) => Answer::Refused {
            reasons: vec![reason],
        },
        None => {
            let text = format!("operator: {what}");
            actions.push(Action::Journal(JournalEntry::Remark { text }));
            Answer::Noted
        }
    };
    actions.push(Action::Answer { id, answer });
}

/// Notes what became of it.
pub fn note(state: &State, (id, text): (u64, &str), actions: &mut Vec<Action>) {
    let answer = match &state.journal_broken {
        Some(_) => Answer::Refused {
            reasons: vec![JOURNAL_BROKEN.to_owned()],
        },
        None => {
            let text = text.to_owned();
            actions.push(Action::Journal(JournalEntry::Remark { text }));
            Answer::Noted
        }
    };
    actions.push(Action::Answer { id, answer });
}

const JOURNAL_BROKEN: &str = "the journal cannot be written; see `agent status`";

/// Why not.
fn against(policy: &Policy, state: &State, anyway: bool) -> Option<String> {
    if policy.conduct == Conduct::Observe {
        return Some(ONLY_OBSERVES.to_owned());
    }
    if state.journal_broken.is_some() {
        return Some(JOURNAL_BROKEN.to_owned());
    }
    let Some(record) = &state.record else {
        return Some("no cluster record is known yet; try again in a moment".to_owned());
    };
    if anyway {
        return None;
    }
    let moving = matches!(
        state.phase,
        Phase::GivingUp | Phase::TakingOver | Phase::Restarting | Phase::Fencing | Phase::Asking
    );
    let how = match (record.promoting, moving) {
        (true, _) => format!("site {} is being promoted", record.primary),
        (false, true) => state.phase.to_string(),
        (false, false) => return None,
    };
    Some(format!(
        "a failover is under way ({how}), after which the agents bring the files in line by \
         themselves; --force changes them all the same"
    ))
}
