//! The links to the other members: one client each, and the own voter without a link.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config::Config;
use crate::decision::lease::{LeaseRules, Mode};
use crate::effects::error::EffectError;
use crate::effects::peer::client::{PeerClient, PeerClientSettings};
use crate::effects::peer::tls;
use crate::effects::peer::wire::{
    CommandAnswer, LeaseCall, PATH_CELL, PATH_COMMAND, PATH_LEASE, PATH_REPORT, PeerCommand,
};
use crate::model::Member;
use crate::model::cell::{PeerAsk, PeerWord};
use crate::model::lease::{LeaseReply, LeaseRequest, LeaseStore};
use crate::model::peer::PeerReport;

/// One lost packet is nothing to tell.
const TOLD_AFTER: u64 = 3;

/// Everybody else. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Members {
    rules: LeaseRules,
    clients: Arc<BTreeMap<Member, PeerClient>>,
    timeout: Duration,
    silences: Arc<Mutex<BTreeMap<Member, Silence>>>,
}

/// Reports in a row that a member did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silence {
    /// How many.
    pub missed: u64,
    /// Why the last one got no answer.
    pub why: String,
}

/// The lease's rules for the member that reads this configuration.
#[must_use]
pub fn lease_rules(config: &Config) -> LeaseRules {
    let voters: Vec<Member> = config
        .members()
        .into_iter()
        .map(|(member, _)| member)
        .collect();
    let store = config.lease_store;
    // The witness looks, but has no vote where the lease is not kept with the voters.
    let mut identity = LeaseRules::identity_of(config.cluster.clone(), &voters);
    if store == LeaseStore::Etcd {
        // Agents that keep their lease in different places must refuse each other.
        let prefix = config.etcd.as_ref().map(|etcd| etcd.prefix.as_str());
        identity
            .voters_hash
            .push_str(&format!(" etcd {}", prefix.unwrap_or_default()));
    }
    LeaseRules {
        ttl: config.lease.ttl,
        renew_every: config.lease.renew_every,
        request_timeout: config.lease.request_timeout,
        fence_budget: config.lease.fence_budget,
        mode: if store.runs_out() {
            Mode::Quorum
        } else {
            Mode::Pair
        },
        me: config.member(),
        identity,
        voters,
        broken: None,
    }
}

impl Members {
    /// Prepares the links; connects nothing yet.
    ///
    /// # Errors
    /// Unreadable certificates, malformed addresses.
    pub fn new(config: &Config) -> Result<Self, EffectError> {
        let tls = config
            .peer
            .tls
            .as_ref()
            .map(tls::client_config)
            .transpose()?;
        let own = config.member();
        let mut clients = BTreeMap::new();
        for (member, address) in config.members() {
            if member == own {
                continue;
            }
            let client = PeerClient::new(PeerClientSettings {
                cluster: config.cluster.clone(),
                own: own.clone(),
                peer: member.clone(),
                address,
                secret: &config.peer.secret,
                tls: tls.clone(),
            })?;
            clients.insert(member, client);
        }
        Ok(Self {
            rules: lease_rules(config),
            clients: Arc::new(clients),
            timeout: config.lease.request_timeout,
            silences: Arc::default(),
        })
    }

    /// Everybody else.
    pub fn others(&self) -> impl Iterator<Item = &Member> {
        self.clients.keys()
    }

    fn client(&self, member: &Member) -> Result<&PeerClient, EffectError> {
        self.clients
            .get(member)
            .ok_or_else(|| EffectError::permanent(format!("{member} is not another member")))
    }

    /// Asks a member's voter.
    ///
    /// # Errors
    /// As [`PeerClient::call`].
    pub async fn lease(
        &self,
        to: &Member,
        request: LeaseRequest,
    ) -> Result<LeaseReply, EffectError> {
        let call = LeaseCall {
            identity: self.rules.identity.clone(),
            request,
        };
        let client = self.client(to)?;
        match call.request {
            // The same again would find the epoch promised, and be refused.
            LeaseRequest::Acquire { .. } => client.call(PATH_LEASE, &call, self.timeout).await,
            // A voter takes these twice as once.
            LeaseRequest::Read
            | LeaseRequest::PreVote { .. }
            | LeaseRequest::Renew { .. }
            | LeaseRequest::Release { .. } => {
                client
                    .call_repeatable(PATH_LEASE, &call, self.timeout)
                    .await
            }
        }
    }

    /// Asks the other agent about a lease that is kept in a store.
    ///
    /// # Errors
    /// As [`PeerClient::call`].
    pub async fn cell(&self, to: &Member, ask: &PeerAsk) -> Result<PeerWord, EffectError> {
        let client = self.client(to)?;
        client.call_repeatable(PATH_CELL, ask, self.timeout).await
    }

    /// Exchanges reports with a member.
    ///
    /// # Errors
    /// As [`PeerClient::call`].
    pub async fn report(&self, to: &Member, own: &PeerReport) -> Result<PeerReport, EffectError> {
        let answer = self.client(to)?.call(PATH_REPORT, own, self.timeout).await;
        match &answer {
            Ok(_) => self.heard(to),
            Err(error) => self.missed(to, error),
        }
        answer
    }

    /// Who does not answer, and why: a wrong secret looks like a dead agent otherwise.
    #[must_use]
    pub fn silences(&self) -> BTreeMap<Member, Silence> {
        self.silenced().clone()
    }

    fn silenced(&self) -> MutexGuard<'_, BTreeMap<Member, Silence>> {
        self.silences.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heard(&self, from: &Member) {
        let silence = self.silenced().remove(from);
        if silence.is_some_and(|silence| silence.missed >= TOLD_AFTER) {
            tracing::info!(member = %from, "answers again");
        }
    }

    fn missed(&self, from: &Member, error: &EffectError) {
        let why = error.to_string();
        let mut silences = self.silenced();
        let silence = silences.entry(from.clone()).or_insert(Silence {
            missed: 0,
            why: String::new(),
        });
        silence.missed += 1;
        // Once in each silence; the reason of the moment is in the status.
        if silence.missed == TOLD_AFTER {
            tracing::warn!(member = %from, error = %why, "does not answer");
        } else {
            tracing::debug!(member = %from, error = %why, "no report");
        }
        silence.why = why;
    }

    /// Passes an operator's command on.
    ///
    /// # Errors
    /// As [`PeerClient::call`].
    pub async fn command(
        &self,
        to: &Member,
        command: &PeerCommand,
    ) -> Result<CommandAnswer, EffectError> {
        self.client(to)?
            .call(PATH_COMMAND, command, self.timeout)
            .await
    }
}
