//! One agent's side of the lease over a real store: the machine, its requests and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use failover_agent::decision::lease::{Asked, Input, LeaseMachine, LeaseRules, Mode};
use failover_agent::effects::clock::boottime;
use failover_agent::effects::lease::etcd::EtcdCell;
use failover_agent::model::lease::{
    ClusterRecord, LeaseChange, LeaseCommand, LeaseStore, LeaseView,
};
use failover_agent::model::{ClusterName, Epoch, Lsn, Member, SiteName, SystemId, Timeline};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::support::etcd::TestEtcd;

const TTL: Duration = Duration::from_secs(2);
const SOON: Duration = Duration::from_secs(30);

pub(crate) struct Contending {
    inputs: mpsc::UnboundedSender<Input>,
    changes: mpsc::UnboundedReceiver<LeaseChange>,
    view: watch::Receiver<LeaseView>,
    swallows: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

pub(crate) fn rules(site: &str) -> LeaseRules {
    let voters = ["a", "b"].map(|name| Member::Site(SiteName::new(name)));
    LeaseRules {
        ttl: TTL,
        renew_every: TTL / 5,
        request_timeout: TTL / 7,
        fence_budget: TTL / 5,
        mode: Mode::Quorum,
        me: Member::Site(SiteName::new(site)),
        identity: LeaseRules::identity_of(ClusterName::new("shop"), &voters),
        voters: voters.into(),
        broken: None,
    }
}

pub(crate) fn record(primary: &str, epoch: Epoch) -> ClusterRecord {
    ClusterRecord {
        epoch,
        revision: 1,
        primary: SiteName::new(primary),
        promoting: false,
        system_id: SystemId(7),
        timeline: Timeline(1),
        last_lsn: Lsn(42),
        last_failover: None,
        brakes: Box::default(),
    }
}

/// A contender of `site` over the cell of cluster `shop`; the other agent never answers.
pub(crate) fn contender(etcd: &TestEtcd, site: &str) -> Contending {
    let (inputs, received) = mpsc::unbounded_channel();
    let (told, changes) = mpsc::unbounded_channel();
    let (seen, view) = watch::channel(LeaseView::Unknown);
    let swallows = Arc::new(AtomicBool::new(false));
    let peer = if site == "a" { "b" } else { "a" };
    let machine = LeaseMachine::new(
        LeaseStore::Etcd,
        rules(site),
        SiteName::new(site),
        SiteName::new(peer),
        site.bytes().map(u64::from).sum(),
        boottime(),
    );
    let link = Link {
        cell: etcd.cell("shop"),
        inputs: inputs.clone(),
        swallows: Arc::clone(&swallows),
    };
    let task = tokio::spawn(run(machine, link, received, told, seen));
    Contending {
        inputs,
        changes,
        view,
        swallows,
        task,
    }
}

struct Link {
    cell: EtcdCell,
    inputs: mpsc::UnboundedSender<Input>,
    swallows: Arc<AtomicBool>,
}

impl Link {
    fn carry(&self, round: u64, what: Asked) {
        let (cell, inputs) = (self.cell.clone(), self.inputs.clone());
        let swallows = Arc::clone(&self.swallows);
        tokio::spawn(async move {
            let input = match what {
                Asked::Store(request) => {
                    let reply = cell.call(&request, TTL / 7).await.ok();
                    let reply = reply.filter(|_| !swallows.load(Ordering::SeqCst));
                    Input::Cell { round, reply }
                }
                Asked::Peer(_) => Input::PeerSaid { round, word: None },
            };
            drop(inputs.send(input));
        });
    }
}

async fn run(
    mut machine: LeaseMachine,
    link: Link,
    mut inputs: mpsc::UnboundedReceiver<Input>,
    told: mpsc::UnboundedSender<LeaseChange>,
    seen: watch::Sender<LeaseView>,
) {
    let mut input = Input::Tick;
    loop {
        let output = machine.handle(input, boottime());
        seen.send_replace(machine.current_view());
        for ask in output.asks {
            link.carry(ask.round, ask.what);
        }
        for change in output.changes {
            drop(told.send(change));
        }
        let wait = output.wake_at.map_or(TTL, |at| boottime().until(at));
        input = tokio::select! {
            next = inputs.recv() => match next {
                Some(next) => next,
                None => return,
            },
            // bounded: by the machine's own wish, or a ttl
            () = tokio::time::sleep(wait) => Input::Tick,
        };
    }
}

impl Contending {
    pub(crate) fn command(&self, command: LeaseCommand) {
        self.inputs.send(Input::Command(command)).unwrap();
    }

    /// From now on requests arrive and answers do not.
    pub(crate) fn swallow_answers(&self, swallow: bool) {
        self.swallows.store(swallow, Ordering::SeqCst);
    }

    pub(crate) fn holds(&self) -> bool {
        matches!(*self.view.borrow(), LeaseView::Held { .. })
    }

    pub(crate) async fn wait_view(&mut self, holds: impl Fn(&LeaseView) -> bool) -> LeaseView {
        let waited = tokio::time::timeout(SOON, self.view.wait_for(|view| holds(view))).await;
        waited.expect("the view comes in time").unwrap().clone()
    }

    pub(crate) async fn wait_free(&mut self) {
        self.wait_view(|view| matches!(view, LeaseView::Free { .. }))
            .await;
    }

    pub(crate) async fn wait_held(&mut self) -> Epoch {
        match self
            .wait_view(|view| matches!(view, LeaseView::Held { .. }))
            .await
        {
            LeaseView::Held { epoch, .. } => epoch,
            other => panic!("{other:?}"),
        }
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

    /// Asks again and again until it holds; which epoch, and when.
    pub(crate) async fn take_over(&mut self) -> (Epoch, Instant) {
        let began = Instant::now();
        while !self.holds() {
            assert!(began.elapsed() < SOON, "not taken over");
            self.command(LeaseCommand::Acquire);
            // bounded: the assertion above
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let at = Instant::now();
        (self.wait_held().await, at)
    }
}

/// Waits until one of two holds; true: the first.
pub(crate) async fn first_held(a: &mut Contending, b: &mut Contending) -> bool {
    tokio::select! {
        _ = a.wait_held() => true,
        _ = b.wait_held() => false,
    }
}

impl Drop for Contending {
    fn drop(&mut self) {
        self.task.abort();
    }
}
