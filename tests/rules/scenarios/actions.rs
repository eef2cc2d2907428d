//! `given` and `when`: words into what happens to the stage.

use std::time::Duration;

use failover_agent::decision::policy::Policy;
use failover_agent::decision::state::Inherited;
use failover_agent::model::brakes::Conduct;
use failover_agent::model::event::{Event, StepFinished};
use failover_agent::model::lease::ClusterRecord;
use failover_agent::model::outcome::FailureKind;
use failover_agent::model::plan::StepKind;
use failover_agent::model::{
    Epoch, LagBytes, Lsn, Member, SiteName, SystemId, Timeline, Timestamp,
};

use super::brakes;
use super::script::{mebibytes, time};
use super::stage::Stage;
use super::steps::Fate;
use super::voters::Grant;
use crate::world::nodes::{HEAD, How, SYSTEM};

type Done = Result<(), String>;

/// Settings of the policy; says whether the words are one.
pub(crate) fn setting(policy: &mut Policy, words: &[&str]) -> Result<bool, String> {
    match words {
        ["witness", "absent"] => policy.voters.retain(|voter| *voter != Member::Witness),
        ["cannot", "fence"] => {
            policy.can_fence.insert(policy.me.clone(), false);
        }
        ["peer", "cannot", "fence"] => {
            policy.can_fence.insert(policy.peer.clone(), false);
        }
        ["restart_budget", span] => policy.restart_budget = time(span)?,
        ["block", span] => policy.block = time(span)?,
        ["max_automatic", count, "within", span] => {
            policy.max_automatic = usize::try_from(number(count)?).unwrap_or(0);
            policy.window = time(span)?;
        }
        ["no", "neutral", "target"] => policy.neutral.clear(),
        ["mode", "observe"] => policy.conduct = Conduct::Observe,
        ["lag_max", size] => policy.lag_max = LagBytes(mebibytes(size)?),
        ["nobody", "to", "notify"] => policy.notifies = false,
        ["no", "trip", "rule"] => policy.trips.clear(),
        _ => return Ok(false),
    }
    Ok(true)
}

/// How the site is before anything happens.
pub(crate) fn site(stage: &mut Stage, words: &[&str]) -> Done {
    let (me, peer) = (
        stage.agent.policy.me.clone(),
        stage.agent.policy.peer.clone(),
    );
    match words {
        ["active", "epoch", epoch] => {
            let epoch = number(epoch)? - 1;
            stage.voters.grant = Grant::Inherited;
            stage.voters.epoch = epoch;
            stage.voters.record = Some(record(&me, epoch));
        }
        ["standby", "epoch", epoch] => {
            let epoch = number(epoch)?;
            stage.voters.grant = Grant::Peer;
            stage.voters.epoch = epoch;
            stage.voters.record = Some(record(&peer, epoch));
            stage.own.how = How::Standby(true);
            stage.peer.how = How::Primary;
        }
        ["new"] => {}
        _ => return unknown(words),
    }
    Ok(())
}

fn record(primary: &SiteName, epoch: u64) -> ClusterRecord {
    ClusterRecord {
        epoch: Epoch(epoch),
        revision: 1,
        primary: primary.clone(),
        promoting: false,
        system_id: SYSTEM,
        timeline: Timeline(1),
        last_lsn: HEAD,
        last_failover: None,
        brakes: Box::default(),
    }
}

/// Something is so from now on, or happens now.
pub(crate) fn happen(stage: &mut Stage, words: &[&str]) -> Done {
    if brakes::evidence(stage, words)? {
        return Ok(());
    }
    match words {
        ["own", "node", how @ ..] | ["own", how @ ..] => node(stage, true, how),
        ["peer", "node", how @ ..] => node(stage, false, how),
        ["peer", "agent", answers] => {
            stage.peer_agent = said(answers, "answers", "silent")?;
            Ok(())
        }
        ["peer", "apps", tripped] => {
            stage.peer_tripped = said(tripped, "tripped", "well")?;
            Ok(())
        }
        ["peer", "site", "lost"] => {
            stage.peer.how = How::Hung;
            stage.peer_agent = false;
            if stage.own.how == How::Standby(true) {
                stage.own.how = How::Standby(false);
            }
            Ok(())
        }
        ["link", "to", "peer", "node", link] => {
            stage.link = said(link, "up", "cut")?;
            Ok(())
        }
        ["witness", "sees", "peer", sees] => {
            stage.witness_sees_peer = said(sees, "node", "nothing")?;
            Ok(())
        }
        ["witness", up] => {
            stage.witness = said(up, "up", "silent")?;
            Ok(())
        }
        ["endpoint", "web", up] => {
            stage.endpoint_up = said(up, "up", "down")?;
            Ok(())
        }
        ["lease", rest @ ..] => lease(stage, rest),
        ["voters", rest @ ..] => voters(stage, rest),
        ["record", rest @ ..] => change_record(stage, rest),
        ["step", name, fate @ ..] => step(stage, name, fate),
        ["journal", "broken"] => {
            let why = "no space left on device".to_owned();
            stage.feed(&Event::JournalBroken { why });
            Ok(())
        }
        ["journal", "mended"] => {
            stage.feed(&Event::JournalMended);
            Ok(())
        }
        ["clock", "jumps", by] => {
            let (sign, span) = by.strip_prefix('-').map_or((1, *by), |span| (-1, span));
            stage.wall_off += sign * i64::try_from(time(span)?.as_millis()).unwrap_or(0);
            Ok(())
        }
        ["operator", rest @ ..] => brakes::operator(stage, rest),
        ["agent", rest @ ..] => restart(stage, rest),
        ["nothing"] => Ok(()),
        _ => unknown(words),
    }
}

fn node(stage: &mut Stage, own: bool, words: &[&str]) -> Done {
    let node = if own { &mut stage.own } else { &mut stage.peer };
    node.how = match words {
        ["primary"] => How::Primary,
        ["standby"] => How::Standby(true),
        ["standby", "lagging", lag] => {
            node.lsn = Lsn(HEAD.0 - mebibytes(lag)?);
            How::Standby(true)
        }
        ["standby", "not", "streaming"] => How::Standby(false),
        ["busy"] => How::Busy,
        ["canary", "locked", "out"] => How::LockedOut,
        ["starting"] => How::Starting,
        ["refuses", "us"] => How::RefusesUs,
        ["cannot", "write"] => How::CannotWrite,
        ["disk", "full"] => How::DiskFull,
        ["disk", "read", "only"] => How::DiskReadOnly,
        ["disk", "read", "only", "for", "the", "agent"] => How::ReadOnlyFromHere,
        ["directory", "gone"] => How::DirectoryGone,
        ["hung"] => How::Hung,
        ["mute"] => How::Mute,
        ["not", "listening"] => How::NotListening,
        ["gone"] => How::Gone,
        ["unseen"] => How::Unseen,
        ["of", "another", "cluster"] => {
            node.system = SystemId(1);
            node.how
        }
        _ => return unknown(words),
    };
    if own {
        stage.watch_process();
    }
    Ok(())
}

fn lease(stage: &mut Stage, words: &[&str]) -> Done {
    let me = stage.agent.policy.me.clone();
    let peer = stage.agent.policy.peer.clone();
    let (grant, epoch) = match words {
        ["lost"] => {
            stage.deadline_passed(Grant::Free(None));
            return Ok(());
        }
        ["lost", "to", "peer", "epoch", epoch] => {
            stage.voters.epoch = number(epoch)?;
            stage.deadline_passed(Grant::Peer);
            return Ok(());
        }
        ["held", "by", "peer", "epoch", epoch] => (Grant::Peer, epoch),
        ["inherited", "epoch", epoch] => (Grant::Inherited, epoch),
        ["free", "epoch", epoch] => (Grant::Free(None), epoch),
        ["free", "for", "me", "epoch", epoch] => (Grant::Free(Some(me)), epoch),
        ["free", "for", "peer", "epoch", epoch] => (Grant::Free(Some(peer)), epoch),
        _ => return unknown(words),
    };
    stage.voters.grant = grant;
    stage.voters.epoch = number(epoch)?;
    let news = stage.voters.news();
    stage.feed(&Event::Lease(news));
    Ok(())
}

fn voters(stage: &mut Stage, words: &[&str]) -> Done {
    match words {
        ["silent"] => stage.voters.answering = false,
        ["answer"] => stage.voters.answering = true,
        ["refuse"] => stage.voters.granting = false,
        ["grant"] => stage.voters.granting = true,
        _ => return unknown(words),
    }
    let news = stage.voters.news();
    stage.feed(&Event::Lease(news));
    Ok(())
}

fn change_record(stage: &mut Stage, words: &[&str]) -> Done {
    if let ["none"] = words {
        stage.voters.record = None;
        return Ok(());
    }
    let wall = stage.clocks().wall;
    let epoch = stage.voters.epoch;
    let Some(record) = &mut stage.voters.record else {
        return Err("there is no record".to_owned());
    };
    record.revision += 1;
    match words {
        words if brakes::recorded(&mut record.brakes, wall, words)? => {}
        ["names", site, "promoting"] => {
            record.primary = SiteName::new(*site);
            record.promoting = true;
        }
        ["names", site] => {
            record.primary = SiteName::new(*site);
            record.promoting = false;
        }
        ["of", "another", "cluster"] => record.system_id = SystemId(1),
        ["last", "failover", "before", span] => {
            let ago = i64::try_from(time(span)?.as_millis()).unwrap_or(0);
            record.last_failover = Some(Timestamp(wall.0 - ago));
        }
        _ => return unknown(words),
    }
    record.epoch = record.epoch.max(Epoch(epoch));
    let news = stage.voters.news();
    stage.feed(&Event::Lease(news));
    Ok(())
}

fn step(stage: &mut Stage, name: &str, words: &[&str]) -> Done {
    let kind = step_kind(name)?;
    let fate = match words {
        ["hangs"] => Fate::Hangs,
        ["fails"] => Fate::Fails(FailureKind::Retryable),
        ["fails", "for", "good"] => Fate::Fails(FailureKind::Permanent),
        ["fails", "with", "unknown", "outcome"] => Fate::Fails(FailureKind::OutcomeUnknown),
        ["fails", times, "times"] => {
            Fate::FailsTimes(u32::try_from(number(times)?).unwrap_or(u32::MAX))
        }
        ["fails", "and", "undo", "fails"] => Fate::UndoFails,
        ["succeeds"] => {
            stage.fates.remove(&kind);
            return Ok(());
        }
        ["ends"] => {
            stage.fates.remove(&kind);
            let ended: Vec<_> = stage
                .hanging
                .extract_if(.., |o| o.what.kind() == kind)
                .collect();
            if ended.is_empty() {
                return Err(format!("no step {name} hangs"));
            }
            for order in ended {
                stage.step_ends(&order);
            }
            return Ok(());
        }
        // What the executor still sends of a plan that was dropped, without any effect.
        ["echoes"] => {
            let Some(order) = stage
                .hanging
                .iter()
                .find(|o| o.what.kind() == kind)
                .cloned()
            else {
                return Err(format!("no step {name} hangs"));
            };
            stage.feed(&Event::StepFinished(StepFinished {
                plan: order.plan,
                step: order.step,
                attempt: order.attempt,
                undo: order.undo,
                took: Duration::from_secs(1),
                result: Ok(failover_agent::model::event::Learned::default()),
            }));
            return Ok(());
        }
        _ => return unknown(words),
    };
    stage.fates.insert(kind, fate);
    Ok(())
}

fn restart(stage: &mut Stage, words: &[&str]) -> Done {
    let deadline = stage.voters.deadline().unwrap_or_default();
    let second = Duration::from_secs(1);
    match words {
        ["restarts"] => stage.restart(Inherited::FenceAt(deadline), second),
        ["restarts", "after", span] => {
            stage.restart(Inherited::FenceAt(deadline), time(span)?);
        }
        ["boots", "after", span] => stage.restart(Inherited::NoDeadline, time(span)?),
        ["stops", "in", "order"] => {
            let now = stage.clocks();
            let stopped = failover_agent::model::journal::JournalEntry::AgentStopped;
            stage.agent.write(stopped, now);
            stage.restart(Inherited::FenceAt(deadline), second);
        }
        _ => return unknown(words),
    }
    Ok(())
}

/// The kind of a step as scenarios name it: its field name in the journal.
pub(crate) fn step_kind(name: &str) -> Result<StepKind, String> {
    StepKind::ALL
        .into_iter()
        .find(|kind| serde_json::to_value(kind).is_ok_and(|value| value == name))
        .ok_or_else(|| format!("there is no step {name}"))
}

pub(crate) fn said(word: &str, yes: &str, no: &str) -> Result<bool, String> {
    match word {
        word if word == yes => Ok(true),
        word if word == no => Ok(false),
        _ => Err(format!("expected {yes} or {no}, not {word}")),
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("not a number: {text}"))
}

pub(crate) fn unknown(words: &[&str]) -> Done {
    Err(format!("unknown words: {}", words.join(" ")))
}
