//! Events into memory: what was seen, heard and finished. Decides nothing.

use std::time::Duration;

use crate::decision::decide::Action;
use crate::decision::policy::Policy;
use crate::decision::records;
use crate::decision::situate;
use crate::decision::state::{Awaits, Contact, State};
use crate::decision::{brake_command, brakes};
use crate::model::event::{Event, Learned, StepFinished};
use crate::model::journal::JournalEntry;
use crate::model::lease::{ClusterRecord, LeaseChange, LeaseCommand, LeaseView};
use crate::model::observation::{Channel, DatabaseSeen, Observation, ProcessSeen, Seen, Target};
use crate::model::peer::PeerReport;
use crate::model::plan::StepKind;
use crate::model::time::{Now, measured_words};
use crate::model::{Member, Moment};

/// What an event was, beyond what the memory shows: news that matter only once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct News {
    /// The lease machine passed its deadline.
    pub lease_lost: bool,
    /// An acquisition failed.
    pub lease_refused: bool,
}

/// Takes an event into the memory. Commands are not handled here.
pub fn absorb(
    policy: &Policy,
    state: &mut State,
    event: &Event,
    now: Now,
    actions: &mut Vec<Action>,
) -> News {
    let mut news = News::default();
    match event {
        Event::Observed(observation) => observed(policy, state, observation),
        Event::Lease(change) => news = lease_changed(policy, state, change, now, actions),
        Event::Reported(report) => reported(policy, state, report, now),
        Event::ReportMissed { from } => {
            if let Some(contact) = contact_mut(policy, state, from) {
                contact.missed_since.get_or_insert(now.moment);
            }
        }
        Event::StepFinished(finished) => step_finished(policy, state, finished, now, actions),
        Event::JournalBroken { why } => state.journal_broken = Some(why.clone()),
        Event::JournalMended => state.journal_broken = None,
        Event::GuardLost { why } => state.guard_lost = Some(why.clone()),
        Event::GuardBack => state.guard_lost = None,
        Event::GuardFenced { epoch, at, took } => {
            actions.push(Action::Journal(JournalEntry::Remark {
                text: format!(
                    "the guard fenced the own node at {at}, when the lease of epoch {epoch} ran \
                     out; it took {}",
                    measured_words(*took)
                ),
            }));
        }
        Event::Late { by } => {
            if *by >= policy.late_max {
                state.late = Some((now.moment, *by));
            }
        }
        Event::Command(_) | Event::Tick => {}
    }
    release_moved_on(policy, state, now, actions);
    brakes::remember(state, now.moment);
    brake_command::lease_moved(state, actions);
    for rule in &policy.trips {
        if situate::trip_condition(policy, rule, state, now.moment) {
            state
                .trip_since
                .entry(rule.name.clone())
                .or_insert(now.moment);
        } else {
            state.trip_since.remove(&rule.name);
        }
    }
    news
}

fn observed(policy: &Policy, state: &mut State, observation: &Observation) {
    let thresholds = situate::thresholds(policy, &observation.target);
    if observation.target == Target::OwnProcess {
        process_changed(state, &observation.seen, observation.at);
    }
    let health = state.health.entry(observation.target.clone()).or_default();
    health.observe(thresholds, observation.seen.clone(), observation.at);
    // A database that serves again has a postmaster again, whatever the process watch last said.
    let own = matches!(observation.target, Target::OwnDatabase(_));
    if own && matches!(&observation.seen, Seen::Database(DatabaseSeen::Answered(_))) {
        let gone = state
            .health
            .get(&Target::OwnProcess)
            .and_then(|health| health.last());
        if matches!(gone, Some((at, Seen::Process(ProcessSeen::Gone))) if *at < observation.at) {
            state.health.remove(&Target::OwnProcess);
        }
        state.restart_tried = false;
        state.finish_failed = false;
    }
    let runs = matches!(
        &observation.seen,
        Seen::Process(ProcessSeen::Running { .. } | ProcessSeen::Stopped { .. })
    );
    let answers = own
        && !matches!(
            &observation.seen,
            Seen::Database(DatabaseSeen::NothingListens | DatabaseSeen::Unreachable { .. })
        );
    if runs || answers {
        state.fenced = false;
    }
}

/// A new postmaster has nothing to do with the failures of the old one, nor with its role.
fn process_changed(state: &mut State, seen: &Seen, at: Moment) {
    let pid = |seen: &Seen| match seen {
        Seen::Process(ProcessSeen::Running { pid } | ProcessSeen::Stopped { pid }) => Some(*pid),
        Seen::Process(ProcessSeen::Gone | ProcessSeen::Unknown { .. })
        | Seen::Database(_)
        | Seen::Directory(_)
        | Seen::Endpoint(_) => None,
    };
    let last = state
        .health
        .get(&Target::OwnProcess)
        .and_then(|health| health.last().map(|(_, seen)| seen.clone()));
    let gone = |seen: &Seen| matches!(seen, Seen::Process(ProcessSeen::Gone));
    let another = match (last.as_ref(), pid(seen)) {
        (Some(last), Some(new)) => gone(last) || pid(last).is_some_and(|old| old != new),
        (None, _) | (_, None) => false,
    };
    if !another && !gone(seen) {
        return;
    }
    if another {
        state.process_since = at;
    }
    for channel in [Channel::Persistent, Channel::Fresh] {
        if let Some(health) = state.health.get_mut(&Target::OwnDatabase(channel)) {
            health.forget();
            if another {
                health.forget_role();
            }
        }
    }
}

/// A fence proves that the process is gone.
fn own_fenced(policy: &Policy, state: &mut State, now: Now, took: Duration) {
    let gone = Observation {
        target: Target::OwnProcess,
        at: now.moment,
        took,
        seen: Seen::Process(ProcessSeen::Gone),
    };
    observed(policy, state, &gone);
    state.fenced = true;
}

fn reported(policy: &Policy, state: &mut State, report: &PeerReport, now: Now) {
    if let Some(contact) = contact_mut(policy, state, &report.from) {
        contact.clock_ahead_ms = Some(now.wall.0.saturating_sub(report.clock.0));
        contact.report = Some((report.clone(), now.moment));
        contact.missed_since = None;
    }
}

fn contact_mut<'a>(
    policy: &Policy,
    state: &'a mut State,
    member: &Member,
) -> Option<&'a mut Contact> {
    match member {
        Member::Witness => Some(&mut state.witness),
        Member::Site(site) if *site == policy.peer => Some(&mut state.peer),
        Member::Site(_) => None,
    }
}

fn lease_changed(
    policy: &Policy,
    state: &mut State,
    change: &LeaseChange,
    now: Now,
    actions: &mut Vec<Action>,
) -> News {
    let mut news = News::default();
    match change {
        LeaseChange::View {
            view,
            record,
            reached,
        } => {
            view_changed(policy, state, view, record.as_ref(), now);
            state.reached.clone_from(reached);
        }
        LeaseChange::NotAcquired { .. } => {
            news.lease_refused = true;
            state.not_before = Some(now.moment + policy.renew_every);
        }
        LeaseChange::Lost { .. } => {
            news.lease_lost = true;
            state.lease = LeaseView::Unknown;
            // The keeper has fenced already; should the node take writes again, it is fenced again.
            state.fence_by = Some(now.moment);
        }
        LeaseChange::Fenced { took } => {
            own_fenced(policy, state, now, *took);
            actions.push(Action::Journal(JournalEntry::Remark {
                text: format!(
                    "the own node was fenced at its deadline within {}",
                    measured_words(*took)
                ),
            }));
        }
        LeaseChange::Released { epoch, to } => {
            // From here on it is the successor's, whatever the next look at the voters says.
            if state.held_epoch() == Some(*epoch) {
                state.lease = LeaseView::Free {
                    epoch: *epoch,
                    released_to: to.clone(),
                };
            }
            finish_lease_step(
                policy,
                state,
                Awaits::Release(*epoch),
                now,
                actions,
                "lease released",
            );
            // The own process must not take writes from here on (S10).
            state.fence_by = Some(now.moment);
        }
        LeaseChange::RecordKept {
            version: (epoch, revision),
        } => {
            let awaited = Awaits::Record(*epoch, *revision);
            finish_lease_step(policy, state, awaited, now, actions, "kept by a majority");
            brake_command::record_kept(state, (*epoch, *revision), actions);
        }
    }
    news
}

/// The lease and the record as the voters show them now.
fn view_changed(
    policy: &Policy,
    state: &mut State,
    view: &LeaseView,
    record: Option<&ClusterRecord>,
    now: Now,
) {
    let held_before = state.held_epoch();
    let held = held_before.is_some();
    let for_me = |lease: &LeaseView| {
        matches!(lease, LeaseView::Free { released_to, .. }
            if released_to.as_ref() == Some(&policy.me))
    };
    if for_me(view) && !for_me(&state.lease) {
        // Whatever this site waits for, the voters keep the lease for it for one ttl only.
        state.not_before = None;
    }
    state.lease = match view {
        LeaseView::Other { holder, epoch }
            if *holder == policy.me && Some(*epoch) == state.released =>
        {
            LeaseView::Unknown
        }
        LeaseView::Unknown
        | LeaseView::Held { .. }
        | LeaseView::Other { .. }
        | LeaseView::Free { .. } => view.clone(),
    };
    // Under a held lease only this agent makes records: one of an older term is a leftover that no
    // majority kept. Without one the voters know best: what this agent made and nobody has kept is
    // no record.
    let taken = record.filter(|new| match (state.held_epoch(), &state.record) {
        (Some(epoch), Some(known)) => {
            let leftover = held_before == Some(epoch) && new.epoch < epoch;
            !leftover && known.version() < new.version()
        }
        (Some(_) | None, _) => true,
    });
    if let Some(new) = taken {
        state.record = Some(new.clone());
    }
    if state.held_epoch().is_some() {
        state.fence_by = None;
    } else if held {
        state.fence_by = Some(now.moment);
    }
}

/// A release that nobody confirmed is over all the same once the lease has moved on, or every
/// grant of it has run out: this site does not renew it any more.
fn release_moved_on(policy: &Policy, state: &mut State, now: Now, actions: &mut Vec<Action>) {
    let Some((Awaits::Release(released), begun)) = state
        .lease_step
        .as_ref()
        .map(|step| (step.awaits, step.begun))
    else {
        return;
    };
    let moved_on = match &state.lease {
        LeaseView::Other { holder, epoch } => *holder != policy.me || *epoch > released,
        LeaseView::Free { .. } => true,
        LeaseView::Held { .. } | LeaseView::Unknown => false,
    };
    // Without a witness grants do not run out: there the release is sent until it arrives.
    let span = policy.ttl + policy.renew_every;
    let ran_out = policy.lease_runs_out() && now.moment.since(begun) > span;
    if moved_on || ran_out {
        let happened = Awaits::Release(released);
        finish_lease_step(
            policy,
            state,
            happened,
            now,
            actions,
            "the lease has moved on",
        );
        state.fence_by = Some(now.moment);
    }
}

fn finish_lease_step(
    policy: &Policy,
    state: &mut State,
    happened: Awaits,
    now: Now,
    actions: &mut Vec<Action>,
    note: &str,
) {
    let fits = |awaits: Awaits| match (awaits, happened) {
        (Awaits::Record(epoch, revision), Awaits::Record(kept_epoch, kept)) => {
            epoch == kept_epoch && revision <= kept
        }
        (Awaits::Release(epoch), Awaits::Release(released)) => epoch == released,
        _ => false,
    };
    let Some(step) = state.lease_step.take_if(|step| fits(step.awaits)) else {
        return;
    };
    let finished = StepFinished {
        plan: step.plan,
        step: step.step,
        attempt: step.attempt,
        undo: step.undo,
        took: now.moment.since(step.begun),
        result: Ok(Learned {
            note: note.to_owned(),
            node: None,
        }),
    };
    step_finished(policy, state, &finished, now, actions);
}

fn step_finished(
    policy: &Policy,
    state: &mut State,
    finished: &StepFinished,
    now: Now,
    actions: &mut Vec<Action>,
) {
    let Some(run) = state.run.as_mut() else {
        return;
    };
    if !run.finish(finished, now.moment) {
        return;
    }
    actions.push(Action::Journal(match &finished.result {
        Ok(learned) => JournalEntry::StepDone {
            plan: finished.plan.clone(),
            step: finished.step,
            undo: finished.undo,
            took: finished.took,
            note: learned.note.clone(),
        },
        Err(failure) => JournalEntry::StepFailed {
            plan: finished.plan.clone(),
            step: finished.step,
            undo: finished.undo,
            failure: failure.clone(),
        },
    }));
    let kind = run
        .plan
        .steps
        .get(finished.step)
        .map(crate::model::plan::Step::kind);
    let epoch = run.plan.epoch;
    let Ok(learned) = &finished.result else {
        return;
    };
    if kind == Some(StepKind::Promote) {
        state.promoted = !finished.undo;
    }
    if kind == Some(StepKind::VerifyWrites)
        && !finished.undo
        && let Some(record) = &state.record
        && state.held_epoch() == Some(epoch)
    {
        let proved = records::proved(policy, record, epoch, learned.node.as_ref());
        state.record = Some(proved.clone());
        actions.push(Action::Lease(LeaseCommand::Keep(Box::new(proved))));
    }
    // What a step did to the node is newer than the last probe.
    let fenced = matches!(
        (kind, finished.undo),
        (Some(StepKind::FenceOwn), false) | (Some(StepKind::Promote), true)
    );
    if fenced {
        own_fenced(policy, state, now, finished.took);
    }
    if let Some(node) = &learned.node {
        let seen = Seen::Database(DatabaseSeen::Answered(node.clone()));
        for channel in [Channel::Persistent, Channel::Fresh] {
            let health = state
                .health
                .entry(Target::OwnDatabase(channel))
                .or_default();
            health.forget();
            health.observe(policy.database, seen.clone(), now.moment);
        }
        state.health.remove(&Target::OwnProcess);
    }
}
