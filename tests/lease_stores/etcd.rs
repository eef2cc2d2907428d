//! The lease in a real etcd. Beside it the agents ask each other, so a majority is lost only when
//! they cannot do that either.

use async_trait::async_trait;

use super::ground::{Ground, SITES};
use super::stores::{Starting, Store};
use super::support::etcd::TestEtcd;
use super::support::relay::Network;

pub(crate) fn start_one(network: &mut Network) -> Starting<'_> {
    start(network, 1)
}

pub(crate) fn start_three(network: &mut Network) -> Starting<'_> {
    start(network, 3)
}

fn start(network: &mut Network, members: usize) -> Starting<'_> {
    Box::pin(async move {
        let etcd = TestEtcd::start(members).await;
        for site in SITES {
            for port in etcd.ports() {
                network.lay(site, "etcd", port).await;
            }
        }
        Box::new(Etcd { etcd, members }) as Box<dyn Store>
    })
}

struct Etcd {
    etcd: TestEtcd,
    members: usize,
}

impl Etcd {
    /// How many it can do without.
    fn minority(&self) -> usize {
        (self.members - 1) / 2
    }

    /// All at once.
    async fn restart_members(&mut self) {
        for index in 0..self.members {
            self.etcd.kill(index);
        }
        for index in 0..self.members {
            self.etcd.restart(index);
        }
        self.etcd.wait_serving().await;
    }
}

#[async_trait]
impl Store for Etcd {
    fn keys(&self, place: &str, network: &Network) -> String {
        let ports = self.etcd.ports().into_iter();
        let urls = ports.map(|port| format!("http://127.0.0.1:{}", network.port(place, port)));
        let urls: Vec<String> = urls.collect();
        format!("store = \"etcd\"\n[lease.etcd]\nendpoints = {urls:?}\n")
    }

    fn acquisition(&self) -> &'static str {
        // Whoever holds nothing writes nothing else.
        "/v3/kv/txn"
    }

    async fn restart_each(&mut self, _ground: &mut Ground) {
        for index in 0..self.members {
            self.etcd.restart(index);
            self.etcd.wait_serving().await;
        }
    }

    async fn restart_others(&mut self, ground: &mut Ground) {
        ground.sides[1].stop().await;
        self.restart_members().await;
        ground.restart_side(1).await;
    }

    async fn restart_all(&mut self, ground: &mut Ground) {
        for side in &mut ground.sides {
            side.stop().await;
        }
        self.restart_members().await;
        ground.restart_side(0).await;
        ground.restart_side(1).await;
    }

    async fn forget(&mut self, ground: &mut Ground) -> bool {
        for side in &mut ground.sides {
            side.stop().await;
        }
        self.etcd.control(&["del", "--prefix", ""]);
        ground.restart_side(0).await;
        ground.restart_side(1).await;
        true
    }

    async fn lose_minority(&mut self, _ground: &mut Ground) -> bool {
        for index in 0..self.minority() {
            self.etcd.kill(index);
        }
        self.etcd.wait_serving().await;
        self.minority() > 0
    }

    async fn lose_majority(&mut self, ground: &mut Ground) {
        ground.network.cut_between("a", "b");
        self.etcd.kill(self.minority());
    }

    async fn regain(&mut self, ground: &mut Ground) {
        ground.network.heal();
        for index in 0..=self.minority() {
            self.etcd.restart(index);
        }
        self.etcd.wait_serving().await;
    }
}
