//! The `tcp` probe: can a connection be opened? Sends nothing.

use async_trait::async_trait;

use super::dial::{Phase, Progress, dial, reset_on_close, split_address};
use super::resolve::Resolver;
use super::{Probe, ProbeKind};
use crate::config::settings::{self, ProbeKindSettings};
use crate::effects::deadline::before;
use crate::effects::error::EffectError;
use crate::model::observation::{EndpointResult, EndpointSeen, Seen, Target};
use crate::model::{Moment, ProbeName};

/// See the module.
pub const KIND: ProbeKind = ProbeKind {
    name: "tcp",
    summary: "opens a TCP connection and closes it",
    example: r#"[[probe]]
name = "cache"
kind = "tcp"
address = "cache.fra.example.com:6379"
interval = "2s"
timeout = "1s"
"#,
    build,
};

/// Opens a connection and closes it.
#[derive(Debug)]
pub struct TcpProbe {
    name: ProbeName,
    host: String,
    port: u16,
    resolver: Resolver,
}

fn build(
    probe: &settings::Probe,
    resolver: &Resolver,
) -> Option<Result<Box<dyn Probe>, EffectError>> {
    let address = match &probe.kind {
        ProbeKindSettings::Tcp { address } => address,
        ProbeKindSettings::Http(_) => return None,
    };
    let probe = TcpProbe::new(probe.name.clone(), address, resolver);
    Some(probe.map(|probe| Box::new(probe) as Box<dyn Probe>))
}

impl TcpProbe {
    /// A probe of `host:port`.
    ///
    /// # Errors
    ///
    /// `Permanent` for a malformed address.
    pub fn new(name: ProbeName, address: &str, resolver: &Resolver) -> Result<Self, EffectError> {
        match split_address(address) {
            Ok((host, port)) => Ok(Self {
                name,
                host,
                port,
                resolver: resolver.clone(),
            }),
            Err(why) => Err(EffectError::permanent(format!(
                "cannot build probe {name}: {why}"
            ))),
        }
    }
}

#[async_trait]
impl Probe for TcpProbe {
    fn target(&self) -> Target {
        Target::Endpoint(self.name.clone())
    }

    async fn look(&mut self, deadline: Moment) -> Seen {
        let mut progress = Progress::default();
        let dialled = before(
            deadline,
            dial(
                &self.resolver,
                &self.host,
                self.port,
                deadline,
                &mut progress,
            ),
        )
        .await;
        let result = match dialled {
            Some(Ok(stream)) => {
                reset_on_close(&stream);
                EndpointResult::Passed
            }
            Some(Err(error)) => error.into(),
            None => timed_out(progress.phase),
        };
        Seen::Endpoint(EndpointSeen {
            result,
            phases: progress.phases,
        })
    }

    fn overdue(&self) -> Seen {
        super::endpoint_overdue()
    }
}

/// The deadline came in this phase.
pub(super) fn timed_out(phase: Phase) -> EndpointResult {
    match phase {
        // See `DialError::from(ResolveError)`.
        Phase::Resolve => EndpointResult::LocalFault {
            why: "cannot resolve the name: no answer in time".to_owned(),
        },
        Phase::Connect | Phase::Tls | Phase::FirstByte | Phase::Body => EndpointResult::TimedOut {
            phase: phase.to_string(),
        },
    }
}
