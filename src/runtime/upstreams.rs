//! Groups of app servers: one task each looks at the members, and keeps the proxy's file at the
//! healthy ones.
//!
//! Owns the order of looks and renderings. Which member goes and comes is `decision::upstreams`'
//! business, how a file is changed that of `effects::app_config::upstream`. Must not send the
//! members' looks into the loop: of a thousand members it learns one thing, whether the group as a
//! whole has enough healthy ones (S16). Start reading at [`start`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::policy::thresholds;
use super::scheduler::{Jitter, Pace, Scheduler};
use super::tasks::spawn_named;
use crate::config::Config;
use crate::config::settings::{Probe as ProbeSettings, Upstream};
use crate::decision::upstreams::{Group, GroupPlan, GroupRules, Outlook, Tally};
use crate::effects::app_config::upstream::{RenderedFile, UpstreamFile};
use crate::effects::clock::{boottime, wall};
use crate::effects::error::EffectError;
use crate::effects::probes::outlet::{Outlet, outlet};
use crate::effects::probes::resolve::Resolver;
use crate::effects::probes::{self, Probe};
use crate::model::brakes::Conduct;
use crate::model::event::Event;
use crate::model::observation::{EndpointResult, EndpointSeen, Observation, Phases, Seen, Target};
use crate::model::outcome::Failure;
use crate::model::upstream::Place;
use crate::model::{Moment, ProbeName, Timestamp};

/// Looks that wait for the group's task at most; it takes microseconds for each.
const LOOKS_MAX: usize = 1024;

/// How soon a change of a member's condition is told, so that a burst is told some times only.
const TELL_SOON: Duration = Duration::from_millis(100);

/// A group as shown.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UpstreamStatus {
    /// Its name.
    pub name: String,
    /// Members that are healthy.
    pub healthy: usize,
    /// Members that are down.
    pub down: usize,
    /// Members of which nothing is known.
    pub unknown: usize,
    /// Members to which the file sends requests; `None` while nobody has looked, or it has none.
    pub in_file: Option<usize>,
    /// How often the file was changed since the agent started.
    pub renderings: u64,
    /// When it last was.
    pub rendered: Option<Timestamp>,
    /// Renderings that failed since the last one that did not.
    pub failures: u32,
    /// Why the file is not what health calls for; `None` when it is.
    pub why_not: Option<String>,
}

impl UpstreamStatus {
    /// All members.
    #[must_use]
    pub fn total(&self) -> usize {
        self.healthy + self.down + self.unknown
    }
}

/// Starts a task for each group of this site.
///
/// # Errors
/// `Permanent` when a member's probe cannot be built.
pub fn start(
    config: &Config,
    resolver: &Resolver,
    events: &mpsc::Sender<Event>,
    stop: &CancellationToken,
) -> Result<Vec<watch::Receiver<UpstreamStatus>>, EffectError> {
    let own = |group: &&Upstream| config.site.as_ref().is_some_and(|site| group.is_at(site));
    let groups = config.upstreams.iter().filter(own);
    groups
        .map(|group| {
            let file = Arc::new(RenderedFile::new(group.clone(), &config.state_dir));
            start_group(group, file, config.mode, resolver, events, stop)
        })
        .collect()
}

/// Starts the task of one group, which tells `events` of it as a whole.
///
/// # Errors
/// `Permanent` when a member's probe cannot be built.
pub fn start_group(
    settings: &Upstream,
    file: Arc<dyn UpstreamFile>,
    conduct: Conduct,
    resolver: &Resolver,
    events: &mpsc::Sender<Event>,
    stop: &CancellationToken,
) -> Result<watch::Receiver<UpstreamStatus>, EffectError> {
    let mut members = BTreeMap::new();
    let mut running: Vec<(Box<dyn Probe>, _)> = Vec::new();
    for (index, member) in settings.members.iter().enumerate() {
        let name = ProbeName::new(&member.address);
        let probe = ProbeSettings {
            name: name.clone(),
            sites: Vec::new(),
            kind: settings.probe_of(member),
            timing: settings.timing,
        };
        running.push((probes::build(&probe, resolver)?, settings.timing));
        members.insert(Target::Endpoint(name), index);
    }
    let (looks, seen) = mpsc::channel(LOOKS_MAX);
    let jitter = Jitter::Seeded(rand::random());
    let scheduler = Scheduler::start(running, jitter, &looks, stop);
    let first = UpstreamStatus {
        name: settings.name.clone(),
        unknown: settings.members.len(),
        ..UpstreamStatus::default()
    };
    let (status, shown) = watch::channel(first);
    let (outlet, delivery) = outlet(events.clone());
    let keeper = Keeper {
        target: Target::Endpoint(settings.target()),
        needed: settings.needed(),
        interval: settings.timing.interval,
        group: Group::new(rules(settings), settings.members.len(), boottime()),
        acts: conduct == Conduct::Act,
        members,
        scheduler,
        file,
        outlet,
        status,
        tell_at: boottime(),
    };
    let stop = stop.clone();
    drop(spawn_named(
        format!("upstream {}", settings.name),
        async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = delivery.run() => {}
                () = keeper.run(seen) => {}
            }
        },
    ));
    Ok(shown)
}

fn rules(settings: &Upstream) -> GroupRules {
    GroupRules {
        thresholds: thresholds(settings.timing, settings.timing.interval),
        min_healthy: settings.min_healthy,
        change_max: settings.change_max,
        settle: settings.settle,
        interval: settings.timing.interval,
    }
}

/// What became of one rendering.
struct Rendering {
    plan: GroupPlan,
    /// What the file had, and what it has or, for an agent that only observes, should have.
    before: Option<Vec<Place>>,
    written: bool,
}

/// Takes care of one group.
struct Keeper {
    target: Target,
    needed: usize,
    interval: Duration,
    group: Group,
    acts: bool,
    members: BTreeMap<Target, usize>,
    scheduler: Scheduler,
    file: Arc<dyn UpstreamFile>,
    outlet: Outlet,
    status: watch::Sender<UpstreamStatus>,
    tell_at: Moment,
}

impl Keeper {
    async fn run(mut self, mut looks: mpsc::Receiver<Event>) {
        let mut running: Option<JoinHandle<Result<Rendering, EffectError>>> = None;
        loop {
            let now = boottime();
            if now >= self.tell_at {
                self.tell(now);
            }
            let due = self.group.due().filter(|_| running.is_none());
            if due.is_some_and(|due| now >= due) {
                running = Some(self.begin(now));
            }
            let wake_at = due.map_or(self.tell_at, |due| due.min(self.tell_at));
            tokio::select! {
                biased;
                ended = ended(&mut running) => {
                    running = None;
                    self.ended(ended);
                }
                look = looks.recv() => match look {
                    Some(Event::Observed(observation)) => self.observe(observation),
                    // Only observations come from a scheduler.
                    Some(_) => {}
                    None => return,
                },
                () = sleep(now.until(wake_at)) => {}
            }
        }
    }

    fn observe(&mut self, observation: Observation) {
        let Some(index) = self.members.get(&observation.target).copied() else {
            return;
        };
        let before = self.group.due();
        self.group.observe(index, observation.seen, observation.at);
        let pace = match self.group.suspect(index) {
            true => Pace::Suspect,
            false => Pace::Settled,
        };
        self.scheduler.set_pace(&observation.target, pace);
        if self.group.due() != before {
            self.tell_at = self.tell_at.min(boottime() + TELL_SOON);
        }
    }

    /// Rendering takes as long as the proxy's reload, and looks go on meanwhile.
    fn begin(&mut self, now: Moment) -> JoinHandle<Result<Rendering, EffectError>> {
        let outlook = self.group.begin(now);
        let name = format!("rendering of {}", self.target);
        spawn_named(name, render(Arc::clone(&self.file), outlook, self.acts))
    }

    fn ended(&mut self, ended: Result<Rendering, EffectError>) {
        let now = boottime();
        match ended {
            Ok(rendering) => {
                self.group.rendered(&rendering.plan, rendering.written, now);
                self.note(&rendering);
            }
            Err(error) => {
                self.group.failed(error.retry_after, now);
                let why = Failure::from(error).to_string();
                self.status.send_modify(|status| {
                    if status.why_not.as_ref() != Some(&why) {
                        tracing::warn!(upstream = %status.name, error = %why, "not rendered");
                    }
                    status.failures = status.failures.saturating_add(1);
                    status.why_not = Some(why);
                });
            }
        }
    }

    fn note(&self, rendering: &Rendering) {
        let Rendering {
            plan,
            before,
            written,
        } = rendering;
        let places = plan.places.as_ref().or(before.as_ref());
        let is = if self.acts { places } else { before.as_ref() };
        let in_file = is.map(|places| {
            let places = places.iter();
            places.filter(|place| **place == Place::In).count()
        });
        let why_not = self.why_not(rendering);
        self.status.send_modify(|status| {
            if *written {
                status.renderings += 1;
                status.rendered = Some(wall());
                let (healthy, total) = (status.healthy, status.total());
                tracing::info!(
                    upstream = %status.name, in_file, healthy, total, "upstream rendered"
                );
            }
            if why_not.is_some() && why_not != status.why_not {
                let why = why_not.as_deref().unwrap_or_default();
                tracing::warn!(upstream = %status.name, why, "upstream held");
            }
            status.failures = 0;
            status.in_file = in_file;
            status.why_not = why_not;
        });
    }

    fn why_not(&self, rendering: &Rendering) -> Option<String> {
        let plan = &rendering.plan;
        if let Some(held) = plan.held {
            return Some(held.to_string());
        }
        if !self.acts && plan.places != rendering.before {
            return Some("only observes: another set of members would be written".to_owned());
        }
        (plan.left > 0).then(|| format!("{} more follow (max_change)", plan.left))
    }

    /// Tells the loop of the group as a whole, and people of its members.
    fn tell(&mut self, now: Moment) {
        self.tell_at = now + self.interval;
        let tally = self.group.tally(now);
        self.outlet.put(Observation {
            target: self.target.clone(),
            at: now,
            took: Duration::ZERO,
            seen: Seen::Endpoint(EndpointSeen {
                result: result(tally, self.needed),
                phases: Phases::default(),
            }),
        });
        self.status.send_modify(|status| {
            (status.healthy, status.down, status.unknown) = (tally.up, tally.down, tally.unknown);
        });
    }
}

/// What a group says of itself as a whole.
fn result(tally: Tally, needed: usize) -> EndpointResult {
    let Tally { up, down, unknown } = tally;
    match tally.suffices(needed) {
        Some(true) => EndpointResult::Passed,
        Some(false) => EndpointResult::WrongAnswer {
            why: format!(
                "{up} of {} members healthy, {needed} needed",
                up + down + unknown
            ),
        },
        None => EndpointResult::LocalFault {
            why: format!("{up} members healthy, {unknown} not known, {needed} needed"),
        },
    }
}

/// The end of the rendering that runs; waits for ever when none does.
async fn ended(
    running: &mut Option<JoinHandle<Result<Rendering, EffectError>>>,
) -> Result<Rendering, EffectError> {
    match running {
        Some(running) => running.await.unwrap_or_else(|panic| {
            Err(EffectError::unknown("the rendering was cut off").caused_by(panic))
        }),
        None => std::future::pending().await,
    }
}

async fn render(
    file: Arc<dyn UpstreamFile>,
    outlook: Outlook,
    acts: bool,
) -> Result<Rendering, EffectError> {
    let before = file.present().await?;
    let plan = outlook.plan(before.as_deref());
    let written = match &plan.places {
        Some(places) if acts => file.apply(places.clone()).await?.changed,
        Some(_) | None => false,
    };
    Ok(Rendering {
        plan,
        before,
        written,
    })
}
