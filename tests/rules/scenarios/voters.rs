//! The lease as the voters of a scenario keep it, seen through the contender of one agent.

use std::time::Duration;

use failover_agent::decision::policy::Policy;
use failover_agent::model::lease::{ClusterRecord, LeaseChange, LeaseCommand, LeaseView, Verdict};
use failover_agent::model::{Epoch, Member, Moment, SiteName};

/// One request and its answer take this long.
const ROUND: Duration = Duration::from_millis(20);

/// Who has the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Grant {
    /// This process.
    Mine,
    /// This site, but not this process.
    Inherited,
    Peer,
    Free(Option<SiteName>),
}

/// All voters together.
#[derive(Debug)]
pub(crate) struct Voters {
    pub grant: Grant,
    pub epoch: u64,
    pub record: Option<ClusterRecord>,
    /// A majority answers.
    pub answering: bool,
    /// Requests for the lease are granted.
    pub granting: bool,
    /// The last renewal that a majority answered was sent then.
    renewed: Moment,
    me: SiteName,
    members: Vec<Member>,
    ttl: Duration,
    fence_budget: Duration,
    released_at: Option<Moment>,
}

impl Voters {
    pub(crate) fn new(policy: &Policy) -> Self {
        Self {
            grant: Grant::Free(None),
            epoch: 0,
            record: None,
            answering: true,
            granting: true,
            renewed: Moment::default(),
            me: policy.me.clone(),
            members: policy.voters.clone(),
            ttl: policy.ttl,
            fence_budget: policy.fence_budget,
            released_at: None,
        }
    }

    /// The voters of another policy.
    pub(crate) fn take_members(&mut self, other: Self) {
        self.members = other.members;
    }

    fn fence_at(&self) -> Moment {
        self.renewed + self.ttl * 995 / 1000 - self.fence_budget
    }

    /// What the agent's contender believes.
    fn view(&self) -> LeaseView {
        let epoch = Epoch(self.epoch);
        match &self.grant {
            Grant::Mine => LeaseView::Held {
                epoch,
                fence_at: self.fence_at(),
            },
            _ if !self.answering => LeaseView::Unknown,
            Grant::Inherited => LeaseView::Other {
                holder: self.me.clone(),
                epoch,
            },
            Grant::Peer => LeaseView::Other {
                holder: self.peer(),
                epoch,
            },
            Grant::Free(to) => LeaseView::Free {
                epoch,
                released_to: to.clone(),
            },
        }
    }

    fn peer(&self) -> SiteName {
        let mut sites = self.members.iter().filter_map(Member::site);
        sites
            .find(|site| **site != self.me)
            .cloned()
            .unwrap_or_else(|| self.me.clone())
    }

    /// The view as news.
    pub(crate) fn news(&self) -> LeaseChange {
        let own = Member::Site(self.me.clone());
        LeaseChange::View {
            view: self.view(),
            record: self.record.clone().filter(|_| self.answering),
            reached: if self.answering {
                self.members.clone()
            } else {
                vec![own]
            },
        }
    }

    /// A renewal is due.
    pub(crate) fn renew(&mut self, now: Moment) -> LeaseChange {
        if self.answering && self.grant == Grant::Mine {
            self.renewed = now;
        }
        self.news()
    }

    /// When the lease is lost unless it is renewed before.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        (self.grant == Grant::Mine).then(|| self.fence_at())
    }

    /// The deadline has passed, or a higher epoch was seen.
    pub(crate) fn lose(&mut self, to: Grant) -> Vec<LeaseChange> {
        let epoch = Epoch(self.epoch);
        self.grant = to;
        vec![LeaseChange::Lost { epoch }, self.news()]
    }

    /// A command; the news come after the given times.
    pub(crate) fn take(
        &mut self,
        command: &LeaseCommand,
        now: Moment,
    ) -> Vec<(Duration, LeaseChange)> {
        match command {
            LeaseCommand::Acquire => {
                let free = matches!(&self.grant, Grant::Inherited)
                    || matches!(&self.grant, Grant::Free(to)
                        if to.as_ref().is_none_or(|to| *to == self.me));
                if self.answering && self.granting && free {
                    self.grant = Grant::Mine;
                    self.epoch += 1;
                    self.renewed = now;
                    vec![(ROUND, self.news())]
                } else {
                    let verdict = Verdict::GrantRuns;
                    vec![(ROUND, LeaseChange::NotAcquired { verdict })]
                }
            }
            // Nobody hears it, and nobody says that it was heard.
            LeaseCommand::Release { .. } if self.grant == Grant::Mine && !self.answering => {
                self.grant = Grant::Free(None);
                vec![(Duration::ZERO, self.news())]
            }
            LeaseCommand::Release { to } if self.grant == Grant::Mine => {
                let epoch = Epoch(self.epoch);
                // Until they have said otherwise the voters are known to grant it to this site.
                self.grant = Grant::Inherited;
                let at_once = self.news();
                self.grant = Grant::Free(to.clone());
                self.released_at = Some(now);
                let released = LeaseChange::Released {
                    epoch,
                    to: to.clone(),
                };
                let news = self.news();
                vec![(Duration::ZERO, at_once), (ROUND, released), (ROUND, news)]
            }
            LeaseCommand::Keep(record) if self.grant == Grant::Mine && self.answering => {
                let version = record.version();
                let known = self.record.as_ref().map(ClusterRecord::version);
                if known < Some(version) {
                    self.record = Some((**record).clone());
                }
                self.renewed = now;
                vec![
                    (ROUND, LeaseChange::RecordKept { version }),
                    (ROUND, self.news()),
                ]
            }
            LeaseCommand::Release { .. } | LeaseCommand::Keep(_) => Vec::new(),
        }
    }

    /// The time set aside for a successor is over.
    pub(crate) fn forget_successor(&mut self, now: Moment) {
        if self.released_at.is_some_and(|at| now.since(at) >= self.ttl)
            && matches!(self.grant, Grant::Free(Some(_)))
        {
            self.grant = Grant::Free(None);
        }
    }
}
