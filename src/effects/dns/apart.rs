//! What may wait for a disk, on a thread of its own. Certificate authorities are files, and a disk
//! that hangs must not hold up whoever keeps the lease.

use std::time::Duration;

use tokio::sync::Mutex;

/// One at a time, for all records: a disk that hangs costs one thread.
static TURN: Mutex<()> = Mutex::const_new(());

/// Runs `work`; `None`: it, or its turn, did not come to an end in time. Work that has begun goes
/// on, and nothing else is begun meanwhile.
pub(super) async fn apart<T: Send + 'static>(
    within: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let working = async {
        let turn = TURN.lock().await;
        let working = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        });
        working.await.ok()
    };
    tokio::time::timeout(within, working).await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn work_that_hangs_holds_up_no_task_and_is_not_begun_twice() {
        let (release, hangs) = mpsc::channel::<()>();
        let short = Duration::from_millis(50);
        assert_eq!(apart(short, move || hangs.recv().ok()).await, None);
        let (begun, seen) = mpsc::channel();
        let second = apart(short, move || begun.send(()).ok());
        assert_eq!(second.await, None);
        assert!(seen.try_recv().is_err(), "the first is not over");
        release.send(()).unwrap();
        let long = Duration::from_secs(10);
        assert_eq!(apart(long, || 7).await, Some(7));
    }
}
