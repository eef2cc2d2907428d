//! One agent's side of the lease: the product's keeper, voter and link, without a node and without
//! a loop that decides anything.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use failover_agent::config::Config;
use failover_agent::effects::clock::boottime;
use failover_agent::effects::lease::etcd::EtcdCell;
use failover_agent::effects::peer::wire::{CommandAnswer, PeerCommand};
use failover_agent::effects::postgres::control::NodeControl;
use failover_agent::model::cell::{PeerAsk, PeerWord};
use failover_agent::model::event::Event;
use failover_agent::model::lease::{
    ClusterIdentity, ClusterRecord, LeaseChange, LeaseCommand, LeaseReply, LeaseRequest, LeaseView,
    Verdict,
};
use failover_agent::model::peer::PeerReport;
use failover_agent::model::{Epoch, Member, SiteName};
use failover_agent::runtime::agent::StartError;
use failover_agent::runtime::cell_link::{AskPeer, PeerAsks};
use failover_agent::runtime::fence_time::FenceTime;
use failover_agent::runtime::inherited;
use failover_agent::runtime::lease_keeper::{Held, LeaseKeeper};
use failover_agent::runtime::members::{Members, lease_rules};
use failover_agent::runtime::peer_server::PeerService;
use failover_agent::runtime::voter_host::VoterHost;
use failover_agent::runtime::wiring;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(30);
const ASK_EVERY: Duration = Duration::from_millis(50);
const MAX_WAITING: usize = 256;

/// What other members reach of it.
struct Answers {
    voter: VoterHost,
    cell: AskPeer,
}

#[async_trait]
impl PeerService for Answers {
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
        report
    }

    async fn command(&self, _from: Member, _command: PeerCommand) -> CommandAnswer {
        let text = "nobody decides here".to_owned();
        CommandAnswer::Refused { text }
    }
}

/// A contender, in one of its lives.
pub(crate) struct Contending {
    commands: mpsc::Sender<LeaseCommand>,
    changes: mpsc::UnboundedReceiver<LeaseChange>,
    view: watch::Receiver<(LeaseView, Option<ClusterRecord>)>,
    held: watch::Receiver<Held>,
    stop: CancellationToken,
    keeper: Option<JoinHandle<()>>,
}

impl Contending {
    /// Starts what the configuration says, with the vote that is found on the disk.
    pub(crate) async fn start(config: &Config) -> Result<Self, StartError> {
        let (own, peer) = (config.own_site().unwrap(), config.peer_site().unwrap());
        let stop = CancellationToken::new();
        let rules = lease_rules(config);
        let voter = VoterHost::open(rules.clone(), &config.state_dir).map_err(StartError::Vote)?;
        let (cell, asked) = PeerAsks::channel();
        let service = Answers {
            voter: voter.clone(),
            cell,
        };
        wiring::listen(config, own, Arc::new(service), &stop).await?;
        let patience = config.lease.request_timeout;
        let cell = |etcd| EtcdCell::new(etcd, &config.cluster, patience);
        let (events, received) = mpsc::channel(MAX_WAITING);
        let (commands, commanded) = mpsc::channel(MAX_WAITING);
        let (holding, held) = watch::channel(None);
        let keeper = LeaseKeeper {
            rules,
            site: own.name.clone(),
            epoch_before: inherited::epoch(&config.state_dir).unwrap_or(Epoch::NONE),
            seed: own.name.as_str().bytes().map(u64::from).sum(),
            voter,
            members: Members::new(config)?,
            node: NodeControl::new(own.name.clone(), own.node.clone()),
            unleased: None,
            state_dir: config.state_dir.clone(),
            guard: None,
            fence_time: FenceTime::open(&config.state_dir, &config.lease),
            // There is no node that could take writes.
            armed: watch::channel(false).1,
            held: holding,
            events,
            store: config.lease_store,
            cell: config.etcd.as_ref().map(cell).transpose()?,
            peer: peer.name.clone(),
            asked,
        };
        let (changes, view) = listen(received);
        let keeper = tokio::spawn(keeper.run(commanded, stop.clone()));
        Ok(Self {
            commands,
            changes,
            view,
            held,
            stop,
            keeper: Some(keeper),
        })
    }

    /// Falls silent, as a killed agent does: nothing is released.
    pub(crate) async fn stop(&mut self) {
        self.stop.cancel();
        if let Some(keeper) = self.keeper.take() {
            keeper.await.unwrap();
        }
    }

    /// What it holds, as its fence would know; of a stopped one, what it held last.
    pub(crate) fn held(&self) -> watch::Receiver<Held> {
        self.held.clone()
    }

    pub(crate) fn holds(&self) -> bool {
        self.held.borrow().is_some()
    }

    pub(crate) fn command(&self, command: LeaseCommand) {
        self.commands.try_send(command).unwrap();
    }

    pub(crate) async fn wait_view(&mut self, holds: impl Fn(&LeaseView) -> bool) -> LeaseView {
        let waiting = self.view.wait_for(|(view, _)| holds(view));
        let waited = tokio::time::timeout(SOON, waiting).await;
        waited.expect("the view comes in time").unwrap().0.clone()
    }

    pub(crate) async fn wait_free(&mut self) {
        self.wait_view(|view| matches!(view, LeaseView::Free { .. }))
            .await;
    }

    /// Waits until it sees that the other site holds the lease.
    pub(crate) async fn wait_other(&mut self) {
        self.wait_view(|view| matches!(view, LeaseView::Other { .. }))
            .await;
    }

    /// Waits until it knows this record.
    pub(crate) async fn wait_record(&mut self, record: &ClusterRecord) {
        let waiting = self
            .view
            .wait_for(|(_, known)| known.as_ref() == Some(record));
        let waited = tokio::time::timeout(SOON, waiting).await;
        waited.expect("the record comes in time").unwrap();
    }

    /// Waits until a renewal has counted that was sent from now on.
    pub(crate) async fn wait_renewed(&mut self) {
        let fence_at = |held: &Held| held.map(|(_, fence_at)| fence_at);
        let before = fence_at(&self.held.borrow());
        let renewed = self.held.wait_for(|held| fence_at(held) > before);
        let waited = tokio::time::timeout(SOON, renewed).await;
        waited.expect("a renewal counts in time").unwrap();
    }

    pub(crate) async fn wait_change<T>(
        &mut self,
        mut wanted: impl FnMut(&LeaseChange) -> Option<T>,
    ) -> T {
        let waiting = async {
            loop {
                let change = self.changes.recv().await.unwrap();
                if let Some(found) = wanted(&change) {
                    return found;
                }
            }
        };
        let waited = tokio::time::timeout(SOON, waiting).await;
        waited.expect("the change comes in time")
    }

    pub(crate) async fn wait_lost(&mut self) -> Instant {
        self.wait_change(|change| matches!(change, LeaseChange::Lost { .. }).then_some(()))
            .await;
        Instant::now()
    }

    /// Waits until it sees that the lease was released to a site.
    pub(crate) async fn wait_released_to(&mut self, site: &str) {
        let to = Some(SiteName::new(site));
        self.wait_view(
            |view| matches!(view, LeaseView::Free { released_to, .. } if *released_to == to),
        )
        .await;
    }

    /// Gives the lease up, and waits until that is known.
    pub(crate) async fn release(&mut self, to: Option<&str>) {
        let to = to.map(SiteName::new);
        self.command(LeaseCommand::Release { to });
        let released =
            |change: &LeaseChange| matches!(change, LeaseChange::Released { .. }).then_some(());
        self.wait_change(released).await;
    }

    /// Keeps this record, and waits until enough others have it.
    pub(crate) async fn keep(&mut self, record: &ClusterRecord) {
        self.command(LeaseCommand::Keep(Box::new(record.clone())));
        let kept = |change: &LeaseChange| {
            matches!(change, LeaseChange::RecordKept { version } if *version == record.version())
                .then_some(())
        };
        self.wait_change(kept).await;
    }

    /// Asks once, in vain; why.
    pub(crate) async fn ask_in_vain(&mut self) -> Verdict {
        while self.changes.try_recv().is_ok() {}
        self.command(LeaseCommand::Acquire);
        let verdict = self
            .wait_change(|change| match change {
                LeaseChange::NotAcquired { verdict } => Some(*verdict),
                _ => None,
            })
            .await;
        assert!(!self.holds());
        verdict
    }

    /// Asks again and again until it holds; which epoch, and when.
    pub(crate) async fn take_over(&mut self) -> (Epoch, Instant) {
        let began = Instant::now();
        while !self.holds() {
            assert!(began.elapsed() < SOON, "not taken over");
            self.command(LeaseCommand::Acquire);
            // bounded: the assertion above
            tokio::time::sleep(ASK_EVERY).await;
        }
        (self.epoch(), Instant::now())
    }

    /// Asks again and again, and never gets it.
    pub(crate) async fn never_takes_over(&mut self, within: Duration) {
        let until = boottime() + within;
        while boottime() < until {
            self.ask_in_vain().await;
            // bounded: by `within`
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// The epoch that it holds.
    pub(crate) fn epoch(&self) -> Epoch {
        self.held.borrow().expect("it holds the lease").0
    }
}

/// Both ask again and again until one of them holds; true: the first.
pub(crate) async fn contend(one: &Contending, other: &Contending) -> bool {
    let began = Instant::now();
    while !one.holds() && !other.holds() {
        assert!(began.elapsed() < SOON, "nobody wins");
        one.command(LeaseCommand::Acquire);
        other.command(LeaseCommand::Acquire);
        // bounded: the assertion above
        tokio::time::sleep(ASK_EVERY).await;
    }
    one.holds()
}

type Views = watch::Receiver<(LeaseView, Option<ClusterRecord>)>;

/// Takes what the keeper tells the loop that is not there.
fn listen(mut events: mpsc::Receiver<Event>) -> (mpsc::UnboundedReceiver<LeaseChange>, Views) {
    let (told, changes) = mpsc::unbounded_channel();
    let (seen, view) = watch::channel((LeaseView::Unknown, None));
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            let Event::Lease(change) = event else {
                continue;
            };
            if let LeaseChange::View { view, record, .. } = &change {
                seen.send_replace((view.clone(), record.clone()));
            }
            // A life that is over is not listened to any more.
            drop(told.send(change));
        }
    });
    (changes, view)
}

impl Drop for Contending {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
