//! Every place where the lease may be kept, for the tests that all of them must pass. A new one is
//! a file beside this and a line in [`STORES`].

use std::pin::Pin;

use async_trait::async_trait;

use super::ground::Ground;
use super::support::relay::Network;
use super::{etcd, pair, quorum};

/// Starts a store that is empty, and lays the sites' paths to it.
pub(crate) type Start = fn(&mut Network) -> Starting<'_>;

/// A store that is about to be there.
pub(crate) type Starting<'a> = Pin<Box<dyn Future<Output = Box<dyn Store>> + Send + 'a>>;

/// All of them, by the name that a failed test shows.
pub(crate) const STORES: [(&str, Start); 4] = [
    ("quorum", quorum::start),
    ("etcd with one member", etcd::start_one),
    ("etcd with three members", etcd::start_three),
    ("pair", pair::start),
];

/// One of them. What it is kept with are the voters, or the store's own members.
#[async_trait]
pub(crate) trait Store: Send + Sync {
    /// Keys of `[lease]` for the member at this place.
    fn keys(&self, place: &str, network: &Network) -> String;

    /// Whether a witness belongs to it.
    fn has_witness(&self) -> bool {
        false
    }

    /// Whether a lease that is not renewed runs out, so that a silent site is taken over.
    fn runs_out(&self) -> bool {
        true
    }

    /// What is only said by who takes the lease, on its way to a voter or to the store.
    fn acquisition(&self) -> &'static str;

    /// Restarts one after the other, as far as site a's agent can do without.
    async fn restart_each(&mut self, ground: &mut Ground);

    /// Restarts all but site a's agent at once, and site b's agent.
    async fn restart_others(&mut self, ground: &mut Ground);

    /// Restarts all at once, and both agents.
    async fn restart_all(&mut self, ground: &mut Ground);

    /// Loses everything that it was told, while both agents are away; false where voters remember.
    async fn forget(&mut self, _ground: &mut Ground) -> bool {
        false
    }

    /// Takes away as many as can be done without; false where that is none.
    async fn lose_minority(&mut self, ground: &mut Ground) -> bool;

    /// Takes away so many that neither site finds a majority.
    async fn lose_majority(&mut self, ground: &mut Ground);

    /// Gives all back.
    async fn regain(&mut self, ground: &mut Ground);
}
