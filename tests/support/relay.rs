//! The network between the members and nodes of a test cluster, as relays that can be cut.
//!
//! A cut path behaves as a cut cable does: connections stay open, nothing arrives, nobody is told.
//! What was under way when it was cut arrives late, once it is healed.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Moved at a time.
const CHUNK_BYTES: usize = 16 * 1024;

/// One direction of a relay: `true` while it is open.
type Gate = watch::Sender<bool>;

/// What a place must send, and which ways are closed right before it goes on.
type Trap = Arc<Mutex<Option<(&'static str, Vec<Gate>)>>>;

/// A listening port whose connections end at another one.
#[derive(Debug)]
struct Relay {
    port: u16,
    /// From whoever connected to the target.
    there: Gate,
    /// From the target to whoever connected.
    back: Gate,
    trap: Trap,
    accepting: JoinHandle<()>,
}

impl Relay {
    async fn start(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("loopback can be bound");
        let port = listener.local_addr().expect("a bound socket").port();
        let (there, back) = (watch::channel(true).0, watch::channel(true).0);
        let trap = Trap::default();
        let (gates, set) = ((there.clone(), back.clone()), Arc::clone(&trap));
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (there, back, trap) = (gates.0.clone(), gates.1.clone(), Arc::clone(&set));
                tokio::spawn(carry(client, target, there, back, trap));
            }
        });
        Self {
            port,
            there,
            back,
            trap,
            accepting,
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn carry(client: TcpStream, target: u16, there: Gate, back: Gate, trap: Trap) {
    open(&there).await;
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, target));
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    drop((client.set_nodelay(true), server.set_nodelay(true)));
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    tokio::join!(
        pump(client_read, server_write, &there, Some(&trap)),
        pump(server_read, client_write, &back, None),
    );
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, gate: &Gate, trap: Option<&Trap>) {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = from.read(&mut chunk).await;
        // Not even the end of a connection crosses a cut path.
        open(gate).await;
        if let (Some(trap), Ok(count)) = (trap, &read) {
            spring(trap, &chunk[..*count]);
        }
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

/// Closes what the trap closes if this is what it waits for.
fn spring(trap: &Trap, bytes: &[u8]) {
    let mut trap = trap.lock().unwrap_or_else(PoisonError::into_inner);
    let waits_for = |(text, _): &mut (&str, Vec<Gate>)| {
        let text = text.as_bytes();
        bytes.windows(text.len()).any(|window| window == text)
    };
    if let Some((_, gates)) = trap.take_if(waits_for) {
        for gate in gates {
            gate.send_replace(false);
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
        self.set(|from, to| (from == place) != (to == place), false);
    }

    /// Loses everything that a place sends; what is sent to it arrives.
    pub fn mute(&self, place: &str) {
        self.set(|from, to| from == place && to != place, false);
    }

    /// Loses everything that is sent to a place; what it sends arrives.
    pub fn deafen(&self, place: &str) {
        self.set(|from, to| to == place && from != place, false);
    }

    /// Loses what a place sends to itself: the path from an agent to its own node.
    pub fn cut_within(&self, place: &str) {
        self.set(|from, to| from == place && to == place, false);
    }

    /// As [`Self::deafen`], from the moment on at which the place sends this text: that arrives,
    /// and the answer to it does not.
    pub fn deafen_at(&self, place: &str, text: &'static str) {
        let into = self.paths.iter().filter(|path| path.to == place);
        let from = self.paths.iter().filter(|path| path.from == place);
        let gates = into.map(|path| path.relay.there.clone());
        let gates: Vec<Gate> = gates
            .chain(from.clone().map(|path| path.relay.back.clone()))
            .collect();
        for path in from {
            let mut trap = path.relay.trap.lock();
            let trap = trap.as_deref_mut().expect("nobody panics over it");
            *trap = Some((text, gates.clone()));
        }
    }

    /// Cuts two places off from each other, both ways.
    pub fn cut_between(&self, one: &str, other: &str) {
        let between = |from: &str, to: &str| [(one, other), (other, one)].contains(&(from, to));
        self.set(between, false);
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
