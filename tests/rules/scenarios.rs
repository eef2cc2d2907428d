//! Short stories of what happens to a pair of sites and what the agent of one of them does about
//! it: the real `decide`, a made-up world. The stories are `tests/rules/scenarios/*.txt`; their
//! language is explained in `tests/rules/scenarios/script.rs`.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    clippy::string_slice,
    reason = "a scenario that fails or cannot be read fails the test"
)]

mod actions;
mod brakes;
mod expect;
mod script;
mod stage;
mod steps;
mod voters;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use script::{Script, Statement};
use stage::Stage;

use crate::world;

/// How long the world is left alone before the first `when`.
const WARM_UP: Duration = Duration::from_secs(6);

fn scripts() -> Vec<Script> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rules/scenarios");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "txt"))
        .collect();
    files.sort();
    let read = |path: &std::path::PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(path).unwrap();
        script::parse(&name, &text).unwrap_or_else(|mistake| panic!("{mistake}"))
    };
    files.iter().map(read).collect()
}

/// Plays one scenario; an error says where and what the agent did.
fn play(script: &Script) -> Result<(), String> {
    let texts = |words: &[String]| words.iter().map(|w| (*w).clone()).collect::<Vec<_>>();
    let mut stage: Option<Stage> = None;
    let mut policy = None;
    let mut warm = true;
    let mut begun = false;
    let mut mark = 0;
    for line in &script.lines {
        let owned = match &line.statement {
            Statement::Given(words) | Statement::When(_, words) | Statement::Expect(_, words) => {
                texts(words)
            }
        };
        let words: Vec<&str> = owned.iter().map(String::as_str).collect();
        let place =
            |what: String| format!("{}:{}: {}: {what}", script.name, line.number, line.text);
        if let Statement::Given(_) = &line.statement {
            if begun {
                return Err(place("everything given comes first".to_owned()));
            }
            given(&mut policy, &mut stage, &mut warm, &words).map_err(place)?;
            continue;
        }
        let Some(stage) = stage.as_mut() else {
            return Err(place("the first line says: given site ...".to_owned()));
        };
        if !begun {
            begun = true;
            stage.begin();
            if warm {
                stage.advance(stage.now + WARM_UP);
            }
            stage.count_from_here();
        }
        let told = match &line.statement {
            Statement::Given(_) => Ok(()),
            Statement::When(at, _)
            | Statement::Expect(script::When::By(at) | script::When::NotUntil(at), _)
                if stage.zero + *at < stage.now =>
            {
                Err("time does not go back".to_owned())
            }
            Statement::When(at, _) => {
                stage.advance(stage.zero + *at);
                mark = stage.log.len();
                stage.trace(format!("WHEN {}", words.join(" ")));
                actions::happen(stage, &words)
            }
            Statement::Expect(when, _) => expect::check(stage, mark, *when, &words),
        };
        told.map_err(|what| {
            let from = stage.trace.len().saturating_sub(60);
            format!(
                "{}\n    {}",
                place(what),
                stage.trace[from..].join("\n    ")
            )
        })?;
    }
    Ok(())
}

fn given(
    policy: &mut Option<failover_agent::decision::policy::Policy>,
    stage: &mut Option<Stage>,
    warm: &mut bool,
    words: &[&str],
) -> Result<(), String> {
    if let ["site", name, how @ ..] = words {
        if !world::SITES.contains(name) {
            return Err(format!("the sites are {:?}", world::SITES));
        }
        let chosen = world::policy(name);
        let mut fresh = Stage::new(chosen.clone());
        actions::site(&mut fresh, how)?;
        *policy = Some(chosen);
        *stage = Some(fresh);
        return Ok(());
    }
    let Some(stage) = stage else {
        return Err("the first line says: given site ...".to_owned());
    };
    if let ["cold"] = words {
        *warm = false;
        return Ok(());
    }
    if actions::setting(&mut stage.agent.policy, words)? {
        let fresh = voters::Voters::new(&stage.agent.policy);
        stage.voters.take_members(fresh);
        return Ok(());
    }
    actions::happen(stage, words)
}

#[test]
fn every_scenario_ends_as_it_says() {
    let mut failures = Vec::new();
    let scripts = scripts();
    for script in &scripts {
        // A broken rule of `support/world/rules.rs` panics; the other scenarios are played too.
        match catch_unwind(AssertUnwindSafe(|| play(script))) {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => failures.push(failure),
            Err(panic) => {
                let text = panic
                    .downcast_ref::<String>()
                    .cloned()
                    .unwrap_or_else(|| "a panic without text".to_owned());
                failures.push(format!("{}: {text}", script.name));
            }
        }
    }
    let (failed, all) = (failures.len(), scripts.len());
    assert!(
        failed == 0,
        "{failed} of {all} scenarios:\n\n{}",
        failures.join("\n\n")
    );
}

#[test]
fn unknown_words_are_an_error_with_their_line() {
    let played = |text: &str| {
        let script = script::parse("made_up", text)?;
        play(&script)
    };
    let head = "# covers: S1\ngiven site fra active epoch 5\n";
    let wrong = [
        ("when 0s own node dances\n", "made_up:3"),
        ("expect diagnosis malaise\n", "made_up:3"),
        ("expect plan give_up: fence_own, hand_out\n", "made_up:3"),
        ("when 5 own gone\n", "made_up:3"),
        ("perhaps 5s own gone\n", "made_up:3"),
        ("when 5s nothing\nwhen 4s nothing\n", "made_up:4"),
        ("when 5s nothing\ngiven own gone\n", "made_up:4"),
        ("expect phase watching\n", "made_up:3"),
        ("expect by 3s phase watching\n", "made_up:3"),
        ("expect until 3s no phase active\n", "made_up:3"),
    ];
    for (line, place) in wrong {
        let told = played(&format!("{head}{line}")).unwrap_err();
        assert!(told.starts_with(place), "{line}: {told}");
    }
    assert!(
        played("given site fra active epoch 5\n").is_err(),
        "no header"
    );
    assert_eq!(played(&format!("{head}expect phase active\n")), Ok(()));
}

/// The rules that the decision core has a part in. The others are upheld elsewhere: S4 and S12 by
/// the guard and the rejoin.
const RULES: [&str; 14] = [
    "S1", "S2", "S3", "S5", "S6", "S7", "S8", "S9", "S10", "S11", "S13", "S14", "S15", "S16",
];

/// The lines of the fault list in which a decision is made.
const FAULTS: [u32; 22] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24,
];

#[test]
fn every_rule_and_every_fault_has_a_scenario() {
    let scripts = scripts();
    assert!(scripts.len() >= 40, "{} scenarios", scripts.len());
    let covered: BTreeSet<String> = scripts.into_iter().flat_map(|s| s.covers).collect();
    let faults = FAULTS.map(|line| format!("ha.md.{line}"));
    let wanted = RULES.iter().map(|rule| (*rule).to_owned()).chain(faults);
    let missing: Vec<String> = wanted.filter(|rule| !covered.contains(rule)).collect();
    assert!(missing.is_empty(), "no scenario covers {missing:?}");
}
