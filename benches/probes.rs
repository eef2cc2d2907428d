//! How many HTTP probes one core runs, each on a connection of its own, against a bare server on
//! the other core. `cargo bench --bench probes`.
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark measures time, runs its own server, and prints"
)]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use failover_agent::config::settings::{HttpProbe, Probe, ProbeKindSettings, ProbeTiming};
use failover_agent::effects::clock::boottime;
use failover_agent::effects::probes::{build, resolve::Resolver};
use failover_agent::model::ProbeName;
use failover_agent::model::observation::{EndpointResult, Seen};

/// Probes under way at the same time.
const IN_FLIGHT: usize = 64;
/// How long is measured.
const SPAN: Duration = Duration::from_secs(5);
/// What one core should do each second.
const BUDGET: f64 = 15_000.0;

fn main() {
    let address = serve();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime on one core");
    let (passed, failed, took) = runtime.block_on(probe(&format!("http://{address}/")));
    let rate = passed as f64 / took.as_secs_f64();
    println!("{passed} probes passed, {failed} failed in {took:.2?}: {rate:.0} a second");
    println!(
        "{:.0} % of the budget of {BUDGET:.0} a second on one core",
        rate / BUDGET * 100.0
    );
}

async fn probe(url: &str) -> (usize, usize, Duration) {
    let (passed, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let resolver = Resolver::from_system();
    let began = Instant::now();
    let local = tokio::task::LocalSet::new();
    for _ in 0..IN_FLIGHT {
        let mut probe = build(&settings(url), &resolver).expect("a probe");
        let (passed, failed) = (Arc::clone(&passed), Arc::clone(&failed));
        local.spawn_local(async move {
            while began.elapsed() < SPAN {
                let seen = probe.look(boottime() + Duration::from_secs(1)).await;
                let good = matches!(&seen,
                    Seen::Endpoint(seen) if seen.result == EndpointResult::Passed);
                let counter = if good { &passed } else { &failed };
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    local.await;
    (
        passed.load(Ordering::Relaxed),
        failed.load(Ordering::Relaxed),
        began.elapsed(),
    )
}

fn settings(url: &str) -> Probe {
    Probe {
        name: ProbeName::new("bench"),
        sites: Vec::new(),
        kind: ProbeKindSettings::Http(Box::new(HttpProbe {
            url: url.to_owned(),
            method: "GET".to_owned(),
            headers: Vec::new(),
            body: None,
            status: vec![(200, 299)],
            body_contains: None,
            latency_max: None,
            ca: None,
        })),
        timing: ProbeTiming {
            interval: Duration::from_secs(1),
            fast_interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            fall: 3,
            rise: 2,
        },
    }
}

/// The cheapest server there is: what is measured is the prober.
fn serve() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address");
    for _ in 0..4 {
        let listener = listener.try_clone().expect("the listener");
        std::thread::spawn(move || {
            let mut request = [0; 1024];
            while let Ok((mut stream, _)) = listener.accept() {
                // A prober that went away needs no answer.
                if stream.read(&mut request).is_ok_and(|read| read > 0) {
                    drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"));
                }
            }
        });
    }
    address
}
