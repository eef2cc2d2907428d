//! Everything that can break, as a table: how it is broken, how it is healed, and where.
//!
//! A later fault is a row of [`FAULTS`]; a new way to break something is an [`Act`].

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::dice::Dice;
use super::lab::Disk;
use super::wires::{Host, Trouble};

/// Processes of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    Postmaster,
    /// The postmaster and all its children.
    Postgres,
    /// The agent, or the witness.
    Member,
    Guard,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sig {
    Kill,
    Stop,
    Cont,
}

/// Ways between hosts, as seen from the one that a fault hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    All,
    Out,
    In,
    /// Both directions between it and the other site (from the witness: and fra).
    Other,
    OtherOut,
    OtherIn,
    Witness,
}

/// One thing done to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Send(Sig, Whom),
    /// As its supervisor would; nothing without power, or while it runs.
    StartMember,
    PowerOff,
    /// The member starts; the node only if its agent starts it.
    PowerOn,
    Trouble(Way, Trouble),
    /// Everything on this way arrives so many milliseconds late.
    Late(Way, u64),
    /// Ends all troubles and latencies of this fault.
    Mend,
    Fill(Disk),
    Free(Disk),
    /// The wall clock of the node jumps by this, as libfaketime writes it.
    Clock(&'static str),
}

/// What a fault needs of the machine or the product; without it, it is skipped with a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Nothing,
    Guard,
    Faketime,
    Delays,
}

/// A row of the table.
#[derive(Debug)]
pub struct Fault {
    pub name: &'static str,
    /// The sets of hosts that it may hit at once.
    pub places: &'static [&'static [Host]],
    pub breaks: &'static [Act],
    pub heals: &'static [Act],
    pub need: Need,
    /// Both agents live and see each other: not one acknowledged commit may be lost.
    pub cooperative: bool,
    /// The other site must be able to see this host meanwhile: no way between hosts is broken in
    /// the same round, and none is without power.
    pub seen: bool,
    /// Nobody may take writes while it lasts, once the lease has run out.
    pub dark: bool,
    /// Milliseconds between break and heal.
    pub lasts: RangeInclusive<u64>,
}

const fn row(name: &'static str, breaks: &'static [Act], heals: &'static [Act]) -> Fault {
    Fault {
        name,
        places: NODES,
        breaks,
        heals,
        need: Need::Nothing,
        cooperative: false,
        seen: false,
        dark: false,
        lasts: 1000..=5000,
    }
}

const NODES: &[&[Host]] = &[&[Host::Fra], &[Host::Fra], &[Host::Ams]];
const EVERYWHERE: &[&[Host]] = &[&[Host::Fra], &[Host::Fra], &[Host::Ams], &[Host::Witness]];
const TWO: &[&[Host]] = &[
    &[Host::Fra, Host::Ams],
    &[Host::Fra, Host::Witness],
    &[Host::Ams, Host::Witness],
];
const BOTH_SITES: &[&[Host]] = &[&[Host::Fra, Host::Ams]];
/// Long enough that the lease has run out and the fence is over.
const LONG: RangeInclusive<u64> = 5000..=7000;

use Act::{Clock, Fill, Free, Late, Mend, PowerOff, PowerOn, Send, StartMember};
use Sig::{Cont, Kill, Stop};
use Whom::{Guard, Member, Postgres, Postmaster};

/// The table.
pub const FAULTS: &[Fault] = &[
    Fault {
        cooperative: true,
        ..row("postmaster-kill", &[Send(Kill, Postmaster)], &[])
    },
    Fault {
        cooperative: true,
        ..row("postgres-kill", &[Send(Kill, Postgres)], &[])
    },
    Fault {
        cooperative: true,
        ..row(
            "postmaster-stop",
            &[Send(Stop, Postmaster)],
            &[Send(Cont, Postmaster)],
        )
    },
    Fault {
        cooperative: true,
        ..row(
            "postgres-stop",
            &[Send(Stop, Postgres)],
            &[Send(Cont, Postgres)],
        )
    },
    Fault {
        places: EVERYWHERE,
        ..row("member-kill", &[Send(Kill, Member)], &[StartMember])
    },
    Fault {
        places: EVERYWHERE,
        ..row("member-stop", &[Send(Stop, Member)], &[Send(Cont, Member)])
    },
    Fault {
        need: Need::Guard,
        ..row("guard-kill", &[Send(Kill, Guard)], &[])
    },
    Fault {
        need: Need::Guard,
        ..row("guard-stop", &[Send(Stop, Guard)], &[Send(Cont, Guard)])
    },
    // Nobody is left on that host who would fence: the unit's `Restart=` brings the agent back.
    Fault {
        need: Need::Guard,
        lasts: 100..=400,
        ..row(
            "agent-and-guard-kill",
            &[Send(Kill, Guard), Send(Kill, Member)],
            &[StartMember],
        )
    },
    // Only a watchdog device ends this one, and the lab has none. Until then the other site must
    // see that the database lives, and leave it alone.
    Fault {
        need: Need::Guard,
        seen: true,
        ..row(
            "agent-and-guard-stop",
            &[Send(Stop, Guard), Send(Stop, Member)],
            &[Send(Cont, Guard), Send(Cont, Member)],
        )
    },
    Fault {
        places: EVERYWHERE,
        ..row("cut-off", &[Act::Trouble(Way::All, Trouble::Drop)], &[Mend])
    },
    Fault {
        places: EVERYWHERE,
        ..row(
            "refused",
            &[Act::Trouble(Way::All, Trouble::Reject)],
            &[Mend],
        )
    },
    row(
        "cut-from-other",
        &[Act::Trouble(Way::Other, Trouble::Drop)],
        &[Mend],
    ),
    row(
        "cut-from-witness",
        &[Act::Trouble(Way::Witness, Trouble::Drop)],
        &[Mend],
    ),
    row("mute", &[Act::Trouble(Way::Out, Trouble::Drop)], &[Mend]),
    row("deaf", &[Act::Trouble(Way::In, Trouble::Drop)], &[Mend]),
    row(
        "mute-to-other",
        &[Act::Trouble(Way::OtherOut, Trouble::Drop)],
        &[Mend],
    ),
    row(
        "deaf-to-other",
        &[Act::Trouble(Way::OtherIn, Trouble::Reject)],
        &[Mend],
    ),
    Fault {
        places: EVERYWHERE,
        ..row(
            "lossy",
            &[Act::Trouble(Way::All, Trouble::Lose(30))],
            &[Mend],
        )
    },
    Fault {
        need: Need::Delays,
        ..row("late", &[Late(Way::All, 2000)], &[Mend])
    },
    row("disk-full", &[Fill(Disk::Data)], &[Free(Disk::Data)]),
    row(
        "state-disk-full",
        &[Fill(Disk::State)],
        &[Free(Disk::State)],
    ),
    Fault {
        need: Need::Faketime,
        ..row("clock-ahead", &[Clock("+1h")], &[Clock("+0")])
    },
    Fault {
        need: Need::Faketime,
        ..row("clock-back", &[Clock("-1h")], &[Clock("+0")])
    },
    Fault {
        places: EVERYWHERE,
        ..row("power-loss", &[PowerOff], &[PowerOn])
    },
    Fault {
        places: TWO,
        dark: true,
        lasts: LONG,
        ..row("power-loss-of-two", &[PowerOff], &[PowerOn])
    },
    Fault {
        places: BOTH_SITES,
        dark: true,
        lasts: LONG,
        ..row(
            "restart-without-network",
            &[Act::Trouble(Way::All, Trouble::Drop), PowerOff, PowerOn],
            &[Mend],
        )
    },
];

/// A fault that was drawn.
#[derive(Debug, Clone, Copy)]
pub struct Drawn {
    pub fault: &'static Fault,
    pub hosts: &'static [Host],
    /// After the first fault's break.
    pub breaks_at: Duration,
    pub heals_at: Duration,
}

impl Drawn {
    /// As people write it: `cut-off(fra)`.
    pub fn label(&self) -> String {
        let hosts: Vec<_> = self.hosts.iter().map(|host| host.name()).collect();
        format!("{}({})", self.fault.name, hosts.join("+"))
    }
}

impl fmt::Display for Drawn {
    /// With its times in milliseconds, as [`parse`] reads it: `cut-off(fra)@0-3000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.breaks_at.as_millis(), self.heals_at.as_millis());
        write!(f, "{}@{from}-{to}", self.label())
    }
}

/// Reads what [`Drawn`] displays: a round that does not depend on how the table grows.
pub fn parse(text: &str) -> Option<Vec<Drawn>> {
    text.split_whitespace().map(parse_one).collect()
}

fn parse_one(text: &str) -> Option<Drawn> {
    let (label, times) = text.split_once('@')?;
    let (from, to) = times.split_once('-')?;
    let drawn = FAULTS.iter().flat_map(|fault| {
        fault.places.iter().map(move |hosts| Drawn {
            fault,
            hosts,
            breaks_at: Duration::ZERO,
            heals_at: Duration::ZERO,
        })
    });
    let mut drawn = drawn.filter(|drawn| drawn.label() == label);
    Some(Drawn {
        breaks_at: Duration::from_millis(from.parse().ok()?),
        heals_at: Duration::from_millis(to.parse().ok()?),
        ..drawn.next()?
    })
}

/// Faults in one round at most.
const FAULTS_MAX: u64 = 3;
/// The next fault comes within this of the one before.
const APART_MAX_MS: u64 = 2500;

/// Draws one to three faults that may overlap.
pub fn draw(dice: &mut Dice, usable: impl Fn(Need) -> bool) -> Vec<Drawn> {
    let usable: Vec<&Fault> = FAULTS.iter().filter(|fault| usable(fault.need)).collect();
    let mut drawn: Vec<Drawn> = Vec::new();
    let mut at = 0;
    for _ in 0..dice.between(1..=FAULTS_MAX) {
        let fault = usable[dice.index(usable.len())];
        let hosts = fault.places[dice.index(fault.places.len())];
        let lasts = dice.between(fault.lasts.clone());
        let again = |other: &Drawn| other.fault.name == fault.name && other.hosts == hosts;
        if !drawn.iter().any(again) {
            drawn.push(Drawn {
                fault,
                hosts,
                breaks_at: Duration::from_millis(at),
                heals_at: Duration::from_millis(at + lasts),
            });
            at += dice.between(0..=APART_MAX_MS);
        }
    }
    if drawn.iter().any(|drawn| drawn.fault.seen) {
        drawn.retain(|drawn| !drawn.fault.blinds());
    }
    drawn
}

impl Fault {
    /// Whoever looks from another host may see nothing.
    fn blinds(&self) -> bool {
        let blind = |act: &Act| matches!(act, Act::Trouble(..) | Late(..) | PowerOff);
        self.breaks.iter().any(blind)
    }
}

/// A fault by name, at a host.
pub fn named(name: &str, hosts: &'static [Host], lasts: Duration) -> Drawn {
    let fault = FAULTS.iter().find(|fault| fault.name == name);
    Drawn {
        fault: fault.expect("a row of the table"),
        hosts,
        breaks_at: Duration::ZERO,
        heals_at: lasts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_drawn_can_be_read_back() {
        for round in 1..200 {
            let drawn = draw(&mut Dice::of(7, round), |_| true);
            let words: Vec<_> = drawn.iter().map(ToString::to_string).collect();
            let read: Vec<_> = parse(&words.join(" ")).expect("it was just written");
            let again: Vec<_> = read.iter().map(ToString::to_string).collect();
            assert_eq!(words, again);
        }
        assert!(parse("cut-off(moon)@0-1").is_none());
    }
}
