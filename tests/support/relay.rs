//! The network between the members and nodes of a test cluster, as relays that can be cut.
//!
//! A cut path behaves as a cut cable does: connections stay open, nothing arrives, nobody is told.
//! What was under way when it was cut arrives late, once it is healed.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Moved at a time.
const CHUNK_BYTES: usize = 16 * 1024;

/// One direction of a relay: `true` while it is open.
type Gate = watch::Sender<bool>;

/// A listening port whose connections end at another one.
#[derive(Debug)]
struct Relay {
    port: u16,
    /// From whoever connected to the target.
    there: Gate,
    /// From the target to whoever connected.
    back: Gate,
    accepting: JoinHandle<()>,
}

impl Relay {
    async fn start(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("loopback can be bound");
        let port = listener.local_addr().expect("a bound socket").port();
        let (there, back) = (watch::channel(true).0, watch::channel(true).0);
        let gates = (there.clone(), back.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, target, gates.0.clone(), gates.1.clone()));
            }
        });
        Self {
            port,
            there,
            back,
            accepting,
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn carry(client: TcpStream, target: u16, there: Gate, back: Gate) {
    open(&there).await;
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, target));
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    drop((client.set_nodelay(true), server.set_nodelay(true)));
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    tokio::join!(
        pump(client_read, server_write, &there),
        pump(server_read, client_write, &back),
    );
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, gate: &Gate) {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = from.read(&mut chunk).await;
        // Not even the end of a connection crosses a cut path.
        open(gate).await;
        let written = match read {
            Ok(count @ 1..) => to.write_all(&chunk[..count]).await.is_ok(),
            Ok(0) | Err(_) => false,
        };
        if !written {
            drop(to.shutdown().await);
            return;
        }
    }
}

async fn open(gate: &Gate) {
    // The gate cannot be dropped while somebody borrows it.
    drop(gate.subscribe().wait_for(|open| *open).await);
}

/// All paths of a cluster.
#[derive(Debug, Default)]
pub struct Network {
    paths: Vec<Path>,
}

#[derive(Debug)]
struct Path {
    from: String,
    to: String,
    target: u16,
    relay: Relay,
}

impl Network {
    /// Lays a path from a place to a port of another one.
    pub async fn lay(&mut self, from: &str, to: &str, target: u16) {
        self.paths.push(Path {
            from: from.to_owned(),
            to: to.to_owned(),
            target,
            relay: Relay::start(target).await,
        });
    }

    /// The port under which `from` reaches `target`; the port itself where no path was laid.
    pub fn port(&self, from: &str, target: u16) -> u16 {
        let found = self
            .paths
            .iter()
            .find(|path| path.from == from && path.target == target);
        found.map_or(target, |path| path.relay.port)
    }

    /// Cuts a place off from all others, both ways.
    pub fn cut_off(&self, place: &str) {
        self.set(|from, to| from == place || to == place, false);
    }

    /// Loses everything that a place sends; what is sent to it arrives.
    pub fn mute(&self, place: &str) {
        self.set(|from, _| from == place, false);
    }

    /// Loses everything that is sent to a place; what it sends arrives.
    pub fn deafen(&self, place: &str) {
        self.set(|_, to| to == place, false);
    }

    /// Heals everything.
    pub fn heal(&self) {
        self.set(|_, _| true, true);
    }

    fn set(&self, chosen: impl Fn(&str, &str) -> bool, open: bool) {
        for path in &self.paths {
            if chosen(&path.from, &path.to) {
                path.relay.there.send_replace(open);
            }
            if chosen(&path.to, &path.from) {
                path.relay.back.send_replace(open);
            }
        }
    }
}
