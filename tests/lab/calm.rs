//! What must not move the primary: brown-outs, and a witness or a peer that is away.

use std::fmt::Write as _;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use failover_agent::effects::clock::boottime;
use failover_agent::model::Moment;
use tokio::task::JoinHandle;
use tokio_postgres::NoTls;

use super::delay::Delays;
use super::faults::{Drawn, named};
use super::judge;
use super::knobs;
use super::lab::{Lab, SOON};
use super::oracle::Oracle;
use super::place::Place;
use super::settings::{OFFERED, Settings};
use super::support::wait_until;
use super::wires::Host;

/// What a brown-out does to the node itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    None,
    /// Every connection that the node allows is taken, and works.
    AllConnections,
    /// Checkpoints one after the other, with much to write.
    Checkpoints,
}

/// A brown-out: a load, or a fault of the table that lasts.
#[derive(Debug, Clone, Copy)]
pub struct BrownOut {
    pub name: &'static str,
    pub load: Load,
    pub fault: Option<(&'static str, &'static [Host])>,
}

const fn quiet(name: &'static str, fault: &'static str, hosts: &'static [Host]) -> BrownOut {
    BrownOut {
        name,
        load: Load::None,
        fault: Some((fault, hosts)),
    }
}

/// What loads the processor.
pub const LOADS: &[BrownOut] = &[
    BrownOut {
        name: "load at max_connections",
        load: Load::AllConnections,
        fault: None,
    },
    BrownOut {
        name: "checkpoint storm",
        load: Load::Checkpoints,
        fault: None,
    },
];

/// What troubles the wires.
pub const WIRES: &[BrownOut] = &[
    quiet("30 % loss everywhere", "lossy", &[Host::Fra, Host::Ams]),
    quiet("2 s latency to the standby's site", "late", &[Host::Ams]),
];

/// Those of a member.
pub const MEMBERS: &[BrownOut] = &[quiet("witness paused", "member-stop", &[Host::Witness])];

/// The product's own default: brown-outs ask what a site in production would do.
pub const TTL: &str = "10s";
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Sessions of the load at most; the node allows fewer.
const SESSIONS_MAX: usize = 60;

/// So much of each agent's log is shown when the primary was moved.
const LAST_LINES: usize = 30;

/// How a calm stretch went.
#[derive(Debug)]
pub struct Calm {
    pub name: String,
    pub lasted: Duration,
    pub commits: usize,
    pub failures: usize,
    pub gap: Duration,
    pub problems: Vec<String>,
}

impl Calm {
    pub fn line(&self) -> String {
        format!(
            "{}: {:.0} s, {} commits, {} failed, longest gap {} ms, {}",
            self.name,
            self.lasted.as_secs_f64(),
            self.commits,
            self.failures,
            self.gap.as_millis(),
            if self.problems.is_empty() {
                "no failover".to_owned()
            } else {
                self.problems.join("; ")
            },
        )
    }
}

/// Runs these brown-outs one after the other on one pair.
pub async fn brown_outs(lab: &Lab, list: &[BrownOut], lasts: Duration) -> Vec<Calm> {
    let mut place = start(lab, list).await;
    let mut ended = Vec::new();
    let only = knobs::calm().unwrap_or_default();
    for brown_out in list.iter().filter(|it| it.name.contains(&only)) {
        let fault = brown_out
            .fault
            .map(|(name, hosts)| named(name, hosts, lasts));
        let calm = stretch(
            &mut place,
            brown_out.name,
            fault.as_ref(),
            brown_out.load,
            lasts,
        )
        .await;
        println!("{}", calm.line());
        let failed = !calm.problems.is_empty();
        ended.push(calm);
        if failed {
            println!("{}", last_words(lab));
            // The pair is no longer what the next one expects. The old one has to be gone first:
            // both live in the same place.
            drop(place);
            place = start(lab, list).await;
        }
    }
    ended
}

/// What the agents said last.
fn last_words(lab: &Lab) -> String {
    let mut said = String::new();
    for host in [Host::Fra, Host::Ams] {
        let log = fs::read_to_string(lab.log(host)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
        write!(said, "{}:\n{last}\n", host.name()).unwrap();
    }
    said
}

async fn start<'lab>(lab: &'lab Lab, list: &[BrownOut]) -> Place<'lab> {
    let late = |brown_out: &BrownOut| brown_out.fault.is_some_and(|(name, _)| name == "late");
    let delays = list.iter().any(late);
    let settings = Settings {
        ttl: TTL,
        data_disk: "700m",
        delays: delays.then(|| Delays::build(&lab.wires, &OFFERED)),
    };
    Place::start_as(lab, settings, false).await
}

/// Cuts a host off that the primary can do without.
pub async fn away(lab: &Lab, name: &str, hosts: &'static [Host], lasts: Duration) -> Calm {
    let fault = named("cut-off", hosts, lasts);
    let mut place = Place::start(lab, super::round::TTL, &[]).await;
    stretch(&mut place, name, Some(&fault), Load::None, lasts).await
}

/// One stretch: the fault is broken, the load runs, and nothing may move.
pub async fn stretch(
    place: &mut Place<'_>,
    name: &str,
    fault: Option<&Drawn>,
    load: Load,
    lasts: Duration,
) -> Calm {
    let oracle = Oracle::start(place.lab, Duration::from_millis(5)).await;
    wait_until("the oracle commits", SOON, || async {
        oracle.commits().len() > 30
    })
    .await;
    let postmaster = place.postmaster(Host::Fra);
    let (began, since) = (Instant::now(), boottime());
    if let Some(fault) = fault {
        place.breaks(0, fault);
    }
    let load = Loading::start(place.lab, load);
    let mut problems = Vec::new();
    while began.elapsed() < lasts && problems.is_empty() {
        // bounded: by the length of the stretch
        tokio::time::sleep(LOOK_EVERY).await;
        problems.extend(moved(place, postmaster));
    }
    let sessions = load.sessions();
    drop(load);
    let end = boottime();
    if let Some(fault) = fault {
        place.heals(0, fault);
    }
    let commits = oracle.commits();
    if commits.iter().any(|commit| commit.node == Host::Ams) {
        problems.push("ams took writes".to_owned());
    }
    let inside: Vec<_> = commits.iter().filter(|commit| commit.at > since).collect();
    let failures = failures_since(&oracle, since);
    let mut name = name.to_owned();
    if sessions > 0 {
        write!(name, " ({sessions} sessions)").unwrap();
    }
    Calm {
        name,
        lasted: began.elapsed(),
        commits: inside.len(),
        failures: failures.len(),
        gap: judge::gap(&commits, since, end),
        problems,
    }
}

/// Commits that a healthy primary refused.
pub fn failures_since(oracle: &Oracle, since: Moment) -> Vec<String> {
    let failures = oracle.failures().into_iter();
    let of_primary = failures.filter(|(node, at, _)| *node == Host::Fra && *at > since);
    of_primary.map(|(_, _, why)| why).collect()
}

fn moved(place: &Place<'_>, postmaster: Option<u32>) -> Option<String> {
    if place.postmaster(Host::Fra) != postmaster {
        return Some("FAILOVER: the healthy primary was stopped".to_owned());
    }
    let ams = place.status(Host::Ams)?;
    ams.active.then(|| "FAILOVER: ams became active".to_owned())
}

/// Sessions that keep the primary busy until they are dropped.
struct Loading(Vec<JoinHandle<()>>, Arc<AtomicUsize>);

impl Loading {
    fn start(lab: &Lab, load: Load) -> Self {
        let conninfo = lab.conninfo(Host::Fra);
        let connected = Arc::new(AtomicUsize::new(0));
        let (count, user, work) = match load {
            Load::None => (0, "app", ""),
            Load::AllConnections => (
                SESSIONS_MAX,
                "app",
                "BEGIN; INSERT INTO churn SELECT g, repeat('x', 100) FROM generate_series(1, 50) g; \
                 DELETE FROM churn WHERE n % 7 = 0; ROLLBACK; SELECT pg_sleep(0.05)",
            ),
            Load::Checkpoints => (
                2,
                "postgres",
                "TRUNCATE churn; INSERT INTO churn SELECT g, repeat('x', 400) \
                 FROM generate_series(1, 20000) g; CHECKPOINT",
            ),
        };
        let conninfo = conninfo.replace("user=postgres", &format!("user={user}"));
        let tasks = (0..count).map(|_| {
            let (conninfo, connected) = (conninfo.clone(), Arc::clone(&connected));
            tokio::spawn(async move {
                let Ok((client, connection)) = tokio_postgres::connect(&conninfo, NoTls).await
                else {
                    return;
                };
                tokio::spawn(async move { drop(connection.await) });
                connected.fetch_add(1, Ordering::Relaxed);
                loop {
                    for statement in work.split(';') {
                        if client.batch_execute(statement).await.is_err() && client.is_closed() {
                            return;
                        }
                    }
                }
            })
        });
        Self(tasks.collect(), connected)
    }

    fn sessions(&self) -> usize {
        self.1.load(Ordering::Relaxed)
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}
