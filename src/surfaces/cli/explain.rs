//! `agent explain`: the tables by which the agent decides, printed from the tables themselves.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::Context;
use super::exit::{Exit, Failure};
use super::output::{self, BOLD, DIM, styled};
use crate::decision::diagnose::{DIAGNOSES, Remedy};
use crate::decision::state::Phase;
use crate::decision::transitions::{Deed, IGNORED, TRANSITIONS};
use crate::model::diagnosis::Severity;

/// Print the tables by which the agent decides: both, or one of them.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    topic: Option<Topic>,
}

#[derive(Debug, Subcommand)]
enum Topic {
    /// Where the agent may go from where, and why
    Transitions {
        /// Print a state diagram in mermaid's language.
        #[arg(long, conflicts_with = "json")]
        mermaid: bool,
    },
    /// What can be wrong, by name, most severe first, and what it calls for.
    Diagnoses,
}

#[derive(Debug, Serialize)]
struct Tables {
    diagnoses: Vec<DiagnosisShown>,
    transitions: Vec<TransitionShown>,
}

#[derive(Debug, Serialize)]
struct TransitionShown {
    from: String,
    trigger: String,
    to: String,
    deed: String,
    sentence: &'static str,
}

#[derive(Debug, Serialize)]
struct DiagnosisShown {
    diagnosis: &'static str,
    severity: Severity,
    remedy: &'static str,
    sentence: &'static str,
}

pub(super) fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let json = context.global.json;
    match &arguments.topic {
        None if json => output::json_pretty(&Tables {
            diagnoses: diagnoses(),
            transitions: transitions(),
        }),
        None => output::print(diagnoses_text() + "\n" + &transitions_text()),
        Some(Topic::Transitions { .. }) if json => output::json_pretty(&transitions()),
        Some(Topic::Transitions { mermaid: true }) => output::print(mermaid()),
        Some(Topic::Transitions { mermaid: false }) => output::print(transitions_text()),
        Some(Topic::Diagnoses) if json => output::json_pretty(&diagnoses()),
        Some(Topic::Diagnoses) => output::print(diagnoses_text()),
    }
    .map(|()| Exit::Fine)
}

fn transitions() -> Vec<TransitionShown> {
    TRANSITIONS
        .iter()
        .map(|row| TransitionShown {
            from: row.from.to_string(),
            trigger: row.trigger.to_string(),
            to: row.to.to_string(),
            deed: row.deed.to_string(),
            sentence: row.sentence,
        })
        .collect()
}

fn diagnoses() -> Vec<DiagnosisShown> {
    DIAGNOSES
        .iter()
        .map(|row| DiagnosisShown {
            diagnosis: row.diagnosis.name(),
            severity: row.severity,
            remedy: remedy_words(row.remedy),
            sentence: row.sentence,
        })
        .collect()
}

fn remedy_words(remedy: Remedy) -> &'static str {
    match remedy {
        Remedy::None => "nothing",
        Remedy::Tell => "tell people",
        Remedy::GiveUp => "hand over",
        Remedy::TakeOver => "take over",
        Remedy::Claim => "ask for the lease",
        Remedy::Fence => "fence the own node",
    }
}

fn severity_words(severity: Severity) -> &'static str {
    match severity {
        Severity::Fine => "fine",
        Severity::Unclear => "unclear",
        Severity::Degraded => "degraded",
        Severity::Outage => "outage",
        Severity::Danger => "danger",
    }
}

fn transitions_text() -> String {
    let mut text = String::new();
    for phase in Phase::ALL {
        push(&mut text, format_args!("{}\n", styled(BOLD, phase)));
        for row in TRANSITIONS.iter().filter(|row| row.from == phase) {
            let trigger = row.trigger.to_string();
            let to = row.to.to_string();
            push(
                &mut text,
                format_args!("  {trigger:<16} -> {to:<12} {}\n", row.sentence),
            );
            if row.deed != Deed::Nothing {
                let deed = styled(DIM, row.deed);
                push(&mut text, format_args!("  {:<32}{deed}\n", ""));
            }
        }
        for (_, triggers, why) in IGNORED.iter().filter(|(from, ..)| *from == phase) {
            let names: Vec<_> = triggers.iter().map(ToString::to_string).collect();
            let ignored = format!("  ignored: {}\n  because {why}\n", names.join(" "));
            push(&mut text, format_args!("{}", styled(DIM, ignored)));
        }
        text.push('\n');
    }
    text
}

fn mermaid() -> String {
    let mut text = String::from("stateDiagram-v2\n  [*] --> watching\n");
    for row in TRANSITIONS {
        push(
            &mut text,
            format_args!("  {} --> {}: {}\n", row.from, row.to, row.trigger),
        );
    }
    text
}

fn diagnoses_text() -> String {
    let mut text = String::new();
    for row in DIAGNOSES {
        push(
            &mut text,
            format_args!(
                "{} ({}; calls for: {})\n  {}\n",
                styled(BOLD, row.diagnosis),
                severity_words(row.severity),
                remedy_words(row.remedy),
                row.sentence
            ),
        );
    }
    text
}

/// Writing to a `String` cannot fail.
fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let written = text.write_fmt(arguments);
    debug_assert!(written.is_ok());
}
