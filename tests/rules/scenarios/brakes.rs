//! What people do to the brakes, and what an agent learns of itself and from the others.

use failover_agent::model::brakes::{Brake, Brakes, Paused};
use failover_agent::model::event::{Command, Event, Wish};
use failover_agent::model::observation::{EndpointResult, EndpointSeen, Phases, Seen, Target};
use failover_agent::model::{SiteName, Timestamp};

use super::actions::{said, unknown};
use super::script::time;
use super::stage::Stage;
use crate::world::nodes::{How, Node};

/// What an agent learns; says whether the words are of that.
pub(crate) fn evidence(stage: &mut Stage, words: &[&str]) -> Result<bool, String> {
    match words {
        ["own", "commits", stall] => {
            stage.commits_stall = said(stall, "stall", "flow")?;
        }
        ["others", "see", "own", "primary"] => {
            stage.own_elsewhere = Some(How::Primary);
        }
        ["neutral", "targets", reached] => {
            stage.neutral = said(reached, "reached", "unreachable")?;
        }
        ["peer", "agent", "observes"] => {
            stage.peer_observes = true;
        }
        ["agent", "late", by] => {
            stage.feed(&Event::Late { by: time(by)? });
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// A person asks for something.
pub(crate) fn operator(stage: &mut Stage, words: &[&str]) -> Result<(), String> {
    let (words, dry_run) = match words {
        [words @ .., "dry", "run"] => (words, true),
        words => (words, false),
    };
    let brake = |brake| Wish::Brake {
        brake,
        by: "ada".to_owned(),
        dry_run,
    };
    let paused = |length, guard_off| {
        brake(Brake::Pause {
            length,
            reason: Some("upgrade".to_owned()),
            guard_off,
        })
    };
    let pause = |length| paused(length, false);
    let wish = match words {
        ["failover", "to", to] => Wish::Failover {
            to: SiteName::new(*to),
            dry_run,
        },
        ["apply"] => Wish::Converge { dry_run },
        ["files"] => Wish::Files {
            what: "the files are brought in line".to_owned(),
        },
        ["files", "done"] => Wish::Note {
            text: "the files are in line".to_owned(),
        },
        ["ack"] => brake(Brake::Ack),
        ["pause"] => pause(None),
        ["pause", "guard", "off"] => paused(None, true),
        ["pause", "guard", "off", "for", span] => paused(Some(time(span)?), true),
        ["pause", "for", span] => pause(Some(time(span)?)),
        ["resume"] => brake(Brake::Resume),
        _ => return unknown(words),
    };
    stage.feed(&Event::Command(Command { id: 1, wish }));
    Ok(())
}

/// Brakes that somebody else put into the record, so long before.
pub(crate) fn recorded(
    brakes: &mut Brakes,
    wall: Timestamp,
    words: &[&str],
) -> Result<bool, String> {
    let before = |span: &str| -> Result<Timestamp, String> {
        let ago = i64::try_from(time(span)?.as_millis()).unwrap_or(0);
        Ok(Timestamp(wall.0 - ago))
    };
    let paused = |since, length| {
        Some(Paused {
            by: "bob".to_owned(),
            since,
            length,
            reason: None,
            guard_off: false,
        })
    };
    match words {
        ["paused"] => brakes.paused = paused(wall, None),
        ["paused", "before", ago, "for", span] => {
            brakes.paused = paused(before(ago)?, Some(time(span)?));
        }
        ["paused", "ahead", ahead, "for", span] => {
            let ahead = i64::try_from(time(ahead)?.as_millis()).unwrap_or(0);
            brakes.paused = paused(Timestamp(wall.0 + ahead), Some(time(span)?));
        }
        ["paused", "guard", "off", "before", ago, "for", span] => {
            brakes.paused = paused(before(ago)?, Some(time(span)?));
            brakes.paused.iter_mut().for_each(|it| it.guard_off = true);
        }
        ["not", "paused"] => brakes.paused = None,
        ["planned"] => brakes.planned = true,
        ["failovers", "before", spans @ ..] => {
            for span in spans {
                brakes.failovers.push(before(span)?);
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}

impl Stage {
    /// The own node as the other agent and the witness see it.
    pub(crate) fn own_for_others(&self) -> Node {
        let how = self.own_elsewhere.unwrap_or(self.own.how);
        Node { how, ..self.own }
    }

    pub(crate) fn probe_neutral(&mut self) {
        let phases = Phases::default();
        for name in self.agent.policy.neutral.clone() {
            let result = match self.neutral {
                true => EndpointResult::Passed,
                false => EndpointResult::TimedOut {
                    phase: "connect".to_owned(),
                },
            };
            let seen = Seen::Endpoint(EndpointSeen { result, phases });
            self.observe(Target::Neutral(name), seen);
        }
    }
}
