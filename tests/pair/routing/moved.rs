//! Where clients are sent while a site is given up: load balancers by the answers of its agent,
//! those of libpq by the string that `agent dsn` prints.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use failover_agent::effects::clock::boottime;
use failover_agent::model::event::{Answer, Wish};
use failover_agent::model::{Epoch, SiteName};
use failover_agent::runtime::handle::{AgentHandle, Request};
use failover_agent::runtime::status::Snapshot;
use failover_agent::surfaces::api::routing::{self, Question, Wanted, verdict};
use failover_agent::surfaces::api::tcp;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{SOON, ask};
use crate::support::cluster::{ClusterOptions, SITES, TestCluster};
use crate::support::ports::free_port;
use crate::support::programs::bin_dir;
use crate::support::wait_until;
use crate::support::writer::Session;

/// So long before the fence nobody is sent to a site any more.
const LEAD: Duration = Duration::from_millis(200);
/// Of every cluster here.
const TTL: Duration = Duration::from_secs(3);

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn handle(cluster: &TestCluster, index: usize) -> AgentHandle {
    let agent = cluster.agents[index].as_ref().expect("the agent runs");
    agent.handle.clone()
}

/// Takes the picture when it is woken: within the agent's own call that sends the answer, so that
/// nothing which the agent does after it has happened yet.
struct AtTheAnswer {
    agent: AgentHandle,
    seen: Mutex<Option<Arc<Snapshot>>>,
}

impl Wake for AtTheAnswer {
    fn wake(self: Arc<Self>) {
        let picture = self.agent.status.borrow().clone();
        *self.seen.lock().unwrap() = Some(picture);
    }
}

/// Asks for a failover to ams; the answer, and the picture at its very moment.
async fn picture_at_the_answer(agent: &AgentHandle) -> (Answer, Arc<Snapshot>) {
    let (answer, mut answered) = oneshot::channel();
    let at_the_answer = Arc::new(AtTheAnswer {
        agent: agent.clone(),
        seen: Mutex::default(),
    });
    let waker = Waker::from(at_the_answer.clone());
    let waits = Pin::new(&mut answered).poll(&mut Context::from_waker(&waker));
    assert!(waits.is_pending());
    let wish = Wish::Failover {
        to: SiteName::new(SITES[1]),
        dry_run: false,
    };
    let request = Request { wish, answer };
    agent.requests.send(request).await.unwrap();
    wait_until("the agent answers", SOON, async || {
        at_the_answer.seen.lock().unwrap().is_some()
    })
    .await;
    let picture = at_the_answer.seen.lock().unwrap().take().unwrap();
    (answered.await.unwrap(), picture)
}

/// The port of the node that `psql` reaches with what `agent dsn` prints, and whether it takes
/// writes.
fn reached(cluster: &TestCluster, more: &[&str]) -> (u16, bool) {
    let printed = Command::new(env!("CARGO_BIN_EXE_agent"))
        .args(["dsn", "--user", "postgres", "--dbname", "postgres"])
        .args(more)
        .arg("--config")
        .arg(cluster.write_settings(SITES[0]))
        .output()
        .unwrap();
    assert!(printed.status.success(), "{printed:?}");
    let dsn = String::from_utf8(printed.stdout).unwrap();
    let sql = "SELECT inet_server_port() || ' ' || pg_is_in_recovery()";
    let asked = Command::new(bin_dir().join("psql"))
        .args(["--no-psqlrc", "--tuples-only", "--no-align", "--command"])
        .args([sql, dsn.trim_end()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(asked.status.success(), "{dsn}: {asked:?}");
    let said = String::from_utf8(asked.stdout).unwrap();
    let (port, in_recovery) = said.trim().split_once(' ').expect("two words");
    (port.parse().unwrap(), in_recovery == "false")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s2_failover_is_seen_before_any_of_it_is_done_and_libpq_finds_the_new_primary() {
    let cluster = TestCluster::start(ClusterOptions::default()).await;
    let (fra, ams) = (cluster.node(0).port, cluster.node(1).port);
    for form in [&[][..], &["--form", "keywords"]] {
        assert_eq!(reached(&cluster, form), (fra, true), "{form:?}");
        let reading = [form, &["--read-only"]].concat();
        assert_eq!(reached(&cluster, &reading), (ams, false), "{reading:?}");
    }

    let agent = handle(&cluster, 0);
    let (answer, picture) = picture_at_the_answer(&agent).await;
    assert!(matches!(answer, Answer::Started { .. }), "{answer:?}");
    let at = routing::Instant {
        age: Duration::ZERO,
        age_max: TTL,
        // Were it the lease that denies it, this would prove nothing.
        lease_left: Some(Duration::MAX),
    };
    let said = verdict(&picture, Question::Primary, Wanted::default(), at);
    assert!(!said.yes, "sent to a node that is being fenced: {said:?}");

    cluster
        .wait_status(1, "ams is active", SOON, |status| status.active)
        .await;
    for more in [
        &[][..],
        &["--form", "keywords"],
        // There is no standby any more: better the primary than nothing.
        &["--read-only"],
    ] {
        assert_eq!(reached(&cluster, more), (ams, true), "{more:?}");
    }
}

/// Nobody tells this site anything: it counts by itself how long it may still be primary.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s2_cut_off_site_sends_everybody_away_before_its_fence_begins() {
    let cluster = TestCluster::start(ClusterOptions {
        relayed: true,
        ..ClusterOptions::default()
    })
    .await;
    let (agent, port) = (handle(&cluster, 0), free_port());
    let stop = CancellationToken::new();
    // As `agent run` does it.
    let answers = routing::router(agent.clone(), TTL);
    tokio::spawn(tcp::serve(local(port), answers, stop.clone()));
    let _stop = stop.drop_guard();
    wait_until("load balancers are answered", SOON, async || {
        ask(port, "GET", "/primary").await.is_some()
    })
    .await;
    let epoch = cluster.status(0).lease.epoch;
    assert!(agent.lease_left(epoch).is_some());
    for other in [epoch.0 - 1, epoch.0 + 1] {
        assert_eq!(agent.lease_left(Epoch(other)), None, "{other}");
    }
    let session = Session::open(cluster.node(0)).await;
    // The same moment by both clocks.
    let (cut, cut_at) = (Instant::now(), boottime());
    cluster.network.cut_off(SITES[0]);

    let (mut last_yes, mut fence_at, mut asked) = (cut_at, cut_at, 0);
    while session.ended().is_none() {
        assert!(cut.elapsed() < SOON, "fra is not fenced");
        if let Some((_, newer)) = *agent.held.borrow() {
            fence_at = newer;
        }
        let sent = boottime();
        let (code, body) = ask(port, "GET", "/primary").await.expect("it lives");
        assert!([200, 503].contains(&code), "{code}: {body}");
        if code == 200 {
            last_yes = sent;
        }
        asked += 1;
        // bounded: by the assertion above
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // What ended the session is the fence itself, seen from outside.
    let ended = session.ended().unwrap();
    let fenced = cut_at + ended.saturating_duration_since(cut);
    println!(
        "timing cut off: /primary ends {:?} before the fence, that is {:?} after the cut; asked \
         {asked} times",
        fence_at.since(last_yes),
        fence_at.since(cut_at)
    );
    assert!(last_yes > cut_at, "it was primary after the cut");
    assert!(
        fence_at <= fenced,
        "fenced {:?} early",
        fence_at.since(fenced)
    );
    // Sent is before answered: what was sent later must not be answered with 200.
    assert!(
        last_yes + LEAD <= fence_at,
        "200 was said {:?} before the fence",
        fence_at.since(last_yes)
    );
    let code = ask(port, "GET", "/primary").await.map(|said| said.0);
    assert_eq!(code, Some(503));
}
