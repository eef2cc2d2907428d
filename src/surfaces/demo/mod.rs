//! `agent demo`: the real product against stand-ins for what a laptop does not have.
//!
//! Two real PostgreSQL servers, two agents and a witness as processes of their own, a client that
//! writes without a break, and a DNS provider that says that it is a stand-in (or, on demand, a
//! real BIND). The same stand-in serves the tests, so that the demo shows nothing that is not
//! tested.
//!
//! Start reading at [`run`], then `show` (what happens), `playground` (what is there), `writer`
//! and `oracle` (who measures).

mod bind;
mod by_name;
pub mod cloudflare;
mod cloudflare_routes;
mod cloudflare_zone;
mod dns;
mod error;
mod files;
mod guards;
mod measure;
mod narration;
mod oracle;
mod play;
mod playground;
mod postgres;
mod process;
mod scenario;
mod session;
mod show;
mod voice;
mod writer;

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

pub use dns::DnsServer;
pub use error::DemoError;
pub use measure::StepShown;
pub use scenario::Scenario;
pub use voice::Listener;

use crate::runtime::recovery::Recovery;

use playground::Playground;
use voice::Voice;

/// The whole demo takes at most this long, except when it is left running on purpose.
const RUN_MAX: Duration = Duration::from_secs(55);

/// What the demo is to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// What to break.
    pub scenario: Scenario,
    /// Who serves the name.
    pub dns: DnsServer,
    /// Where PostgreSQL's programs are; looked for if left out.
    pub pg_bin: Option<PathBuf>,
    /// As whom PostgreSQL runs when the demo runs as root.
    pub pg_user: Option<String>,
    /// Keep the directory with all files and logs.
    pub keep: bool,
}

/// What was measured. The times are milliseconds after the fault.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What was broken.
    pub scenario: &'static str,
    /// The longest time without an acknowledged commit around the fault.
    pub unavailable_ms: Option<u64>,
    /// The same for a client that knows nothing but the name and resolves it for each connection;
    /// only with a DNS server that can be asked.
    pub by_name_ms: Option<u64>,
    /// Commits that the writer was told of.
    pub acknowledged: u64,
    /// How many of them the new primary does not have.
    pub lost: u64,
    /// How long both nodes committed at the same time.
    pub two_writers_ms: u64,
    /// The primary's site before.
    pub old_primary: &'static str,
    /// The primary's site afterwards.
    pub new_primary: String,
    /// The first decision to move.
    pub detected_ms: Option<i64>,
    /// The old node was proven unable to commit; nothing where a lost site cannot say so.
    pub fenced_ms: Option<i64>,
    /// The new node was promoted.
    pub promoted_ms: Option<i64>,
    /// Every site with a living agent had its app's configuration.
    pub config_ms: Option<i64>,
    /// The DNS record had moved.
    pub dns_ms: Option<i64>,
    /// What the new primary's agent measured itself, held against the demo's objectives.
    pub recovery: Option<Recovery>,
    /// Every step of every plan.
    pub steps: Vec<StepShown>,
    /// What should have been and is not.
    #[serde(skip)]
    pub problems: Vec<String>,
}

/// Runs the demo and removes everything again, whatever happens. `None` when it only kept the
/// playground running until somebody interrupted it.
///
/// # Errors
/// [`DemoError`]; everything is removed then, too.
pub async fn run(options: &Options, listener: Listener) -> Result<Option<Report>, DemoError> {
    let mut interrupted = Interrupt::new()?;
    let voice = Voice::new(listener);
    let mut playground = Playground::build(options).await?;
    if options.keep {
        voice.line(&format!(
            "everything stays in {}",
            playground.path().display()
        ));
    }
    let result = {
        let showing = show::show(&mut playground, options.scenario, &voice);
        let bounded = async {
            if options.scenario == Scenario::None {
                return showing.await;
            }
            let late = |_| DemoError::TooLate {
                what: "the whole demo".to_owned(),
                after: RUN_MAX,
            };
            tokio::time::timeout(RUN_MAX, showing).await.map_err(late)?
        };
        tokio::select! {
            result = bounded => result,
            () = interrupted.wait() => match options.scenario {
                Scenario::None => Ok(None),
                Scenario::PostmasterKill | Scenario::SiteLoss | Scenario::Hang => {
                    Err(DemoError::Interrupted)
                }
            },
        }
    };
    playground.remove(options.keep).await;
    result
}

/// Somebody wants the demo to end: Ctrl-C, `kill`, a closed terminal.
struct Interrupt {
    signals: [tokio::signal::unix::Signal; 3],
}

impl Interrupt {
    fn new() -> Result<Self, DemoError> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                DemoError::io("listen for signals in", &std::env::temp_dir(), error)
            })
        };
        Ok(Self {
            signals: [
                listen(SignalKind::interrupt())?,
                listen(SignalKind::terminate())?,
                listen(SignalKind::hangup())?,
            ],
        })
    }

    async fn wait(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
