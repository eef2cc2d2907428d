//! What an agent answers to other members.

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};

use crate::effects::clock;
use crate::effects::peer::wire::{CommandAnswer, PeerCommand};
use crate::model::Member;
use crate::model::cell::{PeerAsk, PeerWord};
use crate::model::event::{Answer, Event, Wish};
use crate::model::lease::{ClusterIdentity, LeaseReply, LeaseRequest};
use crate::model::peer::PeerReport;
use crate::runtime::cell_link::AskPeer;
use crate::runtime::handle::AgentHandle;
use crate::runtime::peer_server::PeerService;
use crate::runtime::voter_host::VoterHost;

/// The agent's side of the members' link.
#[derive(Debug)]
pub struct AgentService {
    /// The own vote.
    pub voter: VoterHost,
    /// The newest own report.
    pub report: watch::Receiver<PeerReport>,
    /// What others say goes here.
    pub events: mpsc::Sender<Event>,
    /// Wishes of people that another member passes on.
    pub agent: AgentHandle,
    /// Questions about a lease that is kept in a store.
    pub cell: AskPeer,
}

#[async_trait]
impl PeerService for AgentService {
    async fn lease(
        &self,
        _from: Member,
        identity: ClusterIdentity,
        request: LeaseRequest,
    ) -> LeaseReply {
        self.voter.handle(identity, request).await
    }

    async fn cell(&self, ask: PeerAsk) -> PeerWord {
        self.cell.ask(ask).await
    }

    async fn report(&self, report: PeerReport) -> PeerReport {
        // The loop has ended when nobody receives; the answer is still the truth of a moment ago.
        self.events
            .send(Event::Reported(Box::new(report)))
            .await
            .ok();
        let own = self.report.borrow().clone();
        PeerReport {
            clock: clock::wall(),
            ..own
        }
    }

    async fn command(&self, from: Member, command: PeerCommand) -> CommandAnswer {
        let wish = match command {
            PeerCommand::Failover { to, dry_run } => {
                tracing::info!(member = %from, site = %to, dry_run, "failover asked for elsewhere");
                Wish::Failover { to, dry_run }
            }
            PeerCommand::Brake { brake, by, dry_run } => {
                tracing::info!(member = %from, %brake, %by, dry_run, "asked for elsewhere");
                Wish::Brake { brake, by, dry_run }
            }
        };
        match self.agent.ask(wish).await {
            Ok(Answer::Started { plan }) => CommandAnswer::Accepted {
                text: plan.to_string(),
            },
            Ok(Answer::AskingForLease) => CommandAnswer::Accepted {
                text: "asking for the lease".to_owned(),
            },
            Ok(Answer::WouldDo { plans }) => CommandAnswer::WouldDo { plans },
            Ok(Answer::Braked(braked)) => CommandAnswer::Braked { braked },
            Ok(Answer::Refused { reasons }) => CommandAnswer::Refused {
                text: reasons.join("; "),
            },
            // Told only after that site has accepted it.
            Ok(Answer::PassedOn { to }) => CommandAnswer::Accepted {
                text: format!("passed on to site {to}"),
            },
            Ok(Answer::MayHaveBegun { at, why }) => CommandAnswer::MayHaveBegun {
                text: format!("passed on to site {at}: {why}"),
            },
            // No member asks for that.
            Ok(Answer::Noted | Answer::FilesMayChange { .. }) => CommandAnswer::Accepted {
                text: "noted".to_owned(),
            },
            Err(stopping) => CommandAnswer::Refused {
                text: stopping.to_string(),
            },
        }
    }
}
