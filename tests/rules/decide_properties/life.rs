//! One agent that lives through a random history.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "what cannot happen right now does not"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use failover_agent::decision::decide::{Action, Order};
use failover_agent::decision::state::Inherited;
use failover_agent::model::event::{Command, Event, Learned, StepFinished, Wish};
use failover_agent::model::journal::JournalEntry;
use failover_agent::model::lease::{ClusterRecord, LeaseChange, LeaseCommand, LeaseView, Verdict};
use failover_agent::model::observation::{
    Channel, EndpointResult, EndpointSeen, Observation, Phases, Seen, Target,
};
use failover_agent::model::outcome::Failure;
use failover_agent::model::peer::PeerReport;
use failover_agent::model::time::Now;
use failover_agent::model::{
    Epoch, Member, Moment, PlanId, ProbeName, SiteName, Timeline, Timestamp,
};

use super::history::{End, Happening};
use crate::world;
use crate::world::agent::{Agent, Crash};
use crate::world::nodes::{HEAD, How, Node, SYSTEM};

/// An agent and what it has asked for.
pub(crate) struct Life {
    pub agent: Agent,
    pub now: Moment,
    epoch: u64,
    orders: Vec<Order>,
    old: Vec<StepFinished>,
    asked: bool,
    releasing: Option<Option<SiteName>>,
    keeping: Option<(Epoch, u64)>,
    record: Option<ClusterRecord>,
    /// How often each plan was begun.
    pub started: BTreeMap<PlanId, usize>,
}

impl Life {
    pub(crate) fn new(start: How) -> Self {
        let now = Moment::from_boot(Duration::from_secs(100));
        let policy = world::policy("fra");
        let agent = Agent::start(policy, Vec::new(), Inherited::NeverActive, at(now));
        let record = ClusterRecord {
            epoch: Epoch(1),
            revision: 1,
            primary: SiteName::new(if start == How::Primary { "fra" } else { "ams" }),
            promoting: false,
            system_id: SYSTEM,
            timeline: Timeline(1),
            last_lsn: HEAD,
            last_failover: None,
            brakes: Box::default(),
        };
        Self {
            agent,
            now,
            epoch: 1,
            orders: Vec::new(),
            old: Vec::new(),
            asked: false,
            releasing: None,
            keeping: None,
            record: Some(record),
            started: BTreeMap::new(),
        }
    }

    fn feed(&mut self, event: &Event) {
        let fed = self.agent.feed(event, at(self.now), Crash::Never);
        for action in fed.carried_out {
            match action {
                Action::Run(order) => self.orders.push(*order),
                Action::Abandon(plan) => {
                    let (mine, kept) = self.orders.drain(..).partition(|order| order.plan == plan);
                    self.orders = kept;
                    let mine: Vec<Order> = mine;
                    self.old
                        .extend(mine.iter().map(|order| ended(order, End::Well)));
                }
                Action::Lease(LeaseCommand::Acquire) => self.asked = true,
                Action::Lease(LeaseCommand::Release { to }) => self.releasing = Some(to),
                Action::Lease(LeaseCommand::Keep(record)) => {
                    self.keeping = Some(record.version());
                    self.record = Some(*record);
                }
                Action::Journal(JournalEntry::Planned { plan, .. }) => {
                    *self.started.entry(plan.id).or_default() += 1;
                }
                Action::Journal(_) | Action::Tell(_) | Action::Answer { .. } => {}
            }
        }
    }

    fn observe(&mut self, target: Target, seen: Seen) {
        self.feed(&Event::Observed(Observation {
            target,
            at: self.now,
            took: Duration::from_millis(1),
            seen,
        }));
    }

    fn view(&mut self, view: LeaseView) {
        let reached = self.agent.policy.voters.clone();
        let record = self.record.clone();
        self.feed(&Event::Lease(LeaseChange::View {
            view,
            record,
            reached,
        }));
    }

    fn probe(&mut self, own: bool, how: How, open: bool) {
        let channel = if open {
            Channel::Persistent
        } else {
            Channel::Fresh
        };
        let target = if own {
            Target::OwnDatabase(channel)
        } else {
            Target::PeerDatabase(channel)
        };
        if own {
            self.observe(Target::OwnProcess, Seen::Process(Node::new(how).process()));
            let directory = Seen::Directory(Node::new(how).directory());
            self.observe(Target::OwnDirectory, directory);
        }
        if let Some(seen) = Node::new(how).seen() {
            self.observe(target, Seen::Database(seen));
        }
    }

    fn report(&mut self, from: Member, how: Option<How>, tripped: bool) {
        self.feed(&Event::Reported(Box::new(PeerReport {
            from,
            version: "1".to_owned(),
            clock: Timestamp(0),
            epoch: Epoch(self.epoch),
            active: false,
            own_database: how.and_then(|how| Node::new(how).seen()),
            sees: Vec::new(),
            diagnoses: Vec::new(),
            site_tripped: tripped,
            observes: false,
            doing: None,
        })));
    }

    fn held(&self) -> LeaseView {
        LeaseView::Held {
            epoch: Epoch(self.epoch),
            fence_at: self.now + Duration::from_secs(8),
        }
    }

    pub(crate) fn happen(&mut self, happening: Happening) {
        use Happening as H;
        let peer = Member::Site(self.agent.policy.peer.clone());
        match happening {
            H::OwnProbe(how, open) => self.probe(true, how, open),
            H::PeerProbe(how, open) => self.probe(false, how, open),
            H::PeerReports(how, well) => self.report(peer, Some(how), !well),
            H::PeerMissed => self.feed(&Event::ReportMissed { from: peer }),
            H::WitnessReports => self.report(Member::Witness, None, false),
            H::WitnessMissed => {
                let from = Member::Witness;
                self.feed(&Event::ReportMissed { from });
            }
            H::Endpoint(up) => {
                let result = if up {
                    EndpointResult::Passed
                } else {
                    EndpointResult::Refused
                };
                let phases = Phases::default();
                let seen = Seen::Endpoint(EndpointSeen { result, phases });
                self.observe(Target::Endpoint(ProbeName::new("web")), seen);
            }
            H::Steps(end) => {
                for order in std::mem::take(&mut self.orders) {
                    let finished = ended(&order, end);
                    self.old.push(finished.clone());
                    self.feed(&Event::StepFinished(finished));
                }
            }
            H::LateStep => {
                if let Some(finished) = self.old.first().cloned() {
                    self.feed(&Event::StepFinished(finished));
                }
            }
            H::JournalBroken => {
                let why = "no space".to_owned();
                self.feed(&Event::JournalBroken { why });
            }
            H::JournalMended => self.feed(&Event::JournalMended),
            H::Failover(mine, dry_run) => {
                let to = SiteName::new(if mine { "fra" } else { "ams" });
                let wish = Wish::Failover { to, dry_run };
                self.feed(&Event::Command(Command { id: 1, wish }));
            }
            H::Tick => self.feed(&Event::Tick),
            H::Restart(deadline) => self.restart(deadline),
            lease => self.lease_happens(&lease),
        }
    }

    /// News of the lease, where they can come: a lease that was not asked for is not granted.
    fn lease_happens(&mut self, happening: &Happening) {
        use Happening as H;
        let epoch = Epoch(self.epoch);
        let holds = self.agent.state.held_epoch().is_some() && self.releasing.is_none();
        match happening {
            H::Granted if self.asked => {
                self.asked = false;
                self.releasing = None;
                self.epoch += 1;
                let view = self.held();
                self.view(view);
            }
            H::Renewed if holds => {
                let view = self.held();
                self.view(view);
            }
            H::Lost if holds => {
                self.feed(&Event::Lease(LeaseChange::Lost { epoch }));
                self.view(LeaseView::Unknown);
            }
            H::Released => {
                if let Some(to) = self.releasing.take() {
                    self.feed(&Event::Lease(LeaseChange::Released {
                        epoch,
                        to: to.clone(),
                    }));
                    let released_to = to;
                    self.view(LeaseView::Free { epoch, released_to });
                }
            }
            H::RecordKept => {
                if let Some(version) = self.keeping.take() {
                    self.feed(&Event::Lease(LeaseChange::RecordKept { version }));
                }
            }
            H::Refused if self.asked => {
                self.asked = false;
                let verdict = Verdict::GrantRuns;
                self.feed(&Event::Lease(LeaseChange::NotAcquired { verdict }));
            }
            H::RecordMoved(mine, promoting) if !holds => {
                if let Some(record) = &mut self.record {
                    record.revision += 1;
                    record.primary = SiteName::new(if *mine { "fra" } else { "ams" });
                    record.promoting = *promoting;
                }
            }
            H::NobodyAnswers if !holds => self.view(LeaseView::Unknown),
            H::MineFromBefore if !holds => {
                let holder = self.agent.policy.me.clone();
                self.view(LeaseView::Other { holder, epoch });
            }
            H::Other if !holds => {
                let holder = self.agent.policy.peer.clone();
                self.epoch += 1;
                let epoch = Epoch(self.epoch);
                self.view(LeaseView::Other { holder, epoch });
            }
            H::Free(to) if !holds => {
                let (me, peer) = (self.agent.policy.me.clone(), self.agent.policy.peer.clone());
                let released_to = to.map(|mine| if mine { me } else { peer });
                self.view(LeaseView::Free { epoch, released_to });
            }
            _ => {}
        }
    }

    fn restart(&mut self, deadline: bool) {
        let inherited = if deadline {
            Inherited::FenceAt(self.now + Duration::from_secs(2))
        } else {
            Inherited::NoDeadline
        };
        let (policy, lines) = (self.agent.policy.clone(), self.agent.lines.clone());
        self.agent = Agent::start(policy, lines, inherited, at(self.now));
        self.orders.clear();
        self.asked = false;
        self.releasing = None;
        self.keeping = None;
    }
}

fn at(moment: Moment) -> Now {
    let millis = i64::try_from(moment.since_boot().as_millis()).unwrap_or(i64::MAX);
    Now {
        moment,
        wall: Timestamp(1_800_000_000_000 + millis),
    }
}

fn ended(order: &Order, end: End) -> StepFinished {
    let result = match end {
        End::Well => Ok(Learned::default()),
        End::Fails(kind) => Err(Failure {
            kind,
            what: "made to fail".to_owned(),
            hint: None,
            retry_after: None,
        }),
    };
    StepFinished {
        plan: order.plan.clone(),
        step: order.step,
        attempt: order.attempt,
        undo: order.undo,
        took: Duration::from_millis(10),
        result,
    }
}
