//! Texts that nobody would write: each is answered, none of them ends the program.

use std::path::Path;

use failover_agent::config::{MemberRole, Problem, Severity, describe, parse};
use proptest::prelude::*;

use super::{EXAMPLE, key_of, no_env};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_answered(text in "\\PC*") {
        answered(&text);
    }

    /// Lines of the example, cut, repeated and shuffled, reach further than plain noise.
    #[test]
    fn any_mix_of_example_lines_is_answered(
        picks in prop::collection::vec((0_usize..400, 0_usize..80), 0..80),
    ) {
        let lines: Vec<_> = EXAMPLE.lines().collect();
        let mut text = String::new();
        for (line, cut) in picks {
            let line = lines[line % lines.len()];
            // Most lines stay whole.
            text.extend(line.chars().take(if cut < 20 { cut } else { usize::MAX }));
            text.push('\n');
        }
        answered(&text);
    }

    /// One value of the example replaced by another TOML value.
    #[test]
    fn any_value_in_the_example_is_answered(
        at in 0_usize..400,
        value in prop::sample::select(vec![
            "0", "-1", "1e999", "99999999999999999999999", "true", "\"\"", "\"\\u0000\"", "[]",
            "[[]]", "[{}]", "{}", "{ a = {} }", "2026-01-01", "\"{\"", "\"{x}\"", "\"::\"",
            "\"0s\"", "\"18446744073709551615d\"", "0xffffffffffffffffff", "nan", "['a', 1]",
        ]),
    ) {
        let lines: Vec<_> = EXAMPLE.lines().collect();
        let at = at % lines.len();
        let text: String = lines.iter().enumerate().map(|(index, line)| match key_of(line) {
            Some((key, false)) if index == at => format!("{key} = {value}\n"),
            _ => format!("{line}\n"),
        }).collect();
        answered(&text);
    }
}

/// Parsing ends, with a usable config or with at least one error to show.
fn answered(text: &str) {
    for role in [MemberRole::Agent, MemberRole::Witness] {
        match parse(text, Path::new("agent.toml"), None, role, &no_env) {
            Ok(loaded) => drop(describe::describe(&loaded.config)),
            Err(problems) => {
                let severe = |problem: &Problem| problem.severity == Severity::Error;
                assert!(problems.0.iter().any(severe), "{problems}");
            }
        }
    }
}
