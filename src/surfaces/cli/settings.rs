//! Settings for commands: every mistake is told at once.

use super::Context;
use super::exit::{Exit, Failure};
use super::output::{self, WARN, styled};
use crate::config::{self, Config, Loaded, MemberRole};

/// Reads the settings file; tells its warnings.
pub(super) fn load(context: &Context<'_>, role: MemberRole) -> Result<Config, Failure> {
    let loaded = load_quietly(context, role)?;
    for warning in &loaded.warnings {
        output::note(styled(WARN, warning));
    }
    Ok(loaded.config)
}

/// Reads the settings file for a command that has nothing to do with its warnings.
pub(super) fn load_quietly(context: &Context<'_>, role: MemberRole) -> Result<Loaded, Failure> {
    let global = context.global;
    config::load(&global.config, global.site.as_deref(), role, context.env)
        .map_err(|problems| Failure::new(Exit::Usage, problems))
}
