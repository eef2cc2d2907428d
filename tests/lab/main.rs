//! The lab: real PostgreSQL and real agents on three hosts in network namespaces, broken in every
//! way that [`faults::FAULTS`] knows, and an oracle that sees each commit.
//!
//! Start reading at [`round::run`]. `docs/proof.md` says how to run it.
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    unreachable_pub,
    reason = "test code: a failure is the answer"
)]

mod calm;
mod cut_off;
mod delay;
mod dice;
mod faults;
mod judge;
mod keeper;
mod knobs;
mod lab;
mod oracle;
mod place;
mod report;
mod round;
mod settings;
#[path = "../support/mod.rs"]
mod support;
mod wires;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dice::Dice;

use knobs::Knobs;
use lab::Lab;
use wires::Host;

/// Builds a lab, or says loudly why there is none.
async fn lab() -> Option<Lab> {
    if let Some(why) = wires::forbidden() {
        println!("THE LAB IS SKIPPED: no network namespaces here: {why}");
        eprintln!("THE LAB IS SKIPPED: no network namespaces here: {why}");
        return None;
    }
    Some(Lab::build().await)
}

/// Takes one round after the other until none is left.
async fn rounds(lab: Lab, knobs: Knobs, next: Arc<AtomicU64>) -> Vec<round::Outcome> {
    let usable = |need| place::missing(&lab, need).is_none();
    let mut outcomes = Vec::new();
    loop {
        let round = next.fetch_add(1, Ordering::Relaxed);
        if round >= knobs.first_round + knobs.rounds {
            return outcomes;
        }
        let drawn = match knobs::faults() {
            Some(text) => {
                faults::parse(&text).expect("FAULTS: name(host)@from-to, in milliseconds")
            }
            None => faults::draw(&mut Dice::of(knobs.seed, round), usable),
        };
        let outcome = round::run(&lab, round, drawn).await;
        println!("{}", report::line(&outcome));
        if !outcome.violations.is_empty() {
            println!("{}", report::violated(&lab, knobs.seed, &outcome));
        } else if knobs.rounds == 1 {
            println!("{}", report::timeline(&lab, &outcome));
        }
        outcomes.push(outcome);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s1_random_faults_never_make_two_writers() {
    let Some(lab) = lab().await else { return };
    let knobs = Knobs::read();
    let seed = knobs.seed;
    println!("SEED={seed} ROUNDS={}", knobs.rounds);
    for need in [faults::Need::Guard, faults::Need::Faketime] {
        if let Some(why) = place::missing(&lab, need) {
            println!("not drawn: faults that need {need:?}: {why}");
        }
    }
    let next = Arc::new(AtomicU64::new(knobs.first_round));
    let mut labs = vec![lab];
    while u64::try_from(labs.len()).unwrap() < knobs.jobs {
        labs.push(Lab::build().await);
    }
    let work = labs
        .into_iter()
        .map(|lab| tokio::spawn(rounds(lab, knobs, Arc::clone(&next))));
    let mut outcomes = Vec::new();
    for done in work.collect::<Vec<_>>() {
        outcomes.extend(done.await.unwrap());
    }
    outcomes.sort_by_key(|outcome| outcome.round);
    println!("{}", report::table(&outcomes));
    let violated: Vec<_> = outcomes
        .iter()
        .filter(|outcome| !outcome.violations.is_empty())
        .map(|outcome| format!("ROUND={}: {}", outcome.round, outcome.violations.join("; ")))
        .collect();
    assert!(violated.is_empty(), "SEED={seed}\n{}", violated.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s2_cut_off_site_commits_nothing_after_the_other_begins() {
    let Some(lab) = lab().await else { return };
    let runs = Knobs::read().runs;
    let mut margins = Vec::new();
    for run in 1..=runs {
        let cut = cut_off::once(&lab).await;
        println!(
            "run {run}: {} commits before, last on fra +{} ms, first on ams +{} ms",
            cut.old_commits,
            cut.last_old.as_millis(),
            cut.first_new.as_millis()
        );
        assert_eq!(cut.overlap, Duration::ZERO, "{cut:?}");
        assert!(cut.last_old < cut.first_new, "{cut:?}");
        margins.push((cut.first_new - cut.last_old).as_millis());
    }
    margins.sort_unstable();
    println!(
        "{runs} runs, from the last commit to the first: {} / {} / {} ms (min / median / max)",
        margins[0],
        margins[margins.len() / 2],
        margins[margins.len() - 1]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s7_witness_or_peer_away_fails_no_commit() {
    let (Some(first), Some(second)) = (lab().await, lab().await) else {
        return;
    };
    let away = Knobs::read().away;
    let (witness, peer) = tokio::join!(
        calm::away(&first, "witness away", &[Host::Witness], away),
        calm::away(&second, "peer away", &[Host::Ams], away),
    );
    for calm in [witness, peer] {
        println!("{}", calm.line());
        assert!(calm.problems.is_empty(), "{calm:?}");
        assert_eq!(calm.failures, 0, "{calm:?}");
        assert!(calm.commits > 100, "{calm:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s13_brown_outs_cause_no_failover() {
    let (Some(first), Some(second), Some(third)) = (lab().await, lab().await, lab().await) else {
        return;
    };
    let lasts = Knobs::read().brown_out;
    let (loads, wires, members) = tokio::join!(
        calm::brown_outs(&first, calm::LOADS, lasts),
        calm::brown_outs(&second, calm::WIRES, lasts),
        calm::brown_outs(&third, calm::MEMBERS, lasts),
    );
    let failed: Vec<String> = [loads, wires, members]
        .iter()
        .flatten()
        .filter(|calm| !calm.problems.is_empty())
        .map(calm::Calm::line)
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
