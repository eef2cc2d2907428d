//! Names to addresses: IP literals, then `/etc/hosts`, then DNS.
//!
//! Not `getaddrinfo`: it blocks a thread without a deadline, and a static binary cannot rely on it.
//! Unlike the DNS library's own reading of `/etc/hosts`, a name found there asks no server at all:
//! otherwise the missing IPv6 half of an entry waits for a DNS server that may be dead right when
//! it matters.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts};

use crate::effects::clock::boottime;
use crate::effects::deadline::before;
use crate::model::Moment;

/// How often the two files are looked at for changes. Source: resolv.conf(5) as read by glibc
/// since 2.26, which looks at every call.
const RELOAD_CHECK_EVERY: Duration = Duration::from_secs(1);

/// How long DNS may take before the last known addresses of a database node are used instead.
const STALE_AFTER: Duration = Duration::from_millis(250);

/// Most addresses that are tried for one name.
const ADDRESSES_MAX: usize = 8;

/// A host's view of names. Cheap to clone; build it once.
#[derive(Clone)]
pub struct Resolver(Arc<Inner>);

struct Inner {
    system: Mutex<System>,
    /// Addresses that worked out last, by name. Only configured names get in, so it is bounded.
    last: Mutex<BTreeMap<String, Vec<IpAddr>>>,
}

/// The two files as last read.
struct System {
    looked_at: Moment,
    stamps: [Option<std::time::SystemTime>; 2],
    hosts: Arc<BTreeMap<String, Vec<IpAddr>>>,
    dns: Result<Arc<TokioResolver>, Arc<str>>,
}

/// A name without an address. It says something about this host, nothing about the target (S13).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// No answer in time.
    #[error("cannot resolve {host:?}: no answer in time")]
    TimedOut {
        /// The name.
        host: String,
    },
    /// There is no such name, or DNS does not work.
    #[error("cannot resolve {host:?}: {why}")]
    Failed {
        /// The name.
        host: String,
        /// The error.
        why: String,
    },
}

impl Resolver {
    /// Reads the system's settings. They are read again when the files change.
    #[must_use]
    pub fn from_system() -> Self {
        Self(Arc::new(Inner {
            system: Mutex::new(System::read(boottime())),
            last: Mutex::new(BTreeMap::new()),
        }))
    }

    /// The addresses of `host`, in the order in which they should be tried.
    ///
    /// # Errors
    ///
    /// [`ResolveError`] when there is none.
    pub async fn resolve(&self, host: &str, deadline: Moment) -> Result<Vec<IpAddr>, ResolveError> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![address]);
        }
        let (hosts, dns) = self.0.current();
        let name = host.trim_end_matches('.').to_lowercase();
        if let Some(found) = hosts.get(&name) {
            return Ok(found.clone());
        }
        let failed = |why: String| ResolveError::Failed {
            host: host.to_owned(),
            why,
        };
        let dns = dns.map_err(|why| failed(why.to_string()))?;
        let found = before(deadline, dns.lookup_ip(host))
            .await
            .ok_or_else(|| ResolveError::TimedOut {
                host: host.to_owned(),
            })?
            .map_err(|error| failed(error.to_string()))?;
        let addresses: Vec<IpAddr> = found.iter().take(ADDRESSES_MAX).collect();
        if addresses.is_empty() {
            return Err(failed("the name has no address".to_owned()));
        }
        Ok(addresses)
    }

    /// Like [`Resolver::resolve`], but falls back to the addresses that this name had last: a
    /// database must be seen and promoted also while DNS is down.
    ///
    /// # Errors
    ///
    /// [`ResolveError`] when there is none and never was.
    pub async fn resolve_or_last(
        &self,
        host: &str,
        deadline: Moment,
    ) -> Result<Vec<IpAddr>, ResolveError> {
        let last = lock(&self.0.last).get(host).cloned();
        let patience = match last {
            Some(_) => deadline.min(boottime() + STALE_AFTER),
            None => deadline,
        };
        match (self.resolve(host, patience).await, last) {
            (Ok(addresses), last) => {
                if last.as_ref() != Some(&addresses) {
                    lock(&self.0.last).insert(host.to_owned(), addresses.clone());
                }
                Ok(addresses)
            }
            (Err(_), Some(addresses)) => Ok(addresses),
            (Err(error), None) => Err(error),
        }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

type Hosts = Arc<BTreeMap<String, Vec<IpAddr>>>;

impl Inner {
    fn current(&self) -> (Hosts, Result<Arc<TokioResolver>, Arc<str>>) {
        let now = boottime();
        let mut system = lock(&self.system);
        if now.since(system.looked_at) >= RELOAD_CHECK_EVERY {
            system.looked_at = now;
            if stamps() != system.stamps {
                *system = System::read(now);
            }
        }
        (Arc::clone(&system.hosts), system.dns.clone())
    }
}

impl System {
    fn read(now: Moment) -> Self {
        // Stamps first: a change while reading is then seen at the next look.
        let stamps = stamps();
        let hosts = std::fs::read_to_string(HOSTS).unwrap_or_default();
        Self {
            looked_at: now,
            stamps,
            hosts: Arc::new(parse_hosts(&hosts)),
            dns: dns().map(Arc::new).map_err(Arc::from),
        }
    }
}

const HOSTS: &str = "/etc/hosts";
const RESOLV_CONF: &str = "/etc/resolv.conf";

fn stamps() -> [Option<std::time::SystemTime>; 2] {
    [HOSTS, RESOLV_CONF].map(|path| Path::new(path).metadata().and_then(|m| m.modified()).ok())
}

fn dns() -> Result<TokioResolver, String> {
    let mut builder = TokioResolver::builder_tokio()
        .map_err(|error| format!("no usable {RESOLV_CONF}: {error}"))?;
    let options = builder.options_mut();
    options.use_hosts_file = ResolveHosts::Never;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    builder
        .build()
        .map_err(|error| format!("no usable {RESOLV_CONF}: {error}"))
}

/// Source: hosts(5): an address, then names, `#` begins a comment.
fn parse_hosts(text: &str) -> BTreeMap<String, Vec<IpAddr>> {
    let mut hosts: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else {
            continue;
        };
        for name in words {
            let addresses = hosts.entry(name.to_lowercase()).or_default();
            if addresses.len() < ADDRESSES_MAX && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    hosts
}

/// A panic while holding one of these locks leaves whole values behind, so they stay usable.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Moment {
        boottime() + Duration::from_secs(5)
    }

    #[test]
    fn hosts_file_lines_are_read_as_its_manual_says() {
        let hosts = parse_hosts(
            "# comment\n127.0.0.1 localhost\n::1 localhost ip6-localhost\n\
             10.0.0.1\tDB1 db1.example.test # the first\nnonsense here\n10.0.0.1 db1\n",
        );
        let addresses = |name: &str| hosts.get(name).cloned().unwrap_or_default();
        assert_eq!(
            addresses("localhost"),
            [
                "127.0.0.1".parse::<IpAddr>().unwrap(),
                "::1".parse().unwrap()
            ]
        );
        assert_eq!(addresses("db1"), ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(addresses("db1.example.test").len(), 1);
        assert!(addresses("here").is_empty());
        assert!(addresses("the").is_empty());
    }

    #[tokio::test]
    async fn ip_literals_need_no_lookup() {
        let resolver = Resolver::from_system();
        for literal in ["192.0.2.7", "2001:db8::7"] {
            assert_eq!(
                resolver.resolve(literal, boottime()).await.unwrap(),
                [literal.parse::<IpAddr>().unwrap()]
            );
        }
    }

    #[tokio::test]
    async fn localhost_comes_from_the_hosts_file_or_the_library() {
        let addresses = Resolver::from_system()
            .resolve("localhost", soon())
            .await
            .unwrap();
        assert!(addresses.iter().all(IpAddr::is_loopback), "{addresses:?}");
    }

    #[tokio::test]
    async fn unresolvable_name_keeps_its_last_addresses_for_databases_only() {
        let resolver = Resolver::from_system();
        let name = "no-such-host.invalid";
        let known: Vec<IpAddr> = vec!["192.0.2.1".parse().unwrap()];
        resolver
            .0
            .last
            .lock()
            .unwrap()
            .insert(name.to_owned(), known.clone());
        assert!(resolver.resolve(name, soon()).await.is_err());
        assert_eq!(resolver.resolve_or_last(name, soon()).await.unwrap(), known);
        assert!(
            resolver
                .resolve_or_last("other.invalid", boottime() + Duration::from_millis(200))
                .await
                .is_err()
        );
    }
}
