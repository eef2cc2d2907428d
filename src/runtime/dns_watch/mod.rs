//! After a move: how far the world has it. All the time: whether somebody else changed a record.
//!
//! One task for each record, which looks and tells. Nothing waits for it (S9), it changes nothing,
//! and while the own site takes over it leaves the provider alone. A drift is told once; it is put
//! right by the loop's own plan, under the current epoch, when somebody asks for it (S8).

mod spread;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::spread::Spread;
use crate::effects::clock::{boottime, wall};
use crate::effects::dns::moved::{Moved, MovedSender};
use crate::model::alert::{Alert, AlertLevel};
use crate::model::dns::{DnsStatus, Drift, OutsideView};
use crate::model::edge::EdgeView;
use crate::model::time::Now;
use crate::model::{ClusterName, Moment, SiteName, Timestamp};
use crate::runtime::dns_desk::{DeskRecord, DnsDesk, in_words};
use crate::runtime::handle::AgentHandle;
use crate::runtime::outbox::Outbox;
use crate::runtime::tasks::spawn_named;

/// What is known of each record that this agent keeps; `None`: it does not keep it now.
pub type DnsSeen = Vec<Option<DnsStatus>>;

/// Whom drifts are told, and in whose name.
#[derive(Debug, Clone)]
pub struct Audience {
    /// Of which cluster.
    pub cluster: ClusterName,
    /// Where.
    pub site: SiteName,
    /// How.
    pub outbox: Outbox,
}

/// Starts the watch over every record of the desk. The senders are for the steps that move them,
/// in the order of the settings.
#[must_use]
pub fn start(
    agent: &AgentHandle,
    audience: &Audience,
    stop: &CancellationToken,
) -> (Vec<MovedSender>, watch::Receiver<DnsSeen>) {
    let count = agent.dns.records().len();
    let (seen, shown) = watch::channel(vec![None; count]);
    let seen = Arc::new(seen);
    let steps = (0..count).map(|index| {
        let (moved, news) = watch::channel(None);
        let watch = RecordWatch {
            index,
            desk: agent.dns.clone(),
            agent: agent.clone(),
            audience: audience.clone(),
            seen: Arc::clone(&seen),
            spread: None,
            view: None,
            edge: None,
            looked_at: None,
            drift: None,
            unlooked: None,
            next_drift: boottime(),
        };
        spawn_named("dns watch", watch.run(news, stop.clone()));
        moved
    });
    (steps.collect(), shown)
}

struct RecordWatch {
    index: usize,
    desk: DnsDesk,
    agent: AgentHandle,
    audience: Audience,
    seen: Arc<watch::Sender<DnsSeen>>,
    /// The change that is watched; `None`: this agent does not keep the record.
    spread: Option<Spread>,
    view: Option<OutsideView>,
    edge: Option<EdgeView>,
    looked_at: Option<Timestamp>,
    /// What was told.
    drift: Option<Drift>,
    unlooked: Option<String>,
    next_drift: Moment,
}

impl RecordWatch {
    async fn run(mut self, mut news: watch::Receiver<Option<Moved>>, stop: CancellationToken) {
        loop {
            let wait = self.wait();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = news.changed() => match changed {
                    Ok(()) => {
                        let moved = news.borrow_and_update().clone();
                        self.begin(moved);
                    }
                    // Nobody moves records any more.
                    Err(_) => return,
                },
                () = tokio::time::sleep(wait) => tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.look() => {}
                },
            }
            self.show();
        }
    }

    fn begin(&mut self, moved: Option<Moved>) {
        let records = self.desk.records();
        let edge = records
            .get(self.index)
            .and_then(|it| it.settings.edge_check());
        self.spread = moved.map(|moved| Spread::of(moved, edge.is_some()));
        self.view = None;
        self.edge = None;
        self.looked_at = None;
        self.drift = None;
        self.unlooked = None;
        self.plan_drift_look();
    }

    /// Somewhere in the second half of the interval: agents and records do not come all at once.
    fn plan_drift_look(&mut self) {
        let every = self.desk.check().drift_every;
        self.next_drift = boottime() + every.mul_f64(rand::random_range(0.5..1.0));
    }

    /// Time until something is due.
    fn wait(&self) -> Duration {
        let due = match self.spread.as_ref().map(Spread::next) {
            None => return Duration::MAX,
            Some(next) => next.map_or(self.next_drift, |next| next.min(self.next_drift)),
        };
        boottime().until(due)
    }

    async fn look(&mut self) {
        let desk = self.desk.clone();
        let (Some(record), Some(spread)) = (desk.records().get(self.index), &mut self.spread)
        else {
            return;
        };
        if self.agent.lease_left(spread.epoch()).is_none() {
            // Another epoch, or none: what this agent says of the record counts no more.
            self.begin(None);
            return;
        }
        let now = boottime();
        if spread.next().is_some_and(|next| next <= now) {
            let site = self.agent.status.borrow().site.clone();
            let looks = async {
                match spread.asks_dns() {
                    true => Some(record.look(desk.check(), spread.wanted()).await),
                    false => None,
                }
            };
            let (view, edge) = tokio::join!(looks, record.through_edge(&site));
            spread.take(view.as_ref(), edge.as_ref(), boottime());
            (self.view, self.edge, self.looked_at) = (view, edge, Some(wall()));
        }
        if self.next_drift <= boottime() {
            self.look_for_drift(record).await;
            self.plan_drift_look();
        }
    }

    /// Not while the primary is being moved: the provider's patience is for the move then.
    async fn look_for_drift(&mut self, record: &DeskRecord) {
        let wanted = {
            let picture = self.agent.status.borrow();
            let moves = picture.run.as_ref();
            if moves.is_some_and(|run| run.ended.is_none() && !run.sequence_done) {
                return;
            }
            let Some(spread) = &self.spread else { return };
            record.wanted_for(&picture.site, spread.epoch())
        };
        let Some(wanted) = wanted else { return };
        match record.kept(&wanted).await {
            Ok(kept) => {
                self.unlooked = None;
                if kept.drift != self.drift {
                    self.tell(record, kept.drift.as_ref());
                    self.drift = kept.drift;
                }
            }
            Err(error) => {
                // The step that moves it says the same louder; a drift that was seen may go on.
                self.unlooked = Some(in_words(error));
            }
        }
    }

    fn tell(&self, record: &DeskRecord, drift: Option<&Drift>) {
        let Some(spread) = &self.spread else { return };
        let settings = &record.settings;
        let (name, wanted) = (&settings.name, spread.wanted().join(", "));
        let what = format!("DNS record {name} ({} {})", settings.record, settings.kind);
        let (level, summary, hint) = match drift {
            None => (AlertLevel::Info, format!("{what} is {wanted} again"), None),
            Some(drift) => {
                let apply = "`agent dns apply` puts it right, under the current epoch";
                let (level, hint) = match drift {
                    Drift::Moved { .. } | Drift::Unclear { .. } => (AlertLevel::Page, apply),
                    Drift::Unmarked => (AlertLevel::Warn, apply),
                    Drift::Proxy { .. } => (
                        AlertLevel::Warn,
                        "the agent leaves that alone: switch it at the provider, or correct \
                         `proxied` in the settings",
                    ),
                    Drift::Newer { .. } => (
                        AlertLevel::Page,
                        "find out who holds that epoch: another cluster, or an agent of this one \
                         whose voters were lost",
                    ),
                };
                tracing::warn!(%name, %drift, "a DNS record was changed by somebody else");
                (
                    level,
                    format!("{what} was changed by somebody else: {drift}; it should be {wanted}"),
                    Some(hint.to_owned()),
                )
            }
        };
        self.audience.outbox.push(Alert {
            cluster: self.audience.cluster.clone(),
            site: Some(self.audience.site.clone()),
            event: "dns_drift".to_owned(),
            level,
            summary,
            details: hint.into_iter().collect(),
            epoch: Some(spread.epoch()),
            plan: None,
            at: wall(),
        });
    }

    /// What everybody may see.
    fn show(&self) {
        let status = self.status();
        self.seen.send_if_modified(|seen| {
            let Some(place) = seen.get_mut(self.index) else {
                return false;
            };
            let changed = *place != status;
            *place = status;
            changed
        });
    }

    fn status(&self) -> Option<DnsStatus> {
        let spread = self.spread.as_ref()?;
        let settings = &self.desk.records().get(self.index)?.settings;
        let now = Now {
            moment: boottime(),
            wall: wall(),
        };
        Some(DnsStatus {
            name: settings.name.clone(),
            record: settings.record.clone(),
            kind: settings.kind.clone(),
            wanted: spread.wanted().to_vec(),
            epoch: spread.epoch(),
            spreading: spread.spreading(now.moment),
            looked_at: self.looked_at,
            view: self.view.clone(),
            edge: self.edge.clone(),
            old_until: spread.old_until().map(|at| at_wall(at, now)),
            drift: self.drift.as_ref().map(ToString::to_string),
            unlooked: self.unlooked.clone(),
        })
    }
}

/// A moment to come as wall-clock time, for people.
fn at_wall(at: Moment, now: Now) -> Timestamp {
    let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    let ahead = millis(now.moment.until(at)) - millis(at.until(now.moment));
    Timestamp(now.wall.0.saturating_add(ahead))
}
