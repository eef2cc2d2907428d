//! Settings for commands: every mistake is told at once.

use super::Context;
use super::exit::{Exit, Failure};
use super::output::{self, WARN, styled};
use crate::config::{self, Config, MemberRole, Places};

/// Reads the settings file; tells its warnings.
pub(super) fn load(context: &Context<'_>, role: MemberRole) -> Result<Config, Failure> {
    let global = context.global;
    let loaded = config::load(&global.config, global.site.as_deref(), role, context.env)
        .map_err(|problems| Failure::new(Exit::Usage, problems))?;
    for warning in &loaded.warnings {
        output::note(styled(WARN, warning));
    }
    Ok(loaded.config)
}

/// Where the agent of this host keeps its things, for commands that only look or ask.
pub(super) fn places(context: &Context<'_>) -> Result<Places, Failure> {
    config::load_places(&context.global.config)
        .map_err(|problems| Failure::new(Exit::Usage, problems))
}

/// Host and port of both nodes, for commands that only tell where they are.
pub(super) fn nodes(context: &Context<'_>) -> Result<[(String, u16); 2], Failure> {
    config::load_nodes(&context.global.config)
        .map_err(|problems| Failure::new(Exit::Usage, problems))
}
