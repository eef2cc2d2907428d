//! Apps that are checked, told and asked by configured commands.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;

use super::applier::{Applier, Proof, StagedPaths};
use crate::config::settings::AppConfig;
use crate::effects::clock::boottime;
use crate::effects::error::EffectError;
use crate::effects::exec::{self, CommandSpec};
use crate::model::outcome::FailureKind;
use crate::model::plan::PrimaryAt;

/// Between two questions to the running app.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// `validate`, `reload` and `verify` of a target.
#[derive(Debug)]
pub(super) struct ByCommand;

impl ByCommand {
    /// Serves every target.
    #[expect(
        clippy::unnecessary_wraps,
        reason = "other kinds do not serve every target"
    )]
    pub(super) fn open(_target: &AppConfig, _dir: &Path) -> Option<Box<dyn Applier>> {
        Some(Box::new(Self))
    }
}

#[async_trait]
impl Applier for ByCommand {
    fn validates(&self, target: &AppConfig) -> bool {
        target.validate.is_some()
    }

    fn proves(&self, target: &AppConfig) -> bool {
        target.verify.is_some()
    }

    async fn validate(
        &mut self,
        target: &AppConfig,
        staged: &StagedPaths,
    ) -> Result<(), EffectError> {
        let Some(command) = &target.validate else {
            return Ok(());
        };
        let tree = staged.tree.as_deref().unwrap_or(Path::new(""));
        let fill = |word: &String| {
            // A path that is no text cannot come from the settings file, which is text.
            word.replace("{staged_dir}", &tree.to_string_lossy())
                .replace("{staged}", &staged.first.to_string_lossy())
        };
        let command: Vec<String> = command.iter().map(fill).collect();
        let failed = Failed {
            target: &target.name,
            so_far: "nothing is changed, because validate,",
            hint: "run the command by hand to see what is wrong with the new files",
        };
        run(&command, target.validate_timeout, &failed).await?;
        Ok(())
    }

    /// A reload that ran out of time is killed and counts as failed, not as unknown: running a
    /// reload twice is harmless, leaving one out is not.
    async fn tell(&mut self, target: &AppConfig) -> Result<Option<Duration>, EffectError> {
        let Some(command) = &target.reload else {
            return Ok(None);
        };
        let failed = Failed {
            target: &target.name,
            so_far: "the file is written, but not loaded: reload,",
            hint: "the app may still use the old values; run the command by hand to see why",
        };
        run(command, target.reload_timeout, &failed).await.map(Some)
    }

    async fn prove(
        &mut self,
        target: &AppConfig,
        primary: Option<&PrimaryAt>,
        patience: Duration,
    ) -> Result<Proof, EffectError> {
        let Some(command) = &target.verify else {
            return Ok(Proof::NotAsked);
        };
        let Some(command) = filled(command, primary) else {
            return Ok(Proof::NotAsked);
        };
        let failed = Failed {
            target: &target.name,
            so_far: "the running app does not prove that it uses the values: verify,",
            hint: "run the command by hand to see what the app says",
        };
        let began = boottime();
        // One question may take as long as all of them.
        let mut within = target.verify_timeout;
        loop {
            match run(&command, within, &failed).await {
                Ok(_) => return Ok(Proof::Given),
                Err(error) if boottime().since(began) + ASK_EVERY >= patience => return Err(error),
                Err(_) => tokio::time::sleep(ASK_EVERY).await,
            }
            within = patience
                .saturating_sub(boottime().since(began))
                .max(ASK_EVERY);
        }
    }
}

/// The command with the primary in it; `None` when it needs one and none is known.
fn filled(command: &[String], primary: Option<&PrimaryAt>) -> Option<Vec<String>> {
    let Some(primary) = primary else {
        let names_it = |word: &String| {
            ["{host}", "{port}", "{site}"]
                .iter()
                .any(|variable| word.contains(variable))
        };
        return (!command.iter().any(names_it)).then(|| command.to_vec());
    };
    let fill = |word: &String| {
        word.replace("{host}", &primary.host)
            .replace("{port}", &primary.port.to_string())
            .replace("{site}", primary.site.as_str())
    };
    Some(command.iter().map(fill).collect())
}

/// How a failure of a command is told.
struct Failed<'a> {
    target: &'a str,
    so_far: &'a str,
    hint: &'a str,
}

/// Runs a command that must succeed; how long it took. Trying it again is always harmless.
async fn run(
    command: &[String],
    timeout: Duration,
    failed: &Failed<'_>,
) -> Result<Duration, EffectError> {
    let Failed {
        target,
        so_far,
        hint,
    } = failed;
    let Some((program, arguments)) = command.split_first() else {
        return Err(
            EffectError::permanent(format!("app config {target}: a command is empty"))
                .hint("name a program, or leave the key out"),
        );
    };
    let spec = CommandSpec::new(program, timeout).args(arguments);
    // People write passwords into such commands: no text, journal or alert repeats them.
    let spec = spec.discreet();
    match exec::run(&spec).await {
        Ok(finished) if finished.success() => Ok(finished.took),
        Ok(finished) => Err(EffectError::retryable(format!(
            "app config {target}: {so_far} {spec}, failed: {}",
            finished.complaint()
        ))
        .hint(*hint)),
        Err(mut error) => {
            error.what = format!("app config {target}: {so_far} {}", error.what);
            if error.kind == FailureKind::OutcomeUnknown {
                error.kind = FailureKind::Retryable;
            }
            Err(error)
        }
    }
}
