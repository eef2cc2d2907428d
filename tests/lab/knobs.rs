//! What `make lab` sets, and what a plain test run gets instead.

use std::time::Duration;

use failover_agent::effects::clock;

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub struct Knobs {
    /// From which all randomness comes.
    pub seed: u64,
    /// The first round, counted from 1.
    pub first_round: u64,
    /// How many rounds.
    pub rounds: u64,
    /// How many labs run at once.
    pub jobs: u64,
    /// How often a site is cut off in the test that counts runs.
    pub runs: u64,
    /// How long a witness or a peer is away.
    pub away: Duration,
    /// How long each brown-out lasts.
    pub brown_out: Duration,
}

/// A plain test run takes the rounds of this seed: a run that fails must fail again.
const SEED_OF_TESTS: u64 = 7;

impl Knobs {
    /// Reads `LAB_*`; `LAB_FULL` chooses between the long and the bounded form.
    pub fn read() -> Self {
        let full = number("LAB_FULL").is_some();
        let (rounds, runs, away, brown_out) = if full {
            (20, 50, 180, 600)
        } else {
            (2, 2, 10, 20)
        };
        let seed = if full {
            u64::try_from(clock::wall().0).unwrap_or(1) % 1_000_000
        } else {
            SEED_OF_TESTS
        };
        let only = number("LAB_ROUND").or(faults().map(|_| 1));
        let only = only.filter(|_| number("LAB_ROUNDS").is_none());
        let seconds = |name, or| Duration::from_secs(number(name).unwrap_or(or));
        Self {
            seed: number("LAB_SEED").unwrap_or(seed),
            first_round: only.unwrap_or(1),
            rounds: only.map_or_else(|| number("LAB_ROUNDS").unwrap_or(rounds), |_| 1),
            jobs: number("LAB_JOBS").unwrap_or(1).max(1),
            runs: number("LAB_RUNS").unwrap_or(runs),
            away: seconds("LAB_AWAY", away),
            brown_out: seconds("LAB_SECONDS", brown_out),
        }
    }
}

/// The faults of every round, instead of drawn ones.
pub fn faults() -> Option<String> {
    std::env::var("LAB_FAULTS").ok()
}

/// Only brown-outs with this in their name.
pub fn calm() -> Option<String> {
    std::env::var("LAB_CALM").ok()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
