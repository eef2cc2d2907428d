//! `agent config`: the files of this site's apps — what would change, a change by hand, and older
//! versions.

use clap::{Args, Subcommand};
use serde_json::json;

use super::ask::{LocalAgent, SocketArgument};
use super::exit::{Exit, Failure};
use super::output::{self, BAD, BOLD, DIM, GOOD, WARN, styled};
use super::{Context, settings};
use crate::config::settings::AppConfig;
use crate::config::{Config, MemberRole};
use crate::runtime::app_desk::{FilesDone, FilesWish};
use crate::runtime::app_files::{self, AppFiles, Difference, KeptVersion};
use crate::surfaces::api::config::{ConfigAnswer, ConfigQuestion};

/// Show, change and bring back the files of the apps at this site.
///
/// What they should say, and the epoch under which it is written, are asked of the running agent.
///
/// It also makes the changes, and keeps them in its journal.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show which values are not what they should be; nothing changes.
    ///
    /// Only the keys that the agent edits are shown. Ends with 5 if anything is left to do.
    Diff {
        /// Which app config; all of this site if left out.
        name: Option<String>,
        #[command(flatten)]
        socket: SocketArgument,
    },
    /// Bring the files in line now: the agent checks, replaces, reloads, and asks the app.
    ///
    /// It does not wait for as long as it leaves a change alone that an app did not take.
    Apply {
        /// Which app config; all of this site if left out.
        name: Option<String>,
        /// Only show what would change.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        socket: SocketArgument,
    },
    /// Bring an older version of the files back, or list those that are kept.
    ///
    /// The agent writes its own values again when the primary moves next.
    Restore {
        /// Which app config.
        name: String,
        /// The number of the version; without it, all are listed.
        #[arg(long, value_name = "N")]
        generation: Option<u64>,
        #[command(flatten)]
        socket: SocketArgument,
    },
}

pub(super) async fn run(context: &Context<'_>, arguments: &Arguments) -> Result<Exit, Failure> {
    let config = settings::load(context, MemberRole::Agent)?;
    match &arguments.what {
        What::Diff { name, socket }
        | What::Apply {
            name,
            dry_run: true,
            socket,
        } => {
            let apps = chosen(&config, name.as_deref())?;
            let files = known(context, &config, socket).await?;
            diff(context, &files, &apps).await
        }
        What::Apply {
            name,
            socket,
            dry_run: false,
        } => {
            chosen(&config, name.as_deref())?;
            let wish = FilesWish::Apply { name: name.clone() };
            change(context, &config, socket, wish).await
        }
        What::Restore {
            name,
            generation,
            socket,
        } => {
            let app = chosen(&config, Some(name))?;
            let Some(app) = app.first() else {
                return Ok(Exit::Usage);
            };
            match generation {
                None => list(context, &config, app).await,
                Some(generation) => {
                    let wish = FilesWish::Restore {
                        name: name.clone(),
                        generation: *generation,
                    };
                    change(context, &config, socket, wish).await
                }
            }
        }
    }
}

fn chosen<'a>(config: &'a Config, name: Option<&str>) -> Result<Vec<&'a AppConfig>, Failure> {
    app_files::targets(config, name).map_err(|text| Failure::text(Exit::Usage, text))
}

/// What the running agent knows of the primary.
async fn known<'a>(
    context: &Context<'_>,
    config: &'a Config,
    socket: &SocketArgument,
) -> Result<AppFiles<'a>, Failure> {
    let picture = LocalAgent::of(context, socket)?.status().await?;
    AppFiles::of(config, &picture).map_err(|text| Failure::text(Exit::Refused, text))
}

async fn diff(
    context: &Context<'_>,
    files: &AppFiles<'_>,
    apps: &[&AppConfig],
) -> Result<Exit, Failure> {
    let mut differences = Vec::new();
    for app in apps {
        let difference = files.difference(app).await;
        let difference =
            difference.map_err(|failure| Failure::text(Exit::Failed, failure.to_string()));
        differences.push(difference?);
    }
    if context.global.json {
        let (primary, epoch) = (files.primary(), files.epoch());
        let report = json!({ "primary": primary, "epoch": epoch, "app_configs": differences });
        output::json_pretty(&report)?;
    } else {
        for difference in &differences {
            tell_difference(difference)?;
        }
    }
    Ok(match differences.iter().all(Difference::is_none) {
        true => Exit::Fine,
        false => Exit::Degraded,
    })
}

fn tell_difference(difference: &Difference) -> Result<(), Failure> {
    let name = styled(BOLD, &difference.name);
    match &difference.to_do {
        None => output::line(format_args!("{name}  {}", styled(GOOD, "in line")))?,
        Some(what) => output::line(format_args!("{name}  {}", styled(WARN, what)))?,
    }
    if difference.edited {
        let text = "  somebody has changed a file since the agent wrote it";
        output::line(styled(WARN, text))?;
    }
    if let Some(why) = &difference.failed {
        output::line(format_args!("  {} {why}", styled(BAD, "not taken:")))?;
    }
    for file in &difference.files {
        if file.keys.is_empty() {
            continue;
        }
        output::line(format_args!("--- {}", file.path))?;
        output::line(format_args!("+++ {}", file.path))?;
        if let Some(template) = &file.template {
            let lines = file.keys.iter().map(|key| key.key.as_str());
            let lines = lines.collect::<Vec<_>>().join(", ");
            let text = format_args!("~{lines}, as {template} says");
            output::line(styled(GOOD, text))?;
            continue;
        }
        for key in &file.keys {
            let old = key.old.as_deref().unwrap_or("(another value)");
            output::line(styled(BAD, format_args!("-{}={old}", key.key)))?;
            output::line(styled(GOOD, format_args!("+{}={}", key.key, key.new)))?;
        }
    }
    Ok(())
}

/// Has the running agent do it.
async fn change(
    context: &Context<'_>,
    config: &Config,
    socket: &SocketArgument,
    wish: FilesWish,
) -> Result<Exit, Failure> {
    // Says what is wrong when that is another site's agent, or it knows no primary.
    known(context, config, socket).await?;
    let question = ConfigQuestion { wish };
    match LocalAgent::of(context, socket)?.config(&question).await? {
        ConfigAnswer::Done { apps } => tell_done(context, &apps),
        ConfigAnswer::Refused { reasons } => {
            let text = format!("nothing is changed: {}", reasons.join("; "));
            Err(Failure::text(Exit::Refused, text))
        }
    }
}

fn tell_done(context: &Context<'_>, all: &[FilesDone]) -> Result<Exit, Failure> {
    if context.global.json {
        output::json_pretty(&all)?;
    } else {
        for one in all {
            let style = if one.ok { GOOD } else { BAD };
            let name = styled(BOLD, &one.name);
            output::line(format_args!("{name}  {}", styled(style, &one.note)))?;
            if let Some(hint) = &one.hint {
                output::line(styled(DIM, format_args!("  {hint}")))?;
            }
        }
    }
    Ok(match all.iter().all(|one| one.ok) {
        true => Exit::Fine,
        false => Exit::Failed,
    })
}

async fn list(context: &Context<'_>, config: &Config, app: &AppConfig) -> Result<Exit, Failure> {
    let kept = app_files::kept(config, app).await;
    let kept = kept.map_err(|failure| Failure::text(Exit::Failed, failure.to_string()))?;
    if context.global.json {
        return output::json_pretty(&kept).map(|()| Exit::Fine);
    }
    if kept.is_empty() {
        let text = "nothing is kept yet: the agent has not changed these files";
        return output::line(text).map(|()| Exit::Fine);
    }
    output::line(styled(
        DIM,
        "generation  replaced                  epoch  hash",
    ))?;
    for version in &kept {
        tell_version(version)?;
    }
    Ok(Exit::Fine)
}

fn tell_version(version: &KeptVersion) -> Result<(), Failure> {
    let hash = version.hash.get(..12).unwrap_or(&version.hash);
    output::line(format_args!(
        "{:>10}  {:<24}  {:>5}  {hash}",
        version.generation,
        version.replaced.to_string(),
        version.epoch.0
    ))
}
