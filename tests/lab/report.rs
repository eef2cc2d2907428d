//! What people read: the timeline of a violated round, the evidence that is kept, the final table.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use failover_agent::effects::clock::{boottime, wall};
use failover_agent::model::{Moment, Timestamp};
use failover_agent::runtime::journal::read_all;

use super::judge;
use super::lab::Lab;
use super::round::{Event, Outcome};
use super::wires::{HOSTS, SITES};

/// A pause at a node that is worth a line.
const PAUSE_SHOWN: Duration = Duration::from_millis(500);
/// No line of a journal is shown longer.
const LINE_MAX: usize = 240;

/// Prints a violated round, and keeps its logs and journals.
pub fn violated(lab: &Lab, seed: u64, outcome: &Outcome) -> String {
    let round = outcome.round;
    let kept = keep_evidence(lab, seed, round);
    let faults: Vec<_> = outcome.drawn.iter().map(ToString::to_string).collect();
    let mut text = format!(
        "VIOLATION SEED={seed} ROUND={round}: {}\n  again: make lab SEED={seed} ROUND={round}\n  \
         or, whatever the table has become: make lab FAULTS='{}'\n  evidence: {}\n",
        outcome.label(),
        faults.join(" "),
        kept.display()
    );
    for rule in &outcome.violations {
        writeln!(text, "  violated: {rule}").unwrap();
    }
    text += &timeline(lab, outcome);
    drop(fs::write(kept.join("timeline.txt"), &text));
    text
}

/// Faults, journals and the oracle, merged.
pub fn timeline(lab: &Lab, outcome: &Outcome) -> String {
    let mut events = outcome.events.clone();
    let Some(first) = events.first().map(|event| event.at) else {
        return String::new();
    };
    for site in SITES {
        for line in read_all(&lab.state_dir(site)).unwrap_or_default() {
            let mut entry = serde_json::to_string(&line.entry).unwrap_or_default();
            if let Some((cut, _)) = entry.char_indices().nth(LINE_MAX) {
                entry.truncate(cut);
            }
            events.push(Event {
                at: line.at,
                what: format!("journal of {}: {entry}", site.name()),
            });
        }
    }
    events.extend(of_oracle(outcome));
    events.sort_by_key(|event| event.at);
    let shown = events.iter().map(|event| {
        let after = event.at.0 - first.0;
        format!("  {after:>7} ms  {}\n", event.what)
    });
    shown.collect()
}

fn of_oracle(outcome: &Outcome) -> Vec<Event> {
    let (now, now_wall) = (boottime(), wall());
    let to_wall = |at: Moment| {
        let ago = i64::try_from(now.since(at).as_millis()).unwrap_or(0);
        Timestamp(now_wall.0 - ago)
    };
    let mut events = Vec::new();
    for span in judge::spans(&outcome.commits) {
        let of = format!("{} on timeline {}", span.node.name(), span.timeline);
        events.push(Event {
            at: to_wall(span.first),
            what: format!("oracle: first of {} commits of {of}", span.count),
        });
        events.push(Event {
            at: to_wall(span.last),
            what: format!("oracle: last commit of {of}"),
        });
        let here = outcome
            .commits
            .iter()
            .filter(|commit| commit.node == span.node);
        let mut moments: Vec<_> = here.map(|commit| commit.at).collect();
        moments.sort();
        for (earlier, later) in moments.iter().zip(moments.iter().skip(1)) {
            let pause = later.since(*earlier);
            if pause > PAUSE_SHOWN {
                events.push(Event {
                    at: to_wall(*later),
                    what: format!("oracle: {} commits again after {pause:?}", span.node.name()),
                });
            }
        }
    }
    events
}

fn keep_evidence(lab: &Lab, seed: u64, round: u64) -> PathBuf {
    let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("lab-{seed}-{round}"));
    drop(fs::remove_dir_all(&place));
    for host in HOSTS {
        let here = place.join(host.name());
        drop(fs::create_dir_all(&here));
        drop(fs::copy(lab.log(host), here.join("log")));
        let server = lab.run_dir(host).join("server.log");
        drop(fs::copy(server, here.join("server.log")));
        for entry in fs::read_dir(lab.state_dir(host))
            .into_iter()
            .flatten()
            .flatten()
        {
            if entry.path().is_file() {
                drop(fs::copy(entry.path(), here.join(entry.file_name())));
            }
        }
    }
    place
}

/// One line for a round.
pub fn line(outcome: &Outcome) -> String {
    format!(
        "round {:>4}  {:>5.1} s  gap {:>6} ms  overlap {} ms  lost {}  {}  {}",
        outcome.round,
        outcome.took.as_secs_f64(),
        outcome.gap.as_millis(),
        outcome.overlap.as_millis(),
        outcome.lost,
        if outcome.violations.is_empty() {
            "ok"
        } else {
            "VIOLATED"
        },
        outcome.label(),
    )
}

/// The table by fault; a round with several faults counts for each of them.
pub fn table(outcomes: &[Outcome]) -> String {
    let mut rows: BTreeMap<&str, Vec<&Outcome>> = BTreeMap::new();
    for outcome in outcomes {
        for drawn in &outcome.drawn {
            let row = rows.entry(drawn.fault.name).or_default();
            if row.last().is_none_or(|last| last.round != outcome.round) {
                row.push(outcome);
            }
        }
    }
    let mut text = "| fault | rounds | violated | overlap ms | lost (allowed) | \
                    gap min / median / max ms |\n|---|---|---|---|---|---|\n"
        .to_owned();
    let all: Vec<&Outcome> = outcomes.iter().collect();
    for (name, outcomes) in rows
        .iter()
        .map(|(name, of)| (*name, of))
        .chain([("all", &all)])
    {
        let mut gaps: Vec<_> = outcomes.iter().map(|of| of.gap.as_millis()).collect();
        gaps.sort_unstable();
        let (Some(min), Some(max)) = (gaps.first(), gaps.last()) else {
            continue;
        };
        let overlap = outcomes.iter().map(|of| of.overlap.as_millis()).max();
        let lost: usize = outcomes.iter().map(|of| of.lost).sum();
        let violated = outcomes
            .iter()
            .filter(|of| !of.violations.is_empty())
            .count();
        writeln!(
            text,
            "| {name} | {} | {violated} | {} | {lost} | {min} / {} / {max} |",
            outcomes.len(),
            overlap.unwrap_or(0),
            gaps[gaps.len() / 2],
        )
        .unwrap();
    }
    text
}
