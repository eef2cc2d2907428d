//! Each agent is killed at every line of its journal, in every story, and comes back: right after
//! the line became durable, with nothing done of what follows it; or right before the next one,
//! with all done that came before it. Afterwards exactly one node takes writes, and record, DNS
//! and files name it; or a person has been called (S1, S11).
#![expect(
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a world with two sites; what breaks a rule fails the test"
)]

mod pair;
mod senses;
mod site;
mod voters;

use std::time::Duration;

use failover_agent::decision::state::{Inherited, Phase};
use failover_agent::model::journal::{JournalEntry, PlanEnd};
use failover_agent::model::plan::PlanKind;

use pair::{Death, Pair};
use site::Site;

use crate::world::SITES;
use crate::world::agent::Crash;
use crate::world::nodes::How;

const FRA: usize = 0;
const AMS: usize = 1;

/// The agent's process dies and is back before anybody misses it.
const BLINK: Death = Death {
    down_for: Duration::from_millis(400),
    host: false,
};
/// It is away for longer than the lease lasts.
const AWAY: Death = Death {
    down_for: Duration::from_secs(15),
    host: false,
};
/// The whole host reboots.
const REBOOT: Death = Death {
    down_for: Duration::from_secs(20),
    host: true,
};

/// What happens to the pair.
#[derive(Clone, Copy)]
struct Story {
    name: &'static str,
    /// The agents that are killed.
    victims: &'static [usize],
    /// Before the pair has settled.
    prepare: fn(&mut Pair),
    trouble: fn(&mut Pair),
    /// What is to be in the journals without any crash, so that the story is about it.
    about: &'static [(usize, PlanKind)],
}

fn kill_postmaster(pair: &mut Pair) {
    pair.sites[FRA].node.how = How::Gone;
    pair.watch_process(FRA);
}

fn lose_site(pair: &mut Pair) {
    let lost = &mut pair.sites[FRA];
    lost.agent = None;
    lost.held = None;
    lost.deadline = None;
    lost.node.how = How::Gone;
}

fn cut_off(pair: &mut Pair) {
    pair.sites[FRA].cut = true;
    pair.pass(Duration::from_secs(25));
    pair.sites[FRA].cut = false;
}

const STORIES: [Story; 6] = [
    Story {
        name: "first start",
        victims: &[FRA],
        prepare: |_| {},
        trouble: |_| {},
        about: &[(FRA, PlanKind::Converge)],
    },
    Story {
        name: "postmaster killed: give up, take over, converge",
        victims: &[FRA, AMS],
        prepare: |_| {},
        trouble: kill_postmaster,
        about: &[
            (FRA, PlanKind::GiveUp),
            (AMS, PlanKind::TakeOver),
            (FRA, PlanKind::Converge),
        ],
    },
    Story {
        name: "an operator moves a living primary",
        victims: &[FRA, AMS],
        prepare: |_| {},
        trouble: |pair| pair.ask(FRA, AMS),
        about: &[(FRA, PlanKind::GiveUp), (AMS, PlanKind::TakeOver)],
    },
    Story {
        name: "site lost: silent takeover",
        victims: &[AMS],
        prepare: |_| {},
        trouble: lose_site,
        about: &[(AMS, PlanKind::TakeOver)],
    },
    Story {
        name: "postmaster killed, standby lags: restart in place",
        victims: &[FRA, AMS],
        prepare: |pair| pair.sites[AMS].lag_by(20),
        trouble: kill_postmaster,
        about: &[(FRA, PlanKind::Restart)],
    },
    Story {
        name: "primary site cut off: fenced, taken over",
        victims: &[FRA, AMS],
        prepare: |_| {},
        trouble: cut_off,
        about: &[(FRA, PlanKind::Fence), (AMS, PlanKind::TakeOver)],
    },
];

/// Plays a story; the victim dies at its `crash`, counted in lines from the story's beginning.
fn play(story: &Story, death: Death, crash: Option<(usize, Crash)>) -> Pair {
    let mut pair = Pair::new([How::Primary, How::Standby(true)], death);
    (story.prepare)(&mut pair);
    let from_the_start = story.name == "first start";
    if let (Some((site, crash)), true) = (crash, from_the_start) {
        pair.sites[site].crash = crash;
    }
    pair.start(AMS, Inherited::NeverActive);
    pair.start(FRA, Inherited::NeverActive);
    pair.pass(Duration::from_secs(8));
    if let (Some((site, crash)), false) = (crash, from_the_start) {
        pair.sites[site].crash = crash;
    }
    (story.trouble)(&mut pair);
    pair.pass(Duration::from_secs(75));
    pair
}

/// How many lines each agent's journal has before and after the story.
fn lines(story: &Story) -> [(usize, usize); 2] {
    let quiet = Story {
        trouble: |_| {},
        ..*story
    };
    let count = |pair: &Pair, site: usize| match &pair.sites[site].agent {
        Some(agent) => agent.lines.len(),
        None => 0,
    };
    let mut before = Pair::new([How::Primary, How::Standby(true)], BLINK);
    (quiet.prepare)(&mut before);
    before.start(AMS, Inherited::NeverActive);
    before.start(FRA, Inherited::NeverActive);
    let from_the_start = story.name == "first start";
    before.pass(Duration::from_secs(if from_the_start { 0 } else { 8 }));
    let after = play(story, BLINK, None);
    [FRA, AMS].map(|site| (count(&before, site), count(&after, site)))
}

/// What is wrong with how it all ended.
fn wrong(pair: &Pair) -> Option<String> {
    let writers: Vec<usize> = (0..2).filter(|site| pair.sites[*site].writable()).collect();
    let [primary] = writers.as_slice() else {
        return Some(format!("{} nodes take writes", writers.len()));
    };
    let primary = *primary;
    let files = |site: &Site| site.agent.is_none() || site.file == Some(primary);
    if pair.voters.holder(pair.now) != Some(primary) {
        Some("the primary's site does not hold the lease".to_owned())
    } else if pair.phase(primary) != Some(Phase::Active) {
        Some(format!("the primary's agent is {:?}", pair.phase(primary)))
    } else if pair.recorded() != Some(primary) {
        Some(format!("the record says {:?}", pair.voters.record))
    } else if pair.dns != Some(primary) {
        Some(format!("DNS names {:?}", pair.dns))
    } else if !pair.sites.iter().all(files) {
        Some(format!(
            "files name {:?}",
            pair.sites.each_ref().map(|s| s.file)
        ))
    } else {
        None
    }
}

#[test]
fn without_a_crash_every_story_ends_well_and_is_what_it_is_about() {
    for story in &STORIES {
        let pair = play(story, BLINK, None);
        let wrong = wrong(&pair);
        assert!(
            wrong.is_none(),
            "{}: {wrong:?}\n{}",
            story.name,
            pair.trace.join("\n")
        );
        for (site, kind) in story.about {
            let lines = &pair.sites[*site]
                .agent
                .as_ref()
                .map(|agent| agent.lines.clone());
            let ended = lines.iter().flatten().any(|line| {
                matches!(&line.entry, JournalEntry::PlanEnded { plan, end: PlanEnd::Completed }
                if lines.iter().flatten().any(|line| {
                    matches!(&line.entry, JournalEntry::Planned { plan: known, .. }
                        if known.id == *plan && known.kind == *kind)
                }))
            });
            assert!(ended, "{}: no plan to {kind} completed", story.name);
        }
    }
}

/// Kills at every line; returns how many deaths there were. All is well again by itself after each.
fn kill_everywhere(death: Death) -> usize {
    let mut deaths = 0;
    for story in &STORIES {
        let counts = lines(story);
        for &site in story.victims {
            let (before, after) = counts[site];
            for line in before + 1..=after {
                for crash in [Crash::After(line), Crash::Before(line)] {
                    let what = format!("{}: {} dies {crash:?}", story.name, SITES[site]);
                    let pair = play(story, death, Some((site, crash)));
                    deaths += 1;
                    if let Some(wrong) = wrong(&pair) {
                        panic!("{what}: {wrong}\n{}", pair.trace.join("\n"));
                    }
                }
            }
        }
    }
    deaths
}

#[test]
fn s11_agent_killed_at_every_line_and_back_at_once() {
    let deaths = kill_everywhere(BLINK);
    assert!(deaths > 100, "{deaths}");
}

#[test]
fn s11_agent_killed_at_every_line_and_away_longer_than_the_lease() {
    let deaths = kill_everywhere(AWAY);
    assert!(deaths > 100, "{deaths}");
}

#[test]
fn s11_host_rebooted_at_every_line() {
    let deaths = kill_everywhere(REBOOT);
    assert!(deaths > 100, "{deaths}");
}
