//! One round: a fresh pair, faults that come and go, and what must be true afterwards.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use failover_agent::effects::clock::{boottime, wall};
use failover_agent::model::{Moment, Timestamp};
use failover_agent::runtime::status::Snapshot;

use super::faults::Drawn;
use super::judge;
use super::lab::Lab;
use super::oracle::{Commit, Oracle};
use super::place::Place;
use super::wires::{Host, SITES};

/// After the last heal, a writable primary must be there within this.
const RECOVERY_MAX: Duration = Duration::from_secs(60);
/// A node is writable if it took a commit within this.
const RECENT: Duration = Duration::from_millis(1000);
/// A lease that was renewed after a heal has more than this left.
const RENEWED_MS: u64 = 500;
/// The ttl of every round.
pub const TTL: &str = "2s";
/// The pause of the old sessions between two commits.
const PACE: Duration = Duration::from_millis(4);
/// Commits before the first fault.
const WARM_UP: usize = 60;

/// Something that happened, as people will read it.
#[derive(Debug, Clone)]
pub struct Event {
    pub at: Timestamp,
    pub what: String,
}

/// How a round ended.
#[derive(Debug)]
pub struct Outcome {
    pub round: u64,
    pub drawn: Vec<Drawn>,
    pub overlap: Duration,
    pub lost: usize,
    pub gap: Duration,
    pub violations: Vec<String>,
    pub events: Vec<Event>,
    pub commits: Vec<Commit>,
    pub took: Duration,
}

impl Outcome {
    pub fn label(&self) -> String {
        let labels: Vec<_> = self.drawn.iter().map(Drawn::label).collect();
        labels.join(" ")
    }
}

/// What one round writes down while it runs.
#[derive(Debug, Default)]
struct Record {
    events: Vec<Event>,
    violations: Vec<String>,
}

impl Record {
    fn note(&mut self, what: String) {
        self.events.push(Event { at: wall(), what });
    }

    fn violated(&mut self, what: String) {
        self.note(format!("VIOLATED {what}"));
        self.violations.push(what);
    }
}

/// Runs one round; its place is gone afterwards, its files are there until the next.
pub async fn run(lab: &Lab, round: u64, drawn: Vec<Drawn>) -> Outcome {
    let began = Instant::now();
    let mut place = Place::start(lab, TTL, &drawn).await;
    let oracle = Oracle::start(lab, PACE).await;
    super::support::wait_until("the oracle commits", super::lab::SOON, || async {
        oracle.commits().len() >= WARM_UP
    })
    .await;
    let mut record = Record::default();
    record.note(format!("the round begins after {:?}", began.elapsed()));
    let fault = boottime();
    play(&mut place, &oracle, &drawn, &mut record).await;
    let primary = recover(&place, &oracle, &mut record).await;
    let end = boottime();
    let commits = oracle.commits();
    drop(oracle);
    let lost = match primary {
        Some(primary) => match rows(lab, primary).await {
            Ok(rows) => judge::lost(&commits, &rows),
            Err(why) => {
                record.violated(format!("{} took writes, and then: {why}", primary.name()));
                Vec::new()
            }
        },
        None => Vec::new(),
    };
    judge_all(&commits, &lost, &drawn, primary, &mut record);
    Outcome {
        round,
        overlap: judge::overlap(&commits),
        lost: lost.len(),
        gap: judge::gap(&commits, fault, end),
        violations: record.violations,
        events: record.events,
        commits,
        drawn,
        took: began.elapsed(),
    }
}

/// Breaks and heals in the order of time.
async fn play(place: &mut Place<'_>, oracle: &Oracle, drawn: &[Drawn], record: &mut Record) {
    let began = Instant::now();
    let mut moments: Vec<(Duration, usize, bool)> = Vec::new();
    for (index, fault) in drawn.iter().enumerate() {
        moments.push((fault.breaks_at, index, true));
        moments.push((fault.heals_at, index, false));
    }
    moments.sort();
    for (at, index, breaks) in moments {
        let fault = &drawn[index];
        // bounded: by the schedule that was drawn
        tokio::time::sleep(at.saturating_sub(began.elapsed())).await;
        if !breaks && fault.fault.dark {
            must_be_dark(place, oracle, fault, drawn.len() == 1, record);
        }
        record.note(format!(
            "{} {}",
            if breaks { "breaks" } else { "heals" },
            fault.label()
        ));
        let note = if breaks {
            place.breaks(index, fault)
        } else {
            place.heals(index, fault)
        };
        if let Some(note) = note {
            record.note(format!("{}: {note}", fault.label()));
        }
    }
}

/// S1, S7: without a majority nobody writes, and whoever still runs says why.
fn must_be_dark(
    place: &Place<'_>,
    oracle: &Oracle,
    fault: &Drawn,
    alone: bool,
    record: &mut Record,
) {
    let writable = oracle.writable_since(boottime() - RECENT);
    if !writable.is_empty() {
        record.violated(format!(
            "{} lasts, and {writable:?} takes writes",
            fault.label()
        ));
    }
    for site in SITES {
        let off = fault.fault.name == "power-loss-of-two" && fault.hosts.contains(&site);
        match place.status(site) {
            Some(status) => {
                let says_why = !status.active && !status.diagnoses.is_empty();
                record.note(format!("{} says: {}", site.name(), in_words(&status)));
                if !says_why {
                    record.violated(format!("{} does not say why it is dark", site.name()));
                }
            }
            None if alone && !off => {
                record.violated(format!("no status from {} in the dark", site.name()));
            }
            None => {}
        }
    }
}

fn in_words(status: &Snapshot) -> String {
    let seen: Vec<_> = status
        .diagnoses
        .iter()
        .map(|shown| shown.sentence.clone())
        .collect();
    format!(
        "{}, active {}; {}; {}; refused: {}",
        status.phase,
        status.active,
        status.lease.words,
        seen.join("; "),
        status.refusals.join("; ")
    )
}

/// Waits for exactly one writable primary that the record names.
async fn recover(place: &Place<'_>, oracle: &Oracle, record: &mut Record) -> Option<Host> {
    let healed = Instant::now();
    loop {
        let why = match end_state(place, oracle) {
            Ok(primary) => {
                let took = healed.elapsed().as_millis();
                record.note(format!(
                    "{} is primary, {took} ms after the last heal",
                    primary.name()
                ));
                return Some(primary);
            }
            Err(why) => why,
        };
        if healed.elapsed() > RECOVERY_MAX {
            for site in SITES {
                if let Some(status) = place.status(site) {
                    record.note(format!("{} says: {}", site.name(), in_words(&status)));
                }
            }
            record.violated(format!("{RECOVERY_MAX:?} after the last heal: {why}"));
            return None;
        }
        // bounded: by RECOVERY_MAX
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn end_state(place: &Place<'_>, oracle: &Oracle) -> Result<Host, String> {
    let writable = oracle.writable_since(boottime() - RECENT);
    let [primary] = writable.as_slice() else {
        return Err(format!("writable nodes: {writable:?}"));
    };
    let status = place.status(*primary);
    let status = status.ok_or_else(|| format!("{} is writable without agent", primary.name()))?;
    let named = status
        .record
        .as_ref()
        .map(|record| record.primary.to_string());
    if status.active && named.as_deref() == Some(primary.name()) {
        // A heal may come too late for a renewal: then the node is still to be fenced.
        return match status.lease.fence_in_ms {
            Some(left) if left < RENEWED_MS => Err(format!(
                "{} is fenced in {left} ms unless it renews",
                primary.name()
            )),
            Some(_) | None => Ok(*primary),
        };
    }
    Err(format!(
        "{} is writable, active {}, the record names {named:?}",
        primary.name(),
        status.active
    ))
}

/// Every row that a node has.
pub async fn rows(lab: &Lab, node: Host) -> Result<BTreeSet<i64>, tokio_postgres::Error> {
    let client = lab.connect(node).await?;
    let rows = client.query("SELECT n FROM kept", &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

fn judge_all(
    commits: &[Commit],
    lost: &[Commit],
    drawn: &[Drawn],
    primary: Option<Host>,
    record: &mut Record,
) {
    let overlap = judge::overlap(commits);
    if !overlap.is_zero() {
        record.violated(format!("S1: two nodes took commits for {overlap:?}"));
    }
    let shared = judge::shared_timelines(commits);
    if !shared.is_empty() {
        record.violated(format!(
            "S1: two nodes took commits on timelines {shared:?}"
        ));
    }
    if let (Some(first), Some(last)) = (lost.first(), lost.last()) {
        let what = format!(
            "{} acknowledged commits are not on the final primary: rows {} to {} of {}, the last \
             one acknowledged {:?} before its last commit",
            lost.len(),
            first.row,
            last.row,
            first.node.name(),
            last_of(commits, first.node).since(last.at),
        );
        let cause = drawn.iter().find(|drawn| !drawn.fault.cooperative);
        match cause {
            None if judge::older_than_tail(lost, commits) > 0 => record.violated(what),
            None => record.note(format!(
                "{what}; replication is asynchronous: the last {:?} of a node may be lost",
                judge::TAIL
            )),
            Some(cause) => record.note(format!("{what}; {} allows it", cause.label())),
        }
    }
    // One fault beside the primary must not move it.
    if let [only] = drawn
        && !only.hosts.contains(&Host::Fra)
        && primary == Some(Host::Ams)
    {
        record.violated(format!("{} moved a healthy primary", only.label()));
    }
}

fn last_of(commits: &[Commit], node: Host) -> Moment {
    let of_node = commits.iter().filter(|commit| commit.node == node);
    of_node
        .map(|commit| commit.at)
        .max()
        .unwrap_or_else(boottime)
}
