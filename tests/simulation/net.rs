//! The network: three hosts, a link for each direction, and what travels on it.

use failover_agent::model::Epoch;
use failover_agent::model::event::Wish;
use failover_agent::model::lease::{LeaseReply, LeaseRequest};
use failover_agent::model::peer::PeerReport;

use crate::clock::{MS, Real, Rng, US};
use crate::node::Branch;

/// The witness's host; 0 and 1 are the sites'.
pub(crate) const WITNESS: usize = 2;

/// What travels between hosts.
#[derive(Debug, Clone)]
pub(crate) enum Packet {
    Lease {
        call: u64,
        request: LeaseRequest,
    },
    LeaseReply {
        call: u64,
        reply: Box<LeaseReply>,
    },
    Report {
        call: u64,
        report: Box<PeerReport>,
    },
    ReportReply {
        call: u64,
        report: Box<PeerReport>,
    },
    /// Nobody listens at that host.
    Refused {
        call: u64,
    },
    /// An operator's wish, passed on.
    Command {
        wish: Box<Wish>,
    },
    Wal(Box<Wal>),
    /// The standby has everything up to the shutdown checkpoint.
    WalAck {
        instance: u32,
    },
    /// The sender is gone, and its host says so.
    WalEnd,
}

/// WAL on its way to a standby.
#[derive(Debug, Clone)]
pub(crate) struct Wal {
    pub(crate) history: Vec<Branch>,
    pub(crate) lsn: u64,
    pub(crate) heartbeat: Epoch,
    pub(crate) instance: u32,
    /// It ends with the shutdown checkpoint.
    pub(crate) last: bool,
}

/// One direction between two hosts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    pub(crate) up: bool,
    pub(crate) delay: (Real, Real),
    /// In thousandths.
    pub(crate) loss: u64,
    pub(crate) doubled: u64,
}

impl Link {
    fn clean(&self) -> bool {
        self.up && self.loss == 0 && self.delay.1 <= 20 * MS
    }
}

/// All links.
#[derive(Debug, Clone)]
pub(crate) struct Net {
    links: [[Link; 3]; 3],
    calm: Link,
    /// Until when the link was known not to be clean.
    dirty_until: [[Real; 3]; 3],
}

impl Net {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let low = rng.pick(&[50 * US, 500 * US, 5 * MS]);
        let calm = Link {
            up: true,
            delay: (low, low * rng.within(1, 3)),
            loss: 0,
            doubled: rng.pick(&[0, 0, 30]),
        };
        Self {
            links: [[calm; 3]; 3],
            calm,
            dirty_until: [[0; 3]; 3],
        }
    }

    pub(crate) fn change(&mut self, from: usize, to: usize, now: Real, how: impl Fn(&mut Link)) {
        self.touch(from, to, now);
        how(&mut self.links[from][to]);
    }

    pub(crate) fn heal(&mut self, from: usize, to: usize, now: Real) {
        let calm = self.calm;
        self.change(from, to, now, |link| *link = calm);
    }

    fn touch(&mut self, from: usize, to: usize, now: Real) {
        if !self.links[from][to].clean() {
            self.dirty_until[from][to] = now;
        }
    }

    pub(crate) fn up(&self, from: usize, to: usize) -> bool {
        self.links[from][to].up
    }

    /// Both directions have been clean ever since `since`.
    pub(crate) fn clean_since(&self, one: usize, other: usize, since: Real) -> bool {
        [(one, other), (other, one)]
            .iter()
            .all(|&(from, to)| self.links[from][to].clean() && self.dirty_until[from][to] <= since)
    }

    /// When the copies of a message arrive, as delays; none if it is lost. A lost segment of a
    /// connection is sent again after a while, or the connection is given up.
    pub(crate) fn carry(&self, from: usize, to: usize, rng: &mut Rng) -> Vec<Real> {
        let link = self.links[from][to];
        if !link.up {
            return Vec::new();
        }
        let mut delay = rng.within(link.delay.0, link.delay.1);
        if rng.chance(link.loss) {
            if rng.chance(500) {
                return Vec::new();
            }
            delay += 200 * MS;
        }
        if rng.chance(link.doubled) {
            return vec![delay, delay + rng.within(0, 300 * MS)];
        }
        vec![delay]
    }
}
