//! What a person asks for: the same rules, said out loud (S15).

use std::time::Duration;

use crate::decision::brake_command::{self, BrakeWish};
use crate::decision::converge_command;
use crate::decision::decide::Action;
use crate::decision::files_command;
use crate::decision::guard_words::ONLY_OBSERVES;
use crate::decision::guards::{self, Guard, Mover};
use crate::decision::plan;
use crate::decision::policy::Policy;
use crate::decision::state::{Phase, State};
use crate::model::brakes::Conduct;
use crate::model::event::{Answer, Command, Wish};
use crate::model::journal::JournalEntry;
use crate::model::plan::Cause;
use crate::model::situation::{NodeState, Reach, Standing};
use crate::model::time::Now;
use crate::model::{PlanId, SiteName};

/// Answers a command; a wish that passes its guards is remembered, and the transition table
/// carries it out.
pub fn handle(
    policy: &Policy,
    state: &mut State,
    command: &Command,
    now: Now,
    actions: &mut Vec<Action>,
) {
    let (to, dry_run) = match &command.wish {
        Wish::Failover { to, dry_run } => (to, dry_run),
        Wish::Brake { brake, by, dry_run } => {
            let wish = BrakeWish {
                id: command.id,
                brake,
                by,
                dry_run: *dry_run,
            };
            return brake_command::handle(policy, state, wish, now, actions);
        }
        Wish::Converge { dry_run } => {
            return converge_command::handle(policy, state, (command.id, *dry_run), actions);
        }
        Wish::Files { what } => {
            return files_command::handle(policy, state, (command.id, what), actions);
        }
        Wish::Note { text } => {
            return files_command::note((command.id, text), actions);
        }
    };
    let answer = match failover(policy, state, to, now) {
        Ok(Way::Elsewhere) => Answer::PassedOn {
            to: policy.peer.clone(),
        },
        Ok(way) if *dry_run => Answer::WouldDo {
            plans: preview(policy, state, &way, to),
        },
        Ok(way) => {
            let request = format!("failover to {to}");
            actions.push(Action::Journal(JournalEntry::Remark {
                text: format!("operator: {request}"),
            }));
            state.wanted = Some(request);
            state.not_before = None;
            match way {
                Way::GiveUp => Answer::Started {
                    plan: plan::next_id(policy, state),
                },
                Way::TakeOver | Way::Elsewhere => Answer::AskingForLease,
            }
        }
        Err(reasons) => {
            actions.push(Action::Journal(JournalEntry::Remark {
                text: format!(
                    "refused operator's failover to {to}: {}",
                    reasons.join("; ")
                ),
            }));
            Answer::Refused { reasons }
        }
    };
    // A question leaves no trace: nothing changes by a dry run.
    if *dry_run {
        actions.retain(|action| !matches!(action, Action::Journal(JournalEntry::Remark { .. })));
    }
    actions.push(Action::Answer {
        id: command.id,
        answer,
    });
}

/// How the wish can be fulfilled.
enum Way {
    /// This site is active: give up.
    GiveUp,
    /// The active site is silent: take over.
    TakeOver,
    /// The active site answers and must do it.
    Elsewhere,
}

fn failover(policy: &Policy, state: &State, to: &SiteName, now: Now) -> Result<Way, Vec<String>> {
    let one = |reason: String| Err(vec![reason]);
    if policy.conduct == Conduct::Observe {
        return one(ONLY_OBSERVES.to_owned());
    }
    let Some(facts) = state.facts else {
        return one("nothing has been seen yet; try again in a moment".to_owned());
    };
    if *to != policy.me && *to != policy.peer {
        return one(format!(
            "there is no site {to}; the sites are {} and {}",
            policy.me, policy.peer
        ));
    }
    if let (Phase::Stopped, Some(why)) = (state.phase, &state.stopped) {
        return one(format!(
            "the agent stopped and calls a human: {why}; put it right, then stop and start the \
             agent in order"
        ));
    }
    let busy = matches!(
        state.phase,
        Phase::GivingUp | Phase::TakingOver | Phase::Restarting | Phase::Fencing | Phase::Asking
    );
    if busy {
        return one(format!(
            "a plan is already under way ({}); see `agent status`",
            state.phase
        ));
    }
    let active = matches!(facts.standing, Standing::Active | Standing::ActiveCutOff);
    let words = |guards: Vec<Guard>| guards.iter().map(ToString::to_string).collect::<Vec<_>>();
    match (active, *to == policy.me) {
        (true, true) => one(format!("site {to} is already the active one")),
        (true, false) if state.phase != Phase::Active => one(format!(
            "site {} holds the lease but is not yet active ({}): try again in a moment",
            policy.me, state.phase
        )),
        (false, false) if facts.standing == Standing::Peer => {
            one(format!("site {to} is already the active one"))
        }
        (false, false) => one(format!(
            "site {to} is not known to hold the lease, and only its own agent can take it: run \
             `agent failover` there"
        )),
        (true, false) => {
            let guards = guards::against_give_up(policy, state, &facts, Mover::Operator, now);
            if guards.is_empty() {
                Ok(Way::GiveUp)
            } else {
                Err(words(guards))
            }
        }
        (false, true) if facts.standing == Standing::Peer && facts.peer_agent == Reach::Answers => {
            Ok(Way::Elsewhere)
        }
        (false, true) => {
            let guards = guards::against_take_over(policy, state, &facts, Mover::Operator, now);
            if guards.is_empty() {
                Ok(Way::TakeOver)
            } else {
                Err(words(guards))
            }
        }
    }
}

/// The exact plans that would run, by site and in order.
fn preview(
    policy: &Policy,
    state: &State,
    way: &Way,
    to: &SiteName,
) -> Vec<(SiteName, crate::model::plan::Plan)> {
    let epoch = state.epoch();
    let cause = Cause::Operator {
        request: format!("failover to {to}"),
    };
    let mut plans = Vec::new();
    let next_epoch = epoch.next();
    if matches!(way, Way::GiveUp) {
        let living = state
            .facts
            .is_some_and(|facts| facts.own == NodeState::Primary);
        let grace = if living {
            policy.stop_grace
        } else {
            Duration::ZERO
        };
        plans.push((
            policy.me.clone(),
            plan::give_up(policy, state, epoch, cause.clone(), grace),
        ));
    }
    let id = if *to == policy.me {
        plan::next_id(policy, state)
    } else {
        PlanId::new(format!("{to}-next"))
    };
    let cause = match way {
        Way::GiveUp => Cause::HandedOver {
            from: policy.me.clone(),
        },
        Way::TakeOver | Way::Elsewhere => cause,
    };
    plans.push((
        to.clone(),
        plan::take_over(policy, state, to, id, next_epoch, cause),
    ));
    plans
}
