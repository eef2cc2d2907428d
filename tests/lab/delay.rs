//! Relays that deliver late: latency where the kernel has no `netem`.
//!
//! They stand in the sender's namespace and carry one direction each way through a queue in which
//! every piece waits for its time. Only rounds that draw a latency are built with them.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::wires::{Host, Wires};

/// Moved at a time.
const CHUNK_BYTES: usize = 16 * 1024;
/// What may be under way on one direction of a connection.
const UNDER_WAY_MAX: usize = 4096;

/// The late deliveries between all hosts.
#[derive(Debug)]
pub struct Delays {
    /// Milliseconds for each direction of a pair.
    late: BTreeMap<(Host, Host), Arc<AtomicU64>>,
    /// Where a host reaches a port of another one.
    ports: BTreeMap<(Host, Host, u16), u16>,
    stop: CancellationToken,
}

impl Delays {
    /// Builds relays from every host to these ports of the others.
    pub fn build(wires: &Wires, targets: &[(Host, u16)]) -> Self {
        let hosts = super::wires::HOSTS;
        let pairs = hosts
            .iter()
            .flat_map(|from| from.others().map(|to| (*from, to)));
        let late = pairs
            .map(|pair| (pair, Arc::new(AtomicU64::new(0))))
            .collect();
        let mut delays = Self {
            late,
            ports: BTreeMap::new(),
            stop: CancellationToken::new(),
        };
        for from in hosts {
            delays.serve(wires, from, targets);
        }
        delays
    }

    /// How much later than at once packets of one direction arrive.
    pub fn set(&self, from: Host, to: Host, late: Duration) {
        let millis = u64::try_from(late.as_millis()).unwrap_or(0);
        self.late[&(from, to)].store(millis, Ordering::Relaxed);
    }

    /// Where `from` reaches that port.
    pub fn address(&self, from: Host, to: Host, port: u16) -> Option<(&'static str, u16)> {
        let port = self.ports.get(&(from, to, port))?;
        Some(("127.0.0.1", *port))
    }

    fn serve(&mut self, wires: &Wires, from: Host, targets: &[(Host, u16)]) {
        let space = File::open(wires.path(from)).expect("the namespace is there");
        let targets: Vec<_> = targets.iter().filter(|(to, _)| *to != from).collect();
        let ways: Vec<_> = targets
            .iter()
            .map(|(to, port)| {
                let target: SocketAddr = format!("{}:{port}", to.address()).parse().unwrap();
                let there = Arc::clone(&self.late[&(from, *to)]);
                let back = Arc::clone(&self.late[&(*to, from)]);
                (target, there, back)
            })
            .collect();
        let (tell, told) = std::sync::mpsc::channel();
        let stop = self.stop.clone();
        // A thread of its own: sockets belong to the namespace of the thread that makes them.
        std::thread::spawn(move || {
            move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("the thread enters the namespace");
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(async move {
                for (target, there, back) in ways {
                    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
                    let listener = listener.expect("loopback can be bound");
                    tell.send(listener.local_addr().expect("a bound socket").port())
                        .expect("somebody listens");
                    tokio::spawn(accept(listener, target, there, back));
                }
                stop.cancelled().await;
            });
        });
        for (to, port) in targets {
            let relay = told.recv().expect("the relay tells its port");
            self.ports.insert((from, *to, *port), relay);
        }
    }
}

impl Drop for Delays {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    there: Arc<AtomicU64>,
    back: Arc<AtomicU64>,
) {
    while let Ok((client, _)) = listener.accept().await {
        let (there, back) = (Arc::clone(&there), Arc::clone(&back));
        tokio::spawn(async move {
            // The greeting travels, too.
            wait(&there).await;
            let Ok(server) = TcpStream::connect(target).await else {
                return;
            };
            drop((client.set_nodelay(true), server.set_nodelay(true)));
            let (client_read, client_write) = client.into_split();
            let (server_read, server_write) = server.into_split();
            tokio::join!(
                carry(client_read, server_write, there),
                carry(server_read, client_write, back),
            );
        });
    }
}

async fn wait(late: &AtomicU64) {
    let late = Duration::from_millis(late.load(Ordering::Relaxed));
    // bounded: the latency of a fault
    tokio::time::sleep(late).await;
}

async fn carry(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    late: Arc<AtomicU64>,
) {
    let (sender, mut under_way) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY_MAX);
    let reading = async move {
        let mut chunk = vec![0; CHUNK_BYTES];
        while let Ok(count @ 1..) = from.read(&mut chunk).await {
            let late = Duration::from_millis(late.load(Ordering::Relaxed));
            let piece = (Instant::now() + late, chunk[..count].to_vec());
            if sender.send(piece).await.is_err() {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((due, piece)) = under_way.recv().await {
            tokio::time::sleep_until(due).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
        drop(to.shutdown().await);
    };
    tokio::join!(reading, writing);
}
