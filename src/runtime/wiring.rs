//! Builds what the loop talks to, from the configuration: adapters, probes, links, tasks.

use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::config::settings::{ProbeTiming, Site};
use crate::decision::policy::Policy;
use crate::effects::error::EffectError;
use crate::effects::lease::etcd::EtcdCell;
use crate::effects::notify;
use crate::effects::peer::tls;
use crate::effects::postgres::canary::HeartbeatTable;
use crate::effects::postgres::client::Login;
use crate::effects::postgres::control::NodeControl;
use crate::effects::probes::neutral::NeutralProbe;
use crate::effects::probes::postgres::CanaryWriter;
use crate::effects::probes::resolve::Resolver;
use crate::effects::probes::{self, Probe};
use crate::effects::steps::{DnsRecordTool, Tools};
use crate::model::Epoch;
use crate::model::brakes::Conduct;
use crate::model::event::Event;
use crate::model::lease::{LeaseCommand, LeaseStore};
use crate::model::observation::Target;
use crate::model::peer::PeerReport;
use crate::runtime::agent::{Parts, StartError};
use crate::runtime::app_recovery;
use crate::runtime::app_templates;
use crate::runtime::app_watch::{self, AppFilesSeen};
use crate::runtime::cell_link::{AskPeer, PeerAsks};
use crate::runtime::dns_records::{self, DnsProviders};
use crate::runtime::dns_watch::{self, DnsSeen};
use crate::runtime::executor::{Executor, LeaseGate};
use crate::runtime::fence_time::FenceTime;
use crate::runtime::guard::protocol::Term;
use crate::runtime::guard::start::{self as guard, Feed};
use crate::runtime::handle::AgentHandle;
use crate::runtime::lease_keeper::{Held, LeaseKeeper, Unleased};
use crate::runtime::members::{Members, lease_rules};
use crate::runtime::node_probes::{database_probes, own_probes};
use crate::runtime::outbox::Outbox;
use crate::runtime::peer_server::{Admission, AdmissionSettings, PeerService, router, serve};
use crate::runtime::peer_service::AgentService;
use crate::runtime::recovery::{self, Audience};
use crate::runtime::reports::Reporter;
use crate::runtime::scheduler::{Jitter, Scheduler};
use crate::runtime::status::{Counter, CounterKind};
use crate::runtime::tasks::spawn_named;
use crate::runtime::upstreams::{self, UpstreamStatus};
use crate::runtime::voter_host::VoterHost;

/// Lease commands that wait at most; the keeper takes them at once.
const COMMANDS_MAX: usize = 64;

/// With what an agent begins.
#[derive(Debug)]
pub struct Outset<'a> {
    /// Where the keeper tells what it holds.
    pub held: watch::Sender<Held>,
    /// Its first report.
    pub report: PeerReport,
    /// The highest epoch that its former life knew.
    pub epoch_before: Epoch,
    /// What its former life may have left running.
    pub unleased: Option<Unleased>,
    /// This program, to be started as guard.
    pub program: &'a Path,
    /// How long fences took.
    pub fence_time: FenceTime,
}

/// Builds everything and starts its tasks.
///
/// # Errors
/// [`StartError`].
pub async fn start(
    config: &Config,
    policy: &Policy,
    events: mpsc::Sender<Event>,
    agent: AgentHandle,
    outset: Outset<'_>,
    stop: &CancellationToken,
) -> Result<Parts, StartError> {
    let own = config.own_site().ok_or(StartError::NoSite)?;
    let resolver = Resolver::from_system();
    let login = Login::new(&own.node, &config.database, &resolver)?;
    let table = HeartbeatTable::new(&config.database.heartbeat_table)?;
    let node = NodeControl::new(own.name.clone(), own.node.clone()).remembering(&config.state_dir);
    let rules = lease_rules(config);
    let voter = VoterHost::open(rules.clone(), &config.state_dir).map_err(StartError::Vote)?;
    let members = Members::new(config)?;
    let (report, reported) = watch::channel(outset.report);
    // An agent that only observes fences nothing.
    let (armed, armed_seen) = watch::channel(policy.conduct == Conduct::Act);
    let (held, held_seen) = (outset.held, agent.held.clone());
    let feed = Feed::new(own, &held_seen, &armed_seen, &events, &outset.fence_time);
    let confirmed = feed.seen.clone();
    let (epoch, epoch_seen) = watch::channel(Epoch::NONE);
    let outbox = start_outbox(config, stop)?;
    let (ask_peer, asked) = PeerAsks::channel();
    let upstreams = upstreams::start(config, &resolver, &events, stop)?;
    let (files, records, watched) = start_watches(config, own, &agent, &outbox, &upstreams, stop);
    let service = service(&voter, &reported, &events, agent, ask_peer);
    let admission = listen(config, own, service, stop).await?;

    let keeper = LeaseKeeper {
        rules,
        site: own.name.clone(),
        epoch_before: outset.epoch_before,
        seed: rand::random(),
        voter,
        members: members.clone(),
        node: node.clone(),
        unleased: outset.unleased,
        fence_time: outset.fence_time.clone(),
        state_dir: config.state_dir.clone(),
        guard: confirmed.clone(),
        armed: armed_seen,
        held,
        events: events.clone(),
        store: config.lease_store,
        cell: cell(config)?,
        peer: policy.peer.clone(),
        asked,
    };
    let lease = start_keeper(keeper, stop);
    start_reporter(&members, &reported, &events, policy, stop);
    let probes = own_probes(
        &config.database,
        &login,
        canary(&table, own, epoch_seen),
        &node,
    );
    let scheduler = start_probes(config, probes, &resolver, &node, &events, stop)?;
    let tools = tools(config, own, node, login, table, records, &resolver)?;
    let gate = gate(policy, held_seen, confirmed, &outset.fence_time);
    Ok(Parts {
        app_files: files,
        guard: guard::start(config, own, outset.program, feed, stop).await,
        fence_time: outset.fence_time,
        executor: Executor::new(tools, gate, outbox.clone(), events),
        scheduler,
        upstreams,
        outbox,
        lease,
        armed,
        epoch,
        report,
        members,
        admission,
        dns: watched.0,
        dns_providers: watched.1,
    })
}

/// What answers the other members.
fn service(
    voter: &VoterHost,
    report: &watch::Receiver<PeerReport>,
    events: &mpsc::Sender<Event>,
    agent: AgentHandle,
    cell: AskPeer,
) -> Arc<AgentService> {
    Arc::new(AgentService {
        voter: voter.clone(),
        report: report.clone(),
        events: events.clone(),
        agent,
        cell,
    })
}

fn gate(
    policy: &Policy,
    held: watch::Receiver<Held>,
    guard: Option<watch::Receiver<Option<Term>>>,
    fence_time: &FenceTime,
) -> LeaseGate {
    LeaseGate {
        held,
        reserve: policy.step_reserve(),
        guard,
        fence_time: fence_time.clone(),
    }
}

fn start_reporter(
    members: &Members,
    own: &watch::Receiver<PeerReport>,
    events: &mpsc::Sender<Event>,
    policy: &Policy,
    stop: &CancellationToken,
) {
    Reporter {
        members: members.clone(),
        own: own.clone(),
        events: events.clone(),
        every: policy.renew_every,
    }
    .start(stop);
}

/// The own node's death is seen at once, where it runs on this host.
fn watch_process(
    scheduler: &Scheduler,
    node: &NodeControl,
    events: &mpsc::Sender<Event>,
    stop: &CancellationToken,
) {
    if let Some(instance) = node.instance() {
        drop(scheduler.watch_process(instance.clone(), events, stop));
    }
}

/// Records, and their providers.
type DnsWatched = (watch::Receiver<DnsSeen>, watch::Receiver<DnsProviders>);

/// Tells people how each take-over went, and looks after the files of apps and after DNS.
fn start_watches(
    config: &Config,
    own: &Site,
    agent: &AgentHandle,
    outbox: &Outbox,
    upstreams: &[watch::Receiver<UpstreamStatus>],
    stop: &CancellationToken,
) -> (AppFilesSeen, Vec<DnsRecordTool>, DnsWatched) {
    let audience = Audience {
        cluster: config.cluster.clone(),
        outbox: outbox.clone(),
        state_dir: config.state_dir.clone(),
    };
    drop(recovery::watch(
        agent.status.clone(),
        config.objectives,
        recovery::kept(&config.state_dir),
        Some(audience),
        stop.clone(),
    ));
    app_recovery::start(config, stop);
    let app_files = app_watch::start(config, agent, outbox, upstreams, stop);
    let (records, watched) = watch_dns(config, own, agent, outbox, stop);
    (app_files, records, watched)
}

fn canary(table: &HeartbeatTable, own: &Site, epoch: watch::Receiver<Epoch>) -> CanaryWriter {
    CanaryWriter {
        table: table.clone(),
        site: own.name.clone(),
        epoch,
    }
}

fn tools(
    config: &Config,
    own: &Site,
    node: NodeControl,
    login: Login,
    table: HeartbeatTable,
    dns: Vec<DnsRecordTool>,
    resolver: &Resolver,
) -> Result<Tools, EffectError> {
    let other = match config.peer_site() {
        Some(peer) => Some(Login::new(&peer.node, &config.database, resolver)?),
        None => None,
    };
    Ok(Tools {
        cluster: config.cluster.clone(),
        site: own.name.clone(),
        node,
        login,
        other,
        table,
        app_configs: config.app_configs.clone(),
        surroundings: Arc::new(app_templates::surroundings(config, own)),
        dns,
        state_dir: config.state_dir.clone(),
    })
}

/// The cell of the lease, where it is kept in one.
fn cell(config: &Config) -> Result<Option<EtcdCell>, EffectError> {
    match (config.lease_store, &config.etcd) {
        (LeaseStore::Etcd, Some(etcd)) => {
            EtcdCell::new(etcd, &config.cluster, config.lease.request_timeout).map(Some)
        }
        (LeaseStore::Etcd | LeaseStore::Quorum | LeaseStore::Pair, _) => Ok(None),
    }
}

fn start_keeper(keeper: LeaseKeeper, stop: &CancellationToken) -> mpsc::Sender<LeaseCommand> {
    let (lease, commands) = mpsc::channel(COMMANDS_MAX);
    spawn_named("lease keeper", keeper.run(commands, stop.clone()));
    lease
}

/// Serves the members' link.
///
/// # Errors
/// [`StartError`].
pub async fn listen(
    config: &Config,
    own: &Site,
    service: Arc<dyn PeerService>,
    stop: &CancellationToken,
) -> Result<Arc<Admission>, StartError> {
    let address = own
        .listen
        .map_or_else(|| own.address.clone(), |listen| listen.to_string());
    serve_members(config, address, service, stop).await
}

/// Serves the members' link on an address.
///
/// # Errors
/// [`StartError`].
pub async fn serve_members(
    config: &Config,
    address: String,
    service: Arc<dyn PeerService>,
    stop: &CancellationToken,
) -> Result<Arc<Admission>, StartError> {
    let listener = TcpListener::bind(&address)
        .await
        .map_err(|source| StartError::Listen { address, source })?;
    let admission = Admission::new(AdmissionSettings {
        cluster: config.cluster.clone(),
        own: config.member(),
        members: config
            .members()
            .into_iter()
            .map(|(member, _)| member)
            .collect(),
        secret: &config.peer.secret,
    });
    let tls = config
        .peer
        .tls
        .as_ref()
        .map(tls::server_config)
        .transpose()?;
    let router = router(Arc::clone(&admission), service);
    let serving = serve(listener, router, tls, Arc::clone(&admission), stop.clone());
    spawn_named("members' link", serving);
    Ok(admission)
}

fn start_probes(
    config: &Config,
    mut running: Vec<(Box<dyn Probe>, ProbeTiming)>,
    resolver: &Resolver,
    node: &NodeControl,
    events: &mpsc::Sender<Event>,
    stop: &CancellationToken,
) -> Result<Scheduler, EffectError> {
    if let Some(peer) = config.peer_site() {
        let login = Login::new(&peer.node, &config.database, resolver)?;
        running.extend(database_probes(
            &config.database,
            &login,
            Target::PeerDatabase,
            None,
        ));
    }
    for address in &config.self_check.targets {
        let probe = NeutralProbe::new(address, resolver)?;
        running.push((Box::new(probe), config.self_check.timing));
    }
    for settings in &config.probes {
        let ours = config
            .site
            .as_ref()
            .is_some_and(|site| settings.sites.is_empty() || settings.sites.contains(site));
        if ours {
            running.push((probes::build(settings, resolver)?, settings.timing));
        }
    }
    let scheduler = Scheduler::start(running, Jitter::Seeded(rand::random()), events, stop);
    watch_process(&scheduler, node, events, stop);
    Ok(scheduler)
}

fn start_outbox(config: &Config, stop: &CancellationToken) -> Result<Outbox, EffectError> {
    let notifiers = config
        .notifiers
        .iter()
        .map(|settings| Ok((settings.name.clone(), notify::notifier_of(settings)?)))
        .collect::<Result<Vec<_>, EffectError>>()?;
    let (outbox, courier) = Outbox::open(&config.state_dir, notifiers);
    spawn_named("outbox", courier.run(stop.clone()));
    Ok(outbox)
}

/// Sees how far moves of DNS have got, whether somebody else changed a record, and whether the
/// providers could be used.
fn watch_dns(
    config: &Config,
    own: &Site,
    agent: &AgentHandle,
    outbox: &Outbox,
    stop: &CancellationToken,
) -> (Vec<DnsRecordTool>, DnsWatched) {
    let audience = dns_watch::Audience {
        cluster: config.cluster.clone(),
        site: own.name.clone(),
        outbox: outbox.clone(),
    };
    let (moved, seen) = dns_watch::start(agent, &audience, stop);
    let records = dns_records::tools(&agent.dns, moved);
    let providers = dns_records::tend(&agent.dns, &audience, stop);
    (records, (seen, providers))
}

/// What the parts counted since the start; only what is not zero.
#[must_use]
pub fn counters(parts: &Parts) -> Vec<Counter> {
    let refusals = parts.admission.refusals();
    let alerts = parts.outbox.counts();
    let mut counters: Vec<(CounterKind, String, u64)> = [
        ("refused_requests_unsealed", refusals.unsealed),
        ("refused_requests_wrong_secret", refusals.wrong_secret),
        ("refused_requests_tampered", refusals.tampered),
        ("refused_requests_replayed", refusals.replayed),
        ("refused_requests_wrong_cluster", refusals.wrong_cluster),
        ("refused_requests_misdirected", refusals.misdirected),
        ("refused_requests_tls", refusals.tls),
        ("alerts_dropped", alerts.dropped),
        ("alerts_expired", alerts.expired),
        ("alerts_refused", alerts.refused),
    ]
    .into_iter()
    .map(|(name, count)| (CounterKind::Event, name.to_owned(), count))
    .collect();
    let late = |(target, missed)| (CounterKind::LateLook, format!("{target}"), missed);
    counters.extend(parts.scheduler.missed().map(late));
    let silences = parts.members.silences().into_iter();
    counters.extend(silences.map(|(member, silence)| {
        let name = format!("reports unanswered by {member}: {}", silence.why);
        (CounterKind::Silence, name, silence.missed)
    }));
    counters
        .into_iter()
        .filter(|(_, _, count)| *count > 0)
        .map(|(kind, name, count)| Counter { kind, name, count })
        .collect()
}
