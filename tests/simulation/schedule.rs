//! From a seed to a world with its schedule, and running many of them.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use failover_agent::model::lease::{ClusterRecord, StoredVote};
use failover_agent::model::{Epoch, Lsn, Role, SystemId, Timeline as WalTimeline};

use crate::clock::{HostClock, MS, Rng, SEC};
use crate::faults::{self, Fault};
use crate::guard::Guard;
use crate::net::Net;
use crate::node::Node;
use crate::operators;
use crate::setup::{Mutation, Setup, site_name};
use crate::timeline::{Counts, Timeline};
use crate::world::{Disk, End, Ev, Pointer, Site, Witness, World};

/// One schedule, ready to run.
pub(crate) fn world(seed: u64, mutation: Mutation, told: bool) -> World {
    let mut rng = Rng::new(seed);
    let setup = Setup::draw(&mut rng, mutation);
    let net = Net::new(&mut rng);
    let primary = rng.site();
    let fresh = rng.chance(60);
    let sites = [0, 1].map(|site| site_at_start(&mut rng, &setup, site, primary, fresh));
    let witness = Witness {
        clock: clock(&mut rng, &setup),
        life: 0,
        voter: None,
        vote: vote(&setup, primary, fresh),
        sightings: BTreeMap::new(),
        kept: [None; 2],
        started: 0,
    };
    let timeline = Timeline::wanted(told);
    let mut world = World::assemble(rng, setup, net, sites, witness, timeline);
    world.dns = pointer(primary, fresh);
    let settled = if fresh || world.setup.pair {
        5 * SEC
    } else {
        2 * SEC
    };
    let heal = settled + world.rng.within(4, 9) * SEC;
    for (at, fault) in faults::draw(&mut world.rng, primary, settled, heal) {
        world.at(at, Ev::Fault(fault));
    }
    let rebuilds = world.rng.below(2);
    for _ in 0..rebuilds {
        let at = world.rng.within(settled, heal);
        let site = world.rng.site();
        world.at(at, Ev::Fault(Fault::Rebuild(site)));
    }
    for (at, fault) in operators::draw(&mut Rng::new(!seed), settled, heal) {
        world.at(at, Ev::Fault(fault));
    }
    world.at(heal, Ev::Heal);
    world.start_witness(false);
    for site in [0, 1] {
        let span = world.rng.below(300 * MS);
        world.after(span, Ev::StartAgent(site));
        world.after(span, Ev::Wal(site));
    }
    world
}

fn clock(rng: &mut Rng, setup: &Setup) -> HostClock {
    let rate = rng.pick(&[-5000, -5000, 5000, 5000, 0, 1234]);
    let wall = if setup.walls_agree {
        0
    } else {
        rng.below(7_200_000).cast_signed() - 3_600_000
    };
    HostClock::boot(rng, 0, rate, wall)
}

fn site_at_start(rng: &mut Rng, setup: &Setup, site: usize, primary: usize, fresh: bool) -> Site {
    let role = if site == primary {
        Role::Primary
    } else {
        Role::Standby
    };
    let disk = Disk {
        vote: vote(setup, primary, fresh),
        file: pointer(primary, fresh),
        ..Disk::default()
    };
    Site {
        clock: clock(rng, setup),
        host_up: true,
        disk,
        node: Node::new(role, rng.pick(&[1_000, 20_000, 60_000])),
        agent: None,
        guard: Guard::new(0),
        lives: 0,
        wal_paused: false,
        app_down: false,
        failing: BTreeMap::new(),
        promote_takes: rng.pick(&[MS, 60 * MS, 300 * MS]),
        start_takes: rng.pick(&[50 * MS, 400 * MS]),
    }
}

fn pointer(primary: usize, fresh: bool) -> Pointer {
    Pointer {
        site: if fresh { 0 } else { primary },
        epoch: Epoch(u64::from(!fresh)),
    }
}

/// What a voter remembers of a cluster that has run before: epoch 1 ran out long ago.
fn vote(setup: &Setup, primary: usize, fresh: bool) -> Option<StoredVote> {
    (!fresh).then(|| StoredVote {
        version: 1,
        identity: setup.rules[0].identity.clone(),
        promised: Epoch(1),
        granted_to: Some(site_name(primary)),
        released: false,
        released_to: None,
        record: Some(ClusterRecord {
            epoch: Epoch(1),
            revision: 1,
            primary: site_name(primary),
            promoting: false,
            system_id: SystemId(7),
            timeline: WalTimeline(1),
            last_lsn: Lsn(10_000_000),
            last_failover: None,
            brakes: Box::default(),
        }),
    })
}

/// Runs one schedule and says how it ended.
pub(crate) fn run(seed: u64, mutation: Mutation) -> (End, Counts) {
    let mut world = world(seed, mutation, false);
    let end = world.run();
    let mut counts = world.counts;
    counts.schedules = 1;
    match &end {
        End::Well => counts.well = 1,
        End::Explained(_) => counts.explained = 1,
        End::NeedsGate => counts.needs_gate = 1,
        End::Violation(..) => {}
    }
    (end, counts)
}

/// What many schedules came to.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) counts: Counts,
    /// Schedules that broke a rule, the lowest seed first.
    pub(crate) violations: BTreeMap<u64, End>,
    pub(crate) explanations: BTreeMap<String, u64>,
}

/// Runs `runs` schedules from `seed` on, on all cores; stops early when `enough` was found.
pub(crate) fn run_many(
    seed: u64,
    runs: u64,
    mutation: Mutation,
    enough: impl Fn(&BTreeMap<u64, End>) -> bool + Sync,
) -> Findings {
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let findings = Mutex::new(Findings::default());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= runs {
                        return;
                    }
                    let (end, counts) = run(seed + number, mutation);
                    let mut found = findings.lock().unwrap();
                    found.counts += counts;
                    match end {
                        End::Violation(..) => drop(found.violations.insert(seed + number, end)),
                        End::Explained(why) => *found.explanations.entry(why).or_default() += 1,
                        End::Well | End::NeedsGate => {}
                    }
                    if enough(&found.violations) {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    findings.into_inner().unwrap()
}

/// The timeline of a schedule.
pub(crate) fn tell(seed: u64, mutation: Mutation) -> Vec<String> {
    let mut world = world(seed, mutation, true);
    let end = world.run();
    world.note(|| format!("END {end:?}"));
    world.timeline.lines.take().unwrap_or_default()
}
