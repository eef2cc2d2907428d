//! The language of the scenario files: a header of comments, then one statement a line.
//!
//! ```text
//! # What happens, in a sentence.
//! # covers: S3 S6 ha.md.1
//! given site fra active epoch 5
//! when 0s own gone
//! expect plan give_up: fence_own, hand_over
//! expect by 1s phase watching
//! expect until 5m no plan
//! ```
//!
//! `given` lines say how the world is; then 3 s pass, and what happened in them is forgotten.
//! `when` moves the clock on and makes something happen. `expect` looks at what the agent has done
//! since the last `when`; `by` lets time pass until it holds, `until … no` until it may not have.

use std::time::Duration;

/// One scenario file.
#[derive(Debug)]
pub(crate) struct Script {
    pub name: String,
    /// The rules of safety and lines of the fault list that it covers.
    pub covers: Vec<String>,
    pub lines: Vec<Line>,
}

/// One statement and where it stands.
#[derive(Debug)]
pub(crate) struct Line {
    pub number: usize,
    pub text: String,
    pub statement: Statement,
}

#[derive(Debug)]
pub(crate) enum Statement {
    Given(Vec<String>),
    When(Duration, Vec<String>),
    Expect(When, Vec<String>),
}

/// When an expectation is to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Now,
    By(Duration),
    /// It may not hold at any time until then.
    NotUntil(Duration),
}

/// Reads a scenario file; a mistake names its line.
pub(crate) fn parse(name: &str, text: &str) -> Result<Script, String> {
    let mut script = Script {
        name: name.to_owned(),
        covers: Vec::new(),
        lines: Vec::new(),
    };
    for (number, line) in (1..).zip(text.lines()) {
        let at = |what: String| format!("{name}:{number}: {what}: {line}");
        if let Some(comment) = line.strip_prefix('#') {
            if let Some(rules) = comment.trim().strip_prefix("covers:") {
                script.covers.extend(words(rules));
            }
            continue;
        }
        if line.trim().is_empty() {
            continue;
        }
        let statement = statement(&words(line)).map_err(at)?;
        script.lines.push(Line {
            number,
            text: line.trim().to_owned(),
            statement,
        });
    }
    if script.covers.is_empty() {
        return Err(format!(
            "{name}:1: the header says nothing of what it covers"
        ));
    }
    Ok(script)
}

fn words(text: &str) -> Vec<String> {
    text.replace([',', ':'], " ")
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

fn statement(words: &[String]) -> Result<Statement, String> {
    let texts: Vec<&str> = words.iter().map(String::as_str).collect();
    let owned = |rest: &[&str]| rest.iter().map(|word| (*word).to_owned()).collect();
    match texts.as_slice() {
        ["given", rest @ ..] => Ok(Statement::Given(owned(rest))),
        ["when", at, rest @ ..] => Ok(Statement::When(time(at)?, owned(rest))),
        ["expect", "by", at, rest @ ..] => Ok(Statement::Expect(When::By(time(at)?), owned(rest))),
        ["expect", "until", at, "no", rest @ ..] => {
            Ok(Statement::Expect(When::NotUntil(time(at)?), owned(rest)))
        }
        ["expect", rest @ ..] => Ok(Statement::Expect(When::Now, owned(rest))),
        _ => Err("a line begins with given, when or expect".to_owned()),
    }
}

/// A time with its unit.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let unit = text.trim_start_matches(|sign: char| sign.is_ascii_digit() || sign == '.');
    let number: f64 = text[..text.len() - unit.len()]
        .parse()
        .map_err(|_| format!("not a time: {text}"))?;
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("not a time (ms, s, m, h): {text}")),
    };
    Duration::try_from_secs_f64(number * seconds).map_err(|_| format!("not a time: {text}"))
}

/// A size in MiB.
pub(crate) fn mebibytes(text: &str) -> Result<u64, String> {
    let number = text.strip_suffix("MiB").and_then(|n| n.parse::<u64>().ok());
    Ok(number.ok_or_else(|| format!("not a size in MiB: {text}"))? << 20)
}
