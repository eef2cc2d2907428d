//! A client that knows nothing but a name: it resolves it for each connection, writes one row, and
//! hangs up, as short-lived jobs do. Its resolver keeps answers for as long as their TTL says.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::dns::RECORD;
use super::session::{Attempt, Login, commit};
use super::writer::{Ack, INSERT};
use crate::effects::clock::boottime;
use crate::runtime::tasks::spawn_named;

/// Between two connections.
const PAUSE: Duration = Duration::from_millis(20);
/// For everything that one connection is for.
const PATIENCE: Duration = Duration::from_millis(500);

/// The newest acknowledgements that are kept.
const ACKS_MAX: usize = 20_000;

/// The running client; it stops when dropped.
#[derive(Debug)]
pub(super) struct ByName {
    acks: Arc<Mutex<Vec<Ack>>>,
    task: JoinHandle<()>,
}

impl ByName {
    /// Begins.
    pub(super) fn start(resolver: TokioResolver, nodes: [Login; 2]) -> Self {
        let acks = Arc::new(Mutex::new(Vec::new()));
        let task = spawn_named(
            "demo client by name",
            run(resolver, nodes, Arc::clone(&acks)),
        );
        Self { acks, task }
    }

    /// What was acknowledged to it so far, in order.
    pub(super) fn acks(&self) -> Vec<Ack> {
        let acks = self.acks.lock().unwrap_or_else(PoisonError::into_inner);
        acks.clone()
    }
}

impl Drop for ByName {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Its rows have negative numbers, so that they are nobody else's.
async fn run(resolver: TokioResolver, nodes: [Login; 2], acks: Arc<Mutex<Vec<Ack>>>) {
    for number in (i64::MIN / 2..0).rev() {
        if let Ok(Some(node)) = timeout(PATIENCE, write(&resolver, &nodes, number)).await {
            let at = boottime();
            let mut acks = acks.lock().unwrap_or_else(PoisonError::into_inner);
            if acks.len() == ACKS_MAX {
                acks.remove(0);
            }
            acks.push(Ack { number, node, at });
        }
        sleep(PAUSE).await;
    }
}

/// Writes one row wherever the name leads; which node that was, if it was acknowledged.
async fn write(resolver: &TokioResolver, nodes: &[Login; 2], number: i64) -> Option<usize> {
    let found = resolver.lookup_ip(format!("{RECORD}.")).await.ok()?;
    let host = found.iter().next()?.to_string();
    let node = nodes.iter().position(|login| login.host == host)?;
    let client = nodes.get(node)?.connect().await.ok()?;
    let insert = client.prepare(INSERT).await.ok()?;
    let attempt = commit(&client, &insert, number, PATIENCE).await;
    (attempt == Attempt::Committed).then_some(node)
}
