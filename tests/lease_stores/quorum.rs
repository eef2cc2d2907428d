//! The lease with three voters: both agents and the witness.

use async_trait::async_trait;

use super::ground::Ground;
use super::stores::{Starting, Store};
use super::support::relay::Network;

pub(crate) fn start(_network: &mut Network) -> Starting<'_> {
    Box::pin(async { Box::new(Quorum) as Box<dyn Store> })
}

struct Quorum;

#[async_trait]
impl Store for Quorum {
    fn keys(&self, _place: &str, _network: &Network) -> String {
        "store = \"quorum\"\n".to_owned()
    }

    fn has_witness(&self) -> bool {
        true
    }

    fn acquisition(&self) -> &'static str {
        "\"kind\":\"acquire\""
    }

    async fn restart_each(&mut self, ground: &mut Ground) {
        ground.stop_witness().await;
        ground.start_witness().await;
        ground.sides[0].wait_renewed().await;
        ground.restart_side(1).await;
    }

    async fn restart_others(&mut self, ground: &mut Ground) {
        ground.stop_witness().await;
        ground.sides[1].stop().await;
        ground.start_witness().await;
        ground.restart_side(1).await;
    }

    async fn restart_all(&mut self, ground: &mut Ground) {
        ground.stop_witness().await;
        for side in &mut ground.sides {
            side.stop().await;
        }
        ground.start_witness().await;
        ground.restart_side(0).await;
        ground.restart_side(1).await;
    }

    async fn lose_minority(&mut self, ground: &mut Ground) -> bool {
        ground.stop_witness().await;
        true
    }

    async fn lose_majority(&mut self, ground: &mut Ground) {
        ground.network.cut_between("a", "b");
    }

    async fn regain(&mut self, ground: &mut Ground) {
        ground.network.heal();
        ground.start_witness().await;
    }
}
