//! The snapshot: one immutable picture of the agent, read by every surface (CLI, API).
//!
//! It always shows what the agent sees, what it would do, and why it does not.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::decision::diagnose::{self, Remedy};
use crate::decision::health::Condition;
use crate::decision::housekeeping;
use crate::decision::policy::Policy;
use crate::decision::progress::{Course, PlanRun};
use crate::decision::situate;
use crate::decision::state::{Contact, Phase, State};
use crate::effects::clock::boottime;
use crate::model::diagnosis::{Diagnosis, Severity};
use crate::model::dns::DnsStatus;
use crate::model::dns_provider::DnsProviderStatus;
use crate::model::lease::{ClusterRecord, LeaseView};
use crate::model::observation::{DatabaseSeen, DirectorySeen, EndpointResult, ProcessSeen, Seen};
use crate::model::peer::{Progress, StepProgress, StepState};
use crate::model::situation::{Facts, Reach, Standing};
use crate::model::time::Now;
use crate::model::{ClusterName, Epoch, Member, Moment, SiteName, Timestamp};
use crate::runtime::app_watch::AppFilesStatus;
use crate::runtime::brake_status::{BrakeStatus, brake_status};
use crate::runtime::evidence::Evidence;
use crate::runtime::guard::link::GuardSeen;
use crate::runtime::upstreams::UpstreamStatus;

/// Everything a surface may show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The cluster.
    pub cluster: ClusterName,
    /// This site.
    pub site: SiteName,
    /// The program's version.
    pub version: String,
    /// When the picture was taken.
    pub at: Timestamp,
    /// Where the agent stands in its transition table.
    pub phase: String,
    /// True when this site holds the lease and its node serves.
    pub active: bool,
    /// True while its files may be brought in line with the record: it is where the record says,
    /// and no plan runs.
    #[serde(default)]
    pub settled: bool,
    /// Why it stopped and calls a human.
    pub stopped: Option<String>,
    /// The lease.
    pub lease: LeaseStatus,
    /// The guard in words; `None` for a node that is controlled by commands.
    #[serde(default)]
    pub guard: Option<String>,
    /// The same for programs.
    #[serde(default)]
    pub guard_seen: Option<GuardSeen>,
    /// How long fences took here, and what is reserved for one, in words; `None`: none yet.
    #[serde(default)]
    pub fence: Option<String>,
    /// The DNS records that this agent keeps, as the world sees them.
    #[serde(default)]
    pub dns: Vec<DnsStatus>,
    /// Whether each record could be moved now, as far as its provider goes.
    #[serde(default)]
    pub dns_providers: Vec<DnsProviderStatus>,
    /// The cluster record.
    pub record: Option<ClusterRecord>,
    /// All facts.
    pub facts: Option<Facts>,
    /// What is wrong, most severe first.
    pub diagnoses: Vec<DiagnosisStatus>,
    /// What it would do about it.
    pub would_do: String,
    /// Why it does not; empty when it does or need not.
    pub refusals: Vec<String>,
    /// What keeps the agents from acting by themselves.
    #[serde(default)]
    pub brakes: BrakeStatus,
    /// The other members.
    pub members: Vec<MemberStatus>,
    /// Everything it looks at.
    pub targets: Vec<TargetStatus>,
    /// Groups of app servers behind a proxy.
    #[serde(default)]
    pub upstreams: Vec<UpstreamStatus>,
    /// The running plan.
    pub run: Option<Progress>,
    /// The last plan that ended.
    pub last_run: Option<Progress>,
    /// The files of this site's apps, as they were last looked at.
    #[serde(default)]
    pub app_files: Vec<AppFilesStatus>,
    /// Things that happened to the agent itself: refused requests, dropped alerts, late looks.
    pub counters: Vec<Counter>,
    /// What a recovery is measured by; its moments mean nothing outside this process.
    #[serde(skip)]
    pub evidence: Evidence,
}

impl Snapshot {
    /// How long ago the picture was taken, in the process that took it.
    #[must_use]
    pub fn age(&self) -> Duration {
        boottime().since(self.evidence.now)
    }
}

/// The lease as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseStatus {
    /// `held`, `other`, `free` or `unknown`.
    pub view: String,
    /// Who holds it, if anybody.
    pub holder: Option<SiteName>,
    /// The highest epoch known.
    pub epoch: Epoch,
    /// Milliseconds until the own node is fenced unless a renewal succeeds. None without a lease,
    /// and with one that does not run out; what is left for the guard and for the agent's next
    /// life says so some milliseconds later, and whoever kills the agent before has it fenced.
    pub fence_in_ms: Option<u64>,
    /// Voters that answered lately.
    pub reached: Vec<Member>,
    /// In words.
    pub words: String,
}

/// A diagnosis as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiagnosisStatus {
    /// Its name.
    pub name: Diagnosis,
    /// How bad it is.
    pub severity: Severity,
    /// In words.
    pub sentence: String,
}

/// A member as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Who.
    pub member: Member,
    /// Whether it answers.
    pub reach: Reach,
    /// Its version, once it reported.
    pub version: Option<String>,
    /// Milliseconds since its last report.
    pub heard_ms_ago: Option<u64>,
    /// This host's clock minus its, in milliseconds. Shown only; nothing is decided by it.
    pub clock_ahead_ms: Option<i64>,
    /// It holds the lease.
    pub active: bool,
    /// What it is doing.
    pub doing: Option<Progress>,
}

/// A target as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetStatus {
    /// What is looked at.
    pub target: String,
    /// `up`, `down` or `unknown`.
    pub condition: String,
    /// What was last seen, in words.
    pub seen: String,
    /// Milliseconds since then.
    pub seen_ms_ago: u64,
}

/// A count of something worth knowing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// What its name is.
    #[serde(default)]
    pub kind: CounterKind,
    /// What is counted.
    pub name: String,
    /// How often.
    pub count: u64,
}

/// What the name of a counter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CounterKind {
    /// One word of a fixed set.
    #[default]
    Event,
    /// What was looked at late.
    LateLook,
    /// A sentence about a member that does not answer; gone once it does.
    Silence,
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Takes the picture.
#[must_use]
pub fn snapshot(
    cluster: &ClusterName,
    policy: &Policy,
    state: &State,
    counters: Vec<Counter>,
    now: Now,
) -> Snapshot {
    Snapshot {
        cluster: cluster.clone(),
        site: policy.me.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        at: now.wall,
        phase: state.phase.to_string(),
        active: state.phase == Phase::Active,
        settled: is_settled(policy, state),
        stopped: state.stopped.clone(),
        lease: lease(policy, state, now.moment),
        guard: None,
        guard_seen: None,
        fence: None,
        dns: Vec::new(),
        dns_providers: Vec::new(),
        record: state.record.clone(),
        facts: state.facts,
        diagnoses: state
            .diagnoses
            .iter()
            .filter_map(|d| diagnosis(*d))
            .collect(),
        would_do: would_do(state),
        refusals: state.refusals.clone(),
        brakes: brake_status(policy, state, now),
        members: members(policy, state, now.moment),
        targets: targets(policy, state, now.moment),
        upstreams: Vec::new(),
        run: state.run.as_ref().map(|run| progress(run, now)),
        last_run: state.last_run.as_ref().map(|run| progress(run, now)),
        app_files: Vec::new(),
        counters,
        evidence: Evidence::of(state, now.moment),
    }
}

fn is_settled(policy: &Policy, state: &State) -> bool {
    let running = state.run.as_ref().is_some_and(|run| run.ended().is_none());
    let record = state.record.as_ref();
    !running && record.is_some_and(|record| housekeeping::is_settled(policy, state, record))
}

fn lease(policy: &Policy, state: &State, now: Moment) -> LeaseStatus {
    let (view, holder, fence_in_ms) = match &state.lease {
        LeaseView::Unknown => ("unknown", None, None),
        LeaseView::Held { fence_at, .. } => {
            // A pair's lease has no deadline, and neither has one that is pinned.
            let left = (*fence_at != Moment::NEVER).then(|| millis(now.until(*fence_at)));
            ("held", Some(policy.me.clone()), left)
        }
        LeaseView::Other { holder, .. } => ("other", Some(holder.clone()), None),
        LeaseView::Free { .. } => ("free", None, None),
    };
    LeaseStatus {
        view: view.to_owned(),
        holder,
        epoch: state.epoch(),
        fence_in_ms,
        reached: state.reached.clone(),
        words: state
            .facts
            .map_or_else(String::new, |facts| facts.standing.to_string()),
    }
}

fn diagnosis(diagnosis: Diagnosis) -> Option<DiagnosisStatus> {
    let row = diagnose::row(diagnosis)?;
    Some(DiagnosisStatus {
        name: diagnosis,
        severity: row.severity,
        sentence: row.sentence.to_owned(),
    })
}

fn would_do(state: &State) -> String {
    let remedy = state
        .diagnoses
        .first()
        .and_then(|first| diagnose::row(*first));
    let words = match remedy.map(|row| row.remedy) {
        None | Some(Remedy::None) => "nothing",
        Some(Remedy::Tell) => "tell people",
        Some(Remedy::GiveUp) => "fence the own node and hand over to the other site",
        Some(Remedy::TakeOver) => "take the lease and promote the own standby",
        Some(Remedy::Claim) => "ask for the lease",
        Some(Remedy::Fence) => "fence the own node",
    };
    words.to_owned()
}

fn members(policy: &Policy, state: &State, now: Moment) -> Vec<MemberStatus> {
    let one = |member: Member, contact: &Contact| {
        let report = contact.report.as_ref();
        MemberStatus {
            member,
            reach: situate::reach(policy, contact, now),
            version: report.map(|(report, _)| report.version.clone()),
            heard_ms_ago: report.map(|(_, at)| millis(now.since(*at))),
            clock_ahead_ms: contact.clock_ahead_ms,
            active: report.is_some_and(|(report, _)| report.active),
            doing: report.and_then(|(report, _)| report.doing.clone()),
        }
    };
    let mut members = vec![one(Member::Site(policy.peer.clone()), &state.peer)];
    if policy.has_witness() {
        members.push(one(Member::Witness, &state.witness));
    }
    members
}

fn targets(policy: &Policy, state: &State, now: Moment) -> Vec<TargetStatus> {
    state
        .health
        .iter()
        .filter_map(|(target, health)| {
            let (at, seen) = health.last()?;
            let condition = health.condition(situate::thresholds(policy, target), now);
            Some(TargetStatus {
                target: target.to_string(),
                condition: match condition {
                    Condition::Unknown => "unknown",
                    Condition::Up => "up",
                    Condition::Down => "down",
                }
                .to_owned(),
                seen: seen_words(seen),
                seen_ms_ago: millis(now.since(*at)),
            })
        })
        .collect()
}

/// A moment as wall-clock time, for people.
pub(crate) fn wall_of(at: Moment, now: Now) -> Timestamp {
    Timestamp(now.wall.0 - i64::try_from(now.moment.since(at).as_millis()).unwrap_or(0))
}

/// What a probe saw, in words.
#[must_use]
pub fn seen_words(seen: &Seen) -> String {
    match seen {
        Seen::Database(seen) => database_words(seen),
        Seen::Endpoint(seen) => match &seen.result {
            EndpointResult::Passed => "passed".to_owned(),
            EndpointResult::LocalFault { why } => format!("fault of this host: {why}"),
            EndpointResult::Refused => "connection refused".to_owned(),
            EndpointResult::TimedOut { phase } => format!("timed out in {phase}"),
            EndpointResult::Tls { why } => format!("TLS failed: {why}"),
            EndpointResult::WrongAnswer { why } => format!("wrong answer: {why}"),
            EndpointResult::Broken { why } => format!("broken: {why}"),
        },
        Seen::Process(seen) => match seen {
            ProcessSeen::Running { pid } => format!("running, pid {pid}"),
            ProcessSeen::Stopped { pid } => format!("stopped by a signal, pid {pid}"),
            ProcessSeen::Gone => "gone".to_owned(),
            ProcessSeen::Unknown { why } => format!("not known: {why}"),
        },
        Seen::Directory(seen) => match seen {
            DirectorySeen::Fine => "in its place, writable".to_owned(),
            DirectorySeen::Full => "in its place, with less room than a WAL file needs".to_owned(),
            DirectorySeen::ReadOnly => "on a read-only file system".to_owned(),
            DirectorySeen::Gone { why } => format!("gone: {why}"),
            DirectorySeen::Unknown { why } => format!("not known: {why}"),
        },
    }
}

/// What a database probe saw, in words.
#[must_use]
pub fn database_words(seen: &DatabaseSeen) -> String {
    match seen {
        DatabaseSeen::Answered(report) => {
            let canary = report.canary.map_or_else(String::new, |took| {
                format!(
                    ", canary committed in {:.1} ms",
                    took.as_secs_f64() * 1000.0
                )
            });
            let streaming = if report.streaming {
                ", streaming"
            } else {
                ", not streaming"
            };
            format!(
                "{}, timeline {}, {}{streaming}{canary}",
                report.role, report.timeline, report.lsn
            )
        }
        DatabaseSeen::TooManyClients => "too many clients".to_owned(),
        DatabaseSeen::Locked { why } => format!("the canary is locked out: {why}"),
        DatabaseSeen::StartingUp => "starting up".to_owned(),
        DatabaseSeen::ShuttingDown => "shutting down".to_owned(),
        DatabaseSeen::CannotWrite { why, .. } => format!("cannot write: {why}"),
        DatabaseSeen::RefusesUs { why } => format!("refuses the agent's user: {why}"),
        DatabaseSeen::NothingListens => "nothing listens".to_owned(),
        DatabaseSeen::TimedOut { phase } => format!("timed out in {phase}"),
        DatabaseSeen::LocalFault { why } => format!("cannot be looked at from here: {why}"),
        DatabaseSeen::Unreachable { why } => format!("unreachable: {why}"),
    }
}

/// A plan's progress, with moments turned into wall-clock times for people.
#[must_use]
pub fn progress(run: &PlanRun, now: Now) -> Progress {
    let wall = |at: Moment| wall_of(at, now);
    Progress {
        plan: run.plan.id.clone(),
        kind: run.plan.kind,
        steps: run
            .plan
            .steps
            .iter()
            .zip(&run.steps)
            .map(|(step, progress)| StepProgress {
                step: step.to_string(),
                kind: step.kind(),
                state: progress.state,
                took_ms: progress.started.map_or(0, |from| {
                    millis(progress.ended.unwrap_or(now.moment).since(from))
                }),
                attempt: progress.attempts,
                retry_in_ms: (progress.state == StepState::Retrying)
                    .then(|| millis(now.moment.until(progress.retry_at))),
                note: progress.note.clone(),
                started: progress.started.map(wall),
            })
            .collect(),
        ended: match &run.course {
            Course::Ended(end) => Some(format!("{end}")),
            Course::Forward | Course::Undoing { .. } => None,
        },
        epoch: run.plan.epoch,
        cause: run.plan.cause.to_string(),
        begun: wall(run.begun),
        sequence_done: run.sequence_done(),
    }
}

/// The exit code's view of a snapshot: is anything worse than degraded?
#[must_use]
pub fn is_serving(snapshot: &Snapshot) -> bool {
    snapshot
        .facts
        .is_some_and(|facts| matches!(facts.standing, Standing::Active | Standing::Peer))
        && snapshot.stopped.is_none()
}
