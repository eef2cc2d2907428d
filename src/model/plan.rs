//! A plan: the exact ordered steps of one decision, with no choice left open.
//!
//! `--dry-run` prints it, `check_plan` refuses an unsafe one, the executor runs it. Steps before
//! [`Step::Promote`] have an undo; steps after it are converged until true and never undone (S11).

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::diagnosis::Diagnosis;
use super::{Epoch, LagBytes, Lsn, PlanId, SiteName, SystemId, Timeline};

/// The exact ordered steps of one decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Unique for ever.
    pub id: PlanId,
    /// What the plan is for.
    pub kind: PlanKind,
    /// The epoch under which every step runs (S8).
    pub epoch: Epoch,
    /// Why it was made.
    pub cause: Cause,
    /// In this order.
    pub steps: Vec<Step>,
}

impl Plan {
    /// The index of the step that promotes, if there is one.
    #[must_use]
    pub fn promotes(&self) -> Option<usize> {
        self.steps
            .iter()
            .position(|step| step.kind() == StepKind::Promote)
    }
}

/// What a plan is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanKind {
    /// The active site gives the lease to its peer: fence, hand over.
    GiveUp,
    /// This site becomes the active one: check, record, promote, verify, then converge.
    TakeOver,
    /// This site goes on with a take-over of a former life, whose promotion the record announces:
    /// record and promote unless that is done, verify, then converge.
    FinishTakeOver,
    /// This site, which is the recorded primary, starts its own node again under a held lease.
    Restart,
    /// Make the node unable to commit because the lease is gone or another site is active.
    Fence,
    /// Bring this site's app config (and, when active, DNS) in line with the cluster record.
    Converge,
}

impl fmt::Display for PlanKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GiveUp => "give up the active role",
            Self::TakeOver => "take over",
            Self::FinishTakeOver => "finish the take-over",
            Self::Restart => "start the own node again",
            Self::Fence => "fence the own node",
            Self::Converge => "converge app config and DNS",
        })
    }
}

/// Why a plan was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum Cause {
    /// A diagnosis that calls for it.
    Diagnosed {
        /// Which.
        diagnosis: Diagnosis,
    },
    /// A person asked.
    Operator {
        /// What they asked for, in words.
        request: String,
    },
    /// The other site released the lease to this one.
    HandedOver {
        /// Who released it.
        from: SiteName,
    },
    /// The cluster record says something else than the files or DNS may say.
    RecordMoved,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Diagnosed { diagnosis } => write!(f, "diagnosis {diagnosis}"),
            Self::Operator { request } => write!(f, "operator: {request}"),
            Self::HandedOver { from } => write!(f, "site {from} handed over"),
            Self::RecordMoved => f.write_str("the cluster record moved"),
        }
    }
}

/// One step with its exact parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// Makes the own node unable to commit, and proves it (S3). Undo: start it again.
    FenceOwn {
        /// Time for a clean stop first, so that the standby gets every commit; zero when the
        /// database is not in a state to stop cleanly.
        grace: Duration,
        /// Time in which the hard fence must be finished once it begins.
        budget: Duration,
    },
    /// Releases the lease to the other site (S6). Undo: none is possible, so nothing may follow it.
    HandOver {
        /// The successor.
        to: SiteName,
    },
    /// Starts the own node, whose promotion was begun and never proved, as a standby: from there
    /// the promotion is finished, whatever became of it before the node died.
    StartStandby {
        /// How long it may take to accept connections.
        timeout: Duration,
    },
    /// Starts the own node as primary again, under the held lease.
    StartOwn {
        /// How long it may take to accept connections.
        timeout: Duration,
    },
    /// Proves that the own standby may be promoted; changes nothing.
    CheckCandidate {
        /// It must be this database cluster.
        system_id: SystemId,
        /// Its history must contain this timeline.
        timeline: Timeline,
        /// The newest write known to exist on the old primary.
        last_lsn: Lsn,
        /// How much of that may be missing.
        lag_max: LagBytes,
        /// It may be a primary already, or have been one since: this goes on with a take-over
        /// whose promotion may have come true.
        #[serde(default)]
        finishes: bool,
        /// The other site, unless it has handed over: its node must not answer as a primary, which
        /// is looked at once more, last of all (S1).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        silent: Option<SiteName>,
    },
    /// Writes "this site is the primary now" into the cluster record at a majority, before it is
    /// true, so that the old primary's site can never assume otherwise. Undo: the previous record.
    RecordPrimary {
        /// The new primary's site.
        site: SiteName,
    },
    /// Promotes the own standby. The commit point: nothing before it is kept, nothing after undone.
    Promote {
        /// How long it may take to leave recovery.
        timeout: Duration,
    },
    /// Proves that the own node accepts commits, and clears the record's `promoting` mark.
    VerifyWrites {
        /// How long it may take until the first commit.
        timeout: Duration,
    },
    /// Points the files of one app at the new primary, all of them or none.
    RewriteAppConfig {
        /// The target's name in `agent.toml`.
        target: String,
        /// The file, or the first of them.
        path: PathBuf,
        /// Which of its keys get which values.
        edits: Vec<ConfigEdit>,
        /// The files that change together with it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        also: Vec<FileEdits>,
        /// Where the primary is, for the command that asks the running app; older plans do not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        primary: Option<PrimaryAt>,
    },
    /// Points one DNS name at the new site.
    UpdateDns {
        /// The record's name in `agent.toml`.
        target: String,
        /// The provider's kind, e.g. `cloudflare`.
        provider: String,
        /// Fully qualified name without the final dot.
        name: String,
        /// `A`, `AAAA`, `CNAME` or `TXT`.
        kind: String,
        /// What its records of that type contain afterwards: these and no others. Journals of
        /// earlier versions name one text, as `content`.
        #[serde(alias = "content", deserialize_with = "one_or_several")]
        contents: Vec<String>,
    },
    /// Tells people, through the outbox; never waits for delivery (S16).
    Notify {
        /// One line.
        summary: String,
    },
}

fn one_or_several<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Texts {
        One(String),
        Several(Vec<String>),
    }
    Ok(match Texts::deserialize(from)? {
        Texts::One(text) => vec![text],
        Texts::Several(texts) => texts,
    })
}

/// What changes in one of several files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEdits {
    /// The file.
    pub path: PathBuf,
    /// Which keys get which values.
    pub edits: Vec<ConfigEdit>,
}

/// Where the primary is reached by apps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrimaryAt {
    /// Its site.
    pub site: SiteName,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// One change in an app config file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigEdit {
    /// The key whose value changes.
    pub key: String,
    /// How the value changes.
    pub to: EditValue,
}

/// How a value in an app config file changes. Never a secret: passwords stay where they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EditValue {
    /// The whole value.
    Text(String),
    /// Only host and port inside a URL value.
    UrlAuthority {
        /// New host.
        host: String,
        /// New port.
        port: u16,
    },
    /// Only one field inside a connection string (`host=… port=…`).
    Field {
        /// Which, e.g. `host`.
        name: String,
        /// Its new value.
        text: String,
    },
}

impl fmt::Display for ConfigEdit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.to)
    }
}

impl fmt::Display for EditValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::UrlAuthority { host, port } => write!(f, "…@{host}:{port}…"),
            Self::Field { name, text } => write!(f, "…{name}={text}…"),
        }
    }
}

/// What each kind of step is, without its parameters: for tables and tests that loop over all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(
    missing_docs,
    reason = "each is documented at the Step of the same name"
)]
pub enum StepKind {
    FenceOwn,
    HandOver,
    StartStandby,
    StartOwn,
    CheckCandidate,
    RecordPrimary,
    Promote,
    VerifyWrites,
    RewriteAppConfig,
    UpdateDns,
    Notify,
}

impl StepKind {
    /// Every kind, in the order of S9.
    pub const ALL: [Self; 11] = [
        Self::FenceOwn,
        Self::HandOver,
        Self::StartStandby,
        Self::CheckCandidate,
        Self::RecordPrimary,
        Self::Promote,
        Self::StartOwn,
        Self::VerifyWrites,
        Self::RewriteAppConfig,
        Self::UpdateDns,
        Self::Notify,
    ];

    /// After the commit point: repeated until true, never undone.
    #[must_use]
    pub fn converges(self) -> bool {
        match self {
            Self::VerifyWrites | Self::RewriteAppConfig | Self::UpdateDns | Self::Notify => true,
            Self::FenceOwn
            | Self::HandOver
            | Self::StartStandby
            | Self::StartOwn
            | Self::CheckCandidate
            | Self::RecordPrimary
            | Self::Promote => false,
        }
    }
}

impl fmt::Display for StepKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FenceOwn => "fence own node",
            Self::HandOver => "hand over",
            Self::StartStandby => "start own standby",
            Self::StartOwn => "start own node",
            Self::CheckCandidate => "check candidate",
            Self::RecordPrimary => "record new primary",
            Self::Promote => "promote",
            Self::VerifyWrites => "verify writes",
            Self::RewriteAppConfig => "rewrite app config",
            Self::UpdateDns => "update DNS",
            Self::Notify => "notify",
        })
    }
}

impl Step {
    /// The kind of this step.
    #[must_use]
    pub fn kind(&self) -> StepKind {
        match self {
            Self::FenceOwn { .. } => StepKind::FenceOwn,
            Self::HandOver { .. } => StepKind::HandOver,
            Self::StartStandby { .. } => StepKind::StartStandby,
            Self::StartOwn { .. } => StepKind::StartOwn,
            Self::CheckCandidate { .. } => StepKind::CheckCandidate,
            Self::RecordPrimary { .. } => StepKind::RecordPrimary,
            Self::Promote { .. } => StepKind::Promote,
            Self::VerifyWrites { .. } => StepKind::VerifyWrites,
            Self::RewriteAppConfig { .. } => StepKind::RewriteAppConfig,
            Self::UpdateDns { .. } => StepKind::UpdateDns,
            Self::Notify { .. } => StepKind::Notify,
        }
    }
}

impl fmt::Display for Step {
    /// The step as `--dry-run` prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FenceOwn { grace, budget } if grace.is_zero() => {
                write!(f, "fence own node: no process left within {budget:?}")
            }
            Self::FenceOwn { grace, budget } => {
                write!(
                    f,
                    "fence own node: clean stop within {grace:?}, else by force within {budget:?}"
                )
            }
            Self::HandOver { to } => write!(f, "release the lease to site {to}"),
            Self::StartStandby { timeout } => {
                write!(f, "start own node as standby within {timeout:?}")
            }
            Self::StartOwn { timeout } => write!(f, "start own node as primary within {timeout:?}"),
            Self::CheckCandidate {
                system_id,
                timeline,
                last_lsn,
                lag_max,
                finishes: _,
                silent,
            } => {
                write!(
                    f,
                    "check own standby: system id {system_id}, timeline {timeline} in its \
                     history, at most {lag_max} behind {last_lsn}"
                )?;
                match silent {
                    Some(site) => write!(f, "; the node of site {site} does not answer"),
                    None => Ok(()),
                }
            }
            Self::RecordPrimary { site } => write!(f, "record site {site} as primary"),
            Self::Promote { timeout } => write!(f, "promote own standby within {timeout:?}"),
            Self::VerifyWrites { timeout } => write!(f, "verify a commit within {timeout:?}"),
            Self::RewriteAppConfig {
                target,
                path,
                edits,
                also,
                primary: _,
            } => {
                write!(f, "rewrite app config {target} in {}:", path.display())?;
                for edit in edits {
                    write!(f, " {edit}")?;
                }
                for file in also {
                    write!(f, "; in {}:", file.path.display())?;
                    for edit in &file.edits {
                        write!(f, " {edit}")?;
                    }
                }
                Ok(())
            }
            Self::UpdateDns {
                target,
                provider,
                name,
                kind,
                contents,
            } => {
                write!(
                    f,
                    "update DNS {target} at {provider}: {name} {kind} -> {}",
                    contents.join(", ")
                )
            }
            Self::Notify { summary } => write!(f, "notify: {summary}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_of_an_earlier_version_names_one_content() {
        let step = |contents: &[&str]| Step::UpdateDns {
            target: "shop".to_owned(),
            provider: "cloudflare".to_owned(),
            name: "shop.example.com".to_owned(),
            kind: "A".to_owned(),
            contents: contents.iter().map(|it| (*it).to_owned()).collect(),
        };
        let old = r#"{"step":"update_dns","target":"shop","provider":"cloudflare",
            "name":"shop.example.com","kind":"A","content":"192.0.2.1"}"#;
        let read: Step = serde_json::from_str(old).unwrap();
        assert_eq!(read, step(&["192.0.2.1"]));
        for contents in [&["192.0.2.1"][..], &["192.0.2.1", "192.0.2.2"]] {
            let written = serde_json::to_string(&step(contents)).unwrap();
            assert_eq!(
                serde_json::from_str::<Step>(&written).unwrap(),
                step(contents)
            );
        }
        let shown = "update DNS shop at cloudflare: shop.example.com A -> 192.0.2.1, 192.0.2.2";
        assert_eq!(step(&["192.0.2.1", "192.0.2.2"]).to_string(), shown);
    }
}
