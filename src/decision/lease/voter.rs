//! A voter: what it may promise, and what it must not forget.
//!
//! Owns: the highest epoch promised, to whom it was granted and until when, and the newest record.
//! Must not: promise anything it has not first handed out to be stored. Start reading at
//! [`Voter::handle`]; [`Voter::learn`] is the way back for a voter whose memory is gone.
//!
//! The rules:
//!
//! - An epoch is granted to one site, once. A grant runs for one [`LeaseRules::grant_span`] from
//!   the receipt; while it runs nobody else gets anything. The same site may get a higher epoch
//!   at any time: its node is the only one that its older epoch lets write.
//! - A renewal counts for the newest epoch only. One that comes after the grant ran out *here* is
//!   accepted all the same: this voter promised nothing else in between, its promise is exclusive
//!   from now on, and the holder counts from its own sending and never renews past its own
//!   deadline. A voter that missed the acquisition, or had granted the same epoch to a candidate
//!   that lost, is brought up to date by the winner's renewal: the winner's majority already
//!   excludes that anybody else ever wins this epoch.
//! - While its record pins the lease to a site, nobody else gets anything, whatever has run out or
//!   was released; that ends with a newer record only (see [`super::rules`]).
//! - A site that released an epoch never gets that epoch granted or renewed again.
//! - After a restart the last grant counts as running for one full span, because renewals are not
//!   stored; unless it was released.

use std::collections::BTreeMap;

use super::rules::{BrokenRule, LeaseRules};
use super::vote::{Heard, Memory, STORED_VOTE_VERSION, Term, Vote, grant_end, runs};
use crate::model::lease::{
    ClusterIdentity, ClusterRecord, GrantView, LeaseReply, LeaseRequest, StoredVote, Verdict,
    VoterView,
};
use crate::model::{Epoch, Member, Moment, SiteName};

/// One voter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Voter {
    rules: LeaseRules,
    vote: Vote,
    /// What to go back to if the last change could not be made durable.
    undo: Option<Box<Vote>>,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VoterAnswer {
    /// What to send back, once `store` is durable.
    pub reply: LeaseReply,
    /// What must be durable before the reply leaves. If it cannot be made so, call
    /// [`Voter::not_durable`] and send what that returns instead.
    pub store: Option<StoredVote>,
}

impl Voter {
    /// Starts a voter with what it had stored. With nothing stored, or with the promises of
    /// another cluster or of another format, it abstains until it has learnt enough: see
    /// [`Voter::learn`].
    #[must_use]
    pub fn boot(rules: LeaseRules, stored: Option<StoredVote>, now: Moment) -> Self {
        // A format that this program does not know is as good as nothing: it must not be guessed.
        let stored = stored.filter(|stored| {
            stored.version == STORED_VOTE_VERSION
                && stored.identity.cluster == rules.identity.cluster
        });
        let vote = match stored {
            Some(_) if rules.breaks(BrokenRule::PromiseForgotten) => Vote::empty(Memory::Whole),
            Some(stored) => Vote::remembered(&rules, stored, now),
            None if rules.breaks(BrokenRule::AmnesiaIgnored) => Vote::empty(Memory::Whole),
            None => Vote::empty(Memory::Gone {
                listens_from: now + rules.silence_span(),
                heard: BTreeMap::new(),
            }),
        };
        Self {
            rules,
            vote,
            undo: None,
        }
    }

    /// Answers one request. When the answer says `store`, that must be durable before the reply is
    /// sent: new epochs, releases and changed records are; plain renewals change nothing stored.
    pub fn handle(
        &mut self,
        from_identity: &ClusterIdentity,
        request: &LeaseRequest,
        now: Moment,
    ) -> VoterAnswer {
        self.undo = None;
        if *from_identity != self.rules.identity {
            let reply = LeaseReply {
                verdict: Verdict::WrongCluster,
                knows: VoterView::default(),
            };
            return VoterAnswer { reply, store: None };
        }
        let before = self.vote.clone();
        let verdict = self.judge(request, now);
        let store = self.changed_since(before);
        VoterAnswer {
            reply: LeaseReply {
                verdict,
                knows: self.view(now),
            },
            store,
        }
    }

    /// Takes back the last change, which could not be written, and says so. The promise was not
    /// given; should the write have reached the disk after all, the voter will later remember
    /// more than it promised, which only makes it more careful.
    pub fn not_durable(&mut self, now: Moment) -> LeaseReply {
        if let Some(before) = self.undo.take() {
            self.vote = *before;
        }
        LeaseReply {
            verdict: Verdict::NotDurable,
            knows: self.view(now),
        }
    }

    /// Listens to another voter's answer to a [`LeaseRequest::Read`], as long as the own memory is
    /// gone or the lease is pinned. Returns what must be made durable once enough is known; then it
    /// votes again (if it cannot be written: [`Voter::not_durable`], and it stays as it was).
    ///
    /// Enough is: one silence span after the start, *and after that* an answer of a majority of
    /// the other voters. Any majority that ever granted an epoch together with this voter shares
    /// a member with those. If any of them remembers an epoch, only members that remember count
    /// towards that majority; if none does, nobody was ever granted anything: a new cluster.
    pub fn learn(&mut self, reply: &LeaseReply, from: &Member, now: Moment) -> Option<StoredVote> {
        self.undo = None;
        let is_other = *from != self.rules.me && self.rules.voters.contains(from);
        if !is_other || reply.verdict == Verdict::WrongCluster {
            return None;
        }
        let Memory::Gone { listens_from, .. } = &self.vote.memory else {
            return self.learn_of_unpinning(reply, now);
        };
        if now < *listens_from {
            return None;
        }
        let enough = (self.rules.voters.len().saturating_sub(1)) / 2 + 1;
        let Memory::Gone { heard, .. } = &mut self.vote.memory else {
            return None;
        };
        heard.insert(from.clone(), Heard::of(reply));
        let any_epoch = heard.values().any(|heard| heard.promised > Epoch::NONE);
        let counted = heard
            .values()
            .filter(|heard| heard.remembers || !any_epoch)
            .count();
        if counted < enough {
            return None;
        }
        let learnt = Vote::learnt(&self.rules, heard, now);
        self.undo = Some(Box::new(std::mem::replace(&mut self.vote, learnt)));
        Some(self.vote.stored(&self.rules))
    }

    /// A pin that its holder has taken back binds nobody who knows that: also a voter that the
    /// holder has not reached since. The holder counted anew before it told anybody, so a grant
    /// that runs from now on ends later than its deadline.
    fn learn_of_unpinning(&mut self, reply: &LeaseReply, now: Moment) -> Option<StoredVote> {
        let pinned = self.pinned_to()?.clone();
        let known = self.vote.record.as_ref().map(ClusterRecord::version);
        let newer = reply.knows.record.as_ref()?;
        if Some(newer.version()) <= known {
            return None;
        }
        let mut vote = self.vote.clone();
        vote.record = Some(newer.clone());
        // A holder that counts on this voter has a grant here; what was given back stays so.
        let counted = match &vote.term {
            Term::Granted { holder, .. } => *holder == pinned,
            Term::Open => true,
            Term::Released { .. } => false,
        };
        if counted {
            vote.term = Term::Granted {
                holder: pinned,
                until: grant_end(&self.rules, now),
            };
        }
        self.undo = Some(Box::new(std::mem::replace(&mut self.vote, vote)));
        Some(self.vote.stored(&self.rules))
    }

    /// True while somebody has to send reads to the other voters and hand their answers to
    /// [`Voter::learn`]: while the memory is gone, and while the lease is pinned.
    #[must_use]
    pub fn listens(&self) -> bool {
        self.abstains() || self.pinned_to().is_some()
    }

    /// True while the memory is gone.
    #[must_use]
    pub fn abstains(&self) -> bool {
        matches!(self.vote.memory, Memory::Gone { .. })
    }

    /// All that it knows.
    #[must_use]
    pub fn view(&self, now: Moment) -> VoterView {
        let mut view = VoterView {
            promised: self.vote.promised,
            record: self.vote.record.clone(),
            ..VoterView::default()
        };
        match &self.vote.term {
            Term::Open => {}
            Term::Granted { holder, until } => {
                view.grant = runs(*until, now).then(|| GrantView {
                    holder: holder.clone(),
                    epoch: self.vote.promised,
                    left: until.map(|until| now.until(until)),
                });
            }
            Term::Released { to, .. } => {
                view.released = true;
                view.released_to.clone_from(to);
            }
        }
        if let Some(site) = self.pinned_to()
            && view.grant.as_ref().is_none_or(|it| it.holder == *site)
        {
            view.released = false;
            view.released_to = None;
            view.grant = Some(GrantView {
                holder: site.clone(),
                epoch: self.vote.promised,
                left: None,
            });
        }
        view
    }

    /// The only site that anything is granted to, whatever runs out.
    fn pinned_to(&self) -> Option<&SiteName> {
        let record = self.vote.record.as_ref();
        record
            .filter(|_| !self.rules.breaks(BrokenRule::PinIgnored))
            .and_then(ClusterRecord::pinned_to)
    }

    fn judge(&mut self, request: &LeaseRequest, now: Moment) -> Verdict {
        if self.abstains() {
            return Verdict::Abstains;
        }
        match request {
            LeaseRequest::Read => Verdict::Ok,
            LeaseRequest::PreVote { candidate, epoch } => self.may_acquire(candidate, *epoch, now),
            LeaseRequest::Acquire { candidate, epoch } => {
                let verdict = self.may_acquire(candidate, *epoch, now);
                if verdict == Verdict::Ok {
                    self.grant(candidate, *epoch, now);
                }
                verdict
            }
            LeaseRequest::Renew {
                holder,
                epoch,
                record,
            } => {
                let verdict = self.may_renew(holder, *epoch, now);
                if verdict == Verdict::Ok {
                    self.grant(holder, *epoch, now);
                    self.keep(record.as_ref());
                }
                verdict
            }
            LeaseRequest::Release {
                holder,
                epoch,
                to,
                record,
            } => {
                let verdict = self.may_release(holder, *epoch, now);
                if verdict == Verdict::Ok {
                    self.release(holder, *epoch, to.as_ref(), now);
                    self.keep(record.as_ref());
                }
                verdict
            }
        }
    }

    fn may_acquire(&self, candidate: &SiteName, epoch: Epoch, now: Moment) -> Verdict {
        let pinned = self.pinned_to();
        if self.runs_for_another(candidate, now) || pinned.is_some_and(|site| site != candidate) {
            return Verdict::GrantRuns;
        }
        if let Term::Released {
            to: Some(to),
            reserved_until,
            ..
        } = &self.vote.term
            && to != candidate
            && now < *reserved_until
        {
            return Verdict::ReservedForSuccessor;
        }
        if epoch > self.vote.promised {
            Verdict::Ok
        } else {
            Verdict::StaleEpoch
        }
    }

    fn may_renew(&self, holder: &SiteName, epoch: Epoch, now: Moment) -> Verdict {
        if epoch < self.vote.promised {
            return Verdict::StaleEpoch;
        }
        if self.runs_for_another(holder, now) {
            return Verdict::GrantRuns;
        }
        if epoch == self.vote.promised
            && let Term::Released { by, .. } = &self.vote.term
            && by.as_ref().is_none_or(|by| by == holder)
            && !self.rules.breaks(BrokenRule::ReleasedRenewed)
        {
            return Verdict::StaleEpoch;
        }
        Verdict::Ok
    }

    /// A release of an epoch that this voter has not seen is remembered like any other, so that a
    /// late request cannot bring it to life here; but never at the price of another site's
    /// running grant.
    fn may_release(&self, holder: &SiteName, epoch: Epoch, now: Moment) -> Verdict {
        if epoch < self.vote.promised {
            return Verdict::StaleEpoch;
        }
        if self.runs_for_another(holder, now) {
            return Verdict::GrantRuns;
        }
        let anothers = match &self.vote.term {
            Term::Granted { holder: other, .. }
            | Term::Released {
                by: Some(other), ..
            } => other != holder,
            Term::Open | Term::Released { by: None, .. } => false,
        };
        if epoch == self.vote.promised && anothers {
            Verdict::StaleEpoch
        } else {
            Verdict::Ok
        }
    }

    fn runs_for_another(&self, candidate: &SiteName, now: Moment) -> bool {
        match &self.vote.term {
            Term::Granted { holder, until } => {
                holder != candidate
                    && runs(*until, now)
                    && !self.rules.breaks(BrokenRule::GrantIgnored)
            }
            Term::Open | Term::Released { .. } => false,
        }
    }

    fn grant(&mut self, holder: &SiteName, epoch: Epoch, now: Moment) {
        self.vote.promised = epoch;
        let until = grant_end(&self.rules, now);
        self.vote.term = Term::Granted {
            holder: holder.clone(),
            until,
        };
    }

    fn release(&mut self, by: &SiteName, epoch: Epoch, to: Option<&SiteName>, now: Moment) {
        // A release that is sent again must not make the others wait longer.
        let again = epoch == self.vote.promised
            && matches!(&self.vote.term, Term::Released { by: Some(known), .. } if known == by);
        if again {
            return;
        }
        self.vote.promised = epoch;
        self.vote.term = Term::Released {
            by: Some(by.clone()),
            to: to.cloned(),
            reserved_until: now + self.rules.grant_span(),
        };
    }

    fn keep(&mut self, record: Option<&ClusterRecord>) {
        let known = self.vote.record.as_ref().map(ClusterRecord::version);
        if let Some(record) = record
            && (Some(record.version()) > known || self.rules.breaks(BrokenRule::OlderRecordKept))
        {
            self.vote.record = Some(record.clone());
        }
    }

    /// What must be stored now: something, exactly if what is stored differs from before.
    fn changed_since(&mut self, before: Vote) -> Option<StoredVote> {
        if self.abstains() || self.vote.stored_part() == before.stored_part() {
            return None;
        }
        self.undo = Some(Box::new(before));
        Some(self.vote.stored(&self.rules))
    }
}
