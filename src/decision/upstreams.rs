//! Which app servers a proxy's file is to name: from the health of each and what the file has now.
//!
//! Owns: one group's health, when a burst of changes has settled, and how much of it is rendered.
//! Must not know files or proxies. Start reading at [`plan`].
//!
//! Upholds S13: what is not known is never taken out or put in, and where nothing works, nothing
//! changes: then either all of them are down, which no rendering mends, or this agent is blind.

use std::fmt;
use std::time::Duration;

use crate::decision::health::{Condition, Health};
use crate::decision::policy::Thresholds;
use crate::model::Moment;
use crate::model::observation::Seen;
use crate::model::upstream::Place;

/// What a group may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupRules {
    /// Thresholds of each member.
    pub thresholds: Thresholds,
    /// Fewer healthy members than this, and none is taken out.
    pub min_healthy: usize,
    /// Most members that one rendering takes out or puts in.
    pub change_max: usize,
    /// How long it must be quiet after a change.
    pub settle: Duration,
    /// A burst of changes is waited for no longer than this (and `settle`), and so much lies
    /// between two renderings.
    pub interval: Duration,
}

/// What the file is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupPlan {
    /// For each member; nothing: the file is not to be touched.
    pub places: Option<Vec<Place>>,
    /// Changes that wait for a later rendering, because of the limit.
    pub left: usize,
    /// Why less is done than health calls for.
    pub held: Option<Held>,
}

/// Why less is done than health calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// No member is known to work.
    NoneHealthy,
    /// So few are healthy that those that are down stay in.
    TooFew {
        /// Healthy members.
        healthy: usize,
        /// So many there must be.
        needed: usize,
    },
    /// The file has nothing yet, and not every member has been looked at.
    FirstLooks,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoneHealthy => {
                f.write_str("no member is known to be healthy: the file keeps what it has")
            }
            Self::TooFew { healthy, needed } => write!(
                f,
                "only {healthy} healthy, min_healthy is {needed}: none is taken out of the file"
            ),
            Self::FirstLooks => f.write_str("waits until every member has been looked at"),
        }
    }
}

/// Decides what the file is to have.
///
/// | member | in the file now | becomes |
/// |---|---|---|
/// | up | out | in |
/// | down | in | out, while enough are healthy and left |
/// | unknown | anything | what it is |
///
/// `present` is what the file has; `None` where it has nothing yet, so that no limit applies: there
/// is nothing to protect. Those that go come first, because requests to them fail.
#[must_use]
pub fn plan(
    rules: &GroupRules,
    conditions: &[Condition],
    present: Option<&[Place]>,
    looked_at: bool,
) -> GroupPlan {
    let healthy = count(conditions, Condition::Up);
    if healthy == 0 {
        return GroupPlan {
            places: None,
            left: 0,
            held: Some(Held::NoneHealthy),
        };
    }
    let few = (healthy < rules.min_healthy).then_some(Held::TooFew {
        healthy,
        needed: rules.min_healthy,
    });
    let Some(present) = present else {
        return first(conditions, few, looked_at);
    };
    let mut places = present.to_vec();
    let mut allowed = rules.change_max;
    let mut members_in = present.iter().filter(|place| **place == Place::In).count();
    let (mut left, mut kept_in) = (0, false);
    for (place, condition) in places.iter_mut().zip(conditions) {
        if *condition != Condition::Down || *place == Place::Out {
            continue;
        }
        if few.is_some() {
            kept_in = true;
        } else if allowed > 0 && members_in > rules.min_healthy {
            *place = Place::Out;
            allowed -= 1;
            members_in -= 1;
        } else {
            left += 1;
        }
    }
    for (place, condition) in places.iter_mut().zip(conditions) {
        if *condition != Condition::Up || *place == Place::In {
            continue;
        }
        if allowed > 0 {
            *place = Place::In;
            allowed -= 1;
        } else {
            left += 1;
        }
    }
    GroupPlan {
        places: Some(places),
        left,
        held: few.filter(|_| kept_in),
    }
}

/// What a file that has nothing yet begins with.
fn first(conditions: &[Condition], few: Option<Held>, looked_at: bool) -> GroupPlan {
    let unclear = conditions.contains(&Condition::Unknown) && !looked_at;
    let held = if unclear { Some(Held::FirstLooks) } else { few };
    // With too few healthy ones, those that are down are better than nothing: all but the unknown.
    let begins = |condition: &Condition| match condition {
        Condition::Up => Place::In,
        Condition::Down if few.is_some() => Place::In,
        Condition::Down | Condition::Unknown => Place::Out,
    };
    GroupPlan {
        places: (!unclear).then(|| conditions.iter().map(begins).collect()),
        left: 0,
        held,
    }
}

fn count(conditions: &[Condition], wanted: Condition) -> usize {
    let mut matching = 0;
    for condition in conditions {
        matching += usize::from(*condition == wanted);
    }
    matching
}

/// How many members are in which condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Healthy ones.
    pub up: usize,
    /// Those that are down.
    pub down: usize,
    /// Those of which nothing is known.
    pub unknown: usize,
}

impl Tally {
    /// Whether the group has as many healthy members as it needs; `None` when those that are not
    /// known decide it (S13).
    #[must_use]
    pub fn suffices(&self, needed: usize) -> Option<bool> {
        if self.up >= needed {
            return Some(true);
        }
        (self.up + self.unknown < needed).then_some(false)
    }
}

/// When a burst of changes is rendered: once it is quiet for `settle`, or after one `interval` at
/// the latest, in which every member has been looked at; and never sooner than one `interval` after
/// the last rendering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Burst {
    /// The first and the last change that have not been rendered.
    changes: Option<(Moment, Moment)>,
    /// Nothing is rendered before.
    not_before: Moment,
}

impl Burst {
    fn note(&mut self, at: Moment) {
        let first = self.changes.map_or(at, |(first, _)| first.min(at));
        self.changes = Some((first, at));
    }

    fn due(&self, rules: &GroupRules) -> Option<Moment> {
        let (first, last) = self.changes?;
        let latest = first + rules.interval + rules.settle;
        Some((last + rules.settle).min(latest).max(self.not_before))
    }
}

/// What is known of a group when a rendering begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlook {
    rules: GroupRules,
    conditions: Vec<Condition>,
    looked_at: bool,
}

impl Outlook {
    /// What the file is to have, given what it has.
    #[must_use]
    pub fn plan(&self, present: Option<&[Place]>) -> GroupPlan {
        plan(&self.rules, &self.conditions, present, self.looked_at)
    }
}

/// One group: the health of its members, and what has not been rendered yet.
#[derive(Debug, Clone)]
pub struct Group {
    rules: GroupRules,
    members: Vec<Health>,
    burst: Burst,
    begun: Moment,
    failures: u32,
}

/// The first pause after a rendering that failed; doubles with each further one.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_mins(5);

impl Group {
    /// A group of so many members, of which nothing is known. The file is to be looked at.
    #[must_use]
    pub fn new(rules: GroupRules, members: usize, now: Moment) -> Self {
        let mut burst = Burst::default();
        burst.note(now);
        Self {
            rules,
            members: vec![Health::default(); members],
            burst,
            begun: now,
            failures: 0,
        }
    }

    /// Takes in a look at a member.
    pub fn observe(&mut self, index: usize, seen: Seen, at: Moment) {
        let thresholds = self.rules.thresholds;
        let Some(health) = self.members.get_mut(index) else {
            return;
        };
        let before = health.condition(thresholds, at);
        health.observe(thresholds, seen, at);
        if health.condition(thresholds, at) != before {
            self.burst.note(at);
        }
    }

    /// True while a member is to be looked at more often.
    #[must_use]
    pub fn suspect(&self, index: usize) -> bool {
        self.members.get(index).is_some_and(Health::suspect)
    }

    /// How many members are in which condition.
    #[must_use]
    pub fn tally(&self, now: Moment) -> Tally {
        let conditions = self.conditions(now);
        Tally {
            up: count(&conditions, Condition::Up),
            down: count(&conditions, Condition::Down),
            unknown: count(&conditions, Condition::Unknown),
        }
    }

    /// When the file is to be rendered next; `None`: when something changes.
    #[must_use]
    pub fn due(&self) -> Option<Moment> {
        self.burst.due(&self.rules)
    }

    /// A rendering begins, of what is known now: what changes from here on is for the next one.
    pub fn begin(&mut self, now: Moment) -> Outlook {
        self.burst = Burst {
            changes: None,
            not_before: now,
        };
        Outlook {
            rules: self.rules,
            conditions: self.conditions(now),
            looked_at: now.since(self.begun) > self.rules.thresholds.stale_after,
        }
    }

    /// The rendering has ended as planned; the file was `written`, or was right already, or this
    /// agent only observes. Then deciding again would give the same, until something changes.
    pub fn rendered(&mut self, plan: &GroupPlan, written: bool, now: Moment) {
        self.failures = 0;
        if written {
            self.burst.not_before = now + self.rules.interval;
            if plan.left > 0 {
                self.burst.note(now);
            }
        }
        if plan.held == Some(Held::FirstLooks) {
            // The first looks that come are changes themselves; those that never come end then.
            let ends = self.begun + self.rules.thresholds.stale_after + Duration::from_millis(1);
            self.burst.note(ends.max(now));
        }
    }

    /// The rendering failed: it is tried again, after a pause that grows, and not before the file's
    /// own time.
    pub fn failed(&mut self, retry_after: Option<Duration>, now: Moment) {
        let factor = 2_u32.saturating_pow(self.failures);
        self.failures = self.failures.saturating_add(1);
        let pause = PAUSE_FIRST.saturating_mul(factor).min(PAUSE_MAX);
        self.burst.not_before = now + pause.max(retry_after.unwrap_or_default());
        self.burst.note(now);
    }

    fn conditions(&self, now: Moment) -> Vec<Condition> {
        let thresholds = self.rules.thresholds;
        let members = self.members.iter();
        members
            .map(|health| health.condition(thresholds, now))
            .collect()
    }
}

#[cfg(test)]
mod tests;
