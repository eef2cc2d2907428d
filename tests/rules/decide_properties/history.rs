//! What random histories are made of.

use failover_agent::model::outcome::FailureKind;
use proptest::prelude::*;
use proptest::sample::select;

use crate::world::nodes::How;

/// Something that may happen, before it is known what the agent is doing.
#[derive(Debug, Clone)]
pub(crate) enum Happening {
    OwnProbe(How, bool),
    PeerProbe(How, bool),
    PeerReports(How, bool),
    PeerMissed,
    WitnessReports,
    WitnessMissed,
    Endpoint(bool),
    Granted,
    Renewed,
    Other,
    MineFromBefore,
    Free(Option<bool>),
    NobodyAnswers,
    Refused,
    Lost,
    Released,
    RecordKept,
    RecordMoved(bool, bool),
    Steps(End),
    LateStep,
    JournalBroken,
    JournalMended,
    Failover(bool, bool),
    Tick,
    Restart(bool),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    Well,
    Fails(FailureKind),
}

fn how() -> impl Strategy<Value = How> {
    select(vec![
        How::Primary,
        How::Primary,
        How::Standby(true),
        How::Standby(true),
        How::Standby(false),
        How::Busy,
        How::Starting,
        How::RefusesUs,
        How::CannotWrite,
        How::LockedOut,
        How::DiskReadOnly,
        How::DirectoryGone,
        How::Hung,
        How::NotListening,
        How::Gone,
    ])
}

/// Anything that may happen, what matters most the most often.
pub(crate) fn happening() -> impl Strategy<Value = Happening> {
    use Happening as H;
    let end = prop_oneof![
        3 => Just(End::Well),
        1 => select(vec![
            End::Fails(FailureKind::Retryable),
            End::Fails(FailureKind::Permanent),
            End::Fails(FailureKind::OutcomeUnknown),
        ]),
    ];
    let seen = prop_oneof![
        6 => (how(), any::<bool>()).prop_map(|(how, open)| H::OwnProbe(how, open)),
        2 => (how(), any::<bool>()).prop_map(|(how, open)| H::PeerProbe(how, open)),
        4 => (how(), any::<bool>()).prop_map(|(how, well)| H::PeerReports(how, well)),
        2 => Just(H::PeerMissed),
        1 => select(vec![H::WitnessReports, H::WitnessMissed]),
        1 => any::<bool>().prop_map(H::Endpoint),
    ];
    let lease = prop_oneof![
        4 => Just(H::Granted),
        4 => Just(H::Renewed),
        2 => Just(H::RecordKept),
        2 => Just(H::Released),
        1 => Just(H::Other),
        1 => Just(H::MineFromBefore),
        2 => any::<Option<bool>>().prop_map(H::Free),
        1 => Just(H::NobodyAnswers),
        1 => Just(H::Refused),
        1 => Just(H::Lost),
        2 => any::<(bool, bool)>().prop_map(|(mine, promoting)| H::RecordMoved(mine, promoting)),
    ];
    let rest = prop_oneof![
        8 => end.prop_map(H::Steps),
        1 => Just(H::LateStep),
        1 => select(vec![H::JournalBroken, H::JournalMended, H::JournalMended]),
        2 => any::<(bool, bool)>().prop_map(|(mine, dry)| H::Failover(mine, dry)),
        3 => Just(H::Tick),
        1 => any::<bool>().prop_map(H::Restart),
    ];
    prop_oneof![8 => seen, 8 => lease, 8 => rest]
}
