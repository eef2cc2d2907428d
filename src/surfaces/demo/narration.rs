//! Tells what the agents see, decide and do, as it happens: from their journals, which they wrote
//! before they did it, and from their status.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::playground::Site;
use super::voice::{Verb, Voice};
use crate::effects::clock::wall;
use crate::model::diagnosis::Diagnosis;
use crate::model::journal::{JournalEntry, JournalLine, PlanEnd};
use crate::model::plan::Plan;
use crate::model::{PlanId, Timestamp};
use crate::runtime::journal::read_all;
use crate::runtime::status::Snapshot;
use crate::runtime::tasks::spawn_named;
use crate::surfaces::cli::LocalAgent;

/// Between two looks at journals and status.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// News wait this long, so that they are told in the order in which they happened.
const SORT_WAIT_MS: i64 = 200;

/// The running narration.
#[derive(Debug)]
pub(super) struct Narration {
    told: Told,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Narration {
    /// Begins with what happens from now on.
    pub(super) fn start(sites: &[Site; 2], voice: Voice) -> Self {
        let ears = sites.each_ref().map(Ear::new);
        let stop = CancellationToken::new();
        let told = Told::default();
        let listener = Listener {
            ears,
            voice,
            told: Arc::clone(&told),
            pending: Vec::new(),
        };
        let task = spawn_named("demo narration", listener.run(stop.clone()));
        Self { told, stop, task }
    }

    /// Something that no agent says: it is told in its place.
    pub(super) fn tell(&self, at: Timestamp, site: &'static str, verb: Verb, text: &str) {
        let news = News {
            at,
            site,
            verb,
            text: text.to_owned(),
        };
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.push(news);
    }

    /// Tells the rest, then ends.
    pub(super) async fn end(self) {
        self.stop.cancel();
        // A panic in there has been logged; there is nothing to add.
        self.task.await.ok();
    }
}

/// News from the one who shows the demo.
type Told = Arc<Mutex<Vec<News>>>;

struct Listener {
    ears: [Ear; 2],
    voice: Voice,
    told: Told,
    pending: Vec<News>,
}

#[derive(Debug)]
struct News {
    at: Timestamp,
    site: &'static str,
    verb: Verb,
    text: String,
}

impl Listener {
    async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            for ear in &mut self.ears {
                ear.listen(&mut self.pending).await;
            }
            self.tell(wall().0 - SORT_WAIT_MS);
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = stop.cancelled() => {}
            }
        }
        for ear in &mut self.ears {
            ear.listen(&mut self.pending).await;
        }
        self.tell(i64::MAX);
    }

    fn tell(&mut self, until: i64) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        self.pending.append(&mut told);
        drop(told);
        self.pending.sort_by_key(|news| news.at);
        let due = self.pending.partition_point(|news| news.at.0 <= until);
        for news in self.pending.drain(..due) {
            self.voice.news(news.at, news.site, news.verb, &news.text);
        }
    }
}

/// What is heard of one site.
struct Ear {
    site: &'static str,
    state_dir: PathBuf,
    agent: LocalAgent,
    /// The next journal line to tell.
    next: u64,
    plans: BTreeMap<PlanId, Plan>,
    diagnosis: Option<Diagnosis>,
    refusals: Vec<String>,
}

impl Ear {
    fn new(site: &Site) -> Self {
        let lines = read_all(&site.state_dir).unwrap_or_default();
        Self {
            site: site.name,
            state_dir: site.state_dir.clone(),
            agent: site.agent.clone(),
            next: lines.last().map_or(1, |line| line.number + 1),
            plans: BTreeMap::new(),
            diagnosis: None,
            refusals: Vec::new(),
        }
    }

    /// A journal or an agent that cannot be read has nothing to say.
    async fn listen(&mut self, pending: &mut Vec<News>) {
        let lines = read_all(&self.state_dir).unwrap_or_default();
        let next = self.next;
        for line in lines.iter().filter(|line| line.number >= next) {
            pending.extend(self.journal(line));
        }
        self.next = lines.last().map_or(self.next, |line| line.number + 1);
        if let Ok(Ok(picture)) = tokio::time::timeout(LOOK_EVERY, self.agent.status()).await {
            self.status(&picture, pending);
        }
    }

    fn journal(&mut self, line: &JournalLine) -> Option<News> {
        let (verb, text) = match &line.entry {
            JournalEntry::Planned { plan, .. } => {
                self.plans.insert(plan.id.clone(), plan.clone());
                let text = format!(
                    "{} (plan {}, epoch {}), because {}",
                    plan.kind, plan.id, plan.epoch, plan.cause
                );
                (Verb::Plans, text)
            }
            JournalEntry::StepDone {
                plan,
                step,
                took,
                note,
                ..
            } => {
                let took = took.as_millis();
                let note = match note.as_str() {
                    "" => String::new(),
                    note => format!(": {note}"),
                };
                (
                    Verb::Done,
                    format!("{} in {took} ms{note}", self.step(plan, *step)),
                )
            }
            JournalEntry::StepFailed {
                plan,
                step,
                failure,
                ..
            } => (
                Verb::Fails,
                format!("{}: {failure}", self.step(plan, *step)),
            ),
            JournalEntry::PlanEnded { plan, end } => match end {
                PlanEnd::Completed => (Verb::Ends, format!("plan {plan} completed")),
                PlanEnd::Undone { .. }
                | PlanEnd::Superseded { .. }
                | PlanEnd::NeedsHuman { .. } => (Verb::Fails, format!("plan {plan} {end}")),
            },
            JournalEntry::Remark { text } => (Verb::Sees, text.clone()),
            JournalEntry::AgentStarted { .. } => (Verb::Ends, "the agent has started".to_owned()),
            JournalEntry::AgentStopped => (Verb::Ends, "the agent stopped in order".to_owned()),
            JournalEntry::StepStarted { .. } => return None,
        };
        Some(self.news(line.at, verb, text))
    }

    fn step(&self, plan: &PlanId, index: usize) -> String {
        let step = self.plans.get(plan).and_then(|plan| plan.steps.get(index));
        step.map_or_else(
            || format!("step {}", index + 1),
            |step| step.kind().to_string(),
        )
    }

    fn status(&mut self, picture: &Snapshot, pending: &mut Vec<News>) {
        let first = picture.diagnoses.first();
        let name = first.map(|diagnosis| diagnosis.name);
        if name != self.diagnosis {
            let known = std::mem::replace(&mut self.diagnosis, name);
            if let Some(first) = first.filter(|_| known.is_some()) {
                let text = format!("{}: {}", first.name, first.sentence);
                pending.push(self.news(picture.at, Verb::Sees, text));
            }
        }
        if picture.refusals != self.refusals {
            self.refusals.clone_from(&picture.refusals);
            for refusal in &picture.refusals {
                let text = format!("does nothing yet: {refusal}");
                pending.push(self.news(picture.at, Verb::Sees, text));
            }
        }
    }

    fn news(&self, at: Timestamp, verb: Verb, text: String) -> News {
        News {
            at,
            site: self.site,
            verb,
            text,
        }
    }
}
