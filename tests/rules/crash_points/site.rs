//! One site: its node, its file, and the agent that lives and dies there.

use failover_agent::decision::decide::Order;
use failover_agent::model::event::Learned;
use failover_agent::model::journal::JournalLine;
use failover_agent::model::outcome::{Failure, FailureKind};
use failover_agent::model::plan::{EditValue, Step};
use failover_agent::model::{Epoch, Lsn, Moment, Timeline};

use crate::world::SITES;
use crate::world::agent::{Agent, Crash};
use crate::world::nodes::{HEAD, How, Node};

/// One site.
#[derive(Debug)]
pub(crate) struct Site {
    pub node: Node,
    /// The site that its app's configuration names.
    pub file: Option<usize>,
    /// Nothing while the agent is dead.
    pub agent: Option<Agent>,
    /// The journal of a dead agent.
    pub lines: Vec<JournalLine>,
    /// Which life of the agent this is: what an earlier one left under way comes to nothing.
    pub life: u32,
    /// The lease that this life holds, and when it was last renewed.
    pub held: Option<(Epoch, Moment)>,
    /// What the guard and the next life know of the deadline.
    pub deadline: Option<Moment>,
    /// Cut off from voters and the other site.
    pub cut: bool,
    pub wake_at: Moment,
    pub crash: Crash,
}

impl Site {
    pub(crate) fn new(how: How, now: Moment) -> Self {
        Self {
            node: Node::new(how),
            file: None,
            agent: None,
            lines: Vec::new(),
            life: 0,
            held: None,
            deadline: None,
            cut: false,
            wake_at: now,
            crash: Crash::Never,
        }
    }

    /// It accepts commits.
    pub(crate) fn writable(&self) -> bool {
        self.node.how == How::Primary
    }

    /// Applies (or undoes) a step to this site; what it does to DNS comes back as well.
    pub(crate) fn apply(&mut self, order: &Order) -> (Result<Learned, Failure>, Option<usize>) {
        let mut dns = None;
        let well = match (&order.what, order.undo) {
            (Step::FenceOwn { .. }, false) | (Step::Promote { .. }, true) => {
                self.node.how = How::Gone;
                true
            }
            (Step::FenceOwn { .. }, true) | (Step::StartOwn { .. }, false) => {
                self.node.how = How::Primary;
                true
            }
            (Step::StartStandby { .. }, false) => {
                self.node.how = How::Standby(true);
                true
            }
            (
                Step::CheckCandidate {
                    last_lsn, lag_max, ..
                },
                false,
            ) => {
                let lag = self.node.lsn.behind(*last_lsn);
                matches!(self.node.how, How::Standby(_)) && lag <= *lag_max
            }
            (Step::Promote { .. }, false) => {
                if let How::Standby(_) = self.node.how {
                    self.node.how = How::Primary;
                    self.node.timeline = Timeline(self.node.timeline.0 + 1);
                }
                self.writable()
            }
            (Step::VerifyWrites { .. }, false) => {
                if self.writable() {
                    self.node.lsn = Lsn(self.node.lsn.0 + 1000);
                }
                self.writable()
            }
            (Step::RewriteAppConfig { edits, .. }, false) => {
                self.file = edits.iter().find_map(|edit| named_by(&edit.to));
                true
            }
            (Step::UpdateDns { contents, .. }, false) => {
                dns = contents.first().and_then(|content| named(content));
                true
            }
            (Step::Notify { .. }, false) => true,
            (what, undo) => panic!("no effect is ordered for {what:?}, undo: {undo}"),
        };
        let result = if well {
            let answers = matches!(self.node.how, How::Primary | How::Standby(_));
            let looked = matches!(
                (&order.what, order.undo),
                (
                    Step::Promote { .. } | Step::VerifyWrites { .. } | Step::StartOwn { .. },
                    false
                )
            );
            Ok(Learned {
                note: "done".to_owned(),
                node: (looked && answers).then(|| self.node.report()),
            })
        } else {
            Err(Failure {
                kind: FailureKind::Retryable,
                what: format!("the node is {:?} at {}", self.node.how, self.node.lsn),
                hint: None,
                retry_after: None,
            })
        };
        (result, dns)
    }

    /// Behind the primary by this much, for ever.
    pub(crate) fn lag_by(&mut self, mebibytes: u64) {
        self.node.lsn = Lsn(HEAD.0 - (mebibytes << 20));
    }
}

fn named_by(value: &EditValue) -> Option<usize> {
    match value {
        EditValue::Text(host)
        | EditValue::UrlAuthority { host, .. }
        | EditValue::Field { text: host, .. } => named(host),
    }
}

/// The site that a host name belongs to.
fn named(host: &str) -> Option<usize> {
    SITES.iter().position(|site| host.contains(site))
}
