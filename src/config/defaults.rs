//! Every default, with its reason. What has none must be written: the sites, the peer secret, and
//! what only you can know about a probe, a file or a record.

use std::time::Duration;

use super::settings::{Lease, PauseExpired, ProbeTiming, TsigAlgorithm};
use crate::model::brakes::Conduct;

/// Most teams run one cluster.
pub const CLUSTER: &str = "main";
/// Where the file system hierarchy keeps a service's state; systemd's `StateDirectory=agent`.
pub const STATE_DIR: &str = "/var/lib/agent";
/// Gone after a boot, as a socket should be; systemd's `RuntimeDirectory=agent`.
pub const SOCKET: &str = "/run/agent/agent.sock";

/// Long enough for a lost packet, a slow disk and a garbage collection on the witness's host,
/// short enough that a lost site is replaced within 11 s.
pub const LEASE_TTL: Duration = Duration::from_secs(10);
/// Five looks in a ttl: two may be lost and the lease still lives (S2).
pub const LEASE_RENEWALS_PER_TTL: u32 = 5;
/// A voter that needs a seventh of the ttl to answer counts as silent.
pub const LEASE_REQUESTS_PER_TTL: u32 = 7;
/// Nobody waits longer than this for one voter, however long the ttl is.
pub const LEASE_REQUEST_TIMEOUT_MAX: Duration = Duration::from_millis(1500);
/// At short ttls the fence takes no more than a fifth, so that two renewals may still be lost.
pub const LEASE_FENCES_PER_TTL: u32 = 5;
/// Immediate shutdown gets 500 ms, killing and verifying the rest: four times that on a busy host.
pub const LEASE_FENCE_BUDGET_MAX: Duration = Duration::from_secs(2);
/// Derived times are cut to multiples of this, so that people can read and repeat them.
pub const LEASE_STEP: Duration = Duration::from_millis(50);

/// Says whose it is to whoever lists the keys of a shared etcd.
pub const ETCD_PREFIX: &str = "/failover-agent";

/// PostgreSQL's own.
pub const DATABASE_PORT: u16 = 5432;
/// Own role, own grants (`agent check --grants` prints them).
pub const DATABASE_USER: &str = "agent";
/// Exists everywhere.
pub const DATABASE_NAME: &str = "postgres";
/// A schema of its own: nothing of the app's is touched.
pub const HEARTBEAT_TABLE: &str = "agent.heartbeat";
/// A frozen database is found within 0.5 + 1 + 1 s; a dead one at once, by its process. One tiny
/// commit twice a second is nothing to PostgreSQL.
pub const DATABASE_TIMING: ProbeTiming = ProbeTiming {
    interval: Duration::from_millis(500),
    fast_interval: Duration::from_millis(100),
    timeout: Duration::from_secs(1),
    fall: 2,
    rise: 2,
};
/// New connections cost a process each, and fail differently from old ones: seldom, but always.
pub const DATABASE_FRESH_INTERVAL: Duration = Duration::from_secs(5);
/// Commands go through ssh or a container runtime: slow, but not endless.
pub const CONTROL_TIMEOUT: Duration = Duration::from_secs(30);

/// One WAL segment: what a healthy asynchronous standby is behind at worst.
pub const FAILOVER_LAG_MAX: u64 = 16 << 20;
/// Who installs it wants it to act; `observe` is for the days before that.
pub const MODE: Conduct = Conduct::Act;
/// Long enough for a person to look before the primary moves again (S14).
pub const FAILOVER_BLOCK: Duration = Duration::from_secs(3600);
/// Whatever makes a third one necessary within a day is not cured by moving: a person must look,
/// and each of them may have lost up to `lag_max`.
pub const FAILOVER_MAX_AUTOMATIC: u32 = 3;
/// A day, so that a fault that comes back with the load of every day is counted.
pub const FAILOVER_WINDOW: Duration = Duration::from_secs(86_400);
/// A "fast" stop needs a checkpoint; longer than this and writers wait for nothing.
pub const FAILOVER_STOP_GRACE: Duration = Duration::from_secs(5);
/// Promotion replays what was received and ends a timeline: seconds, unless replay is far behind.
pub const FAILOVER_PROMOTE_TIMEOUT: Duration = Duration::from_secs(60);
/// A start after a crash replays WAL since the last checkpoint (PostgreSQL's default: 5 minutes).
pub const FAILOVER_START_TIMEOUT: Duration = Duration::from_secs(60);
/// Off: a restart that fails costs the commits made until the failover that follows it.
pub const FAILOVER_RESTART_BUDGET: Duration = Duration::ZERO;

/// Quick enough to doubt oneself before a lost site's lease has run out, rare enough for somebody
/// else's servers.
pub const SELF_CHECK_TIMING: ProbeTiming = ProbeTiming {
    interval: Duration::from_secs(2),
    fast_interval: Duration::from_millis(500),
    timeout: Duration::from_secs(1),
    fall: 2,
    // Back for good before it accuses anybody again.
    rise: 3,
};
/// A busy host is late by some tenths of a second; an agent that is late by as much as its probes
/// wait cannot tell a slow answer from its own sleep.
pub const SELF_CHECK_LATE_MAX: Duration = Duration::from_secs(1);

/// Endpoints are many, and none of them moves a site by itself within a second.
pub const PROBE_TIMING: ProbeTiming = ProbeTiming {
    interval: Duration::from_secs(5),
    fast_interval: Duration::from_secs(1),
    timeout: Duration::from_secs(3),
    fall: 3,
    rise: 2,
};
/// Asks for what users ask for.
pub const PROBE_METHOD: &str = "GET";
/// Success, and nothing else: a redirect to an error page is not health.
pub const PROBE_STATUS: (u16, u16) = (200, 299);
/// A deployment that restarts the apps is over by then.
pub const TRIP_DOWN_FOR: Duration = Duration::from_secs(30);

/// Behind a proxy a dead member costs requests at once: twice as often as other endpoints at least,
/// and a thousand of them are still only some hundred connections a second.
pub const UPSTREAM_TIMING: ProbeTiming = ProbeTiming {
    interval: Duration::from_secs(2),
    fast_interval: Duration::from_millis(500),
    timeout: Duration::from_secs(1),
    fall: 3,
    rise: 2,
};
/// As proxies do by themselves: as long as one works, it is better than those that do not.
pub const UPSTREAM_MIN_HEALTHY: usize = 1;
/// A rack that goes down is one reload; nobody notices a fifth of a second.
pub const UPSTREAM_SETTLE: Duration = Duration::from_millis(200);
/// A reload that hangs must not hold the next file up for long.
pub const APP_CONFIG_RELOAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Checking a file takes a moment; names that do not resolve in a disaster take some seconds.
pub const APP_CONFIG_VALIDATE_TIMEOUT: Duration = Duration::from_secs(10);
/// A reloaded program uses its new settings at once, a restarted one once it is up.
pub const APP_CONFIG_VERIFY_TIMEOUT: Duration = Duration::from_secs(10);
/// Enough to see what the last few moves did.
pub const APP_CONFIG_KEEP: u32 = 5;
/// As Debian's and nginx.org's packages call it.
pub const NGINX_PROGRAM: &str = "nginx";
/// Where those packages put it.
pub const NGINX_CONFIG: &str = "/etc/nginx/nginx.conf";
/// What the files of those packages say.
pub const NGINX_PID_FILE: &str = "/run/nginx.pid";
/// What the files of those packages say.
pub const NGINX_ERROR_LOG: &str = "/var/log/nginx/error.log";
/// As Debian's package calls it.
pub const HAPROXY_PROGRAM: &str = "haproxy";
/// Where Debian's package puts it.
pub const HAPROXY_CONFIG: &str = "/etc/haproxy/haproxy.cfg";
/// What Debian's file says.
pub const HAPROXY_SOCKET: &str = "/run/haproxy/admin.sock";
/// What Debian's unit says.
pub const HAPROXY_PID_FILE: &str = "/run/haproxy.pid";
/// `systemctl`, from the path of programs.
pub const SYSTEMCTL: &str = "systemctl";
/// `docker`, from the path of programs.
pub const DOCKER: &str = "docker";
/// `kubectl`, from the path of programs.
pub const KUBECTL: &str = "kubectl";
/// PgBouncer's own default port, on this host.
pub const PGBOUNCER_ADDRESS: &str = "127.0.0.1:6432";
/// Transactions of web apps end in milliseconds. Every client waits meanwhile, also when the pause
/// is given up because of one that does not end.
pub const PGBOUNCER_PAUSE_TIMEOUT: Duration = Duration::from_secs(2);
/// The old server is fenced when files change: nothing on a connection to it can still succeed.
pub const PGBOUNCER_PAUSE_EXPIRED: PauseExpired = PauseExpired::Kill;
/// As long as the pause was waited for.
pub const PGBOUNCER_CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Programs that cannot use their settings end at once as a rule.
pub const SYSTEMD_SETTLE: Duration = Duration::from_secs(1);
/// Most records that move are addresses.
pub const DNS_TYPE: &str = "A";
/// What the servers' own tools make unless told otherwise.
pub const DNS_KEY_ALGORITHM: TsigAlgorithm = TsigAlgorithm::HmacSha256;
/// Where Route 53 is controlled from. Source: AWS General Reference, "Amazon Route 53 endpoints".
pub const ROUTE53_REGION: &str = "us-east-1";
/// Providers answer within a second, or not at all.
pub const DNS_TIMEOUT: Duration = Duration::from_secs(10);
/// What an app can say without being told anything else.
pub const EDGE_EXPECT: &str = "{site}";
/// A server further away than this is no use to anybody who asks for a name.
pub const DNS_CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// Soon enough to tell before the second person is surprised, and far below what providers allow:
/// Cloudflare 1200 requests in 5 minutes, Route 53 5 in a second, each with everybody's else.
pub const DNS_CHECK_DRIFT_EVERY: Duration = Duration::from_mins(1);
/// Chat services answer within a second, or not at all.
pub const NOTIFY_TIMEOUT: Duration = Duration::from_secs(10);

/// Off: a device that is fed resets the whole host when it is not, which must be wished for.
pub const GUARD_WATCHDOG: &str = "off";
/// The first watchdog of every Linux host.
pub const GUARD_WATCHDOG_DEVICE: &str = "/dev/watchdog";

/// The lease's times for this ttl, where the file does not give them.
#[must_use]
pub fn lease(ttl: Duration) -> Lease {
    Lease {
        ttl,
        renew_every: step(ttl / LEASE_RENEWALS_PER_TTL),
        request_timeout: step((ttl / LEASE_REQUESTS_PER_TTL).min(LEASE_REQUEST_TIMEOUT_MAX)),
        fence_budget: step((ttl / LEASE_FENCES_PER_TTL).min(LEASE_FENCE_BUDGET_MAX)),
    }
}

/// Cut to a whole number of steps, but never to nothing.
fn step(duration: Duration) -> Duration {
    let steps = duration.as_millis() / LEASE_STEP.as_millis();
    let steps = u32::try_from(steps).unwrap_or(u32::MAX).max(1);
    LEASE_STEP.saturating_mul(steps)
}
