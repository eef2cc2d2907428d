//! What a voter remembers: in memory, on disk, and how the one becomes the other.
//!
//! Owns: the states of a promise. Must not: judge requests; [`super::voter`] does.

use std::collections::BTreeMap;

use super::rules::{BrokenRule, LeaseRules, Mode};
use crate::model::lease::{ClusterRecord, LeaseReply, StoredVote, Verdict};
use crate::model::{Epoch, Member, Moment, SiteName};

/// The format of [`StoredVote`] that is written.
pub(super) const STORED_VOTE_VERSION: u32 = 1;

/// All that a voter remembers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Vote {
    pub(super) memory: Memory,
    pub(super) promised: Epoch,
    pub(super) term: Term,
    pub(super) record: Option<ClusterRecord>,
}

/// Whether this voter can be sure that it has forgotten nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Memory {
    Whole,
    /// Nothing was stored: the first start, or a lost disk. Those cannot be told apart alone.
    Gone {
        /// Nothing that is heard before counts: see [`LeaseRules::silence_span`].
        listens_from: Moment,
        heard: BTreeMap<Member, Heard>,
    },
}

/// What another voter knew when it was listened to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Heard {
    /// False when its own memory is gone as well.
    pub(super) remembers: bool,
    pub(super) promised: Epoch,
    running_for: Option<SiteName>,
    released: bool,
    pub(super) record: Option<ClusterRecord>,
}

/// What became of the promised epoch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Term {
    /// Nothing was granted here under it.
    Open,
    Granted {
        holder: SiteName,
        /// `None`: it does not run out (`pair`).
        until: Option<Moment>,
    },
    Released {
        /// `None`: not known, because it was learnt from others.
        by: Option<SiteName>,
        to: Option<SiteName>,
        /// Until then only `to` may have the next epoch.
        reserved_until: Moment,
    },
}

/// What of a vote survives a restart, for comparison: epoch, whose it is or was, whether it was
/// released and to whom, and the record.
pub(super) type StoredPart<'a> = (
    Epoch,
    Option<&'a SiteName>,
    bool,
    Option<&'a SiteName>,
    Option<&'a ClusterRecord>,
);

impl Vote {
    pub(super) fn empty(memory: Memory) -> Self {
        Self {
            memory,
            promised: Epoch::NONE,
            term: Term::Open,
            record: None,
        }
    }

    pub(super) fn remembered(rules: &LeaseRules, stored: StoredVote, now: Moment) -> Self {
        let term = match (stored.released, stored.granted_to) {
            (true, by) => Term::Released {
                by,
                to: stored.released_to,
                reserved_until: now + rules.grant_span(),
            },
            (false, Some(holder)) if rules.breaks(BrokenRule::BootTtlForgotten) => Term::Granted {
                holder,
                until: Some(now),
            },
            (false, Some(holder)) => Term::Granted {
                holder,
                until: grant_end(rules, now),
            },
            (false, None) => Term::Open,
        };
        Self {
            memory: Memory::Whole,
            promised: stored.promised,
            term,
            record: stored.record,
        }
    }

    /// The highest epoch and the newest record of all that were heard. A grant that runs at
    /// another voter is that voter's to keep: this one's own have run out by now. Only with two
    /// agents alone it is taken over, because there it never runs out and each has a veto.
    pub(super) fn learnt(rules: &LeaseRules, heard: &BTreeMap<Member, Heard>, now: Moment) -> Self {
        let promised = heard
            .values()
            .map(|heard| heard.promised)
            .max()
            .unwrap_or_default();
        let newest = || heard.values().filter(|heard| heard.promised == promised);
        let record = heard
            .values()
            .filter_map(|heard| heard.record.clone())
            .max_by_key(ClusterRecord::version);
        let term = match (
            newest().find_map(|heard| heard.running_for.clone()),
            rules.mode,
        ) {
            (Some(holder), Mode::Pair) => Term::Granted {
                holder,
                until: None,
            },
            (Some(_), Mode::Quorum) => Term::Open,
            (None, _) if newest().any(|heard| heard.released) => Term::Released {
                by: None,
                to: None,
                reserved_until: now,
            },
            (None, _) => Term::Open,
        };
        Self {
            memory: Memory::Whole,
            promised,
            term,
            record,
        }
    }

    /// What to write.
    pub(super) fn stored(&self, rules: &LeaseRules) -> StoredVote {
        let (promised, granted_to, released, released_to, record) = self.stored_part();
        StoredVote {
            version: STORED_VOTE_VERSION,
            identity: rules.identity.clone(),
            promised,
            granted_to: granted_to.cloned(),
            released,
            released_to: released_to.cloned(),
            record: record.cloned(),
        }
    }

    pub(super) fn stored_part(&self) -> StoredPart<'_> {
        let (granted_to, released, released_to) = match &self.term {
            Term::Open => (None, false, None),
            Term::Granted { holder, .. } => (Some(holder), false, None),
            Term::Released { by, to, .. } => (by.as_ref(), true, to.as_ref()),
        };
        (
            self.promised,
            granted_to,
            released,
            released_to,
            self.record.as_ref(),
        )
    }
}

impl Heard {
    pub(super) fn of(reply: &LeaseReply) -> Self {
        Self {
            remembers: reply.verdict != Verdict::Abstains,
            promised: reply.knows.promised,
            running_for: reply.knows.grant.as_ref().map(|grant| grant.holder.clone()),
            released: reply.knows.released,
            record: reply.knows.record.clone(),
        }
    }
}

/// When a grant that is given or renewed now runs out.
pub(super) fn grant_end(rules: &LeaseRules, now: Moment) -> Option<Moment> {
    match rules.mode {
        Mode::Quorum => Some(now + rules.grant_span()),
        Mode::Pair => None,
    }
}

pub(super) fn runs(until: Option<Moment>, now: Moment) -> bool {
    until.is_none_or(|until| now < until)
}
