//! News of the step that moves a record, for whoever watches how it spreads. The step leaves it and
//! goes on; nobody is waited for (S9).

use tokio::sync::watch;

use crate::model::{Epoch, Moment};

/// A record that is right at its provider, as it was read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// When that was seen.
    pub at: Moment,
    /// Under which epoch.
    pub epoch: Epoch,
    /// What it is now.
    pub wanted: Vec<String>,
    /// How long what it was before may be kept, in seconds, as far as the provider says: a move
    /// does not change it.
    pub ttl_s: Option<u32>,
    /// True when the provider answers with its own addresses.
    pub proxied: bool,
}

/// Where a record's step leaves its news.
pub type MovedSender = watch::Sender<Option<Moved>>;
