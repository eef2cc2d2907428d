//! Searches for two writers among agents whose lease is kept in one cell of a store.
//!
//! The machines are the program's own; store, links, clocks and lives are a model with seeds: every
//! request and answer may be lost or come very late, the store is away for anybody for a while,
//! agents are restarted, and clocks run wrong by the stated bound. A broken rule is found, so the
//! search would notice.
#![expect(clippy::indexing_slicing, reason = "a model of two sites")]

mod sites;
mod whims;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use failover_agent::decision::lease::rules::BrokenRule;
use failover_agent::decision::lease::{Ask, Asked, CellContender, Input, Output};
use failover_agent::model::cell::{CellReply, CellRequest, PeerAsk, PeerWord, SeenCell};
use failover_agent::model::lease::LeaseView;
use failover_agent::model::{Epoch, Moment};
use sites::{TTL, rules, site};

const SPAN: u64 = 120_000;
const SEEDS: u64 = 60;

/// Real time, in microseconds.
type Real = u64;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Happens {
    Wake {
        site: usize,
        turn: u64,
    },
    AtStore {
        site: usize,
        life: u32,
        ask: usize,
    },
    FromStore {
        site: usize,
        life: u32,
        ask: usize,
        reply: usize,
    },
    Unanswered {
        site: usize,
        life: u32,
        ask: usize,
    },
    AtPeer {
        site: usize,
        life: u32,
        ask: usize,
    },
    FromPeer {
        site: usize,
        life: u32,
        ask: usize,
        word: usize,
    },
    Whim {
        site: usize,
    },
    /// The guard has heard that the lease is to be pinned no more.
    GuardKnows {
        site: usize,
        life: u32,
    },
    Weather,
}

struct World {
    random: u64,
    now: Real,
    order: u64,
    queue: BinaryHeap<Reverse<(Real, u64, Happens)>>,
    broken: Option<BrokenRule>,
    machines: Vec<CellContender>,
    lives: Vec<u32>,
    /// Only the newest wish to be woken counts.
    turns: [u64; 2],
    /// Rates in thousandths, and where each clock began.
    clocks: [(u64, u64); 2],
    store: SeenCell,
    reaches: [bool; 2],
    linked: bool,
    asks: Vec<(u64, Asked)>,
    replies: Vec<CellReply>,
    words: Vec<PeerWord>,
    /// Until when each site's node may take writes, in real time.
    writable: [Real; 2],
    held: [Option<Epoch>; 2],
    epoch: Epoch,
    acquired: u64,
    /// Numbers the records that pin, or pin no more, and says which the newest is.
    pins: u64,
    pinned: bool,
    /// Whims that pin are drawn at all.
    may_pin: bool,
    endless: u64,
    wrong: Option<String>,
}

impl World {
    fn new(seed: u64, broken: Option<BrokenRule>) -> Self {
        let mut world = Self {
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            now: 0,
            order: 0,
            queue: BinaryHeap::new(),
            broken,
            machines: Vec::new(),
            lives: vec![0, 0],
            turns: [0; 2],
            clocks: [(1000, 0); 2],
            store: SeenCell::default(),
            reaches: [true; 2],
            linked: true,
            asks: Vec::new(),
            replies: Vec::new(),
            words: Vec::new(),
            writable: [0; 2],
            held: [None; 2],
            epoch: Epoch::NONE,
            acquired: 0,
            pins: 0,
            pinned: false,
            may_pin: seed.is_multiple_of(2),
            endless: 0,
            wrong: None,
        };
        for index in 0..2 {
            let rate = 995 + world.below(3) * 5;
            world.clocks[index] = (rate, world.below(1_000_000));
            let start = world.local(index);
            let machine = CellContender::new(
                rules(index, broken),
                site(index),
                site(1 - index),
                world.next(),
                start,
            );
            world.machines.push(machine);
            world.at(
                0,
                Happens::Wake {
                    site: index,
                    turn: 0,
                },
            );
            world.at(1_000, Happens::Whim { site: index });
        }
        world.at(500_000, Happens::Weather);
        world
    }

    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn at(&mut self, after: u64, what: Happens) {
        self.order += 1;
        self.queue
            .push(Reverse((self.now + after, self.order, what)));
    }

    /// Mostly quick; at times lost in a queue for longer than a ttl.
    fn delay(&mut self) -> u64 {
        match self.below(20) {
            0 => self.below(6_000_000),
            1..=3 => self.below(400_000),
            _ => 200 + self.below(2_000),
        }
    }

    fn feed(&mut self, index: usize, input: Input) -> Option<PeerWord> {
        let now = self.local(index);
        let output = self.machines[index].handle(input, now);
        self.judge(index, &output);
        let life = self.lives[index];
        let timeout = TTL * 1000 / 7;
        for Ask { round, what } in output.asks {
            let to_store = matches!(what, Asked::Store(_));
            self.asks.push((round, what));
            let ask = self.asks.len() - 1;
            let delay = self.delay();
            if self.below(30) > 0 {
                let happens = match to_store {
                    true => Happens::AtStore {
                        site: index,
                        life,
                        ask,
                    },
                    false => Happens::AtPeer {
                        site: index,
                        life,
                        ask,
                    },
                };
                self.at(delay, happens);
            }
            self.at(
                timeout,
                Happens::Unanswered {
                    site: index,
                    life,
                    ask,
                },
            );
        }
        self.turns[index] += 1;
        let turn = self.turns[index];
        if let Some(wake) = output.wake_at {
            let after = self.real(index, wake).saturating_sub(self.now).max(100);
            // A busy host is late at times.
            let late = if self.below(50) == 0 {
                self.below(3_000_000)
            } else {
                0
            };
            self.at(after + late, Happens::Wake { site: index, turn });
        }
        output.word
    }

    /// S1: whoever holds anew finds the other site's node unable to write.
    fn judge(&mut self, index: usize, output: &Output) {
        let fence = Duration::from_millis(TTL) / 5;
        match self.machines[index].current_view() {
            LeaseView::Held { epoch, fence_at } => {
                if self.held[index] != Some(epoch) {
                    self.acquired += 1;
                    if epoch <= self.epoch {
                        self.wrong = Some(format!("{epoch} was held before"));
                    }
                    self.epoch = epoch;
                    self.held[index] = Some(epoch);
                    if self.writable[1 - index] > self.now {
                        self.wrong = Some(format!("two writers at {}", self.now));
                    }
                }
                // The guard hears of a later deadline at once, of a nearer one when it does.
                let until = self.real(index, fence_at + fence);
                self.endless += u64::from(fence_at == Moment::NEVER);
                self.writable[index] = self.writable[index].max(until);
                if output.awaits_guard.is_some() {
                    let (site, life) = (index, self.lives[index]);
                    let delay = self.delay();
                    self.at(delay, Happens::GuardKnows { site, life });
                }
            }
            LeaseView::Unknown | LeaseView::Other { .. } | LeaseView::Free { .. } => {
                if self.held[index].take().is_some() && output.fence.is_none() {
                    // Given up by command: the node was fenced before.
                    self.writable[index] = self.now;
                }
                if output.fence.is_some() {
                    let fenced = self.real(index, self.local(index) + fence);
                    self.writable[index] = self.writable[index].min(fenced);
                }
                // After a loss the guard has fenced by the deadline that was set before.
            }
        }
    }

    fn step(&mut self) -> bool {
        let Some(Reverse((at, _, what))) = self.queue.pop() else {
            return false;
        };
        self.now = self.now.max(at);
        match what {
            Happens::Wake { site, turn } if turn == self.turns[site] => {
                self.feed(site, Input::Tick);
            }
            Happens::AtStore { site, life, ask } => self.at_store(site, life, ask),
            Happens::FromStore {
                site,
                life,
                ask,
                reply,
            } if life == self.lives[site] => {
                let reply = Some(self.replies[reply].clone());
                let round = self.asks[ask].0;
                self.feed(site, Input::Cell { round, reply });
            }
            Happens::Unanswered { site, life, ask } if life == self.lives[site] => {
                let (round, what) = self.asks[ask].clone();
                self.feed(
                    site,
                    match what {
                        Asked::Store(_) => Input::Cell { round, reply: None },
                        Asked::Peer(_) => Input::PeerSaid { round, word: None },
                    },
                );
            }
            Happens::AtPeer { site, life, ask } => self.at_peer(site, life, ask),
            Happens::FromPeer {
                site,
                life,
                ask,
                word,
            } if life == self.lives[site] => {
                let word = Some(self.words[word]);
                let round = self.asks[ask].0;
                self.feed(site, Input::PeerSaid { round, word });
            }
            Happens::Whim { site } => self.whim(site),
            Happens::GuardKnows { site, life } if life == self.lives[site] => {
                self.guard_knows(site);
            }
            Happens::Weather => {
                let which = self.below(6);
                self.reaches = [which != 1 && which != 3, which != 2 && which != 3];
                self.linked = self.below(4) > 0;
                let lasts = self.below(9_000_000);
                self.at(lasts, Happens::Weather);
            }
            Happens::Wake { .. }
            | Happens::FromStore { .. }
            | Happens::Unanswered { .. }
            | Happens::GuardKnows { .. }
            | Happens::FromPeer { .. } => {}
        }
        self.now < SPAN * 1000 && self.wrong.is_none()
    }

    /// What was sent arrives, however late, also from an agent that is no more.
    fn at_store(&mut self, site: usize, life: u32, ask: usize) {
        if !self.reaches[site] {
            // It waits in the network until the path is back.
            if self.below(3) == 0 {
                self.at(1_000_000, Happens::AtStore { site, life, ask });
            }
            return;
        }
        let Asked::Store(request) = self.asks[ask].1.clone() else {
            return;
        };
        let mut written = false;
        if let CellRequest::Write { if_revision, cell } = request
            && if_revision == self.store.revision
        {
            written = true;
            self.store = SeenCell {
                revision: self.store.revision + 1,
                cell: Some(*cell),
            };
        }
        let seen = self.store.clone();
        self.replies.push(CellReply { written, seen });
        let reply = self.replies.len() - 1;
        let delay = self.delay();
        if self.below(15) > 0 {
            self.at(
                delay,
                Happens::FromStore {
                    site,
                    life,
                    ask,
                    reply,
                },
            );
        }
    }

    fn at_peer(&mut self, site: usize, life: u32, ask: usize) {
        if !self.linked {
            return;
        }
        let Asked::Peer(question) = self.asks[ask].1.clone() else {
            return;
        };
        let question: PeerAsk = question;
        if let Some(word) = self.feed(1 - site, Input::PeerAsks(question)) {
            self.words.push(word);
            let word = self.words.len() - 1;
            let delay = self.delay();
            self.at(
                delay,
                Happens::FromPeer {
                    site,
                    life,
                    ask,
                    word,
                },
            );
        }
    }
}

fn search(seeds: u64, broken: Option<BrokenRule>) -> (u64, Option<String>) {
    let (mut acquired, mut endless) = (0, 0);
    for seed in 1..=seeds {
        let mut world = World::new(seed, broken);
        while world.step() {}
        acquired += world.acquired;
        endless += world.endless;
        if let Some(wrong) = world.wrong {
            return (acquired, Some(format!("seed {seed}: {wrong}")));
        }
    }
    assert!(endless > 0, "no lease was ever pinned");
    (acquired, None)
}

#[test]
fn s1_no_schedule_has_two_writers() {
    let (acquired, wrong) = search(SEEDS, None);
    assert_eq!(wrong, None);
    println!("{SEEDS} schedules of {SPAN} ms, {acquired} acquisitions");
    assert!(acquired > SEEDS * 5, "the lease moves: {acquired}");
}

#[test]
fn broken_rules_are_found() {
    for rule in [
        BrokenRule::GrantIgnored,
        BrokenRule::PromiseForgotten,
        BrokenRule::CountFromReply,
        BrokenRule::PinIgnored,
        BrokenRule::UnpinnedTooSoon,
    ] {
        let (_, wrong) = search(SEEDS * 5, Some(rule));
        assert!(wrong.is_some(), "{rule:?} was not found");
    }
}
