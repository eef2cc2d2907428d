//! An agent is killed (SIGKILL) wherever it can stand in a failover, and started again.
#![expect(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    clippy::print_stdout,
    reason = "helpers of tests may fail loudly, and measured times are printed"
)]

mod assassin;
mod places;
mod round;

use Victim::{New, Old};
use assassin::Moment;
use round::{Away, Death, Pair, Victim, Work};

/// A death may come too late, when the agent is quicker than the thread that kills it.
const TRIES_MAX: usize = 4;

/// Where an agent dies.
type Place = (Victim, &'static str, Option<Work>);

/// Every last line that a journal can have in a handover, and, for what takes a while, the work
/// done without the line that says so. A line that is not here is written together with the next
/// one, so that no journal ends with it: the first round of the test looks.
const PLACES: [Place; 17] = [
    (Old, "give up: fence own node begun", None),
    (Old, "give up: fence own node begun", Some(Work::Fence)),
    (Old, "give up: hand over begun", None),
    (Old, "give up: ended", None),
    (Old, "converge: rewrite app config begun", None),
    (Old, "converge: ended", None),
    (New, "take over: check candidate begun", None),
    (New, "take over: record new primary begun", None),
    (
        New,
        "take over: record new primary begun",
        Some(Work::Record),
    ),
    (New, "take over: promote begun", None),
    (New, "take over: promote begun", Some(Work::Promote)),
    (New, "take over: verify writes begun", None),
    (New, "take over: rewrite app config begun", None),
    (
        New,
        "take over: rewrite app config begun",
        Some(Work::AppConfig),
    ),
    (New, "take over: update DNS begun", None),
    (New, "take over: update DNS begun", Some(Work::Dns)),
    (New, "take over: ended", None),
];

/// Those where it matters that nobody comes back for long, and all is well by itself afterwards.
/// Between the promotion and its first proved write the guard fences the promoted node at the end
/// of the lease (S4): whoever comes back starts it and promotes it again.
const PLACES_AWAY: [Place; 8] = [
    (Old, "give up: fence own node begun", Some(Work::Fence)),
    (Old, "give up: hand over begun", None),
    (New, "take over: check candidate begun", None),
    (
        New,
        "take over: record new primary begun",
        Some(Work::Record),
    ),
    (New, "take over: promote begun", None),
    (New, "take over: promote begun", Some(Work::Promote)),
    (New, "take over: verify writes begun", None),
    (New, "take over: update DNS begun", None),
];

/// Where an agent dies, and where it dies again when it has just come back.
const PLACES_TWICE: [(Victim, &str, &str); 4] = [
    (Old, "give up: hand over begun", "remark"),
    (
        Old,
        "give up: hand over begun",
        "restart: start own node begun",
    ),
    (New, "take over: promote begun", "remark"),
    (
        New,
        "take over: promote begun",
        "finish the take-over: verify writes begun",
    ),
];

/// Plays until the agent has died exactly there.
async fn die_at(pair: &mut Pair, place: Place, away: Away, again: Option<&'static str>) {
    let (victim, line, work) = place;
    let wanted: Vec<&str> = [line].into_iter().chain(again).collect();
    let mut tried = Vec::new();
    while tried.last() != Some(&wanted.iter().map(ToString::to_string).collect()) {
        assert!(
            tried.len() < TRIES_MAX,
            "never died at {place:?}: {tried:?}"
        );
        let moment = work.map_or(Moment::Line(line), |work| pair.done(work));
        let death = Death {
            victim,
            moment,
            away,
            again,
        };
        let played = pair.play(death).await;
        if let Some(first) = played.died_at.first() {
            let interrupted = !first.ends_with("ended");
            let superseded = |end: &String| end.starts_with("superseded");
            let said = played.end.as_ref().is_some_and(superseded);
            assert_eq!(interrupted, said, "{played:?}");
        }
        tried.push(played.died_at);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s11_agent_killed_at_every_line_of_a_handover_and_back_at_once() {
    let mut pair = Pair::start().await;
    for (watched, write) in pair.play_undisturbed().await {
        let last = write.last().unwrap();
        let known = PLACES
            .iter()
            .any(|(victim, place, _)| (*victim, *place) == (watched, last));
        assert!(known, "{watched:?} can die at {last}, too: {write:?}");
    }
    for place in PLACES {
        die_at(&mut pair, place, Away::NotAtAll, None).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s11_agent_killed_in_a_handover_and_away_for_longer_than_the_lease() {
    let mut pair = Pair::start().await;
    for place in PLACES_AWAY {
        die_at(&mut pair, place, Away::LongerThanTheLease, None).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s11_agent_killed_again_while_it_puts_its_journal_in_order() {
    let mut pair = Pair::start().await;
    for (victim, line, again) in PLACES_TWICE {
        die_at(&mut pair, (victim, line, None), Away::NotAtAll, Some(again)).await;
    }
}
