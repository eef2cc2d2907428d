//! Which probes look at a PostgreSQL node, and how often.

use crate::config::settings::{Database, ProbeTiming};
use crate::effects::postgres::client::Login;
use crate::effects::postgres::control::NodeControl;
use crate::effects::probes::Probe;
use crate::effects::probes::directory::DirectoryProbe;
use crate::effects::probes::postgres::{CanaryWriter, FreshProbe, PersistentProbe};
use crate::model::observation::{Channel, Target};

/// What looks at the own node; at its directory, too, where that is on this host.
#[must_use]
pub fn own_probes(
    database: &Database,
    login: &Login,
    canary: CanaryWriter,
    node: &NodeControl,
) -> Vec<(Box<dyn Probe>, ProbeTiming)> {
    let mut probes = database_probes(database, login, Target::OwnDatabase, Some(canary));
    if let Some(instance) = node.instance() {
        let directory = DirectoryProbe::new(instance.clone());
        probes.push((Box::new(directory), database.timing));
    }
    probes
}

/// The two probes of one node: on a kept connection, and on a fresh one, less often.
#[must_use]
pub fn database_probes(
    database: &Database,
    login: &Login,
    target: fn(Channel) -> Target,
    canary: Option<CanaryWriter>,
) -> Vec<(Box<dyn Probe>, ProbeTiming)> {
    let slower = ProbeTiming {
        interval: database.fresh_interval,
        ..database.timing
    };
    vec![
        (
            Box::new(PersistentProbe::new(
                target(Channel::Persistent),
                login.clone(),
                canary,
            )),
            database.timing,
        ),
        (
            Box::new(FreshProbe::new(target(Channel::Fresh), login.clone())),
            slower,
        ),
    ]
}
