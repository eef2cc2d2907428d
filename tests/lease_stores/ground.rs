//! Two agents' sides of one lease, and a witness where the store has one, on this host: what they
//! say to each other and to the store goes over relays that can be cut.

use std::time::{Duration, Instant};

use failover_agent::config::{self, Config, MemberRole};
use failover_agent::model::lease::ClusterRecord;
use failover_agent::model::{Epoch, Lsn, SiteName, SystemId, Timeline};
use failover_agent::runtime::agent::StartError;
use failover_agent::runtime::witness;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::contending::Contending;
use super::judge::Judge;
use super::stores::{Start, Store};
use super::support::cluster::{SECRET, install_tls_provider};
use super::support::ports::free_port;
use super::support::relay::Network;

/// The lease's time to live on every ground: the shortest that a configuration may have.
pub(crate) const TTL: Duration = Duration::from_secs(2);

/// The two sites.
pub(crate) const SITES: [&str; 2] = ["a", "b"];
/// The third place.
const WITNESS: &str = "witness";

/// Bound on what a stopped member needs to let go of its port.
const RESTART_MAX: Duration = Duration::from_secs(5);

/// A store with two contenders.
pub(crate) struct World {
    pub(crate) store: Box<dyn Store>,
    pub(crate) ground: Ground,
}

/// The members, and what lies between them.
pub(crate) struct Ground {
    pub(crate) network: Network,
    /// By index of [`SITES`].
    pub(crate) sides: Vec<Contending>,
    witness: Option<(CancellationToken, JoinHandle<()>)>,
    judge: Judge,
    /// `agent.toml` of the sites and the witness, without the directories.
    files: [String; 3],
    dir: tempfile::TempDir,
}

impl World {
    /// Starts the store and every member; nobody asks for the lease.
    pub(crate) async fn start(start: Start) -> Self {
        install_tls_provider();
        let mut network = Network::default();
        let store = start(&mut network).await;
        let ports = [free_port(), free_port(), free_port()];
        let nodes = [free_port(), free_port()];
        let places = [SITES[0], SITES[1], WITNESS];
        let members = if store.has_witness() { 3 } else { 2 };
        for from in &places[..members] {
            for (to, port) in places.iter().zip(ports).take(members) {
                if from != to {
                    network.lay(from, to, port).await;
                }
            }
        }
        let file = |place| agent_toml(place, store.as_ref(), &network, ports, nodes);
        let files = places.map(file);
        let dir = tempfile::tempdir().unwrap();
        let lease = parse(&dir, &files, 0).lease;
        let judge = Judge::new(lease.fence_budget, store.runs_out());
        let mut ground = Ground {
            network,
            sides: Vec::new(),
            witness: None,
            judge,
            files,
            dir,
        };
        if store.has_witness() {
            ground.start_witness().await;
        }
        for site in 0..SITES.len() {
            let side = ground.start_side(site).await;
            ground.sides.push(side);
        }
        Self { store, ground }
    }
}

impl Ground {
    /// Both contenders.
    pub(crate) fn both(&mut self) -> (&mut Contending, &mut Contending) {
        let [a, b] = &mut self.sides[..] else {
            panic!("two sites");
        };
        (a, b)
    }

    /// Stops a site's agent, if it runs, and starts it again.
    pub(crate) async fn restart_side(&mut self, site: usize) {
        self.sides[site].stop().await;
        self.sides[site] = self.start_side(site).await;
    }

    async fn start_side(&self, site: usize) -> Contending {
        let began = Instant::now();
        loop {
            match Contending::start(&parse(&self.dir, &self.files, site)).await {
                Ok(side) => {
                    self.judge.watch(site, side.held());
                    return side;
                }
                // What is left of a stopped one ends in its own time; a process would be gone.
                Err(StartError::Listen { .. }) if began.elapsed() < RESTART_MAX => {
                    // bounded: by RESTART_MAX
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(error) => panic!("site {} does not start: {error:?}", SITES[site]),
            }
        }
    }

    /// Starts the witness.
    pub(crate) async fn start_witness(&mut self) {
        let began = Instant::now();
        while self.witness.is_none() {
            let stop = CancellationToken::new();
            let config = parse(&self.dir, &self.files, 2);
            match witness::start(config, stop.clone()).await {
                Ok(task) => self.witness = Some((stop, task)),
                Err(StartError::Listen { .. }) if began.elapsed() < RESTART_MAX => {
                    stop.cancel();
                    // bounded: by RESTART_MAX
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(error) => panic!("the witness does not start: {error:?}"),
            }
        }
    }

    /// Stops the witness.
    pub(crate) async fn stop_witness(&mut self) {
        if let Some((stop, task)) = self.witness.take() {
            stop.cancel();
            task.await.unwrap();
        }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Some((stop, _)) = &self.witness {
            stop.cancel();
        }
        let broken = self.judge.broken();
        if std::thread::panicking() {
            println!("what must never be, and was: {broken:?}");
        } else {
            assert_eq!(broken, Vec::<String>::new());
        }
    }
}

/// The file of a member, but for its directories.
fn agent_toml(
    place: &str,
    store: &dyn Store,
    network: &Network,
    ports: [u16; 3],
    nodes: [u16; 2],
) -> String {
    let mut text = format!(
        "cluster = \"shop\"\nstate_dir = \"{{dir}}/{place}\"\nsocket = \"{{dir}}/{place}.sock\"\n\
         [peer]\nsecret = \"{SECRET}\"\n[lease]\nttl = \"{ttl}ms\"\n{keys}",
        ttl = TTL.as_millis(),
        keys = store.keys(place, network),
    );
    // No node is there: nothing here asks for one.
    for ((site, port), node) in SITES.iter().zip(ports).zip(nodes) {
        text.push_str(&format!(
            "[sites.{site}]\naddress = \"127.0.0.1:{port}\"\n[sites.{site}.database]\n\
             host = \"127.0.0.1\"\nport = {node}\ndata_dir = \"{{dir}}/{site}/data\"\n",
            port = network.port(place, port),
        ));
    }
    if store.has_witness() {
        let port = network.port(place, ports[2]);
        text.push_str(&format!("[witness]\naddress = \"127.0.0.1:{port}\"\n"));
    }
    text.push_str("[database]\nuser = \"agent\"\ntls = \"off\"\n");
    text
}

fn parse(dir: &tempfile::TempDir, files: &[String; 3], member: usize) -> Config {
    let text = files[member].replace("{dir}", &dir.path().display().to_string());
    let path = dir.path().join(format!("{member}.toml"));
    std::fs::write(&path, &text).unwrap();
    let (site, role) = match SITES.get(member) {
        Some(site) => (Some(*site), MemberRole::Agent),
        None => (None, MemberRole::Witness),
    };
    let parsed = config::parse(&text, &path, site, role, &|_| None);
    let config = match parsed {
        Ok(loaded) => loaded.config,
        Err(problems) => panic!("{problems}\n{text}"),
    };
    std::fs::create_dir_all(&config.state_dir).unwrap();
    config
}

/// A record of the cluster, as the holder of this epoch makes it.
pub(crate) fn record(primary: &str, epoch: Epoch) -> ClusterRecord {
    ClusterRecord {
        epoch,
        revision: 1,
        primary: SiteName::new(primary),
        promoting: false,
        system_id: SystemId(7),
        timeline: Timeline(1),
        last_lsn: Lsn(42),
        last_failover: None,
        brakes: Box::default(),
    }
}
