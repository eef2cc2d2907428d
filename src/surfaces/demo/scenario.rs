//! What can be broken, and how: the fault itself.

use std::time::Duration;

use super::error::DemoError;
use super::playground::{Playground, wait_for};

/// What the demo breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// `kill -9` of the primary's postmaster; its agent lives.
    PostmasterKill,
    /// `kill -9` of the agent and of everything of its database: the site is gone.
    SiteLoss,
    /// The primary freezes: `SIGSTOP` to the postmaster and all its children; its agent lives.
    Hang,
    /// Nothing: the playground stays up until interrupted.
    None,
}

/// How long a fault may take to be in.
const FAULT_WAIT: Duration = Duration::from_millis(500);

impl Scenario {
    /// Every scenario.
    pub const ALL: [Self; 4] = [Self::PostmasterKill, Self::SiteLoss, Self::Hang, Self::None];

    /// The name as typed and as in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PostmasterKill => "postmaster-kill",
            Self::SiteLoss => "site-loss",
            Self::Hang => "hang",
            Self::None => "none",
        }
    }

    /// What is about to be done, in words.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::PostmasterKill => "kill -9 of the primary's postmaster; the agent lives",
            Self::SiteLoss => "kill -9 of the agent and of every process of its database",
            Self::Hang => "SIGSTOP to every process of the primary; the agent lives",
            Self::None => "nothing",
        }
    }

    /// Breaks the site at `index`; returns once nothing of its database can commit any more.
    ///
    /// The killed postmaster's backends outlive it for a moment and could still take a commit
    /// that nobody replicates: the writer is let go only after they have noticed.
    pub(super) async fn strike(
        self,
        playground: &mut Playground,
        index: usize,
    ) -> Result<(), DemoError> {
        if self == Self::SiteLoss {
            // First the agent: it would fence and hand over in an instant.
            playground.kill_agent(index).await;
        }
        let Some(site) = playground.sites.get(index) else {
            return Ok(());
        };
        let node = &site.node;
        match self {
            Self::PostmasterKill => {
                node.kill_postmaster()?;
                let gone = async || Ok(node.processes().is_empty());
                wait_for("the primary's processes to end", FAULT_WAIT, gone).await
            }
            Self::SiteLoss => {
                let gone = async || {
                    node.kill_all();
                    Ok(node.processes().is_empty())
                };
                wait_for("the primary's processes to end", FAULT_WAIT, gone).await
            }
            Self::Hang => {
                let frozen = async || {
                    node.freeze_all();
                    Ok(node.is_frozen())
                };
                wait_for("the primary's processes to freeze", FAULT_WAIT, frozen).await
            }
            Self::None => Ok(()),
        }
    }
}
