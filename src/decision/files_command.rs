//! A person wants to change this site's files now. The change itself is no plan: it moves nobody,
//! and the files have locks and epochs of their own (S8). Here it is only allowed, under the epoch
//! of that moment, and made known to the journal before it happens (S11). Nobody can insist: while
//! a failover is under way, no one knows yet which site the files have to name (S9, S15).

use crate::decision::decide::Action;
use crate::decision::guard_words::ONLY_OBSERVES;
use crate::decision::housekeeping::is_settled;
use crate::decision::policy::Policy;
use crate::decision::state::{Phase, State};
use crate::model::brakes::Conduct;
use crate::model::event::Answer;
use crate::model::journal::JournalEntry;
use crate::model::lease::ClusterRecord;

/// Answers the wish with this id, which is to do `what`.
pub fn handle(policy: &Policy, state: &State, (id, what): (u64, &str), actions: &mut Vec<Action>) {
    let answer = match may_change(policy, state) {
        Err(reason) => Answer::Refused {
            reasons: vec![reason],
        },
        Ok(record) => {
            let text = format!("operator: {what}");
            actions.push(Action::Journal(JournalEntry::Remark { text }));
            Answer::FilesMayChange {
                primary: record.primary.clone(),
                epoch: record.epoch,
            }
        }
    };
    actions.push(Action::Answer { id, answer });
}

/// Notes what became of it: it has happened, so a journal that is broken takes it later.
pub fn note((id, text): (u64, &str), actions: &mut Vec<Action>) {
    let text = text.to_owned();
    actions.push(Action::Journal(JournalEntry::Remark { text }));
    let answer = Answer::Noted;
    actions.push(Action::Answer { id, answer });
}

/// The record that the files would follow, or why they must not be changed.
fn may_change<'a>(policy: &Policy, state: &'a State) -> Result<&'a ClusterRecord, String> {
    if policy.conduct == Conduct::Observe {
        return Err(ONLY_OBSERVES.to_owned());
    }
    if state.journal_broken.is_some() {
        return Err("the journal cannot be written; see `agent status`".to_owned());
    }
    let Some(record) = &state.record else {
        return Err("no cluster record is known yet; try again in a moment".to_owned());
    };
    if is_settled(policy, state, record) {
        return Ok(record);
    }
    let moving = matches!(
        state.phase,
        Phase::GivingUp | Phase::TakingOver | Phase::Restarting | Phase::Fencing | Phase::Asking
    );
    let how = match (record.promoting, moving) {
        (true, _) => format!("site {} is being promoted", record.primary),
        (false, true) => state.phase.to_string(),
        (false, false) => {
            return Err(format!(
                "site {} is neither active under the record's epoch {} nor the standby of a site \
                 that is ({}): wait until `agent status` says that one is active",
                policy.me, record.epoch, state.phase
            ));
        }
    };
    Err(format!(
        "a failover is under way ({how}): wait until `agent status` says which site is active; the \
         agents bring the files in line by themselves then"
    ))
}
