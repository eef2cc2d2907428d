//! The times and numbers that voters and contenders count by, and why they keep two writers apart.
//!
//! # Why the holder is fenced before any voter grants the lease to another site (S2, S5)
//!
//! Let ρ be the largest relative error of any member's clock rate: in one second of real time a
//! clock advances by at least 1 − ρ and at most 1 + ρ seconds.
//!
//! - The holder reads `t_sent`, *then* sends. Its fence has ended when its own clock shows
//!   `t_sent + ttl·(1 − ρ)`: it begins `F`, the fence budget, earlier ([`LeaseRules::fence_at`]).
//!   In the worst case its clock is slow, so the fence ends at most `ttl·(1 − ρ) / (1 − ρ) = ttl`
//!   of real time after the sending.
//! - A voter reads `t_receipt` after the sending and counts the grant as running until its own
//!   clock shows `t_receipt + ttl·(1 + ρ)` ([`LeaseRules::grant_span`]): a *full* ttl whatever
//!   its clock does. In the worst case that clock is fast, so the grant runs out no earlier than
//!   `ttl·(1 + ρ) / (1 + ρ) = ttl` of real time after the receipt.
//! - The receipt is never before the sending: fenced ≤ sent + ttl ≤ received + ttl ≤ run out. ∎
//!
//! Had voters counted a bare `ttl`, a fast voter and a slow holder would overlap by up to
//! `ttl·ρ/(1 + ρ)`: 25 ms of two writers at a ttl of 5 s. Each side therefore pays for its own
//! clock only, and no clock is compared between hosts. Integer arithmetic rounds towards safety:
//! the holder's span down, the voters' up.
//!
//! Two majorities share a voter, and that voter grants to one site at a time; so the holder is
//! fenced before a second majority can exist.
//!
//! # Why a pinned lease may do without a deadline
//!
//! A person may switch the guard off while paused. The record says so, and then names the only
//! site that a voter which keeps it grants anything to ([`ClusterRecord::pinned_to`]): not until
//! that grant has run out, but until a newer record says otherwise, which only that site writes.
//!
//! - The holder counts on it once a majority of the voters is known to keep such a record. From
//!   then on any other majority has one of them in it. ∎
//! - *Unpinned.* A voter that takes the newer record counts its grant from that receipt. So the
//!   holder counts anew from a moment *before* it first sends that record; and it does not send it
//!   before the guard, and the word for the agent's next life, have a deadline again. Until then it
//!   renews with the pinned record. ∎
//!
//! [`ClusterRecord::pinned_to`]: crate::model::lease::ClusterRecord::pinned_to

use std::fmt::Write as _;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::model::lease::ClusterIdentity;
use crate::model::{ClusterName, Member, Moment};

/// ρ in thousandths: the largest relative error of any member's clock rate. The same figure as
/// `config`'s `CLOCK_ERROR_MAX`, as an integer because deadlines are not computed in floats.
pub const CLOCK_ERROR_PER_MILLE: u32 = 5;

/// When the lease can move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Two agents and a witness: a majority grants, and grants run out.
    Quorum,
    /// Two agents alone: both must grant, and a grant never runs out (S7).
    Pair,
}

/// What voters and contenders of one cluster agree upon.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LeaseRules {
    /// How long a grant runs.
    pub ttl: Duration,
    /// How often the holder renews, and the others look.
    pub renew_every: Duration,
    /// Bound on one request to a voter; answers that are older are not counted.
    pub request_timeout: Duration,
    /// Time reserved for the fence at the end of the lease (F in S2).
    pub fence_budget: Duration,
    /// When the lease can move.
    pub mode: Mode,
    /// Everybody with a vote, including `me`.
    pub voters: Vec<Member>,
    /// Who this process is.
    pub me: Member,
    /// What every request says about the cluster; see [`LeaseRules::identity_of`].
    pub identity: ClusterIdentity,
    /// Breaks one rule on purpose, so that a test can show that the search would notice.
    #[doc(hidden)]
    pub broken: Option<BrokenRule>,
}

/// A rule that a mutation test breaks. Never set outside tests.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BrokenRule {
    /// A voter grants although another site's grant still runs.
    GrantIgnored,
    /// A voter comes back from a restart without its promises, and votes.
    PromiseForgotten,
    /// The holder counts from the reply instead of from the sending.
    CountFromReply,
    /// One voter is enough.
    NoMajority,
    /// A voter renews an epoch that was released.
    ReleasedRenewed,
    /// After a restart a voter counts its last grant as run out.
    BootTtlForgotten,
    /// Voters count a bare ttl, without allowance for a fast clock.
    ClockErrorIgnored,
    /// A voter whose memory is gone votes at once.
    AmnesiaIgnored,
    /// A losing candidate releases although its site may still be writable.
    LoserReleasesAtOnce,
    /// A candidate asks all voters at once instead of its own first.
    OwnVoteSkipped,
    /// A voter replaces a newer record by an older one.
    OlderRecordKept,
    /// A voter counts a pinned lease like any other.
    PinIgnored,
    /// The holder tells the voters that its lease is pinned no more before its guard knows.
    UnpinnedTooSoon,
}

impl LeaseRules {
    /// What every request says about a cluster of this name with these voters.
    #[must_use]
    pub fn identity_of(cluster: ClusterName, voters: &[Member]) -> ClusterIdentity {
        ClusterIdentity {
            cluster,
            voters_hash: voters_hash(voters),
        }
    }

    /// When the fence must begin, if the newest renewal that counts was sent at `t_sent` (S2).
    /// Never, with two agents alone.
    #[must_use]
    pub fn fence_at(&self, t_sent: Moment) -> Moment {
        match self.mode {
            Mode::Quorum => t_sent + self.holder_span().saturating_sub(self.fence_budget),
            Mode::Pair => Moment::NEVER,
        }
    }

    /// How long after the sending, on the holder's clock, the fence has ended: `ttl·(1 − ρ)`.
    #[must_use]
    pub fn holder_span(&self) -> Duration {
        self.ttl.saturating_sub(self.clock_error())
    }

    /// How long after the receipt, on the voter's clock, a grant runs: `ttl·(1 + ρ)`.
    #[must_use]
    pub fn grant_span(&self) -> Duration {
        if self.breaks(BrokenRule::ClockErrorIgnored) {
            return self.ttl;
        }
        self.ttl.saturating_add(self.clock_error())
    }

    /// How long a voter without memory keeps silent after its start, before it even listens:
    /// until every grant it may have forgotten has run out, and until every attempt that may have
    /// counted a forgotten promise has ended at the voters it will listen to. An attempt lasts one
    /// request timeout, and an answer that is listened to is no older than another.
    #[must_use]
    pub fn silence_span(&self) -> Duration {
        self.grant_span()
            .max(self.request_timeout.saturating_mul(3))
    }

    /// How old an answer may be to count as what its voter says now.
    #[must_use]
    pub fn lately(&self) -> Duration {
        self.renew_every
            .saturating_mul(2)
            .saturating_add(self.request_timeout)
    }

    /// How many votes decide: more than half. Of two, that is both.
    #[must_use]
    pub fn majority(&self) -> usize {
        if self.breaks(BrokenRule::NoMajority) {
            return 1;
        }
        self.voters.len() / 2 + 1
    }

    /// True when a test broke this rule on purpose.
    #[must_use]
    pub(super) fn breaks(&self, rule: BrokenRule) -> bool {
        self.broken == Some(rule)
    }

    /// `ttl·ρ`, rounded up.
    fn clock_error(&self) -> Duration {
        let nanos = self
            .ttl
            .as_nanos()
            .saturating_mul(CLOCK_ERROR_PER_MILLE.into());
        Duration::from_nanos(u64::try_from(nanos.div_ceil(1000)).unwrap_or(u64::MAX))
    }
}

/// Hash over the voter names in any order: two agents with different voter sets could each find a
/// majority of their own, so they must refuse each other.
#[must_use]
pub fn voters_hash(voters: &[Member]) -> String {
    let mut names: Vec<String> = voters
        .iter()
        .map(|voter| match voter {
            Member::Site(site) => format!("site {}:{site}", site.as_str().len()),
            Member::Witness => String::from("witness"),
        })
        .collect();
    names.sort();
    names.dedup();
    let digest = Sha256::digest(names.join("\n").as_bytes());
    digest.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        write!(hex, "{byte:02x}").unwrap_or_default();
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SiteName;

    fn site(name: &str) -> Member {
        Member::Site(SiteName::new(name))
    }

    fn rules(ttl: Duration, mode: Mode) -> LeaseRules {
        let voters = vec![site("a"), site("b"), Member::Witness];
        LeaseRules {
            ttl,
            renew_every: ttl / 5,
            request_timeout: ttl / 5,
            fence_budget: ttl / 5,
            mode,
            me: site("a"),
            identity: LeaseRules::identity_of(ClusterName::new("shop"), &voters),
            voters,
            broken: None,
        }
    }

    #[test]
    fn fence_begins_a_budget_before_the_shortened_ttl_ends() {
        let rules = rules(Duration::from_secs(5), Mode::Quorum);
        let sent = Moment::from_boot(Duration::from_secs(100));
        assert_eq!(
            rules.fence_at(sent),
            sent + Duration::from_millis(4975 - 1000)
        );
    }

    #[test]
    fn pair_never_has_to_fence_by_time() {
        let rules = rules(Duration::from_secs(5), Mode::Pair);
        let sent = Moment::from_boot(Duration::from_secs(100));
        assert_eq!(rules.fence_at(sent), Moment::from_boot(Duration::MAX));
    }

    #[test]
    fn slow_holder_is_fenced_no_later_than_fast_voter_lets_go() {
        // In parts of a nanosecond, so that nothing is rounded away: real time is local time over
        // the rate, holder_span / (1 - ρ) <= grant_span / (1 + ρ).
        for nanos in (1..5_000_000_000_u64).step_by(7_654_321) {
            let rules = rules(Duration::from_nanos(nanos), Mode::Quorum);
            let fenced = rules.holder_span().as_nanos() * u128::from(1000 + CLOCK_ERROR_PER_MILLE);
            let let_go = rules.grant_span().as_nanos() * u128::from(1000 - CLOCK_ERROR_PER_MILLE);
            assert!(fenced <= let_go, "ttl of {nanos} ns");
        }
    }

    #[test]
    fn majority_of_three_is_two_and_of_two_both() {
        let mut rules = rules(Duration::from_secs(5), Mode::Quorum);
        assert_eq!(rules.majority(), 2);
        rules.voters.pop();
        assert_eq!(rules.majority(), 2);
    }

    #[test]
    fn voters_hash_ignores_order_and_tells_sets_apart() {
        let pair = [site("a"), site("b")];
        assert_eq!(voters_hash(&pair), voters_hash(&[site("b"), site("a")]));
        assert_ne!(
            voters_hash(&pair),
            voters_hash(&[site("a"), site("b"), Member::Witness])
        );
        assert_ne!(
            voters_hash(&[site("witness")]),
            voters_hash(&[Member::Witness])
        );
        assert_eq!(voters_hash(&pair).len(), 64);
    }
}
