//! One round: the primary's postmaster is killed, an agent is killed at some moment of what
//! follows and started again, and everything must end well.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use failover_agent::model::Epoch;
use failover_agent::model::journal::{JournalEntry, JournalLine};
use failover_agent::model::situation::{Facts, NodeState};
use failover_agent::runtime::status::Snapshot;
use failover_agent::surfaces::demo::cloudflare::{CloudflareStandIn, Record, ZONE_ID};

use super::assassin::{Assassin, Moment};
use super::places::{places, unfinished};
use crate::support::cluster::{ClusterOptions, SITES, TestCluster};
use crate::support::members::{Members, WITNESS};
use crate::support::postgres::{SUPERUSER, TestNode};
use crate::support::wait_until;
use crate::support::writer::{App, Commit, Session, missing, overlap};

/// Long against everything that is waited for.
const SOON: Duration = Duration::from_secs(30);
/// The ttl of the cluster.
const TTL: Duration = Duration::from_secs(3);
/// Between two looks whether a round is over without a death.
const OVER_EVERY: Duration = Duration::from_millis(50);
/// How many commits show that an app or a session works.
const ENOUGH: usize = 20;

const TOKEN: &str = "Sn3lkgR6nPbvUzsHbYVuuCTFM8dZZgiJ8hR1Tqtk";
const NAME: &str = "shop.example.com";
const ADDRESSES: [&str; 2] = ["192.0.2.1", "198.51.100.1"];

/// Which agent is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Victim {
    /// That of the site whose database was killed.
    Old,
    /// That of the other site.
    New,
}

/// How long the victim is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Away {
    /// It is started as soon as it is gone.
    NotAtAll,
    /// Until what it held has run out.
    LongerThanTheLease,
}

/// How an agent dies.
pub(crate) struct Death {
    pub(crate) victim: Victim,
    pub(crate) moment: Moment,
    pub(crate) away: Away,
    /// It dies a second time, when its next life has come to this place.
    pub(crate) again: Option<&'static str>,
}

/// What a step does, as others see it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    Fence,
    Record,
    Promote,
    AppConfig,
    Dns,
}

/// The pair that is played with; after each round it is whole again.
pub(crate) struct Pair {
    pub(crate) members: Members,
    dns: Arc<CloudflareStandIn>,
    /// Where the primary is.
    pub(crate) primary: usize,
}

/// Who commits during a round.
struct Clients {
    /// One stays at each node whatever happens: the old primary, the other one.
    sessions: [Session; 2],
    /// It goes where it can commit.
    app: App,
    /// Commits that both nodes had before anything happened.
    kept: Vec<Commit>,
    /// The epoch before anything happened.
    epoch: Epoch,
}

/// What a round showed.
#[derive(Debug, Default)]
pub(crate) struct Played {
    /// The victim's last place before each death; empty when it never came to where it was to die.
    pub(crate) died_at: Vec<String>,
    /// How the plan that the first death interrupted ended.
    pub(crate) end: Option<String>,
}

impl Pair {
    pub(crate) async fn start() -> Self {
        let record = Record::new("A", NAME, ADDRESSES[0]);
        let dns = CloudflareStandIn::start(TOKEN, vec![record]).await;
        let dns = Arc::new(dns.expect("loopback"));
        let options = ClusterOptions {
            extra: format!(
                "[[dns]]\nname = \"shop\"\nprovider = \"cloudflare\"\nrecord = \"{NAME}\"\n\
                 zone_id = \"{ZONE_ID}\"\ntoken = \"{TOKEN}\"\napi_url = \"{}\"\n\
                 content = {{ fra = \"{}\", ams = \"{}\" }}\n",
                dns.url(),
                ADDRESSES[0],
                ADDRESSES[1]
            ),
            // Every round is a failover.
            failover: "block = \"0s\"".to_owned(),
            ..ClusterOptions::default()
        };
        let cluster = TestCluster::prepare(options).await;
        let mut members = Members::of(cluster);
        members.start_all();
        members.wait_settled(0, SOON).await;
        let pair = Self {
            members,
            dns,
            primary: 0,
        };
        pair.wait_first_converged().await;
        pair
    }

    /// Each agent's first plan brings its files in line; it may begin after all else has settled,
    /// and is none of a round's.
    async fn wait_first_converged(&self) {
        let what = "both agents have brought their files in line";
        let over = async || {
            let ends = [0, 1].map(|index| places(&self.members.journal(index)).pop());
            ends.iter()
                .flatten()
                .filter(|end| *end == "converge: ended")
                .count()
                == 2
        };
        let waiting = wait_until(what, SOON * 2, over);
        self.members.or_tell(what, SOON, waiting).await;
    }

    pub(crate) fn index(&self, victim: Victim) -> usize {
        match victim {
            Victim::Old => self.primary,
            Victim::New => 1 - self.primary,
        }
    }

    /// The moment at which the work of a step is done.
    pub(crate) fn done(&self, work: Work) -> Moment {
        let new = 1 - self.primary;
        let (old_node, new_node) = (self.node(self.primary), self.node(new));
        let signal = |node: &TestNode| node.data_dir.join("standby.signal");
        let says = |path: PathBuf, text: String| {
            Moment::Fact(Box::new(move || {
                std::fs::read_to_string(&path).is_ok_and(|found| found.contains(&text))
            }))
        };
        match work {
            Work::Fence => {
                let path = signal(old_node);
                Moment::Fact(Box::new(move || path.exists()))
            }
            Work::Record => {
                let vote = self.members.cluster.state_dir(WITNESS).join("vote");
                says(vote, "\"promoting\":true".to_owned())
            }
            Work::Promote => {
                let path = signal(new_node);
                Moment::Fact(Box::new(move || !path.exists()))
            }
            Work::AppConfig => {
                let file = self.members.cluster.env_file(SITES[new]);
                says(file, format!("DATABASE_PORT={}\n", new_node.port))
            }
            Work::Dns => {
                let dns = Arc::clone(&self.dns);
                Moment::Fact(Box::new(move || names(&dns, new)))
            }
        }
    }

    /// Plays a round in which an agent dies.
    pub(crate) async fn play(&mut self, death: Death) -> Played {
        let index = self.index(death.victim);
        let site = SITES[index];
        let clients = self.begin().await;
        let assassin = Assassin::hide(&self.journal_file(index), death.moment);
        assassin.name(self.members.pid(site));
        self.kill_postmaster();
        let Some(dead) = self.wait_dead(index, assassin, clients.epoch).await else {
            self.end_well(clients).await;
            self.make_whole().await;
            return Played::default();
        };
        if death.away == Away::LongerThanTheLease {
            self.wait_run_out(index, clients.epoch).await;
        }
        let mut died_at = vec![places(&dead).pop().expect("a place")];
        if let Some(place) = death.again {
            let assassin = Assassin::hide(&self.journal_file(index), Moment::Line(place));
            self.members.start(site);
            assassin.name(self.members.pid(site));
            let again = self.wait_dead(index, assassin, clients.epoch).await;
            died_at.extend(again.as_ref().and_then(|lines| places(lines).pop()));
        }
        if died_at.len() == 1 + usize::from(death.again.is_some()) {
            self.members.start(site);
        }
        let pause = self.end_well(clients).await;
        let end = self.end_of(index, &dead);
        println!(
            "{site} ({:?}) died at {died_at:?}, away: {:?}; its plan: {end:?}; {} is primary, after \
             {pause:?} without commits",
            death.victim, death.away, SITES[self.primary],
        );
        self.make_whole().await;
        Played { died_at, end }
    }

    /// Plays a round in which no agent dies: what each writes into its journal, write by write.
    pub(crate) async fn play_undisturbed(&mut self) -> Vec<(Victim, Vec<String>)> {
        let clients = self.begin().await;
        let watch = [Victim::Old, Victim::New].map(|watched| {
            let journal = self.journal_file(self.index(watched));
            (watched, Assassin::hide(&journal, Moment::Never))
        });
        self.kill_postmaster();
        self.end_well(clients).await;
        let writes = watch.into_iter().flat_map(|(watched, assassin)| {
            let writes = assassin.writes().into_iter();
            writes.map(move |places| (watched, places))
        });
        let writes = writes.collect();
        self.make_whole().await;
        writes
    }

    /// The clients begin; what they have by then is at both nodes.
    async fn begin(&self) -> Clients {
        let old = self.primary;
        let sessions = [old, 1 - old].map(|index| Session::persistent(self.node(index)));
        let app = App::start([self.node(old), self.node(1 - old)]);
        wait_until("the clients commit", SOON, || async {
            app.commits().len() > ENOUGH && sessions[0].commits().len() > ENOUGH
        })
        .await;
        let kept = [app.commits(), sessions[0].commits()].concat();
        wait_caught_up(self.node(old), self.node(1 - old)).await;
        let shown = self.members.status(old).await.expect("an answer");
        Clients {
            sessions,
            app,
            kept,
            epoch: shown.lease.epoch,
        }
    }

    fn kill_postmaster(&self) {
        let node = self.node(self.primary);
        node.signal("KILL", &[node.postmaster_pid()]);
    }

    /// Waits until all is well again, and proves that nothing bad has happened on the way. How long
    /// nobody could commit.
    async fn end_well(&mut self, clients: Clients) -> Duration {
        self.wait_converged(clients.epoch).await;
        let app = &clients.app;
        let so_far = app.commits().len();
        wait_until("the app goes on", SOON, || async {
            app.commits().len() > so_far + ENOUGH
        })
        .await;
        self.primary = self.find_primary().await;
        let lost = missing(self.node(self.primary), &clients.kept).await;
        assert_eq!(lost, [0_i64; 0], "commits are lost");
        let [old, new] = clients.sessions.each_ref().map(Session::commits);
        assert_eq!(overlap(&old, &new), Duration::ZERO, "two writers");
        app.longest_pause()
    }

    /// Waits until the agent of a site has been killed; what its journal said then. Nothing when
    /// all is well without its ever having come to where it was to die: on a busy host a handover
    /// may be too slow for the voters, and the old site starts its node again.
    async fn wait_dead(
        &mut self,
        index: usize,
        assassin: Assassin,
        before: Epoch,
    ) -> Option<Vec<JournalLine>> {
        let what = format!("the death of the agent of {}", SITES[index]);
        let deadline = Instant::now() + SOON;
        let mut over = false;
        while !assassin.has_struck() && !over {
            if Instant::now() > deadline {
                self.members.tell_all().await;
                panic!("waited {SOON:?} for: {what}");
            }
            // bounded: by the deadline above
            tokio::time::sleep(OVER_EVERY).await;
            let shown = tokio::join!(self.members.status(0), self.members.status(1));
            over = matches!(&shown, (Some(fra), Some(ams)) if self.is_over([fra, ams], before));
        }
        if !assassin.leave() {
            return None;
        }
        self.members.kill(SITES[index]);
        Some(self.members.journal(index))
    }

    fn journal_file(&self, index: usize) -> PathBuf {
        self.members.cluster.state_dir(SITES[index]).join("journal")
    }

    fn node(&self, index: usize) -> &TestNode {
        self.members.cluster.node(index)
    }

    /// Waits until the lease of a site whose agent is dead, if it had it, is seen to be over.
    async fn wait_run_out(&self, dead: usize, before: Epoch) {
        let died = Instant::now();
        let what = format!("the lease of {} has run out", SITES[dead]);
        let waiting = wait_until(&what, SOON * 2, async || {
            let shown = self.members.status(1 - dead).await;
            shown.is_some_and(|shown| {
                let newer = shown.lease.epoch > before;
                let over = died.elapsed() > TTL && shown.lease.view == "free";
                newer && (shown.active || over)
            })
        });
        self.members.or_tell(&what, SOON, waiting).await;
    }

    /// Waits until everything says the same, under a newer epoch: who is primary.
    async fn wait_converged(&self, before: Epoch) {
        let what = "one active site, in the record, in both files and in DNS";
        self.members
            .wait_both(what, SOON, |both| self.is_over(both, before))
            .await;
        // What is right may be looked at once more: that plan ends, too.
        let what = "no plan is unfinished";
        let none_open = async || {
            let open = [0, 1].map(|index| unfinished(&self.members.journal(index)));
            open.iter().all(Option::is_none)
        };
        let waiting = wait_until(what, SOON * 2, none_open);
        self.members.or_tell(what, SOON, waiting).await;
    }

    /// One active site under a newer epoch, and everything names it.
    fn is_over(&self, both: [&Snapshot; 2], before: Epoch) -> bool {
        let active = both.iter().position(|shown| shown.active);
        let newer = both.iter().all(|shown| shown.lease.epoch > before);
        newer && active.is_some_and(|active| self.all_name(both, active))
    }

    fn all_name(&self, both: [&Snapshot; 2], active: usize) -> bool {
        let site = SITES[active];
        let record = |shown: &Snapshot| {
            let record = shown.record.as_ref();
            record.is_some_and(|record| record.primary.as_str() == site && !record.promoting)
        };
        let quiet = |shown: &Snapshot| shown.run.is_none() && shown.stopped.is_none();
        let port = format!("DATABASE_PORT={}\n", self.node(active).port);
        let file = |site: &str| {
            let text = std::fs::read_to_string(self.members.cluster.env_file(site));
            text.is_ok_and(|text| text.contains(&port))
        };
        let serves = |facts: Facts| facts.own == NodeState::Primary;
        both[active].facts.is_some_and(serves)
            && both[1 - active].lease.view == "other"
            && both.into_iter().all(record)
            && both.into_iter().all(quiet)
            && SITES.into_iter().all(file)
            && names(&self.dns, active)
    }

    /// The one node that takes writes, asked of the nodes themselves.
    async fn find_primary(&self) -> usize {
        let mut writable = Vec::new();
        for index in [0, 1] {
            let Ok(client) = self.node(index).try_connect(SUPERUSER).await else {
                continue;
            };
            if client
                .batch_execute("INSERT INTO kept VALUES (0)")
                .await
                .is_ok()
            {
                writable.push(index);
            }
        }
        assert_eq!(writable.len(), 1, "writable: {writable:?}");
        let shown = self.members.status(writable[0]).await.expect("an answer");
        assert!(shown.active, "{shown:#?}");
        writable[0]
    }

    /// How the journal says that the plan ended in which the agent died.
    fn end_of(&self, index: usize, dead: &[JournalLine]) -> Option<String> {
        let plan = unfinished(dead)?;
        let lines = self.members.journal(index);
        let end = lines.iter().find_map(|line| match &line.entry {
            JournalEntry::PlanEnded { plan: ended, end } if *ended == plan.id => Some(end),
            _ => None,
        });
        Some(
            end.expect("unfinished() looked at this journal")
                .to_string(),
        )
    }

    /// What an operator does afterwards: the old primary becomes a standby.
    async fn make_whole(&mut self) {
        let standby = 1 - self.primary;
        if !is_streaming(self.node(1 - standby)).await {
            self.members.rebuild(standby);
        }
        self.members.wait_settled(1 - standby, SOON).await;
        self.acknowledge(1 - standby);
    }

    /// As a person would who looked: so many failovers in one day are held back otherwise.
    fn acknowledge(&self, active: usize) {
        let socket = self
            .members
            .cluster
            .dir()
            .join(SITES[active])
            .join("agent.sock");
        let said = Command::new(env!("CARGO_BIN_EXE_agent"))
            .args(["ack", "--socket"])
            .arg(socket)
            .output()
            .expect("the agent's program can be run");
        let text = String::from_utf8_lossy(&said.stderr);
        assert!(matches!(said.status.code(), Some(0 | 5)), "{text}");
    }
}

fn names(dns: &CloudflareStandIn, site: usize) -> bool {
    let records = dns.records();
    records
        .iter()
        .any(|record| record.content == ADDRESSES[site])
}

async fn is_streaming(primary: &TestNode) -> bool {
    let client = primary.connect(SUPERUSER).await;
    let query = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
    let row = client.query_one(query, &[]).await.expect("an answer");
    row.get::<_, i64>(0) > 0
}

async fn wait_caught_up(primary: &TestNode, standby: &TestNode) {
    let (primary, standby) = (
        primary.connect(SUPERUSER).await,
        standby.connect(SUPERUSER).await,
    );
    let query = "SELECT pg_current_wal_lsn()::text";
    let row = primary.query_one(query, &[]).await.expect("an answer");
    let target: String = row.get(0);
    wait_until("the standby has caught up", SOON, || async {
        let query = "SELECT coalesce(pg_last_wal_replay_lsn() >= $1::text::pg_lsn, false)";
        let row = standby.query_one(query, &[&target]).await;
        row.expect("an answer").get(0)
    })
    .await;
}
