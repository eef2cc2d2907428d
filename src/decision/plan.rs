//! Decision → [`Plan`]: the exact steps, with no choice left open. One function for each kind.

use std::time::Duration;

use crate::decision::own_view;
use crate::decision::peer_view;
use crate::decision::policy::Policy;
use crate::decision::situate;
use crate::decision::state::State;
use crate::model::plan::{Cause, Plan, PlanKind, PrimaryAt, Step, StepKind};
use crate::model::postgres::{SystemId, Timeline};
use crate::model::{Epoch, PlanId, SiteName};

/// The next plan's id.
#[must_use]
pub fn next_id(policy: &Policy, state: &State) -> PlanId {
    PlanId::new(format!("{}-{}", policy.me, state.next_plan))
}

/// The active site gives up: fence, hand over. `grace` is zero unless the node can stop cleanly.
#[must_use]
pub fn give_up(
    policy: &Policy,
    state: &State,
    epoch: Epoch,
    cause: Cause,
    grace: Duration,
) -> Plan {
    Plan {
        id: next_id(policy, state),
        kind: PlanKind::GiveUp,
        epoch,
        cause,
        steps: vec![
            Step::FenceOwn {
                grace,
                budget: policy.fence_budget,
            },
            Step::HandOver {
                to: policy.peer.clone(),
            },
        ],
    }
}

/// This site becomes the active one. `site` is usually this site; the active site uses the same
/// function to say in a dry run what the other one would do.
#[must_use]
pub fn take_over(
    policy: &Policy,
    state: &State,
    site: &SiteName,
    id: PlanId,
    epoch: Epoch,
    cause: Cause,
) -> Plan {
    let known = state.record.as_ref();
    let report = own_view::own_report(state).or_else(|| peer_view::peer_probe_report(state));
    let system_id = known
        .map(|record| record.system_id)
        .or(report.map(|report| report.system_id))
        .unwrap_or(SystemId(0));
    let timeline = known.map_or(Timeline(0), |record| record.timeline);
    let handed_over = matches!(cause, Cause::HandedOver { .. });
    let silent = (*site == policy.me && !handed_over).then(|| policy.peer.clone());
    let mut steps = vec![
        Step::CheckCandidate {
            system_id,
            timeline,
            last_lsn: situate::newest_lsn(policy, state),
            lag_max: policy.lag_max,
            finishes: false,
            silent,
        },
        Step::RecordPrimary { site: site.clone() },
        Step::Promote {
            timeout: policy.promote_timeout,
        },
        Step::VerifyWrites {
            timeout: policy.promote_timeout,
        },
    ];
    steps.extend(converging(policy, site, site, true));
    if policy.notifies {
        steps.push(Step::Notify {
            summary: format!("site {site} is active, epoch {epoch}: {cause}"),
        });
    }
    Plan {
        id,
        kind: PlanKind::TakeOver,
        epoch,
        cause,
        steps,
    }
}

/// What is known of a promotion that was begun and never proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// The own node takes writes.
    CameTrue,
    /// It may still be under way, or have been lost on the way.
    Open,
    /// The node died since. Nobody else may have written: the record names it.
    NodeDied,
}

/// The record announces a promotion of a former life: make sure that it has happened, prove it and
/// converge.
///
/// A node that died is started as a standby first: it replays all that it has, whether it had
/// become a primary or not, and is promoted (again).
///
/// A node that is a primary by now passes the candidate check, and whatever fails ends in a fence:
/// a promotion that comes true later would be a second writer. It is recorded once more, because it
/// is not known how many voters had kept that record.
#[must_use]
pub fn finish_take_over(
    policy: &Policy,
    state: &State,
    epoch: Epoch,
    cause: Cause,
    begun: Begun,
) -> Plan {
    let mut plan = take_over(
        policy,
        state,
        &policy.me,
        next_id(policy, state),
        epoch,
        cause,
    );
    plan.kind = PlanKind::FinishTakeOver;
    for step in &mut plan.steps {
        if let Step::CheckCandidate { finishes, .. } = step {
            *finishes = true;
        }
    }
    plan.steps.retain(|step| match step.kind() {
        StepKind::CheckCandidate | StepKind::RecordPrimary | StepKind::Promote => {
            begun != Begun::CameTrue
        }
        StepKind::FenceOwn
        | StepKind::HandOver
        | StepKind::StartStandby
        | StepKind::StartOwn
        | StepKind::VerifyWrites
        | StepKind::RewriteAppConfig
        | StepKind::UpdateDns
        | StepKind::Notify => true,
    });
    if begun == Begun::NodeDied {
        let timeout = policy.start_timeout;
        plan.steps.insert(0, Step::StartStandby { timeout });
    }
    plan
}

/// The recorded primary is down at its own site, which holds the lease: start it within `timeout`.
/// What a killed postmaster left behind is fenced first, where that can be done.
#[must_use]
pub fn restart(
    policy: &Policy,
    state: &State,
    epoch: Epoch,
    cause: Cause,
    timeout: Duration,
) -> Plan {
    let fence = Step::FenceOwn {
        grace: Duration::ZERO,
        budget: policy.fence_budget,
    };
    let can_fence = policy.can_fence.get(&policy.me).copied().unwrap_or(false);
    let mut steps: Vec<Step> = can_fence.then_some(fence).into_iter().collect();
    steps.extend([
        Step::RecordPrimary {
            site: policy.me.clone(),
        },
        Step::StartOwn { timeout },
        Step::VerifyWrites { timeout },
    ]);
    steps.extend(converging(policy, &policy.me, &policy.me, true));
    Plan {
        id: next_id(policy, state),
        kind: PlanKind::Restart,
        epoch,
        cause,
        steps,
    }
}

/// The own node may take writes without a lease: make sure that it cannot.
#[must_use]
pub fn fence(policy: &Policy, state: &State, cause: Cause) -> Plan {
    Plan {
        id: next_id(policy, state),
        kind: PlanKind::Fence,
        epoch: state.epoch(),
        cause,
        steps: vec![Step::FenceOwn {
            grace: Duration::ZERO,
            budget: policy.fence_budget,
        }],
    }
}

/// This site's files (and DNS, when it is active) in line with the record.
#[must_use]
pub fn converge(policy: &Policy, state: &State, primary: &SiteName, epoch: Epoch) -> Plan {
    let active = *primary == policy.me && state.held_epoch().is_some();
    Plan {
        id: next_id(policy, state),
        kind: PlanKind::Converge,
        epoch,
        cause: Cause::RecordMoved,
        steps: converging(policy, &policy.me, primary, active),
    }
}

/// The converging steps of `site` once the primary is at `primary`: each agent owns its own
/// site's files, the active one owns DNS.
#[must_use]
pub fn converging(policy: &Policy, site: &SiteName, primary: &SiteName, active: bool) -> Vec<Step> {
    let files = policy
        .app_configs
        .iter()
        .filter(|target| target.site.as_ref().is_none_or(|at| at == site))
        .filter_map(|target| {
            Some(Step::RewriteAppConfig {
                target: target.name.clone(),
                path: target.path.clone(),
                edits: target.edits.get(primary)?.clone(),
                also: target.also.get(primary).cloned().unwrap_or_default(),
                primary: policy.nodes.get(primary).map(|node| PrimaryAt {
                    site: primary.clone(),
                    host: node.host.clone(),
                    port: node.port,
                }),
            })
        });
    let records = policy.dns.iter().filter(|_| active).filter_map(|record| {
        Some(Step::UpdateDns {
            target: record.name.clone(),
            provider: record.provider.clone(),
            name: record.record.clone(),
            kind: record.kind.clone(),
            contents: record.contents.get(primary)?.clone(),
        })
    });
    files.chain(records).collect()
}
