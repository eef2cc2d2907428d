//! What `agent dns` says over the socket.

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::operator::SitePlan;
use crate::model::PlanId;
use crate::model::dns::{DnsPlanned, DnsVerified};
use crate::model::event::{Answer, Wish};
use crate::runtime::dns_desk::DeskError;
use crate::runtime::handle::AgentHandle;

/// Where DNS is asked about.
pub const PATH: &str = "/v1/dns";

/// A question, or a wish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum DnsQuestion {
    /// How records are at their providers, and what would change.
    Plan {
        /// One of them; all if left out.
        name: Option<String>,
    },
    /// The same, and what the world sees of them.
    Verify {
        /// One of them; all if left out.
        name: Option<String>,
    },
    /// Put records and files right.
    Apply {
        /// Only say what would be done.
        #[serde(default)]
        dry_run: bool,
    },
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum DnsAnswer {
    /// How records are at their providers.
    Planned {
        /// In the order of the settings.
        records: Vec<DnsPlanned>,
    },
    /// How they are everywhere.
    Verified {
        /// In the order of the settings.
        records: Vec<DnsVerified>,
    },
    /// A plan was begun.
    Started {
        /// Which.
        plan: PlanId,
    },
    /// A dry run: what would be done.
    WouldDo {
        /// Each with the site whose agent runs it.
        plans: Vec<SitePlan>,
    },
    /// Refused.
    Refused {
        /// Each a sentence.
        reasons: Vec<String>,
    },
}

/// Answers a question, or why it cannot be answered.
pub(super) async fn answer(
    agent: &AgentHandle,
    question: DnsQuestion,
) -> Result<DnsAnswer, (StatusCode, String)> {
    let picture = agent.status.borrow().clone();
    let refused = |error: DeskError| {
        let status = match &error {
            DeskError::Unknown { .. } => StatusCode::NOT_FOUND,
            DeskError::NoPrimary => StatusCode::CONFLICT,
        };
        (status, error.to_string())
    };
    match question {
        DnsQuestion::Plan { name } => {
            let records = agent.dns.plan(&picture, name.as_deref()).await;
            let records = records.map_err(refused)?;
            Ok(DnsAnswer::Planned { records })
        }
        DnsQuestion::Verify { name } => {
            let records = agent.dns.verify(&picture, name.as_deref()).await;
            let records = records.map_err(refused)?;
            Ok(DnsAnswer::Verified { records })
        }
        DnsQuestion::Apply { dry_run } => match agent.ask(Wish::Converge { dry_run }).await {
            Ok(answer) => Ok(applied(answer)),
            Err(stopping) => Err((StatusCode::SERVICE_UNAVAILABLE, stopping.to_string())),
        },
    }
}

fn applied(answer: Answer) -> DnsAnswer {
    match answer {
        Answer::Started { plan } => DnsAnswer::Started { plan },
        Answer::WouldDo { plans } => DnsAnswer::WouldDo {
            plans: plans
                .into_iter()
                .map(|(site, plan)| SitePlan { site, plan })
                .collect(),
        },
        Answer::Refused { reasons } => DnsAnswer::Refused { reasons },
        Answer::AskingForLease
        | Answer::PassedOn { .. }
        | Answer::MayHaveBegun { .. }
        | Answer::Noted
        | Answer::FilesMayChange { .. }
        | Answer::Braked(_) => DnsAnswer::Refused {
            reasons: vec!["the agent did something else".to_owned()],
        },
    }
}
