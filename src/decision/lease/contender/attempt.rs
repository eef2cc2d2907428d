//! Asking for the lease: one attempt per command.
//!
//! An attempt is: ask everybody whether they *would* grant `highest epoch seen + 1` (nothing
//! changes, so a candidate that is cut off disturbs nobody); with a majority, ask the own voter
//! for it; then the others. A majority wins. With two agents alone the own voter is the last.
//!
//! **Why the own voter first.** It makes the epoch durable on this host before any other host can
//! hear of it. So an agent that was restarted in the middle of an attempt never asks for the same
//! epoch again, and a release of the interrupted attempt that was delayed on its way cannot
//! release the epoch that is held now.
//!
//! **Why the own voter last, with two agents alone.** There a restarted holder goes on under the
//! epoch that its own voter grants, whether or not the other agent answers. So that grant must
//! prove that the other voter gave its own before: two candidates that met would else each go on
//! under a grant of nobody but itself, and both would hold (S1). No epoch is granted twice for it:
//! without the other voter's answer, which tells the highest epoch asked of it, nothing is asked.
//!
//! **Why a loser does not always release.** A site may ask while its node is still writable under
//! an older epoch: its agent was restarted, or its fence is under way. Its new grants replaced the
//! old ones at the voters; released, they would free the lease while the node still takes writes.
//! So within that time a loser lets its grants run out. With two agents alone nothing runs out, so
//! it always releases; an older epoch that its node might write under it would have gone on with.

use std::collections::BTreeMap;

use super::give_back::GiveBack;
use super::hold::Hold;
use super::{Contender, Output, Phase, Purpose, Round};
use crate::decision::lease::rules::{BrokenRule, LeaseRules, Mode};
use crate::model::lease::{LeaseChange, LeaseRequest, Verdict};
use crate::model::{Epoch, Member, Moment, SiteName};

/// How often one attempt raises its epoch because a voter knew a higher one.
const PRE_VOTES_MAX: u32 = 3;

/// One attempt under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Attempt {
    step: Step,
    pre_votes_left: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Step {
    /// Backing off.
    Waiting,
    PreVote(Ballot),
    FirstVote(Ballot),
    Votes(Ballot),
}

/// The votes on one epoch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Ballot {
    epoch: Epoch,
    round: u64,
    sent: Moment,
    /// `None`: no answer.
    said: BTreeMap<Member, Option<Verdict>>,
    /// From when each grant counts.
    granted: BTreeMap<Member, Moment>,
}

enum Outcome {
    Open,
    Won,
    Lost,
}

enum Move {
    Stay,
    PreVote,
    FirstVote(Epoch),
    Votes(Ballot),
    Hold(Ballot),
    Resume(Epoch),
    GiveUp {
        asked_for: Option<Epoch>,
        verdict: Verdict,
    },
}

impl Attempt {
    pub(super) fn waits(&self) -> bool {
        matches!(self.step, Step::Waiting)
    }

    pub(super) fn wake_at(&self, rules: &LeaseRules, not_before: Moment) -> Moment {
        self.ballot()
            .map_or(not_before, |ballot| ballot.sent + rules.request_timeout)
    }

    fn ballot(&self) -> Option<&Ballot> {
        match &self.step {
            Step::Waiting => None,
            Step::PreVote(ballot) | Step::FirstVote(ballot) | Step::Votes(ballot) => Some(ballot),
        }
    }

    fn ballot_mut(&mut self) -> Option<&mut Ballot> {
        match &mut self.step {
            Step::Waiting => None,
            Step::PreVote(ballot) | Step::FirstVote(ballot) | Step::Votes(ballot) => Some(ballot),
        }
    }
}

impl Ballot {
    fn is_ok(&self, voter: &Member) -> bool {
        self.said.get(voter) == Some(&Some(Verdict::Ok))
    }

    fn outcome(&self, rules: &LeaseRules, now: Moment) -> Outcome {
        let oks = self
            .said
            .values()
            .filter(|said| **said == Some(Verdict::Ok))
            .count();
        let noes = self.said.len() - oks;
        let own_first = !rules.breaks(BrokenRule::OwnVoteSkipped);
        let own_ok = self.is_ok(&rules.me) || !own_first;
        let own_no = self.said.contains_key(&rules.me) && !own_ok;
        let votes_possible = rules.voters.len().saturating_sub(noes);
        let timed_out = now.since(self.sent) >= rules.request_timeout;
        if oks >= rules.majority() && own_ok {
            Outcome::Won
        } else if own_no || votes_possible < rules.majority() || timed_out {
            Outcome::Lost
        } else {
            Outcome::Open
        }
    }

    /// The refusal that explains most. Without any refusal too few voters took part.
    fn most_telling(&self) -> Verdict {
        let rank = |verdict: &Verdict| match verdict {
            Verdict::StoreSilent => 7,
            Verdict::GrantRuns => 6,
            Verdict::ReservedForSuccessor => 5,
            Verdict::WrongCluster => 4,
            Verdict::NotDurable => 3,
            Verdict::StaleEpoch => 2,
            Verdict::Abstains => 1,
            Verdict::Ok => 0,
        };
        let refusals = self
            .said
            .values()
            .flatten()
            .filter(|verdict| **verdict != Verdict::Ok);
        refusals
            .copied()
            .max_by_key(rank)
            .unwrap_or(Verdict::Abstains)
    }
}

impl Contender {
    /// The command: one attempt, which ends in a view `Held` or in `NotAcquired`.
    pub(super) fn acquire(&mut self, now: Moment, out: &mut Output) {
        match &mut self.phase {
            Phase::Holding(_) => self.told = None,
            Phase::Asking(_) => {}
            Phase::Looking { ballot } => {
                let (seen, timeout) = (self.epoch_seen, self.rules.request_timeout);
                let step = match ballot.take() {
                    _ if now < self.not_before => Step::Waiting,
                    Some(asked) if asked.epoch > seen && now.since(asked.sent) < timeout => {
                        Step::PreVote(asked)
                    }
                    Some(_) | None => Step::PreVote(self.send_pre_vote(now, out)),
                };
                self.phase = Phase::Asking(Attempt {
                    step,
                    pre_votes_left: PRE_VOTES_MAX,
                });
            }
        }
    }

    /// Asks everybody whether they would grant the next epoch.
    pub(super) fn send_pre_vote(&mut self, now: Moment, out: &mut Output) -> Ballot {
        let epoch = self.epoch_seen.next();
        let request = LeaseRequest::PreVote {
            candidate: self.site.clone(),
            epoch,
        };
        let round = self.send_round(Purpose::PreVote, epoch, &request, now, out);
        Ballot {
            epoch,
            round,
            sent: now,
            said: BTreeMap::new(),
            granted: BTreeMap::new(),
        }
    }

    /// Counts one answer, or none, to a round of votes. A grant is not taken back by a duplicate
    /// of the request that was refused because it was already granted.
    pub(super) fn count_vote(
        &mut self,
        from: &Member,
        round: u64,
        said: Option<Verdict>,
        now: Moment,
    ) {
        let count_from_reply = self.rules.breaks(BrokenRule::CountFromReply);
        let ballot = match &mut self.phase {
            Phase::Looking { ballot } => ballot.as_mut(),
            Phase::Asking(attempt) => attempt.ballot_mut(),
            Phase::Holding(_) => None,
        };
        let Some(ballot) = ballot.filter(|ballot| ballot.round == round) else {
            return;
        };
        if ballot.is_ok(from) || !self.rules.voters.contains(from) {
            return;
        }
        ballot.said.insert(from.clone(), said);
        if said == Some(Verdict::Ok) {
            let from_when = if count_from_reply { now } else { ballot.sent };
            ballot.granted.insert(from.clone(), from_when);
        }
    }

    /// Moves the attempt on as far as it goes.
    pub(super) fn press_on(&mut self, now: Moment, out: &mut Output) {
        // Each turn goes to a later step or uses up a pre-vote, so this ends.
        loop {
            match self.next_move(now) {
                Move::Stay => return,
                Move::PreVote => {
                    let ballot = self.send_pre_vote(now, out);
                    self.set_step(Step::PreVote(ballot), 1);
                }
                Move::FirstVote(epoch) => {
                    let asked = [self.asked_first().clone()];
                    let ballot = self.send_acquire(&asked, epoch, now, out);
                    self.set_step(Step::FirstVote(ballot), 0);
                }
                Move::Votes(first) => self.ask_the_rest(first, now, out),
                Move::Hold(ballot) => self.hold(&ballot, now, out),
                Move::Resume(epoch) => self.resume(epoch, now),
                Move::GiveUp { asked_for, verdict } => self.lose(asked_for, verdict, now, out),
            }
        }
    }

    fn next_move(&self, now: Moment) -> Move {
        let Phase::Asking(attempt) = &self.phase else {
            return Move::Stay;
        };
        let give_up = |asked_for, verdict| Move::GiveUp { asked_for, verdict };
        match &attempt.step {
            Step::Waiting if now >= self.not_before => Move::PreVote,
            Step::Waiting => Move::Stay,
            Step::PreVote(ballot) => self.after_pre_vote(attempt, ballot, now),
            Step::FirstVote(ballot) | Step::Votes(ballot) if self.epoch_seen > ballot.epoch => {
                give_up(Some(ballot.epoch), Verdict::StaleEpoch)
            }
            Step::FirstVote(ballot) if ballot.is_ok(self.asked_first()) => {
                Move::Votes(ballot.clone())
            }
            Step::FirstVote(ballot) | Step::Votes(ballot) => match ballot.outcome(&self.rules, now)
            {
                Outcome::Open => Move::Stay,
                Outcome::Won => Move::Hold(ballot.clone()),
                Outcome::Lost => give_up(Some(ballot.epoch), ballot.most_telling()),
            },
        }
    }

    fn after_pre_vote(&self, attempt: &Attempt, ballot: &Ballot, now: Moment) -> Move {
        if let Some(epoch) = self.grant_to_resume(ballot) {
            return Move::Resume(epoch);
        }
        if self.epoch_seen >= ballot.epoch {
            return if attempt.pre_votes_left > 0 {
                Move::PreVote
            } else {
                Move::GiveUp {
                    asked_for: None,
                    verdict: Verdict::StaleEpoch,
                }
            };
        }
        match ballot.outcome(&self.rules, now) {
            Outcome::Open => Move::Stay,
            Outcome::Won if self.rules.breaks(BrokenRule::OwnVoteSkipped) => Move::Votes(Ballot {
                said: BTreeMap::new(),
                ..ballot.clone()
            }),
            Outcome::Won => Move::FirstVote(ballot.epoch),
            Outcome::Lost => Move::GiveUp {
                asked_for: None,
                verdict: ballot.most_telling(),
            },
        }
    }

    /// With two agents alone: the epoch that the own voter says is granted to this site.
    ///
    /// A restarted holder simply goes on under it, also when the other agent is away. That is
    /// safe: the other site can hold the lease only with both voters' grants, and grants never run
    /// out. As long as the own voter grants to this site and shows no release, it has granted to
    /// nobody else since; and it was asked only after the other voter had granted to this site, so
    /// neither has that one to the other site. (After a loss of its memory a voter takes the
    /// running grant over from the other one.) Never one that this process is giving back: what it
    /// has said may still be on its way. Nor one that a former life gave back, of which only the
    /// other voter has heard.
    fn grant_to_resume(&self, ballot: &Ballot) -> Option<Epoch> {
        let own = self
            .seen
            .get(&self.rules.me)
            .filter(|own| own.round == ballot.round)?;
        let grant = own
            .view
            .grant
            .as_ref()
            .filter(|grant| grant.holder == self.site)?;
        let pair = self.rules.mode == Mode::Pair;
        let given_back = self
            .give_back
            .as_ref()
            .is_some_and(|giving| giving.is_of(grant.epoch));
        let released = self.is_shown_released(grant.epoch);
        (pair && !given_back && !released && grant.epoch >= self.epoch_seen).then_some(grant.epoch)
    }

    /// Who is asked for its vote before the others are: see the head of this file.
    fn asked_first(&self) -> &Member {
        let me = &self.rules.me;
        match self.rules.mode {
            Mode::Quorum => me,
            Mode::Pair => {
                let mut others = self.rules.voters.iter().filter(|voter| *voter != me);
                others.next().unwrap_or(me)
            }
        }
    }

    fn set_step(&mut self, step: Step, pre_votes: u32) {
        if let Phase::Asking(attempt) = &mut self.phase {
            attempt.step = step;
            attempt.pre_votes_left = attempt.pre_votes_left.saturating_sub(pre_votes);
        }
    }

    fn send_acquire(
        &mut self,
        voters: &[Member],
        epoch: Epoch,
        now: Moment,
        out: &mut Output,
    ) -> Ballot {
        self.epoch_seen = self.epoch_seen.max(epoch);
        let request = LeaseRequest::Acquire {
            candidate: self.site.clone(),
            epoch,
        };
        let round = Round {
            sent: now,
            epoch,
            purpose: Purpose::Acquire,
        };
        let round = self.send_to(voters, round, &request, out);
        Ballot {
            epoch,
            round,
            sent: now,
            said: BTreeMap::new(),
            granted: BTreeMap::new(),
        }
    }

    fn ask_the_rest(&mut self, first: Ballot, now: Moment, out: &mut Output) {
        let voters = self.rules.voters.iter();
        let rest: Vec<Member> = voters
            .filter(|voter| !first.is_ok(voter))
            .cloned()
            .collect();
        let mut ballot = self.send_acquire(&rest, first.epoch, now, out);
        ballot.said = first.said;
        ballot.granted = first.granted;
        self.set_step(Step::Votes(ballot), 0);
    }

    fn hold(&mut self, ballot: &Ballot, now: Moment, out: &mut Output) {
        let hold = Hold::won(
            &self.rules,
            ballot.epoch,
            ballot.granted.clone(),
            self.record.clone(),
            &self.site,
        );
        if hold.fence_at() <= now {
            // Won too late to be of use. It cannot be told from losing.
            self.lose(Some(ballot.epoch), Verdict::StaleEpoch, now, out);
            return;
        }
        self.give_back = None;
        self.next_round_at = ballot.sent + self.rules.renew_every;
        self.phase = Phase::Holding(hold);
    }

    fn resume(&mut self, epoch: Epoch, now: Moment) {
        self.give_back = None;
        self.next_round_at = now;
        self.phase = Phase::Holding(Hold::won(
            &self.rules,
            epoch,
            BTreeMap::new(),
            self.record.clone(),
            &self.site,
        ));
    }

    fn lose(&mut self, asked_for: Option<Epoch>, verdict: Verdict, now: Moment, out: &mut Output) {
        let every = self.rules.renew_every;
        let pause = match asked_for {
            // Two candidates met: whoever comes back first wins.
            Some(_) => every / 8 + self.random_below(every - every / 8),
            // Nothing was changed; the answer may be another one very soon (a handover).
            None => every / 32 + self.random_below(every / 32),
        };
        self.not_before = now + pause;
        self.phase = Phase::Looking { ballot: None };
        let may_release = now >= self.writable_until
            || self.rules.mode == Mode::Pair
            || self.rules.breaks(BrokenRule::LoserReleasesAtOnce);
        if let Some(epoch) = asked_for.filter(|_| may_release) {
            let nobody: Option<SiteName> = None;
            self.give_back = Some(GiveBack::of_loser(&self.rules, epoch, nobody, now));
        }
        out.changes.push(LeaseChange::NotAcquired { verdict });
    }
}
