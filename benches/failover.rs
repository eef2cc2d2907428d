//! How long writers wait, measured: runs `agent demo` several times for each scenario and sets
//! the medians against the budgets. `make bench`, or `RUNS=7 cargo bench --bench failover`.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark runs programs, reads its settings from the environment, and prints"
)]

use std::process::{Command, ExitCode};

use serde_json::Value;

/// The demo's lease ttl in milliseconds.
const TTL_MS: u64 = 3_000;

/// Scenario and the write unavailability that it must not exceed, in milliseconds.
const BUDGETS: [(&str, u64); 3] = [
    ("postmaster-kill", 400),
    ("hang", 2_500),
    ("site-loss", TTL_MS + 1_000),
];

const COLUMNS: [&str; 5] = [
    "unavailable_ms",
    "detected_ms",
    "fenced_ms",
    "promoted_ms",
    "config_ms",
];

fn main() -> ExitCode {
    let runs: usize = std::env::var("RUNS")
        .ok()
        .and_then(|runs| runs.parse().ok())
        .unwrap_or(5);
    println!("{runs} runs each; min / median / max in ms; lease ttl {TTL_MS} ms");
    let mut broken = false;
    for (scenario, budget) in BUDGETS {
        let results: Vec<Value> = (0..runs).filter_map(|_| demo(scenario)).collect();
        println!("\n{scenario} ({} of {runs} runs succeeded)", results.len());
        broken |= results.len() != runs;
        for column in COLUMNS {
            let mut values: Vec<u64> = results
                .iter()
                .filter_map(|result| result.get(column)?.as_u64())
                .collect();
            values.sort_unstable();
            let (Some(min), Some(median), Some(max)) =
                (values.first(), values.get(values.len() / 2), values.last())
            else {
                continue;
            };
            let verdict = match (column, *median <= budget) {
                ("unavailable_ms", true) => format!("  within {budget}"),
                ("unavailable_ms", false) => format!("  OVER {budget}"),
                _ => String::new(),
            };
            println!("  {column:<16} {min:>6} / {median:>6} / {max:>6}{verdict}");
        }
        for column in ["lost", "two_writers_ms"] {
            let sum: u64 = results.iter().filter_map(|r| r.get(column)?.as_u64()).sum();
            println!("  {column:<16} {sum:>6} in all runs");
            broken |= sum != 0;
        }
    }
    if broken {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn demo(scenario: &str) -> Option<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_agent"))
        .args(["demo", "--json", "--scenario", scenario])
        .output()
        .ok()?;
    if !output.status.success() {
        println!(
            "  a run failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        return None;
    }
    serde_json::from_slice(&output.stdout).ok()
}
