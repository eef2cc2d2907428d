//! Which layer may see which: the walls that one crate does not have by itself.

use crate::Problem;
use crate::source::{CodePath, Source};

/// A folder under `src/` and what its files may name.
#[derive(Debug)]
pub(crate) struct Layer {
    name: &'static str,
    /// Other layers.
    may: &'static [&'static str],
    /// Outside crates: only these, or all but these.
    outside: Outside,
    /// No I/O, clock, randomness, logging, `async`, or maps without an order.
    pure: bool,
}

#[derive(Debug)]
enum Outside {
    Only(&'static [&'static str]),
    AllBut(&'static [&'static str]),
}

/// Bottom up. `main.rs` and `lib.rs` stand beside the layers and are not listed.
pub(crate) const LAYERS: [Layer; 6] = [
    Layer {
        name: "model",
        may: &[],
        outside: Outside::Only(&["jiff", "serde", "thiserror"]),
        pure: true,
    },
    Layer {
        name: "decision",
        may: &["model"],
        outside: Outside::Only(&["serde", "sha2", "thiserror"]),
        pure: true,
    },
    Layer {
        name: "config",
        may: &["model"],
        outside: Outside::AllBut(&[
            "axum",
            "hickory_resolver",
            "hyper",
            "reqwest",
            "tokio",
            "tokio_postgres",
        ]),
        pure: false,
    },
    Layer {
        name: "effects",
        may: &["model", "config"],
        outside: Outside::AllBut(&["clap"]),
        pure: false,
    },
    Layer {
        name: "runtime",
        may: &["model", "decision", "config", "effects"],
        outside: Outside::AllBut(&["clap"]),
        pure: false,
    },
    Layer {
        name: "surfaces",
        may: &["model", "config", "runtime"],
        outside: Outside::AllBut(&[]),
        pure: false,
    },
];

/// A file or folder that may see one layer more than its own layer may.
#[derive(Debug)]
pub(crate) struct Exception {
    from: &'static str,
    to: &'static str,
    why: &'static str,
}

/// Every exception, with its reason. One that nothing needs any more is a failure.
pub(crate) const EXCEPTIONS: &[Exception] = &[
    Exception {
        from: "src/surfaces/cli/explain.rs",
        to: "decision",
        why: "prints the tables of diagnoses and transitions; decides nothing with them",
    },
    Exception {
        from: "src/surfaces/demo",
        to: "effects",
        why: "plays the operator: starts and breaks real servers, which no other surface may",
    },
];

/// What is not pure, and what to write instead.
const IMPURE_PATHS: &[(&str, &str)] = &[
    ("std::env", "take the value as an argument"),
    ("std::fs", "leave reading and writing to effects"),
    ("std::io", "leave reading and writing to effects"),
    ("std::net", "keep addresses as text, and connect in effects"),
    ("std::os", "leave the operating system to effects"),
    ("std::process", "leave processes to effects::exec"),
    ("std::thread", "leave tasks and waiting to runtime"),
    ("jiff::Timestamp::now", "take the time as an argument"),
    ("jiff::Zoned::now", "take the time as an argument"),
    ("Timestamp::now", "take the time as an argument"),
    ("Zoned::now", "take the time as an argument"),
];

/// Words that are not pure wherever they stand.
const IMPURE_WORDS: &[(&str, &str)] = &[
    ("HashMap", "use BTreeMap: its order is the same in each run"),
    ("HashSet", "use BTreeSet: its order is the same in each run"),
    ("Instant", "use model::Moment, given by the runtime"),
    ("SystemTime", "use model::Timestamp, given by the runtime"),
    ("async", "return data, and wait in runtime"),
    ("await", "return data, and wait in runtime"),
    ("println", "return data, and print in surfaces"),
    ("eprintln", "return data, and print in surfaces"),
];

fn layer(name: &str) -> Option<&'static Layer> {
    LAYERS.iter().find(|layer| layer.name == name)
}

/// Files that name a layer that theirs may not see, and exceptions that are not needed.
pub(crate) fn imports(sources: &[Source], exceptions: &[Exception]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut needed = vec![false; exceptions.len()];
    for source in sources {
        let Some(name) = source.layer() else {
            continue;
        };
        let Some(own) = layer(name) else {
            problems.push(Problem::new(
                &source.path,
                1,
                format!("`{name}` is no layer: put the file into one of {}", names()),
            ));
            continue;
        };
        for path in source.paths() {
            let Some(target) = target(source, &path) else {
                continue;
            };
            if target == own.name || own.may.contains(&target.as_str()) {
                continue;
            }
            let excepted = exceptions.iter().position(|exception| {
                exception.to == target && lies_in(&source.path, exception.from)
            });
            if let Some(flag) = excepted.and_then(|index| needed.get_mut(index)) {
                *flag = true;
                continue;
            }
            problems.push(wrong_import(source, &path, own, &target));
        }
    }
    problems.extend(stale(sources, exceptions, &needed));
    problems
}

fn wrong_import(source: &Source, path: &CodePath, own: &Layer, target: &str) -> Problem {
    let text = path.text();
    let what = if layer(target).is_none() {
        format!(
            "`{text}` hides which layer it comes from: name one of {}",
            names()
        )
    } else {
        format!(
            "`{text}`: {} may see only {:?}: pass the value in, or move the code up",
            own.name, own.may
        )
    };
    Problem::new(&source.path, path.line, what)
}

/// Exceptions for files that exist and do not need them.
fn stale(sources: &[Source], exceptions: &[Exception], needed: &[bool]) -> Vec<Problem> {
    let unneeded = exceptions.iter().zip(needed).filter(|(exception, needed)| {
        let exists = sources
            .iter()
            .any(|source| lies_in(&source.path, exception.from));
        exists && !**needed
    });
    unneeded
        .map(|(exception, _)| {
            let what = format!(
                "nothing in {} sees {} any more: remove the exception ({})",
                exception.from, exception.to, exception.why
            );
            Problem::new("tests/tidy/layers.rs", 1, what)
        })
        .collect()
}

fn lies_in(path: &str, place: &str) -> bool {
    let rest = path.strip_prefix(place);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || rest == ".rs")
}

fn names() -> String {
    LAYERS.map(|layer| layer.name).join(", ")
}

/// The first segment below the crate's root that a path names; nothing for other paths.
///
/// `super` counts when there are enough of them to reach the root from this file's module.
fn target(source: &Source, path: &CodePath) -> Option<String> {
    let segments = &path.segments;
    match segments.first()?.as_str() {
        "crate" | "failover_agent" => segments.get(1).cloned(),
        "super" => {
            let supers = segments.iter().take_while(|s| *s == "super").count();
            let name = segments.get(supers)?;
            (supers >= depth(&source.path) && layer(name).is_some()).then(|| name.clone())
        }
        _ => None,
    }
}

/// How many modules deep a file is: 1 for `src/model/mod.rs`.
fn depth(path: &str) -> usize {
    let module = path
        .trim_start_matches("src/")
        .trim_end_matches(".rs")
        .trim_end_matches("/mod");
    module.split('/').count()
}

/// Outside crates that a layer may not name. Test code may use what tests use.
pub(crate) fn outside_crates(sources: &[Source], dependencies: &[String]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (source, layer) in layered(sources) {
        let tests = source.test_lines();
        for path in source.paths() {
            let Some(name) = path.segments.first() else {
                continue;
            };
            let outside = path.segments.len() > 1 || imported(source, &path);
            if !outside || !dependencies.contains(name) || tests.contains(&path.line) {
                continue;
            }
            let what = match &layer.outside {
                Outside::Only(only) if !only.contains(&name.as_str()) => {
                    format!("{} may use only {only:?} from outside", layer.name)
                }
                Outside::AllBut(never) if never.contains(&name.as_str()) => {
                    format!("{} must not use {name}", layer.name)
                }
                Outside::Only(_) | Outside::AllBut(_) => continue,
            };
            let what = format!("`{}`: {what}: use it in a layer above", path.text());
            problems.push(Problem::new(&source.path, path.line, what));
        }
    }
    problems
}

/// True for a lone word that stands right behind `use` or `extern crate`.
fn imported(source: &Source, path: &CodePath) -> bool {
    let name = path.text();
    source.tokens.iter().enumerate().any(|(index, token)| {
        token.line == path.line
            && (source.stands(index, &["use", &name])
                || source.stands(index, &["extern", "crate", &name]))
    })
}

fn layered(sources: &[Source]) -> impl Iterator<Item = (&Source, &'static Layer)> {
    sources
        .iter()
        .filter_map(|source| Some((source, layer(source.layer()?)?)))
}

/// Code in a pure layer that looks at the world. Test code may.
pub(crate) fn impure(sources: &[Source]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (source, layer) in layered(sources).filter(|(_, layer)| layer.pure) {
        let tests = source.test_lines();
        let mut seen: Vec<(usize, String, &str)> = Vec::new();
        for path in source.paths() {
            for (prefix, instead) in IMPURE_PATHS {
                if path.begins(prefix) {
                    seen.push((path.line, path.text(), instead));
                }
            }
        }
        for token in &source.tokens {
            for (word, instead) in IMPURE_WORDS {
                if token.text == *word {
                    seen.push((token.line, token.text.clone(), instead));
                }
            }
        }
        seen.retain(|(line, ..)| !tests.contains(line));
        problems.extend(seen.into_iter().map(|(line, what, instead)| {
            let what = format!("`{what}` in {}, which is pure: {instead}", layer.name);
            Problem::new(&source.path, line, what)
        }));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(problems: &[Problem]) -> Vec<usize> {
        problems.iter().map(|problem| problem.line).collect()
    }

    fn imports_of(path: &str, text: &str) -> Vec<usize> {
        lines(&imports(&[Source::new(path, text)], &[]))
    }

    #[test]
    fn an_import_from_above_is_seen_in_every_spelling() {
        let text = concat!(
            "use crate::runtime::clock;\n",
            "use crate::{model::Epoch, surfaces::cli};\n",
            "fn a() { crate::decision::decide() }\n",
            "use super::super::decision;\n",
            "use super::decision;\n",
            "use crate::*;\n",
            "use failover_agent::runtime;\n",
        );
        assert_eq!(
            imports_of("src/effects/dns/mod.rs", text),
            [1, 2, 3, 4, 6, 7]
        );
    }

    #[test]
    fn model_sees_no_layer_and_decision_only_model() {
        let text = "use crate::config::Config;\nuse crate::model::Epoch;\n";
        assert_eq!(imports_of("src/model/ids.rs", text), [1]);
        assert_eq!(imports_of("src/decision/decide.rs", text), [1]);
        assert_eq!(
            imports_of("src/model/ids.rs", "use crate::decision::x;"),
            [1]
        );
        assert_eq!(
            imports_of("src/runtime/x.rs", "use crate::surfaces::x;"),
            [1]
        );
        assert_eq!(
            imports_of("src/surfaces/x.rs", "use crate::effects::x;"),
            [1]
        );
    }

    #[test]
    fn what_a_layer_may_see_is_no_problem() {
        let text = "use crate::{model::A, decision::b, config::C, effects::d};\nuse super::clock;";
        assert_eq!(imports_of("src/runtime/agent.rs", text), [0; 0]);
    }

    #[test]
    fn a_folder_that_is_no_layer_is_a_problem() {
        assert_eq!(imports_of("src/common/x.rs", ""), [1]);
    }

    #[test]
    fn an_exception_covers_its_place_only_and_must_be_needed() {
        let exceptions = [Exception {
            from: "src/surfaces/demo",
            to: "effects",
            why: "test",
        }];
        let of = |path: &str, text: &str| imports(&[Source::new(path, text)], &exceptions).len();
        let text = "use crate::effects::exec;";
        assert_eq!(of("src/surfaces/demo/mod.rs", text), 0);
        assert_eq!(of("src/surfaces/demo.rs", text), 0);
        assert_eq!(of("src/surfaces/demolition.rs", text), 1);
        assert_eq!(of("src/surfaces/demo/mod.rs", ""), 1, "not needed any more");
        assert_eq!(of("src/surfaces/cli/run.rs", ""), 0, "not there yet");
    }

    #[test]
    fn outside_crates_are_seen_in_code_and_not_in_tests() {
        let dependencies = ["serde", "tokio", "rand"].map(str::to_owned);
        let of = |path: &str, text: &str| {
            lines(&outside_crates(&[Source::new(path, text)], &dependencies))
        };
        let text = concat!(
            "use serde::Serialize;\n",
            "fn a() { tokio::task::yield_now() }\n",
            "use rand;\n",
            "fn rand(tokio: u8) {}\n",
            "#[cfg(test)]\nmod tests { use tokio::test; }\n",
        );
        assert_eq!(of("src/model/x.rs", text), [2, 3]);
        assert_eq!(of("src/decision/x.rs", text), [2, 3]);
        assert_eq!(of("src/config/x.rs", text), [2]);
        assert_eq!(of("src/effects/x.rs", text), [0; 0]);
    }

    #[test]
    fn impure_code_is_seen_in_pure_layers_only() {
        let text = concat!(
            "use std::{fmt, fs};\n",
            "use std::collections::HashMap;\n",
            "pub async fn a() {}\n",
            "fn b() { let c = jiff::Timestamp::now(); }\n",
            "fn d(e: std::time::Instant) {}\n",
            "use std::time::Duration; // not async, no HashMap\n",
            "#[cfg(test)]\nmod tests { use std::fs; }\n",
        );
        let of = |path: &str| lines(&impure(&[Source::new(path, text)]));
        for path in ["src/model/x.rs", "src/decision/lease/voter.rs"] {
            let mut seen = of(path);
            seen.sort_unstable();
            assert_eq!(seen, [1, 2, 3, 4, 5]);
        }
        assert_eq!(of("src/runtime/x.rs"), [0; 0]);
    }
}
