//! The witness: votes, and looks at both nodes from a third place. No database, no plan, no step.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::decision::health::{Sign, sign};
use crate::effects::clock;
use crate::effects::peer::wire::{CommandAnswer, PeerCommand};
use crate::effects::postgres::client::Login;
use crate::effects::probes::resolve::Resolver;
use crate::model::event::Event;
use crate::model::lease::{ClusterIdentity, LeaseReply, LeaseRequest};
use crate::model::observation::{Channel, Observation, Seen, Target};
use crate::model::peer::{PeerReport, Sighting};
use crate::model::{Epoch, Member, Moment, SiteName};
use crate::runtime::agent::{EVENTS_MAX, StartError};
use crate::runtime::members::{Members, lease_rules};
use crate::runtime::node_probes;
use crate::runtime::peer_server::PeerService;
use crate::runtime::reports::in_doubt;
use crate::runtime::scheduler::{Jitter, Scheduler};
use crate::runtime::tasks::spawn_named;
use crate::runtime::voter_host::VoterHost;
use crate::runtime::wiring;

type Sightings = Arc<Mutex<BTreeMap<(SiteName, Target), (Moment, Sighting)>>>;

/// Starts the witness. The returned task ends after `stop`.
///
/// # Errors
/// [`StartError`].
pub async fn start(config: Config, stop: CancellationToken) -> Result<JoinHandle<()>, StartError> {
    std::fs::create_dir_all(&config.state_dir).map_err(StartError::StateDir)?;
    let address = config.witness.clone().ok_or(StartError::NoSite)?;
    let voter =
        VoterHost::open(lease_rules(&config), &config.state_dir).map_err(StartError::Vote)?;
    let sightings = Sightings::default();
    let look_now = watch_nodes(&config, &sightings, &stop)?;
    let service = WitnessService {
        voter: voter.clone(),
        sightings,
        look_now,
        stale_after: (config.database.fresh_interval + config.database.timing.timeout) * 3,
    };
    let admission = wiring::serve_members(&config, address, Arc::new(service), &stop).await?;
    let members = Members::new(&config)?;
    tracing::info!("witness started");
    Ok(spawn_named("witness", async move {
        // A witness that lost its memory learns from the others (see `decision::lease::voter`).
        let mut rhythm = tokio::time::interval(config.lease.renew_every);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = rhythm.tick() => learn(&members, &voter).await,
            }
        }
        drop(admission);
        tracing::info!("witness stopped");
    }))
}

/// Asks the others what they know, as long as the own voter has to hear it.
async fn learn(members: &Members, voter: &VoterHost) {
    if !voter.listens().await {
        return;
    }
    for member in members.others() {
        if let Ok(reply) = members.lease(member, LeaseRequest::Read).await {
            voter.learn(&reply, member).await;
        }
    }
}

/// Probes both sites' nodes; what is seen goes into the reports.
fn watch_nodes(
    config: &Config,
    sightings: &Sightings,
    stop: &CancellationToken,
) -> Result<Vec<(SiteName, Arc<Notify>)>, StartError> {
    let mut look_now = Vec::new();
    let resolver = Resolver::from_system();
    for site in &config.sites {
        let login = Login::new(&site.node, &config.database, &resolver)?;
        let probes =
            node_probes::database_probes(&config.database, &login, Target::PeerDatabase, None);
        let (events, mut seen) = mpsc::channel(EVENTS_MAX);
        let scheduler = Scheduler::start(probes, Jitter::Seeded(rand::random()), &events, stop);
        let waker = scheduler.waker(&Target::PeerDatabase(Channel::Fresh));
        look_now.extend(waker.map(|waker| (site.name.clone(), waker)));
        let (name, sightings) = (site.name.clone(), Arc::clone(sightings));
        spawn_named(format!("sightings of {name}"), async move {
            while let Some(event) = seen.recv().await {
                if let Event::Observed(observation) = event {
                    // The slow look must not count as a sign of life after the quick one failed.
                    if fails(&observation) {
                        scheduler.look_now(&Target::PeerDatabase(Channel::Fresh));
                    }
                    note(&sightings, &name, observation);
                }
            }
            scheduler.stopped().await;
        });
    }
    Ok(look_now)
}

fn fails(observation: &Observation) -> bool {
    observation.target == Target::PeerDatabase(Channel::Persistent)
        && sign(&observation.seen) == Sign::Bad
}

fn note(sightings: &Sightings, site: &SiteName, observation: Observation) {
    if let Seen::Database(seen) = observation.seen {
        let target = observation.target;
        let sighting = Sighting {
            site: site.clone(),
            target: target.clone(),
            seen,
            age: None,
        };
        sightings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert((site.clone(), target), (observation.at, sighting));
    }
}

#[derive(Debug)]
struct WitnessService {
    voter: VoterHost,
    sightings: Sightings,
    stale_after: std::time::Duration,
    /// What makes a site's node be looked at.
    look_now: Vec<(SiteName, Arc<Notify>)>,
}

#[async_trait]
impl PeerService for WitnessService {
    async fn lease(
        &self,
        _from: Member,
        identity: ClusterIdentity,
        request: LeaseRequest,
    ) -> LeaseReply {
        self.voter.handle(identity, request).await
    }

    async fn report(&self, report: PeerReport) -> PeerReport {
        // Its agent wants to know whether others get through to it.
        if let Some(site) = report.from.site().filter(|_| in_doubt(&report)) {
            for look in self.look_now.iter().filter(|look| look.0 == *site) {
                look.1.notify_one();
            }
        }
        let now = clock::boottime();
        let sees = self
            .sightings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .filter(|(at, _)| now.since(*at) <= self.stale_after)
            .map(|(at, sighting)| Sighting {
                age: Some(now.since(*at)),
                ..sighting.clone()
            })
            .collect();
        PeerReport {
            from: Member::Witness,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            clock: clock::wall(),
            epoch: Epoch::NONE,
            active: false,
            own_database: None,
            sees,
            diagnoses: Vec::new(),
            site_tripped: false,
            observes: false,
            doing: None,
        }
    }

    async fn command(&self, _from: Member, _command: PeerCommand) -> CommandAnswer {
        CommandAnswer::Refused {
            text: "the witness runs no plan".to_owned(),
        }
    }
}
