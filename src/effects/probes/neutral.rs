//! The neutral targets: does this host reach anything at all? Whatever answers, also with a
//! refusal, proves it; whatever does not come back counts against this host.

use async_trait::async_trait;

use super::tcp::TcpProbe;
use super::{Probe, endpoint_overdue};
use crate::effects::error::EffectError;
use crate::effects::probes::resolve::Resolver;
use crate::model::observation::{EndpointResult, EndpointSeen, Seen, Target};
use crate::model::{Moment, ProbeName};

/// Looks whether one neutral target can be reached.
#[derive(Debug)]
pub struct NeutralProbe {
    name: ProbeName,
    tcp: TcpProbe,
}

impl NeutralProbe {
    /// A probe of `host:port`.
    ///
    /// # Errors
    ///
    /// `Permanent` for a malformed address.
    pub fn new(address: &str, resolver: &Resolver) -> Result<Self, EffectError> {
        let name = ProbeName::new(address);
        let tcp = TcpProbe::new(name.clone(), address, resolver)?;
        Ok(Self { name, tcp })
    }
}

#[async_trait]
impl Probe for NeutralProbe {
    fn target(&self) -> Target {
        Target::Neutral(self.name.clone())
    }

    async fn look(&mut self, deadline: Moment) -> Seen {
        reached(self.tcp.look(deadline).await)
    }

    fn overdue(&self) -> Seen {
        endpoint_overdue()
    }
}

fn reached(seen: Seen) -> Seen {
    let Seen::Endpoint(EndpointSeen { result, phases }) = seen else {
        return seen;
    };
    let result = match result {
        EndpointResult::Refused => EndpointResult::Passed,
        // For others this says nothing of the target; here this host is the target.
        EndpointResult::LocalFault { why } => EndpointResult::Broken { why },
        other @ (EndpointResult::Passed
        | EndpointResult::TimedOut { .. }
        | EndpointResult::Tls { .. }
        | EndpointResult::WrongAnswer { .. }
        | EndpointResult::Broken { .. }) => other,
    };
    Seen::Endpoint(EndpointSeen { result, phases })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::observation::Phases;

    fn after(result: EndpointResult) -> EndpointResult {
        let phases = Phases::default();
        match reached(Seen::Endpoint(EndpointSeen { result, phases })) {
            Seen::Endpoint(seen) => seen.result,
            other @ (Seen::Database(_) | Seen::Process(_) | Seen::Directory(_)) => {
                panic!("{other:?}")
            }
        }
    }

    #[test]
    fn a_refusal_proves_the_way_and_a_fault_of_this_host_counts() {
        assert_eq!(after(EndpointResult::Refused), EndpointResult::Passed);
        let why = "no route to host".to_owned();
        let fault = EndpointResult::LocalFault { why: why.clone() };
        assert_eq!(after(fault), EndpointResult::Broken { why });
    }
}
