//! What goes wrong, and when: drawn from the seed before a schedule begins.

use failover_agent::decision::lease::Voter;
use failover_agent::model::event::Wish;
use failover_agent::model::plan::StepKind;

use crate::agent::Trap;
use crate::clock::{HostClock, MS, Real, Rng, SEC};
use crate::net::WITNESS;
use crate::node::Process;
use crate::operators::Pull;
use crate::setup::site_name;
use crate::world::{Ev, WitnessTask, World, name};

/// One thing that goes wrong, or is put right again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    KillPostmaster(usize),
    NodeDies(usize),
    FreezeNode(usize),
    FreezePostmaster(usize),
    ThawNode(usize),
    NodeDisk(usize, bool),
    KillAgent(usize, Real),
    FreezeAgent(usize, Real),
    ThawAgent(usize, u32),
    StopAgent(usize, Real),
    SetTrap(usize, u32, Trap),
    PowerLoss(usize, Real),
    Boot(usize, bool),
    Suspend(usize, Real),
    Cut(usize, usize),
    Slow(usize, usize, u64, Real),
    Mend(usize, usize),
    WitnessDies,
    WitnessStarts(bool),
    Disk(usize, bool, bool),
    FlushTakes(usize, Real),
    WallJumps(usize, i64),
    Operator(usize, usize),
    App(usize, bool),
    WalPaused(usize, bool),
    StepsFail(usize, StepKind, u32),
    Takes(usize, Real, Real),
    StopNode(usize),
    StartNode(usize),
    Rebuild(usize),
    Brake(usize, Pull),
}

/// Draws what goes wrong between `from` and `to`. Most schedules begin with something that moves
/// the primary from its site, and go on while that is under way.
pub(crate) fn draw(rng: &mut Rng, primary: usize, from: Real, to: Real) -> Vec<(Real, Fault)> {
    let mut faults = Vec::new();
    let mut at = from + rng.below(SEC);
    if rng.chance(700) {
        let span = span(rng);
        move_primary(rng, &mut faults, primary, at, span);
    }
    for _ in 0..rng.within(1, 7) {
        // Faults come together as often as one after the other.
        at += rng.pick(&[0, 2 * MS, 20 * MS, 200 * MS, SEC, 2 * SEC]) * rng.below(3);
        at = at.min(to);
        let span = span(rng);
        add(rng, &mut faults, at, span);
    }
    faults
}

fn move_primary(rng: &mut Rng, faults: &mut Vec<(Real, Fault)>, site: usize, at: Real, span: Real) {
    let end = at + span;
    let mut both = |what, back| faults.extend([(at, what), (end, back)]);
    match rng.below(9) {
        0 | 1 => faults.push((at, Fault::KillPostmaster(site))),
        2 => both(Fault::FreezeNode(site), Fault::ThawNode(site)),
        3 => both(Fault::NodeDisk(site, true), Fault::NodeDisk(site, false)),
        4 => faults.push((at, Fault::PowerLoss(site, span))),
        5 => faults.push((at, Fault::Operator(site, 1 - site))),
        6 => both(Fault::App(site, true), Fault::App(site, false)),
        _ => {
            for to in (0..3).filter(|to| *to != site) {
                for (from, to) in [(site, to), (to, site)] {
                    faults.push((at, Fault::Cut(from, to)));
                    faults.push((at + span.max(3 * SEC), Fault::Mend(from, to)));
                }
            }
        }
    }
}

fn span(rng: &mut Rng) -> Real {
    let most = rng.pick(&[100 * MS, SEC, 3 * SEC, 8 * SEC]);
    rng.within(10 * MS, most)
}

fn add(rng: &mut Rng, faults: &mut Vec<(Real, Fault)>, at: Real, span: Real) {
    let site = rng.site();
    let end = at + span;
    let mut both = |what, back| faults.extend([(at, what), (end, back)]);
    match rng.below(27) {
        0 | 1 => faults.push((at, Fault::KillPostmaster(site))),
        2 => both(Fault::FreezeNode(site), Fault::ThawNode(site)),
        3 => both(Fault::FreezePostmaster(site), Fault::ThawNode(site)),
        4 => both(Fault::NodeDisk(site, true), Fault::NodeDisk(site, false)),
        5 | 6 => faults.push((at, Fault::KillAgent(site, span))),
        7 => faults.push((at, Fault::FreezeAgent(site, span))),
        8 => faults.push((at, Fault::StopAgent(site, span))),
        9 | 10 => {
            let trap = rng.pick(&[
                Trap::CrashBefore,
                Trap::CrashAfter,
                Trap::FreezeAfter(4 * SEC),
            ]);
            let countdown = u32::try_from(rng.below(12)).unwrap();
            faults.push((at, Fault::SetTrap(site, countdown, trap)));
        }
        11 => faults.push((at, Fault::PowerLoss(site, span))),
        12 => faults.push((at, Fault::Suspend(site, span))),
        13..=16 => cut(rng, faults, at, end),
        17 => {
            let (one, other) = pair(rng);
            let (loss, delay) = (rng.below(400), rng.pick(&[MS, 60 * MS, 150 * MS]));
            for (from, to) in [(one, other), (other, one)] {
                faults.push((at, Fault::Slow(from, to, loss, delay)));
                faults.push((end, Fault::Mend(from, to)));
            }
        }
        18 => both(Fault::WitnessDies, Fault::WitnessStarts(rng.chance(400))),
        19 => {
            let vote = rng.chance(500);
            both(
                Fault::Disk(site, true, vote),
                Fault::Disk(site, false, false),
            );
        }
        20 => {
            let takes = rng.pick(&[5 * MS, 300 * MS, 2 * SEC]);
            both(Fault::FlushTakes(site, takes), Fault::FlushTakes(site, 0));
        }
        21 => {
            let jump = rng.pick(&[-3_600_000, -20_000, 20_000, 7_200_000]);
            faults.push((at, Fault::WallJumps(site, jump)));
        }
        22 => faults.push((at, Fault::Operator(site, rng.site()))),
        23 => both(Fault::App(site, true), Fault::App(site, false)),
        24 => both(Fault::WalPaused(site, true), Fault::WalPaused(site, false)),
        25 => {
            let kind = rng.pick(&[
                StepKind::Promote,
                StepKind::StartOwn,
                StepKind::StartStandby,
                StepKind::RewriteAppConfig,
                StepKind::UpdateDns,
            ]);
            let times = u32::try_from(rng.within(1, 3)).unwrap();
            faults.push((at, Fault::StepsFail(site, kind, times)));
            let takes = rng.pick(&[MS, 200 * MS, 2 * SEC, 4 * SEC]);
            faults.push((at, Fault::Takes(site, takes, takes)));
        }
        _ => {
            faults.push((at, Fault::StopNode(site)));
            faults.push((end, Fault::StartNode(site)));
        }
    }
}

fn pair(rng: &mut Rng) -> (usize, usize) {
    rng.pick(&[(0, 1), (0, WITNESS), (1, WITNESS)])
}

fn cut(rng: &mut Rng, faults: &mut Vec<(Real, Fault)>, at: Real, end: Real) {
    let (one, other) = pair(rng);
    let host = rng.pick(&[0, 1, WITNESS]);
    let rest: Vec<usize> = (0..3).filter(|to| *to != host).collect();
    let links = match rng.below(4) {
        0 => vec![(one, other), (other, one)],
        1 => vec![rng.pick(&[(one, other), (other, one)])],
        // A host that hears nothing, or is not heard.
        2 if rng.chance(500) => rest.iter().map(|to| (host, *to)).collect(),
        2 => rest.iter().map(|to| (*to, host)).collect(),
        _ => rest
            .iter()
            .flat_map(|to| [(host, *to), (*to, host)])
            .collect(),
    };
    for (from, to) in links {
        faults.push((at, Fault::Cut(from, to)));
        faults.push((end, Fault::Mend(from, to)));
    }
}

impl World {
    pub(crate) fn fault(&mut self, fault: Fault) {
        for site in [0, 1] {
            self.write(site);
        }
        self.note(|| format!("FAULT {fault:?}"));
        let now = self.now;
        match fault {
            Fault::KillPostmaster(site) => self.kill_postmaster(site),
            Fault::NodeDies(site) => self.node_gone(site),
            Fault::FreezeNode(site) => self.freeze_node(site, true),
            Fault::FreezePostmaster(site) => self.freeze_node(site, false),
            Fault::ThawNode(site) => self.thaw_node(site),
            Fault::NodeDisk(site, full) => self.sites[site].node.disk_full = full,
            Fault::KillAgent(site, span) => {
                self.crash_agent(site);
                self.after(span, Ev::StartAgent(site));
            }
            Fault::FreezeAgent(site, span) => self.freeze_agent(site, span),
            Fault::ThawAgent(site, life) => {
                let same = self.sites[site]
                    .agent
                    .as_ref()
                    .is_some_and(|a| a.life == life);
                if same {
                    self.thaw_agent(site);
                }
            }
            Fault::StopAgent(site, span) => {
                self.stop_agent(site);
                self.after(span, Ev::StartAgent(site));
            }
            Fault::SetTrap(site, countdown, trap) => {
                if let Some(agent) = self.sites[site].agent.as_mut() {
                    agent.trap = Some((countdown, trap));
                }
            }
            Fault::PowerLoss(site, span) => self.power_loss(site, span),
            Fault::Boot(site, autostart) => self.boot(site, autostart),
            Fault::Suspend(site, span) => {
                self.freeze_agent(site, span);
                self.freeze_node(site, true);
                self.after(span, Ev::Fault(Fault::ThawNode(site)));
            }
            Fault::Cut(from, to) => self.net.change(from, to, now, |link| link.up = false),
            Fault::Slow(from, to, loss, delay) => self.net.change(from, to, now, |link| {
                link.loss = loss;
                link.delay = (delay / 4, delay);
            }),
            Fault::Mend(from, to) => self.net.heal(from, to, now),
            Fault::WitnessDies => self.witness.voter = None,
            Fault::WitnessStarts(forgetful) => self.start_witness(forgetful),
            other => self.lesser_fault(other),
        }
    }

    fn lesser_fault(&mut self, fault: Fault) {
        match fault {
            Fault::Disk(site, journal, vote) => {
                self.sites[site].disk.journal_full = journal;
                self.sites[site].disk.vote_full = vote;
            }
            Fault::FlushTakes(site, takes) => self.sites[site].disk.flush = takes,
            Fault::WallJumps(site, by) => {
                self.sites[site].clock.wall += by;
                self.setup.walls_agree = false;
            }
            Fault::Operator(site, to) => {
                let running = self.sites[site].agent.as_ref().is_some_and(|a| !a.frozen);
                if running {
                    let to = site_name(to);
                    self.wish(site, Wish::Failover { to, dry_run: false });
                }
            }
            Fault::App(site, down) => self.sites[site].app_down = down,
            Fault::WalPaused(site, paused) => self.sites[site].wal_paused = paused,
            Fault::StepsFail(site, kind, times) => {
                self.sites[site].failing.insert(kind, times);
            }
            Fault::Takes(site, promote, start) => {
                self.sites[site].promote_takes = promote;
                self.sites[site].start_takes = start;
            }
            Fault::StopNode(site) => {
                let standby = self.sites[site].node.signal;
                if standby && self.sites[site].node.process == Process::Up {
                    self.node_gone(site);
                }
            }
            Fault::StartNode(site) if self.sites[site].node.signal => self.start_node(site),
            Fault::Rebuild(site) => self.rebuild(site),
            Fault::Brake(site, pull) => self.pull(site, pull),
            _ => {}
        }
    }

    fn freeze_node(&mut self, site: usize, whole: bool) {
        let node = &mut self.sites[site].node;
        if !node.exists() || node.process == Process::Orphans {
            return;
        }
        node.postmaster_frozen = true;
        node.frozen |= whole;
        self.process_changed(site);
    }

    fn thaw_node(&mut self, site: usize) {
        self.write(site);
        let node = &mut self.sites[site].node;
        node.postmaster_frozen = false;
        node.frozen = false;
        self.process_changed(site);
    }

    fn power_loss(&mut self, site: usize, span: Real) {
        if !self.sites[site].host_up {
            return;
        }
        // What was not flushed is gone: a torn act leaves nothing behind.
        if let Some(agent) = self.sites[site].agent.as_mut() {
            agent.act = None;
            agent.fences.clear();
        }
        self.crash_agent(site);
        self.sites[site].host_up = false;
        self.sites[site].guard = self.sites[site].guard.replaced();
        self.node_gone(site);
        if self.rng.chance(500) {
            self.sites[site].disk.word = None;
        }
        let autostart = self.rng.chance(300);
        self.after(span, Ev::Fault(Fault::Boot(site, autostart)));
    }

    fn boot(&mut self, site: usize, autostart: bool) {
        if self.sites[site].host_up {
            return;
        }
        let rate = self.rng.below(10_001).cast_signed() - 5000;
        let wall = self.sites[site].clock.wall;
        let clock = HostClock::boot(&mut self.rng, self.now, rate, wall);
        let here = &mut self.sites[site];
        here.clock = clock;
        here.host_up = true;
        here.disk.flush = 0;
        let span = self.rng.within(MS, 1500 * MS);
        self.after(span, Ev::StartAgent(site));
        if autostart {
            self.autostart_node(site);
        }
    }

    pub(crate) fn start_witness(&mut self, forgetful: bool) {
        if self.witness.voter.is_some() || self.setup.pair {
            return;
        }
        let moment = self.moment(WITNESS);
        let now = self.now;
        let witness = &mut self.witness;
        witness.life += 1;
        witness.started = now;
        witness.sightings.clear();
        if forgetful {
            witness.vote = None;
        }
        let rules = self.setup.rules[WITNESS].clone();
        witness.voter = Some(Voter::boot(rules, witness.vote.clone(), moment));
        let life = witness.life;
        self.voter_booted(WITNESS);
        self.after(0, Ev::Witness(life, WitnessTask::Learn));
        for site in [0, 1] {
            for channel in [0, 1] {
                let span = self.rng.below(500 * MS);
                self.after(span, Ev::Witness(life, WitnessTask::Look(site, channel)));
            }
        }
    }

    /// Everything that was broken is whole again; from here on the agents must get by.
    pub(crate) fn heal(&mut self) {
        self.note(|| "HEAL: everything is put right".to_owned());
        self.healed = Some(self.now);
        let now = self.now;
        for (from, to) in [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)] {
            self.net.heal(from, to, now);
        }
        self.start_witness(false);
        for site in [0, 1] {
            self.write(site);
            self.thaw_agent(site);
            if let Some(agent) = self.sites[site].agent.as_mut() {
                agent.trap = None;
            }
            self.boot(site, false);
            let here = &mut self.sites[site];
            here.node.disk_full = false;
            here.disk.journal_full = false;
            here.disk.vote_full = false;
            here.disk.flush = 0;
            here.wal_paused = false;
            here.app_down = false;
            here.failing.clear();
            here.promote_takes = 100 * MS;
            here.start_takes = 200 * MS;
            self.thaw_node(site);
            self.start_agent(site);
            if self.rng.chance(500) {
                // A standby that is down is started by its host's operator, not by the agent.
                let standby = self.sites[site].node.signal;
                let span = self.rng.below(3 * SEC);
                if standby {
                    self.after(span, Ev::Fault(Fault::StartNode(site)));
                }
            }
            self.note(|| format!("site {}: whole", name(site)));
        }
        self.after(SEC, Ev::Poll);
    }
}
