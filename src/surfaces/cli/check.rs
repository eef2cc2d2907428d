//! `agent check`: every mistake of the settings file, or what the agents will do.

use std::path::Path;

use clap::Args;
use serde::Serialize;

use super::exit::{Exit, Failure, ProblemShown};
use super::output::{self, BAD, GOOD, WARN, styled};
use super::{Context, settings};
use crate::config::{self, Config, MemberRole, Problem, Severity, describe, grants};
use crate::runtime::app_templates::{self, Broken};

/// Check the settings file: print every mistake, or what will be watched and done.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Print the SQL that gives the agent's database user what it needs, and nothing else.
    #[arg(long)]
    grants: bool,
    /// Check as the witness, which needs no site and fewer secrets.
    #[arg(long, conflicts_with = "grants")]
    witness: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    problems: Vec<ProblemShown>,
    describes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Grants {
    sql: String,
}

pub(super) async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let role = match arguments.witness {
        true => MemberRole::Witness,
        false => MemberRole::Agent,
    };
    let global = context.global;
    if arguments.grants {
        let config = settings::load(context, role)?;
        let sql = grants::sql(&config);
        return match global.json {
            true => output::json_pretty(&Grants { sql }),
            false => output::print(sql),
        }
        .map(|()| Exit::Fine);
    }
    let loaded = config::load(&global.config, global.site.as_deref(), role, context.env);
    let (problems, text) = match loaded {
        Ok(loaded) => {
            let mut problems = loaded.warnings;
            let broken = broken_templates(&loaded.config, &global.config).await;
            let text = broken
                .is_empty()
                .then(|| describe::describe(&loaded.config));
            problems.extend(broken);
            problems.sort_by_key(|problem| problem.line);
            (problems, text)
        }
        Err(problems) => (problems.0, None),
    };
    if global.json {
        output::json_pretty(&Report {
            ok: text.is_some(),
            problems: problems.iter().map(ProblemShown::from).collect(),
            describes: text
                .iter()
                .flat_map(|text| text.lines().map(str::to_owned))
                .collect(),
        })?;
    } else {
        tell(&problems, text.as_deref())?;
    }
    Ok(match text {
        Some(_) => Exit::Fine,
        None => Exit::Usage,
    })
}

/// An agent starts in spite of a broken template, but nobody should deploy one.
async fn broken_templates(config: &Config, file: &Path) -> Vec<Problem> {
    let broken = app_templates::broken(config).await.into_iter();
    let problem = |Broken { template, why }| Problem {
        file: file.display().to_string(),
        line: template.line,
        key: template.key,
        what: why.what,
        hint: why.hint,
        severity: Severity::Error,
    };
    broken.map(problem).collect()
}

fn tell(problems: &[Problem], text: Option<&str>) -> Result<(), Failure> {
    for problem in problems {
        output::note(match problem.severity {
            Severity::Error => styled(BAD, problem),
            Severity::Warning => styled(WARN, problem),
        });
    }
    match text {
        Some(text) => {
            output::line(styled(GOOD, "The settings are right."))?;
            output::print(text)
        }
        None => {
            let errors = problems
                .iter()
                .filter(|problem| problem.severity == Severity::Error)
                .count();
            let mistakes = if errors == 1 { "mistake" } else { "mistakes" };
            output::note(format_args!("{errors} {mistakes} to put right"));
            Ok(())
        }
    }
}
