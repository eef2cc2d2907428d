//! The gate (S10): asked before a node's server starts, at boot too, with no agent up and no
//! network. A node starts as primary only with the lease's word, which the agent keeps in its
//! state directory: of this boot, held, and not run out. Start reading at [`open`].
//!
//! It asks nobody: whoever could be asked may be what is broken.

use serde::Serialize;

use crate::config::Config;
use crate::config::settings::{Control, Site};
use crate::effects::clock::boottime;
use crate::effects::error::EffectError;
use crate::effects::postgres::gate;
use crate::effects::postgres::process::Instance;
use crate::model::Epoch;
use crate::runtime::inherited::{self, LeaseWord};
use crate::runtime::vote_file::{LoadedVote, VoteFile};

/// What the gate says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// It may start as primary: this site holds the lease.
    Primary {
        /// The epoch.
        epoch: Epoch,
        /// How much of it is left, in milliseconds.
        left_ms: u64,
    },
    /// It starts as a standby, as its directory says.
    Standby,
    /// It starts as a standby, because the gate has written (or, in a dry run, would write)
    /// `standby.signal`.
    MadeStandby {
        /// Why it may not be primary.
        why: String,
    },
    /// It must not start.
    Refused {
        /// Why.
        why: String,
        /// What to do.
        hint: String,
    },
}

fn refused(why: impl Into<String>, hint: impl Into<String>) -> Verdict {
    let (why, hint) = (why.into(), hint.into());
    Verdict::Refused { why, hint }
}

/// Says as what the own node may start; sees to it that it starts as nothing else.
pub async fn open(config: &Config, site: &Site, dry_run: bool) -> Verdict {
    if matches!(site.node.control, Control::Commands(_)) {
        return refused(
            format!("the node of site {} is controlled by commands", site.name),
            "a gate is for nodes on the agent's own host: take it out of that node's start",
        );
    }
    let instance = Instance::remembered(site.node.data_dir.clone(), config.state_dir.clone());
    let directory = match gate::look(&instance) {
        Ok(directory) => directory,
        Err(error) => return refused_by(&error),
    };
    let record = match VoteFile::new(&config.state_dir, config.cluster.clone()).load() {
        Ok(LoadedVote::Vote(vote)) => vote.record,
        Ok(LoadedVote::Missing) => None,
        Ok(LoadedVote::Unreadable(_)) if directory.is_standby => None,
        Ok(LoadedVote::Unreadable(why)) => {
            return refused(
                format!("the agent's state cannot be read: {why}"),
                "nothing says what this node may be: start the agent, which relearns it from the \
                 others and starts the node itself",
            );
        }
        Err(error) => return refused(chain(&error), "repair the agent's state_dir"),
    };
    if let Some(record) = &record
        && record.system_id != directory.system_id
    {
        return refused(
            format!(
                "{} is of database cluster {}, but cluster {} is about {}",
                site.node.data_dir.display(),
                directory.system_id,
                config.cluster,
                record.system_id
            ),
            "put the right data directory in its place, or correct data_dir",
        );
    }
    if directory.is_standby {
        return Verdict::Standby;
    }
    let (why, was_active) = match lease_word(config) {
        Ok(verdict) => return verdict,
        Err(refusal) => refusal,
    };
    match gate::knows_primary(&site.node, &instance).await {
        Ok(true) => {}
        Ok(false) => return refused(why, first_steps(record.is_some() || was_active)),
        Err(error) => return refused_by(&error),
    }
    if dry_run {
        return Verdict::MadeStandby { why };
    }
    match gate::make_standby(&instance) {
        Ok(()) => Verdict::MadeStandby { why },
        Err(error) => refused_by(&error),
    }
}

/// The lease's word that this node may be primary, or why there is none and whether this site has
/// ever been active.
fn lease_word(config: &Config) -> Result<Verdict, (String, bool)> {
    let word = inherited::word(&config.state_dir)
        .map_err(|error| (format!("the lease's word cannot be read: {error}"), true))?;
    match word {
        LeaseWord::Nothing => Err(("this site has never held the lease".to_owned(), false)),
        LeaseWord::OtherBoot { epoch } => {
            let why = format!(
                "the lease of epoch {epoch} was held before this host was restarted; another site \
                 may hold it now"
            );
            Err((why, true))
        }
        LeaseWord::Until {
            epoch, held: false, ..
        } => {
            let why = format!(
                "this site does not hold the lease any more (epoch {epoch} was the last seen)"
            );
            Err((why, true))
        }
        LeaseWord::Until {
            epoch,
            fence_at,
            held: true,
        } => {
            let left = boottime().until(fence_at);
            if left.is_zero() {
                return Err((format!("the lease of epoch {epoch} has run out"), true));
            }
            let left_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            Ok(Verdict::Primary { epoch, left_ms })
        }
    }
}

/// What an operator does whose node is neither allowed to be primary nor able to be a standby.
fn first_steps(was_member: bool) -> &'static str {
    if was_member {
        "start the agent: once it holds the lease, it starts this node itself. If another site is \
         primary by now, make this node its standby: set primary_conninfo (pg_rewind or \
         pg_basebackup -R) and start it again"
    } else {
        "before the agent has ever been active: start the server once without this gate (pg_ctl \
         start) and then the agent, which claims it"
    }
}

fn refused_by(error: &EffectError) -> Verdict {
    let hint = error.hint.clone();
    let why = chain(error);
    refused(why, hint.unwrap_or_else(|| "see above".to_owned()))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}
