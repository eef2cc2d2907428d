//! What travels between members: paths, headers, bodies. Both sides import this and only this.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::brakes::{Brake, Braked};
use crate::model::lease::{ClusterIdentity, LeaseRequest};
use crate::model::plan::Plan;
use crate::model::{Member, SiteName};

/// Where a [`LeaseCall`] is posted; the answer is a `LeaseReply`.
pub const PATH_LEASE: &str = "/v1/lease";
/// Where a `PeerReport` is posted; the answer is the receiver's own.
pub const PATH_REPORT: &str = "/v1/report";
/// Where a [`PeerCommand`] is posted; the answer is a [`CommandAnswer`].
pub const PATH_COMMAND: &str = "/v1/command";
/// Where a `PeerAsk` is posted; the answer is a `PeerWord`.
pub const PATH_CELL: &str = "/v1/cell";
/// Says `ok` to anybody.
pub const PATH_HEALTH: &str = "/v1/health";

/// No body is longer, in either direction: the longest report is a tenth of this.
pub const BODY_BYTES_MAX: usize = 256 * 1024;

/// The sender's cluster.
pub const HEADER_CLUSTER: &str = "x-agent-cluster";
/// The sender, as [`member_text`].
pub const HEADER_FROM: &str = "x-agent-from";
/// The member that is meant, as [`member_text`].
pub const HEADER_TO: &str = "x-agent-to";
/// In a request: the receiver's challenge that it uses up, or empty.
pub const HEADER_CHALLENGE: &str = "x-agent-challenge";
/// In an answer: a challenge for the next request.
pub const HEADER_NEXT_CHALLENGE: &str = "x-agent-next-challenge";
/// A number used once, by which the sender tells this answer from every earlier one.
pub const HEADER_NONCE: &str = "x-agent-nonce";
/// SHA-256 of the body, so that the seal can be checked before the body is read.
pub const HEADER_BODY_HASH: &str = "x-agent-body-sha256";
/// The seal over all of it.
pub const HEADER_SEAL: &str = "x-agent-seal";

/// A lease request with the sender's idea of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseCall {
    /// Cluster name and voter set.
    pub identity: ClusterIdentity,
    /// What is asked of the voter.
    pub request: LeaseRequest,
}

/// An operator's command that another member passes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum PeerCommand {
    /// Move the primary to this site.
    Failover {
        /// Where to.
        to: SiteName,
        /// Only say what would be done.
        dry_run: bool,
    },
    /// Change the brakes in the cluster record.
    Brake {
        /// How.
        brake: Brake,
        /// Who asks, and where.
        by: String,
        /// Only say what would be done.
        dry_run: bool,
    },
}

/// What became of a passed-on command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum CommandAnswer {
    /// It is being done.
    Accepted {
        /// What was begun.
        text: String,
    },
    /// A dry run: the exact plans, by site, in order.
    WouldDo {
        /// Site and plan.
        plans: Vec<(SiteName, Plan)>,
    },
    /// The brakes are (or would be) so.
    Braked {
        /// How.
        braked: Box<Braked>,
    },
    /// The receiver passed it on in turn, and does not know what became of it.
    MayHaveBegun {
        /// Why not.
        text: String,
    },
    /// It will not be done.
    Refused {
        /// Why, and what would help.
        text: String,
    },
}

/// Why a sealed request was refused although its sender knows the secret. It travels as the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The challenge is not one of mine, or too old: use the one that comes with this answer.
    UnknownChallenge,
    /// The challenge was used already: this very request, or a copy of it, was here before.
    Replayed,
    /// The sender belongs to another cluster.
    WrongCluster,
    /// The sender is not a member of this cluster.
    UnknownMember,
    /// The request was meant for somebody else: an address points to the wrong member.
    Misdirected,
    /// The sender speaks in another member's name.
    NotYours,
    /// The body is not the one that was sealed.
    Tampered,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownChallenge => "the challenge is unknown or too old",
            Self::Replayed => "the same request was received before",
            Self::WrongCluster => "it belongs to another cluster",
            Self::UnknownMember => "the sender is not a member of its cluster",
            Self::Misdirected => "it is not the member that was meant",
            Self::NotYours => "the request speaks for another member than its sender",
            Self::Tampered => "the body was changed on the way",
        })
    }
}

/// A member as text that no other member has: a site may be called `witness`.
#[must_use]
pub fn member_text(member: &Member) -> String {
    match member {
        Member::Site(site) => format!("site:{site}"),
        Member::Witness => "witness".to_owned(),
    }
}

/// The member of [`member_text`].
#[must_use]
pub fn member_from_text(text: &str) -> Option<Member> {
    match text.strip_prefix("site:") {
        Some(site) if !site.is_empty() => Some(Member::Site(SiteName::new(site))),
        Some(_) => None,
        None => (text == "witness").then_some(Member::Witness),
    }
}
