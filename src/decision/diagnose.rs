//! What is wrong, by name: one table, most severe row first. Among rows of one severity the one
//! that says most comes first: only the first row's remedy is ever tried. Diagnosis is always on;
//! whether anybody may act on it is decided elsewhere.

use crate::model::diagnosis::{Diagnosis, Severity};
use crate::model::situation::{
    Disk, Facts, Identity, NodeState, PeerNode, Reach, RecordSays, StandbyState, Standing,
};

/// What a diagnosis calls for, if nothing speaks against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Remedy {
    /// Nothing: it is fine, or will be by itself.
    None,
    /// Tell people.
    Tell,
    /// Give the active role to the other site.
    GiveUp,
    /// Take the active role.
    TakeOver,
    /// Ask for the lease, because this site has (or is to have) the primary.
    Claim,
    /// Make the own node unable to commit.
    Fence,
}

/// One row: a named situation.
#[derive(Debug)]
pub struct Row {
    /// Its name.
    pub diagnosis: Diagnosis,
    /// How bad it is.
    pub severity: Severity,
    /// When it holds.
    pub holds: fn(&Facts) -> bool,
    /// What it calls for.
    pub remedy: Remedy,
    /// What a person is told.
    pub sentence: &'static str,
}

fn active(f: &Facts) -> bool {
    matches!(f.standing, Standing::Active | Standing::ActiveCutOff)
}

fn free(f: &Facts) -> bool {
    matches!(
        f.standing,
        Standing::Free | Standing::FreeForMe | Standing::Inherited
    )
}

fn mine(f: &Facts) -> bool {
    matches!(f.record, RecordSays::Mine | RecordSays::MinePromoting)
}

fn theirs(f: &Facts) -> bool {
    matches!(f.record, RecordSays::Theirs | RecordSays::TheirsPromoting)
}

/// The disk is why the own node does not, or soon will not, commit.
fn fails_for(f: &Facts, disk: Disk) -> bool {
    let fails = match f.own {
        NodeState::CannotWrite | NodeState::Dead => true,
        NodeState::Hung => !f.unfit,
        NodeState::Unknown
        | NodeState::Primary
        | NodeState::Standby
        | NodeState::Starting
        | NodeState::Busy
        | NodeState::RefusesUs
        | NodeState::Disputed => false,
    };
    fails && f.disk == disk
}

/// Every named situation. The first row that holds is *the* diagnosis; all that hold are shown.
pub const DIAGNOSES: &[Row] = &[
    Row {
        diagnosis: Diagnosis::WrongCluster,
        severity: Severity::Danger,
        holds: |f| f.identity == Identity::Differs,
        remedy: Remedy::Tell,
        sentence: "the two nodes, or the node and the cluster record, have different system identifiers: they are not copies of one database; nobody acts until the data directory is put right",
    },
    Row {
        diagnosis: Diagnosis::PrimaryWithoutLease,
        severity: Severity::Danger,
        holds: |f| f.own == NodeState::Primary && f.standing == Standing::Peer && theirs(f),
        remedy: Remedy::Fence,
        sentence: "the own node takes writes although the other site holds the lease and is the recorded primary: it is fenced at once",
    },
    Row {
        diagnosis: Diagnosis::TwoPrimaries,
        severity: Severity::Danger,
        holds: |f| f.own == NodeState::Primary && f.peer_node == PeerNode::Primary,
        remedy: Remedy::Tell,
        sentence: "both nodes say that they are primary: nobody acts; keep the one with the data you want, stop the other, and rebuild it as a standby",
    },
    Row {
        diagnosis: Diagnosis::PromotionUnfinished,
        severity: Severity::Danger,
        holds: |f| {
            let theirs = f.record == RecordSays::TheirsPromoting
                && matches!(f.standing, Standing::Free | Standing::FreeForMe)
                && f.peer_agent == Reach::Silent;
            let mine = f.record == RecordSays::MinePromoting
                && free(f)
                && f.own == NodeState::Dead
                && f.finish_failed;
            theirs || mine
        },
        remedy: Remedy::Tell,
        sentence: "a promotion was begun and nobody proved its end, and the node that was promoted is gone: it may have taken writes; it goes on when that node and its agent run again, or a person decides which node is newest",
    },
    Row {
        diagnosis: Diagnosis::CutOff,
        severity: Severity::Outage,
        holds: |f| {
            f.standing == Standing::ActiveCutOff
                || (f.standing == Standing::Unknown && mine(f) && f.own == NodeState::Primary)
        },
        remedy: Remedy::Tell,
        sentence: "a majority of voters does not answer: unless it does in time, the own node is fenced before another site may start; while a pause keeps the guard off, neither happens",
    },
    Row {
        diagnosis: Diagnosis::DataDirectoryGone,
        severity: Severity::Outage,
        holds: |f| active(f) && fails_for(f, Disk::Gone),
        remedy: Remedy::GiveUp,
        sentence: "the active site's data directory is gone: removed, renamed or unmounted; what the node still commits may be lost with it, and nothing is started in its place: mount or restore it",
    },
    Row {
        diagnosis: Diagnosis::DiskReadOnly,
        severity: Severity::Outage,
        holds: |f| active(f) && fails_for(f, Disk::ReadOnly),
        remedy: Remedy::GiveUp,
        sentence: "the active site's node cannot commit: the file system of its data has become read-only, as file systems do after errors of their disk; see the kernel's log",
    },
    Row {
        diagnosis: Diagnosis::DiskFull,
        severity: Severity::Outage,
        holds: |f| active(f) && fails_for(f, Disk::Full),
        remedy: Remedy::GiveUp,
        sentence: "the active site's node cannot commit: its disk is full; make room there, but delete nothing below the data directory by hand",
    },
    Row {
        diagnosis: Diagnosis::DatabaseDead,
        severity: Severity::Outage,
        holds: |f| active(f) && f.own == NodeState::Dead,
        remedy: Remedy::GiveUp,
        sentence: "the active site's postmaster is gone",
    },
    Row {
        diagnosis: Diagnosis::DatabaseHung,
        severity: Severity::Outage,
        holds: |f| active(f) && f.own == NodeState::Hung && !f.unfit,
        remedy: Remedy::GiveUp,
        sentence: "the active site's postmaster exists, but it does not serve",
    },
    Row {
        diagnosis: Diagnosis::DatabaseCannotWrite,
        severity: Severity::Outage,
        holds: |f| active(f) && f.own == NodeState::CannotWrite && f.disk == Disk::Fine,
        remedy: Remedy::GiveUp,
        sentence: "the active site's node answers reads but cannot commit; the reason stands beside its probe in `agent status`",
    },
    Row {
        diagnosis: Diagnosis::DatabaseDemoted,
        severity: Severity::Outage,
        holds: |f| {
            active(f) && mine(f) && f.record == RecordSays::Mine && f.own == NodeState::Standby
        },
        remedy: Remedy::Tell,
        sentence: "the active site's node runs as a standby although the record names it the primary: somebody demoted it; a person must say which node is right",
    },
    Row {
        diagnosis: Diagnosis::SiteTripped,
        severity: Severity::Outage,
        holds: |f| active(f) && f.tripped && f.own == NodeState::Primary && !f.unfit,
        remedy: Remedy::GiveUp,
        sentence: "the active site's database works, but its apps break a trip rule",
    },
    Row {
        diagnosis: Diagnosis::GuardLost,
        severity: Severity::Outage,
        holds: |f| active(f) && f.guard_lost && f.own == NodeState::Primary,
        remedy: Remedy::GiveUp,
        sentence: "the active site's guard is gone or unfit, so that only the agent itself would stop the database at the end of the lease: the site is given up in order",
    },
    Row {
        diagnosis: Diagnosis::LeaseFree,
        severity: Severity::Outage,
        holds: |f| free(f) && mine(f),
        remedy: Remedy::Claim,
        sentence: "nobody holds the lease and the record names this site: it asks for the lease",
    },
    Row {
        diagnosis: Diagnosis::SiteSilent,
        severity: Severity::Outage,
        holds: |f| {
            let pair = f.standing == Standing::Peer && f.witness == Reach::Absent;
            (f.standing == Standing::Free || pair)
                && !f.unfit
                && f.record == RecordSays::Theirs
                && f.own == NodeState::Standby
                && f.peer_agent == Reach::Silent
                && f.peer_node == PeerNode::Down
        },
        remedy: Remedy::TakeOver,
        sentence: "the other site is silent: its agent does not answer, nobody reaches its database, and its lease does not run any more or, without a witness, never runs out",
    },
    Row {
        diagnosis: Diagnosis::NoPrimary,
        severity: Severity::Outage,
        holds: |f| {
            matches!(f.standing, Standing::Free | Standing::FreeForMe)
                && f.record == RecordSays::Nothing
                && matches!(f.own, NodeState::Standby | NodeState::Dead)
                && matches!(f.peer_node, PeerNode::Standby | PeerNode::Down)
        },
        remedy: Remedy::Tell,
        sentence: "nobody has ever held the lease and no node is a primary: start the right node as primary by hand once",
    },
    Row {
        diagnosis: Diagnosis::FirstStart,
        severity: Severity::Degraded,
        holds: |f| {
            free(f)
                && f.record == RecordSays::Nothing
                && f.own == NodeState::Primary
                && matches!(f.peer_node, PeerNode::Standby | PeerNode::Down)
        },
        remedy: Remedy::Claim,
        sentence: "nobody has ever held the lease and the own node is the only primary: this site claims it",
    },
    Row {
        diagnosis: Diagnosis::Unfit,
        severity: Severity::Degraded,
        holds: |f| f.unfit,
        remedy: Remedy::Tell,
        sentence: "this agent reaches none of its neutral targets, or its own clockwork was late: the trouble may be its own, so it accuses nobody and takes nothing over until that has passed",
    },
    Row {
        diagnosis: Diagnosis::AgentSilent,
        severity: Severity::Degraded,
        holds: |f| {
            f.peer_agent == Reach::Silent
                && matches!(
                    f.peer_node,
                    PeerNode::Primary | PeerNode::Standby | PeerNode::Alive
                )
        },
        remedy: Remedy::Tell,
        sentence: "the other agent is silent, but its database lives: restart that agent; nothing is failed over",
    },
    Row {
        diagnosis: Diagnosis::ProbeDisagrees,
        severity: Severity::Degraded,
        holds: |f| f.own == NodeState::Disputed,
        remedy: Remedy::Tell,
        sentence: "the own node does not answer this agent, but the other agent and the witness get fresh answers from it: check what lies between the agent and its database (pg_hba.conf, firewall, socket); nothing is failed over",
    },
    Row {
        diagnosis: Diagnosis::DatabaseBusy,
        severity: Severity::Degraded,
        holds: |f| f.own == NodeState::Busy,
        remedy: Remedy::Tell,
        sentence: "the own node is alive but overloaded: every connection slot is taken, somebody's lock keeps the canary out of its table, or commits stall while others still get through",
    },
    Row {
        diagnosis: Diagnosis::DatabaseRefusesUs,
        severity: Severity::Degraded,
        holds: |f| f.own == NodeState::RefusesUs,
        remedy: Remedy::Tell,
        sentence: "the own node refuses the agent's user: check the password, pg_hba.conf and `agent check --grants`; nothing can be judged until then",
    },
    Row {
        diagnosis: Diagnosis::StandbyUnusable,
        severity: Severity::Degraded,
        holds: |f| active(f) && f.standby == StandbyState::Unusable,
        remedy: Remedy::Tell,
        sentence: "the other site could not take over: its node is down, not a standby, of another cluster, or its apps are down",
    },
    Row {
        diagnosis: Diagnosis::StandbyLagging,
        severity: Severity::Degraded,
        holds: |f| active(f) && f.standby == StandbyState::Lagging,
        remedy: Remedy::Tell,
        sentence: "the other site's standby lacks more than lag_max: an automatic failover would lose too much and is refused",
    },
    Row {
        diagnosis: Diagnosis::ReplicationBroken,
        severity: Severity::Degraded,
        holds: |f| f.standby == StandbyState::NotReceiving,
        remedy: Remedy::Tell,
        sentence: "the standby does not receive WAL although the primary lives",
    },
    Row {
        diagnosis: Diagnosis::SiteUnreachable,
        severity: Severity::Degraded,
        holds: |f| f.standing == Standing::Peer && f.peer_node == PeerNode::Down,
        remedy: Remedy::Tell,
        sentence: "nobody reaches the active site's database; its lease still runs: if it runs out while that site is silent, this one takes over",
    },
    Row {
        diagnosis: Diagnosis::OwnNodeDown,
        severity: Severity::Degraded,
        holds: |f| {
            let down = matches!(
                f.own,
                NodeState::Dead | NodeState::Hung | NodeState::CannotWrite
            );
            f.standing == Standing::Peer && down
        },
        remedy: Remedy::Tell,
        sentence: "the own node does not serve, so this site could not take over: make it a standby of the other one and start it",
    },
    Row {
        diagnosis: Diagnosis::WitnessSilent,
        severity: Severity::Degraded,
        holds: |f| f.witness == Reach::Silent,
        remedy: Remedy::Tell,
        sentence: "the witness does not answer: handover still works, a silent site would not be taken over",
    },
    Row {
        diagnosis: Diagnosis::EndpointDown,
        severity: Severity::Degraded,
        holds: |f| f.endpoint_down,
        remedy: Remedy::Tell,
        sentence: "an endpoint is down, without breaking a trip rule",
    },
    Row {
        diagnosis: Diagnosis::GuardMissing,
        severity: Severity::Degraded,
        holds: |f| f.guard_lost && !(active(f) && f.own == NodeState::Primary),
        remedy: Remedy::Tell,
        sentence: "this site has no fit guard and so could not become active: see the agent's log, and `watchdog` in [guard]",
    },
    Row {
        diagnosis: Diagnosis::DatabaseStarting,
        severity: Severity::Unclear,
        holds: |f| f.own == NodeState::Starting,
        remedy: Remedy::None,
        sentence: "the own node is starting up, recovering or shutting down",
    },
    Row {
        diagnosis: Diagnosis::Unknown,
        severity: Severity::Unclear,
        holds: |f| f.own == NodeState::Unknown || f.standing == Standing::Unknown,
        remedy: Remedy::None,
        sentence: "not enough has been seen yet to say",
    },
    Row {
        diagnosis: Diagnosis::Healthy,
        severity: Severity::Fine,
        holds: |_| true,
        remedy: Remedy::None,
        sentence: "all that is watched works",
    },
];

/// All rows that hold, most severe first; never empty, because `Healthy` always holds.
pub fn diagnose(facts: &Facts) -> impl Iterator<Item = &'static Row> + '_ {
    let mut found = false;
    DIAGNOSES.iter().filter(move |row| {
        let shown = (row.holds)(facts) && (row.diagnosis != Diagnosis::Healthy || !found);
        found |= shown;
        shown
    })
}

/// The row of a diagnosis.
#[must_use]
pub fn row(diagnosis: Diagnosis) -> Option<&'static Row> {
    DIAGNOSES.iter().find(|row| row.diagnosis == diagnosis)
}
