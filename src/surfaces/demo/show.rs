//! What happens in the demo, in order: healthy, broken, failed over, proven.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio_postgres::Client;

use super::Report;
use super::by_name::ByName;
use super::error::DemoError;
use super::files;
use super::measure;
use super::narration::Narration;
use super::oracle::{self, Oracle};
use super::play::play;
use super::playground::{Playground, wait_for};
use super::scenario::Scenario;
use super::session::Login;
use super::voice::{Verb, Voice};
use super::writer::{Ack, Writer};
use crate::effects::clock::{boottime, wall};
use crate::model::diagnosis::Severity;
use crate::model::situation::{NodeState, StandbyState, Standing};
use crate::model::{Moment, Timestamp};
use crate::runtime::journal::read_all;

/// The site that is broken, and the one that takes over.
const OLD: usize = 0;
const NEW: usize = 1;

/// From starting the agents to a healthy pair.
const HEALTHY_WITHIN: Duration = Duration::from_secs(15);
/// For the standby to have everything.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(5);
/// From the fault to the first commit at the other site.
const MOVED_WITHIN: Duration = Duration::from_secs(15);
/// For files and DNS to follow; reported as a problem, not as an error.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(5);
/// Of undisturbed writing before the fault, and of writing at the new site after it.
const STEADY: Duration = Duration::from_millis(800);

/// Shows one scenario from beginning to end.
pub(super) async fn show(
    playground: &mut Playground,
    scenario: Scenario,
    voice: &Voice,
) -> Result<Option<Report>, DemoError> {
    introduce(playground, voice);
    playground.start(voice).await?;
    voice.step("waiting until both agents say that all is well");
    wait_until_healthy(playground).await?;
    voice.step(&format!(
        "{} is active, {} is a ready standby; DNS and both apps' .env name {}",
        playground.sites[OLD].name, playground.sites[NEW].name, playground.sites[OLD].name
    ));
    let logins = playground.app_logins();
    let mut writer = Writer::start(logins.clone());
    let oracle = Oracle::start(&logins);
    let by_name = by_name(playground, &logins)?;
    wait_for_ack(&writer, OLD, HEALTHY_WITHIN).await?;
    voice.step("a client writes a row every few milliseconds; an oracle tries both nodes");
    if scenario == Scenario::None {
        return play(playground, voice, &writer).await;
    }
    tokio::time::sleep(STEADY).await;
    let narration = Narration::start(&playground.sites, voice.clone());
    let fault = strike(playground, scenario, voice, &mut writer).await?;
    let clients = Clients {
        writer: &writer,
        by_name: by_name.as_ref(),
    };
    let followed = follow(playground, scenario, fault, &clients, &narration).await;
    // What was seen matters most when something did not go as it should.
    narration.end().await;
    let mut problems = followed?;
    writer.hold().await;
    let acks = writer.acks();
    let two_writers = oracle::two_writers(&oracle.spans());
    let by_name = by_name.map(|client| client.acks());
    drop((writer, oracle));
    let proof = Proof {
        scenario,
        fault,
        acks,
        by_name,
        two_writers,
    };
    let report = proof.report(playground, &mut problems).await?;
    conclude(voice, &report, &proof);
    Ok(Some(report))
}

fn introduce(playground: &Playground, voice: &Voice) {
    let [old, new] = &playground.sites;
    voice.line(&format!(
        "two sites on this machine, each with its own PostgreSQL, agent and app: {} at {}:{}, \
         {} at {}:{}",
        old.name, old.node.host, old.node.port, new.name, new.node.host, new.node.port
    ));
    voice.line(&playground.dns.words());
}

/// Both agents see a healthy pair, files and DNS are right.
async fn wait_until_healthy(playground: &Playground) -> Result<(), DemoError> {
    let healthy = async || {
        playground.all_run()?;
        let mut fine = true;
        for (index, site) in playground.sites.iter().enumerate() {
            let Ok(picture) = site.agent.status().await else {
                return Ok(false);
            };
            let Some(facts) = picture.facts else {
                return Ok(false);
            };
            let expected = match index {
                OLD => (Standing::Active, NodeState::Primary),
                _ => (Standing::Peer, NodeState::Standby),
            };
            fine &= (facts.standing, facts.own) == expected
                && facts.standby == StandbyState::Ready
                && picture.run.is_none()
                && picture
                    .diagnoses
                    .iter()
                    .all(|found| found.severity == Severity::Fine);
        }
        Ok(fine && playground.is_named(OLD).await)
    };
    wait_for("both agents to be well", HEALTHY_WITHIN, healthy).await
}

/// The fault, on both clocks.
#[derive(Debug, Clone, Copy)]
struct Fault {
    at: Moment,
    wall: Timestamp,
}

impl Fault {
    /// A moment as wall-clock time.
    fn wall_of(self, at: Moment) -> Timestamp {
        let after = i64::try_from(at.since(self.at).as_millis()).unwrap_or(i64::MAX);
        Timestamp(self.wall.0.saturating_add(after))
    }
}

/// Lets the standby catch up while the writer waits, then breaks the site.
async fn strike(
    playground: &mut Playground,
    scenario: Scenario,
    voice: &Voice,
    writer: &mut Writer,
) -> Result<Fault, DemoError> {
    let primary = playground.superuser(&playground.sites[OLD].node).await?;
    let standby = playground.superuser(&playground.sites[NEW].node).await?;
    voice.step("holding the client for an instant, so that the standby has every row");
    writer.hold().await;
    let caught_up = wait_until_caught_up(&primary, &standby).await;
    let fault = Fault {
        at: boottime(),
        wall: wall(),
    };
    if let Err(error) = caught_up {
        writer.release();
        return Err(error);
    }
    voice.step(&format!(
        "the standby is caught up: nothing acknowledged is unreplicated ({} rows so far)",
        writer.acks().len()
    ));
    voice.set_fault(fault.wall);
    let name = playground.sites[OLD].name;
    voice.news(fault.wall, name, Verb::Fault, scenario.words());
    let struck = scenario.strike(playground, OLD).await;
    writer.release();
    struck.map(|()| fault)
}

/// Everything that the primary has flushed by now is flushed at the standby.
async fn wait_until_caught_up(primary: &Client, standby: &Client) -> Result<(), DemoError> {
    let sql = |source| DemoError::Sql {
        what: "compare the nodes' WAL positions",
        source,
    };
    let row = primary
        .query_one("SELECT pg_current_wal_flush_lsn()::text", &[])
        .await
        .map_err(sql)?;
    let flushed: String = row.get(0);
    let caught_up = async || {
        let row = standby
            .query_one(
                "SELECT coalesce(pg_last_wal_receive_lsn() >= $1::text::pg_lsn, false)",
                &[&flushed],
            )
            .await
            .map_err(sql)?;
        Ok(row.get(0))
    };
    wait_for("the standby to catch up", CAUGHT_UP_WITHIN, caught_up).await
}

async fn wait_for_ack(writer: &Writer, node: usize, within: Duration) -> Result<(), DemoError> {
    let acknowledged = async || Ok(writer.last().is_some_and(|ack| ack.node == node));
    wait_for("the client to commit", within, acknowledged).await
}

/// Who writes.
struct Clients<'a> {
    writer: &'a Writer,
    by_name: Option<&'a ByName>,
}

/// A client that knows only the name, where that leads to the nodes.
fn by_name(playground: &Playground, logins: &[Login; 2]) -> Result<Option<ByName>, DemoError> {
    let Some(bind) = playground.dns.bind() else {
        return Ok(None);
    };
    let client = ByName::start(bind.resolver()?, logins.clone());
    Ok(Some(client))
}

/// Waits for the first commit at the new site, then for files and DNS; what of these does not
/// follow in time is a problem.
async fn follow(
    playground: &mut Playground,
    scenario: Scenario,
    fault: Fault,
    clients: &Clients<'_>,
    narration: &Narration,
) -> Result<Vec<String>, DemoError> {
    wait_for_ack(clients.writer, NEW, MOVED_WITHIN).await?;
    let first = clients
        .writer
        .first_at(NEW)
        .map_or_else(wall, |ack| fault.wall_of(ack.at));
    let words = "the client commits here again";
    narration.tell(first, playground.sites[NEW].name, Verb::Writes, words);
    let mut problems = Vec::new();
    let new = &playground.sites[NEW].node;
    let (host, port) = (new.host.clone(), new.port);
    if wait_for_file(playground, NEW, &host, port).await.is_err() {
        problems.push(".env of the new site does not name the new primary".to_owned());
    }
    let moved = async || Ok(playground.is_named(NEW).await);
    if wait_for("DNS", FOLLOWED_WITHIN, moved).await.is_err() {
        problems.push("the DNS record has not moved, or its comment has no epoch".to_owned());
    }
    if let Some(client) = clients.by_name {
        let there = async || Ok(client.acks().last().is_some_and(|ack| ack.node == NEW));
        if wait_for("the client by name", FOLLOWED_WITHIN, there)
            .await
            .is_err()
        {
            problems.push("the client that knows only the name does not write".to_owned());
        }
    }
    if scenario == Scenario::SiteLoss {
        let words = "the agent returns, its database does not";
        narration.tell(wall(), playground.sites[OLD].name, Verb::Returns, words);
        playground.start_agent(OLD)?;
    }
    if wait_for_file(playground, OLD, &host, port).await.is_err() {
        problems.push(".env of the old site does not name the new primary".to_owned());
    }
    tokio::time::sleep(STEADY).await;
    Ok(problems)
}

async fn wait_for_file(
    playground: &Playground,
    index: usize,
    host: &str,
    port: u16,
) -> Result<(), DemoError> {
    let file = playground.sites.get(index).map(|site| &site.env_file);
    let right = async || Ok(file.is_some_and(|file| files::names(file, host, port)));
    wait_for("the app's .env", FOLLOWED_WITHIN, right).await
}

/// Everything that was noted.
struct Proof {
    scenario: Scenario,
    fault: Fault,
    acks: Vec<Ack>,
    /// Of the client that knows only the name.
    by_name: Option<Vec<Ack>>,
    two_writers: Duration,
}

impl Proof {
    async fn report(
        &self,
        playground: &Playground,
        problems: &mut Vec<String>,
    ) -> Result<Report, DemoError> {
        let answer = playground.sites[NEW].agent.look().await.ok();
        let (new_primary, recovery) = answer.map_or((None, None), |answer| {
            (answer.picture.record, answer.last_recovery)
        });
        let journals = playground.sites.each_ref().map(|site| {
            let lines = read_all(&site.state_dir).unwrap_or_default();
            (site.name, lines)
        });
        let steps = measure::steps(&journals, self.fault.wall);
        let milestones = measure::milestones(&journals, &steps, self.fault.wall);
        let rows = rows(playground).await?;
        let lost = measure::lost(&self.acks, &rows);
        // Nobody waits for the standby to have this one's rows, so they are not counted.
        let by_name = self.by_name.as_deref();
        let millis = |span: Duration| u64::try_from(span.as_micros().div_ceil(1000)).unwrap_or(0);
        if lost > 0 {
            problems.push(format!("{lost} acknowledged rows are lost"));
        }
        if !self.two_writers.is_zero() {
            problems.push(format!("two nodes committed for {:?}", self.two_writers));
        }
        Ok(Report {
            scenario: self.scenario.name(),
            unavailable_ms: measure::unavailable(&self.acks, self.fault.at).map(millis),
            by_name_ms: by_name
                .and_then(|acks| measure::unavailable(acks, self.fault.at))
                .map(millis),
            acknowledged: self.acks.len() as u64,
            lost,
            two_writers_ms: millis(self.two_writers),
            old_primary: playground.sites[OLD].name,
            new_primary: new_primary.map_or_else(String::new, |record| record.primary.to_string()),
            detected_ms: milestones.detected,
            fenced_ms: milestones.fenced,
            promoted_ms: milestones.promoted,
            config_ms: milestones.config,
            dns_ms: milestones.dns,
            recovery,
            steps,
            problems: std::mem::take(problems),
        })
    }
}

/// The numbers of all rows at the new primary.
async fn rows(playground: &Playground) -> Result<BTreeSet<i64>, DemoError> {
    let client = playground.superuser(&playground.sites[NEW].node).await?;
    let rows = client.query("SELECT number FROM orders", &[]).await;
    let rows = rows.map_err(|source| DemoError::Sql {
        what: "read the rows at the new primary",
        source,
    })?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

fn conclude(voice: &Voice, report: &Report, proof: &Proof) {
    let end = proof.acks.last().map_or(proof.fault.at, |ack| ack.at);
    let names = [report.old_primary, report.new_primary.as_str()];
    voice.line("\nservice, as the client saw it:");
    voice.line(&measure::timeline(&proof.acks, names, proof.fault.at, end));
    let after = |ms: Option<i64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
    let signed = |ms: Option<u64>| ms.and_then(|ms| i64::try_from(ms).ok());
    voice.line("\nmeasured:");
    for (what, value) in [
        ("writes unavailable", after(signed(report.unavailable_ms))),
        ("  to a client by name", after(signed(report.by_name_ms))),
        ("commits acknowledged", report.acknowledged.to_string()),
        ("  of these lost", report.lost.to_string()),
        (
            "time with two writers",
            format!("{} ms", report.two_writers_ms),
        ),
        ("decided after", after(report.detected_ms)),
        ("old node fenced after", after(report.fenced_ms)),
        ("new node promoted after", after(report.promoted_ms)),
        ("apps' .env right after", after(report.config_ms)),
        ("DNS moved after", after(report.dns_ms)),
    ] {
        voice.line(&format!("  {what:<24} {value:>9}"));
    }
    if let Some(recovery) = &report.recovery {
        let site = &recovery.site;
        voice.line(&format!(
            "\nwhat the agent of {site} says of it, from what it saw:"
        ));
        for line in &recovery.words {
            voice.line(&format!("  {line}"));
        }
    }
    for problem in &report.problems {
        voice.line(&format!("PROBLEM: {problem}"));
    }
}
