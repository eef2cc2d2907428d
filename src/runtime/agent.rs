//! Wiring and the loop: event → decide → journal → act → event.
//!
//! One task owns the state. Everybody else sends events or reads the snapshot.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::decision::decide::{Action, Verdict, decide};
use crate::decision::policy::Policy;
use crate::decision::resume::{Resumed, resume};
use crate::decision::state::State;
use crate::effects::clock;
use crate::effects::error::EffectError;
use crate::model::Epoch;
use crate::model::brakes::Conduct;
use crate::model::event::Event;
use crate::model::journal::{JournalEntry, JournalLine};
use crate::model::lease::LeaseCommand;
use crate::model::peer::PeerReport;
use crate::model::time::Now;
use crate::runtime::app_desk::AppDesk;
use crate::runtime::app_watch::AppFilesSeen;
use crate::runtime::dns_desk::DnsDesk;
use crate::runtime::dns_records::DnsProviders;
use crate::runtime::dns_watch::DnsSeen;
use crate::runtime::executor::Executor;
use crate::runtime::fence_time::FenceTime;
use crate::runtime::guard::link::GuardSeen;
use crate::runtime::handle::{AgentHandle, Request};
use crate::runtime::journal::{Journal, JournalError};
use crate::runtime::journal_writer::JournalWriter;
use crate::runtime::lease_keeper::Unleased;
use crate::runtime::members::Members;
use crate::runtime::outbox::Outbox;
use crate::runtime::peer_server::Admission;
use crate::runtime::scheduler::Scheduler;
use crate::runtime::status::{self, Counter, Snapshot};
use crate::runtime::tasks::spawn_named;
use crate::runtime::upstreams::UpstreamStatus;
use crate::runtime::vote_file::{LoadedVote, VoteFile, VoteFileError};
use crate::runtime::wiring::Outset;
use crate::runtime::wishes::Wishes;
use crate::runtime::{alerts, inherited, pace, reports, wiring};

/// Events that wait for the loop at most; the loop takes microseconds for each.
pub const EVENTS_MAX: usize = 1024;
/// Wishes of people that wait at most.
const REQUESTS_MAX: usize = 16;

/// Why an agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration does not say which site this is.
    #[error("the configuration names no site for this agent")]
    NoSite,
    /// The state directory cannot be used.
    #[error("cannot use the state directory")]
    StateDir(#[source] std::io::Error),
    /// The journal cannot be opened.
    #[error("cannot open the journal")]
    Journal(#[source] JournalError),
    /// The vote cannot be read.
    #[error("cannot read the vote")]
    Vote(#[source] VoteFileError),
    /// An adapter cannot be built.
    #[error("cannot prepare")]
    Effect(#[from] EffectError),
    /// The agent's address cannot be bound.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// Starts the agent of `config.site`. The returned task ends after `stop`, once everything is
/// written down; the node goes on under its lease.
///
/// `program` is this one, to be started as guard.
///
/// # Errors
/// [`StartError`].
pub async fn start(
    mut config: Config,
    program: &Path,
    stop: CancellationToken,
) -> Result<(AgentHandle, JoinHandle<()>), StartError> {
    std::fs::create_dir_all(&config.state_dir).map_err(StartError::StateDir)?;
    let fence_time = FenceTime::open(&config.state_dir, &config.lease);
    // Plans, lease and guard all count with what this host needs.
    config.lease.fence_budget = fence_time.budget();
    let policy = crate::runtime::policy::policy(&config).ok_or(StartError::NoSite)?;
    let (mut journal, lines, warnings) =
        Journal::open(&config.state_dir).map_err(StartError::Journal)?;
    for warning in warnings {
        tracing::warn!(reason = %warning, "journal");
    }
    let (resumed, epoch_before) = former_life(&config, &lines)?;
    let inherited = inherited::read(&config.state_dir, resumed.was_member);
    let state = State::new(&policy, &resumed, inherited, clock::boottime());
    let mut opening = vec![JournalEntry::AgentStarted {
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }];
    opening.extend(resumed.unfinished.iter().map(|plan| JournalEntry::Remark {
        text: format!(
            "plan {plan} of a former life was not finished; what is left is derived anew"
        ),
    }));
    journal.append(&opening).map_err(StartError::Journal)?;

    let (events, received) = mpsc::channel(EVENTS_MAX);
    let (requests, asked) = mpsc::channel(REQUESTS_MAX);
    let now = now();
    let first = status::snapshot(&config.cluster, &policy, &state, Vec::new(), now);
    let (snapshot, status) = watch::channel(Arc::new(first));
    let (held, held_seen) = watch::channel(None);
    let handle = AgentHandle {
        status,
        held: held_seen,
        requests,
        dns: DnsDesk::new(&config),
        apps: AppDesk::new(&config),
    };
    let report = reports::own_report(&policy, &state, now);
    let acts = policy.conduct == Conduct::Act;
    let unleased = state.fence_by.filter(|_| acts).map(|fence_at| Unleased {
        fence_at,
        system_id: state.record.as_ref().map(|record| record.system_id),
    });
    let parts = wiring::start(
        &config,
        &policy,
        events.clone(),
        handle.clone(),
        Outset {
            held,
            report,
            epoch_before,
            unleased,
            program,
            fence_time,
        },
        &stop,
    )
    .await?;

    let agent = Agent {
        cluster: config.cluster.clone(),
        state: Some(state),
        journal: JournalWriter::new(journal),
        snapshot,
        wishes: Wishes::new(parts.members.clone()),
        parts,
        policy,
    };
    let task = spawn_named("agent", agent.run(received, asked, stop));
    Ok((handle, task))
}

/// What journal and vote say of this agent's former lives, and the highest epoch that they knew.
fn former_life(config: &Config, lines: &[JournalLine]) -> Result<(Resumed, Epoch), StartError> {
    let mut resumed = resume(lines);
    let vote = VoteFile::new(&config.state_dir, config.cluster.clone());
    if let LoadedVote::Vote(vote) = vote.load().map_err(StartError::Vote)? {
        // Until the voters answer, the own one knows best what the cluster was.
        resumed.was_member |= vote.promised > Epoch::NONE;
        resumed.record = vote.record.or(resumed.record);
    }
    let recorded = resumed.record.as_ref().map(|record| record.epoch);
    let epoch_before = [
        Some(resumed.epoch),
        recorded,
        inherited::epoch(&config.state_dir),
    ]
    .into_iter()
    .flatten()
    .max()
    .unwrap_or(Epoch::NONE);
    Ok((resumed, epoch_before))
}

/// Everything the loop talks to.
#[derive(Debug)]
pub struct Parts {
    /// Runs steps.
    pub executor: Executor,
    /// Runs probes.
    pub scheduler: Scheduler,
    /// How groups of app servers are.
    pub upstreams: Vec<watch::Receiver<UpstreamStatus>>,
    /// Tells people.
    pub outbox: Outbox,
    /// The lease machine.
    pub lease: mpsc::Sender<LeaseCommand>,
    /// Whether the own node may be taking writes.
    pub armed: watch::Sender<bool>,
    /// The newest epoch, for the write canary.
    pub epoch: watch::Sender<Epoch>,
    /// The own report.
    pub report: watch::Sender<PeerReport>,
    /// The links, for passing commands on.
    pub members: Members,
    /// Refused requests.
    pub admission: Arc<Admission>,
    /// The guard; `None` for a node that is controlled by commands.
    pub guard: Option<watch::Receiver<GuardSeen>>,
    /// How long fences took.
    pub fence_time: FenceTime,
    /// The files of this site's apps.
    pub app_files: AppFilesSeen,
    /// What the world sees of DNS.
    pub dns: watch::Receiver<DnsSeen>,
    /// Whether the providers of DNS could be used.
    pub dns_providers: watch::Receiver<DnsProviders>,
}

struct Agent {
    cluster: crate::model::ClusterName,
    policy: Policy,
    /// Always there between two events; taken out while `decide` has it.
    state: Option<State>,
    journal: JournalWriter,
    parts: Parts,
    snapshot: watch::Sender<Arc<Snapshot>>,
    wishes: Wishes,
}

impl Agent {
    async fn run(
        mut self,
        mut received: mpsc::Receiver<Event>,
        mut asked: mpsc::Receiver<Request>,
        stop: CancellationToken,
    ) {
        let mut wake_at = clock::boottime();
        loop {
            let wait = clock::boottime().until(wake_at);
            let event = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                // Only a bug ends the keeper. Without it nothing renews and nothing fences at the
                // deadline: this process ends, and the next one inherits the deadline (S4).
                () = self.parts.lease.closed() => {
                    tracing::error!("the lease keeper has ended: this agent ends, too");
                    return;
                }
                Some(event) = received.recv() => event,
                Some(request) = asked.recv() => self.wishes.take(request),
                () = tokio::time::sleep(wait) => Event::Tick,
            };
            // At the latest at `wake_at` this loop had to come round: that of a timer that fires
            // late, of a process that was stopped, and of a disk that held up the last verdict.
            let late = clock::boottime().since(wake_at);
            let late = (late >= self.policy.late_max).then_some(Event::Late { by: late });
            let mended = self.journal.mend().then_some(Event::JournalMended);
            for event in late.into_iter().chain(mended).chain([event]) {
                let Some(verdict) = self.decide(&event) else {
                    return;
                };
                wake_at = verdict.wake_at;
                self.act(verdict).await;
            }
        }
        // Why it cannot be written was logged when it began to be so.
        drop(self.journal.write(&[JournalEntry::AgentStopped]));
    }

    /// Decides, and makes durable what the verdict announces before any of it is done (S11).
    fn decide(&mut self, event: &Event) -> Option<Verdict> {
        let now = Now {
            moment: clock::boottime(),
            wall: clock::wall(),
        };
        let state = self.state.take()?;
        if self.journal.is_broken() {
            let verdict = decide(&self.policy, state, event, now);
            self.journal.write_late(entries(&verdict));
            return Some(verdict);
        }
        let before = state.clone();
        let verdict = decide(&self.policy, state, event, now);
        let Err(why) = self.journal.write(&entries(&verdict)) else {
            return Some(verdict);
        };
        // Nothing of that verdict has happened. Decided anew, knowing why it must not.
        let broken = decide(&self.policy, before, &Event::JournalBroken { why }, now);
        let mut verdict = decide(&self.policy, broken.state, event, now);
        verdict.actions.splice(0..0, broken.actions);
        self.journal.write_late(entries(&verdict));
        Some(verdict)
    }

    /// Carries out a verdict in its order. What it announces is durable already.
    async fn act(&mut self, verdict: Verdict) {
        // First of all: from here on a lost lease must fence (S2).
        let armed = verdict.state.armed() && self.policy.conduct == Conduct::Act;
        self.parts
            .armed
            .send_if_modified(|known| replace(known, armed));
        let epoch = verdict.state.epoch();
        self.parts
            .epoch
            .send_if_modified(|known| replace(known, epoch));
        let before = self.snapshot.borrow().phase.clone();
        if before != verdict.state.phase.to_string() {
            tracing::info!(from = %before, phase = %verdict.state.phase, %epoch, "phase changed");
        }
        // Before anything is done: load balancers must not be sent to a node that is being fenced.
        self.publish(verdict.state);
        for action in verdict.actions {
            self.perform(action, epoch).await;
        }
    }

    async fn perform(&mut self, action: Action, epoch: Epoch) {
        match action {
            Action::Journal(_) => {}
            // The keeper takes commands as long as this agent lives.
            Action::Lease(command) => drop(self.parts.lease.send(command).await),
            Action::Run(order) => self.parts.executor.run(*order),
            Action::Abandon(plan) => self.parts.executor.abandon(&plan),
            Action::Tell(telling) => self.parts.outbox.push(alerts::from_telling(
                &self.cluster,
                &self.policy.me,
                epoch,
                &telling,
                clock::wall(),
            )),
            Action::Answer { id, answer } => self.wishes.answer(id, answer),
        }
    }

    fn publish(&mut self, state: State) {
        let now = Now {
            moment: clock::boottime(),
            wall: clock::wall(),
        };
        let counters = self.counters();
        let mut picture = status::snapshot(&self.cluster, &self.policy, &state, counters, now);
        let guard = self.parts.guard.as_ref();
        picture.guard_seen = guard.map(|seen| seen.borrow().clone());
        picture.guard = picture.guard_seen.as_ref().map(GuardSeen::words);
        let groups = self.parts.upstreams.iter();
        picture.upstreams = groups.map(|group| group.borrow().clone()).collect();
        picture.fence = self.parts.fence_time.words();
        picture.app_files = self.parts.app_files.borrow().clone();
        picture.dns = self.parts.dns.borrow().iter().flatten().cloned().collect();
        picture.dns_providers = self.parts.dns_providers.borrow().clone();
        self.snapshot.send_replace(Arc::new(picture));
        let report = reports::own_report(&self.policy, &state, now);
        self.parts.report.send_if_modified(|known| {
            let news = says_something_new(known, &report);
            *known = report;
            news
        });
        pace::set(&self.parts.scheduler, &self.policy, &state, now.moment);
        self.state = Some(state);
    }

    fn counters(&self) -> Vec<Counter> {
        wiring::counters(&self.parts)
    }
}

/// What a verdict announces.
fn entries(verdict: &Verdict) -> Vec<JournalEntry> {
    let entries = verdict.actions.iter().filter_map(|action| match action {
        Action::Journal(entry) => Some(entry.clone()),
        Action::Lease(_)
        | Action::Run(_)
        | Action::Abandon(_)
        | Action::Tell(_)
        | Action::Answer { .. } => None,
    });
    entries.collect()
}

/// Both clocks, read together.
fn now() -> Now {
    Now {
        moment: clock::boottime(),
        wall: clock::wall(),
    }
}

fn replace<T: PartialEq>(known: &mut T, new: T) -> bool {
    let changed = *known != new;
    *known = new;
    changed
}

/// Everything but clocks and durations.
fn says_something_new(known: &PeerReport, new: &PeerReport) -> bool {
    let steps = |report: &PeerReport| {
        report.doing.as_ref().map(|doing| {
            let states: Vec<_> = doing.steps.iter().map(|step| step.state).collect();
            (doing.plan.clone(), states, doing.ended.clone())
        })
    };
    let node = |report: &PeerReport| report.own_database.as_ref().map(std::mem::discriminant);
    known.active != new.active
        || known.epoch != new.epoch
        || known.diagnoses != new.diagnoses
        || known.site_tripped != new.site_tripped
        || node(known) != node(new)
        || steps(known) != steps(new)
}
