//! How a schedule ends: once everything is put right, one primary serves and everything names it,
//! or somebody says why not.

use failover_agent::decision::diagnose::{self, Remedy};
use failover_agent::decision::state::Phase;
use failover_agent::model::diagnosis::Diagnosis;

use crate::checks::Rule;
use crate::clock::{MS, SEC};
use crate::setup::index;
use crate::world::{End, Ev, World, name};

/// Between two looks.
const POLL_EVERY: u64 = 250 * MS;

/// So long after the heal all must be well, or the reason known.
const PATIENCE: u64 = 25 * SEC;

impl World {
    pub(crate) fn poll_end(&mut self) {
        let Some(healed) = self.healed else { return };
        if self.all_well() {
            self.end = Some(End::Well);
            return;
        }
        if self.now - healed > PATIENCE {
            let end = self.unwell_end();
            self.end.get_or_insert(end);
            return;
        }
        self.after(POLL_EVERY, Ev::Poll);
    }

    /// One writable primary, held and recorded, which every file and the DNS record name.
    fn all_well(&self) -> bool {
        let writable = [0, 1].map(|site| self.sites[site].node.writable());
        let primary = match writable {
            [true, false] => 0,
            [false, true] => 1,
            _ => return false,
        };
        let settled = |site: usize| {
            let agent = self.sites[site].agent.as_ref();
            agent
                .and_then(|agent| agent.state.as_ref())
                .is_some_and(|state| {
                    let wanted = if site == primary {
                        Phase::Active
                    } else {
                        Phase::Watching
                    };
                    let record = state.record.as_ref();
                    state.phase == wanted
                        && state.run.is_none()
                        && record.is_some_and(|record| {
                            index(&record.primary) == primary && !record.promoting
                        })
                })
        };
        let names = |pointer: crate::world::Pointer| pointer.site == primary;
        settled(0)
            && settled(1)
            && self.truth.held[primary].is_some()
            && names(self.dns)
            && [0, 1].iter().all(|site| names(self.sites[*site].disk.file))
    }

    /// Not well in time: somebody must say why.
    fn unwell_end(&mut self) -> End {
        let mut words = Vec::new();
        for site in [0, 1] {
            if let Some(why) = self.excuse(site) {
                words.push(format!("{}: {why}", name(site)));
            }
        }
        if words.is_empty() {
            let what = format!(
                "nothing is well {} s after the heal, and nobody says why: {}; {}",
                PATIENCE / SEC,
                self.describe(0),
                self.describe(1)
            );
            self.note(|| format!("VIOLATION of Liveness: {what}"));
            return End::Violation(Rule::Liveness, what);
        }
        End::Explained(words.join("; "))
    }

    /// What this site's agent says to people, when that asks them to act.
    fn excuse(&self, site: usize) -> Option<String> {
        let state = self.sites[site].agent.as_ref()?.state.as_ref()?;
        if state.phase == Phase::Stopped {
            return Some("stopped".to_owned());
        }
        if !state.refusals.is_empty() {
            let diagnosis = state.diagnoses.first().copied();
            return Some(format!("refuses at {diagnosis:?}"));
        }
        let first = state.diagnoses.first().copied()?;
        let told = diagnose::row(first).is_some_and(|row| row.remedy == Remedy::Tell);
        let calls_for_people = matches!(
            first,
            Diagnosis::TwoPrimaries
                | Diagnosis::PromotionUnfinished
                | Diagnosis::DatabaseDemoted
                | Diagnosis::NoPrimary
        );
        (told && calls_for_people).then(|| first.to_string())
    }

    fn describe(&self, site: usize) -> String {
        let node = &self.sites[site].node;
        let agent = self.sites[site]
            .agent
            .as_ref()
            .and_then(|a| a.state.as_ref());
        let agent = agent.map_or("no agent".to_owned(), |state| {
            format!(
                "{}, {:?}, record {:?}, {:?}",
                state.phase,
                state.facts,
                state
                    .record
                    .as_ref()
                    .map(|r| (r.primary.to_string(), r.promoting, r.epoch)),
                state.diagnoses
            )
        });
        format!(
            "{}: node {:?} {:?}, file names {}, {agent}",
            name(site),
            node.process,
            node.role,
            name(self.sites[site].disk.file.site)
        )
    }
}
