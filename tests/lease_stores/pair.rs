//! The lease with the two agents alone: it never runs out, and moves by a release only (S7).

use async_trait::async_trait;

use super::ground::Ground;
use super::stores::{Starting, Store};
use super::support::relay::Network;

pub(crate) fn start(_network: &mut Network) -> Starting<'_> {
    Box::pin(async { Box::new(Pair) as Box<dyn Store> })
}

struct Pair;

#[async_trait]
impl Store for Pair {
    fn keys(&self, _place: &str, _network: &Network) -> String {
        "store = \"pair\"\n".to_owned()
    }

    fn runs_out(&self) -> bool {
        false
    }

    fn acquisition(&self) -> &'static str {
        "\"kind\":\"acquire\""
    }

    async fn restart_each(&mut self, ground: &mut Ground) {
        ground.restart_side(1).await;
    }

    async fn restart_others(&mut self, ground: &mut Ground) {
        ground.restart_side(1).await;
    }

    async fn restart_all(&mut self, ground: &mut Ground) {
        for side in &mut ground.sides {
            side.stop().await;
        }
        ground.restart_side(0).await;
        ground.restart_side(1).await;
    }

    async fn lose_minority(&mut self, _ground: &mut Ground) -> bool {
        false
    }

    async fn lose_majority(&mut self, ground: &mut Ground) {
        ground.network.cut_between("a", "b");
    }

    async fn regain(&mut self, ground: &mut Ground) {
        ground.network.heal();
    }
}
