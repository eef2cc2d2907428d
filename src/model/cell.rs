//! The lease in a store of its own (etcd): one cell that is changed by compare-and-swap, and what
//! the two agents say to each other about it.
//!
//! Plain data that travels; the rules are in `decision::lease::cell`. Durations and moments never
//! travel: no clock is compared between hosts (S2).

use serde::{Deserialize, Serialize};

use super::lease::{ClusterIdentity, ClusterRecord};
use super::{Epoch, SiteName};

/// The format of [`Cell`] that is written.
pub const CELL_FORMAT: u32 = 1;

/// What the store keeps: the whole lease in one value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// The format of this value.
    pub format: u32,
    /// The cluster that it belongs to.
    pub identity: ClusterIdentity,
    /// Grows with each acquisition; never shrinks, never repeats.
    pub epoch: Epoch,
    /// Who took that epoch.
    pub holder: SiteName,
    /// A random number of that one attempt: tells an own attempt that was applied from another one.
    pub claim: u64,
    /// Grows with each write of one process: tells an own write from every other one.
    pub beat: u64,
    /// True once the holder gave the epoch up.
    pub released: bool,
    /// Whom it named as its successor.
    pub released_to: Option<SiteName>,
    /// The newest record.
    pub record: Option<ClusterRecord>,
}

/// The cell as it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct SeenCell {
    /// The store's number of the change that wrote it; 0: there is no cell.
    pub revision: u64,
    /// Its value.
    pub cell: Option<Cell>,
}

/// What the store is asked. Every answer is that of a majority of the store's members.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CellRequest {
    /// What is there now?
    Look,
    /// Write this, if the cell is still at this revision; else only say what is there.
    Write {
        /// The revision that it must have; 0: there must be no cell.
        if_revision: u64,
        /// The new value.
        cell: Box<Cell>,
    },
}

/// The store's answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CellReply {
    /// Whether the cell was written.
    pub written: bool,
    /// What is there now.
    pub seen: SeenCell,
}

/// What one agent tells or asks the other one, beside the store.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PeerAsk {
    /// The sender's idea of the cluster.
    pub identity: ClusterIdentity,
    /// The sender.
    pub holder: SiteName,
    /// The epoch that it holds, or held.
    pub epoch: Epoch,
    /// What it wants.
    pub wish: PeerWish,
}

/// What a [`PeerAsk`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerWish {
    /// The store does not answer me: do you accept my epoch, and will you not take over for a ttl?
    Consent,
    /// I released it: look at the store now.
    Released,
}

/// What the other agent says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PeerWord {
    /// Yes. After a [`PeerWish::Consent`] that is a promise for one ttl from the receipt.
    pub accepted: bool,
    /// The highest epoch that it ever saw in the store.
    pub epoch: Epoch,
}

impl Cell {
    /// What tells this write from every other one.
    #[must_use]
    pub fn mark(&self) -> (Epoch, u64, u64) {
        (self.epoch, self.claim, self.beat)
    }
}
