//! The one place where tasks are started: every task has a name, and its panic is seen.

use std::fmt;
use std::future::Future;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// A task that panicked. A bug: whoever receives this stops acting and calls a human.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskPanicked {
    /// The task's name.
    pub task: String,
}

impl fmt::Display for TaskPanicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {:?} panicked", self.task)
    }
}

/// Starts a task. Its panic is logged; the handle is that of the runtime.
pub fn spawn_named<F>(name: impl Into<String>, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    spawn(name.into(), None, future)
}

/// Starts a task whose panic is logged and told to `watcher`.
pub fn spawn_watched<F>(
    name: impl Into<String>,
    watcher: mpsc::Sender<TaskPanicked>,
    future: F,
) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    spawn(name.into(), Some(watcher), future)
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place where tasks are started"
)]
fn spawn<F>(
    name: String,
    watcher: Option<mpsc::Sender<TaskPanicked>>,
    future: F,
) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let witness = PanicWitness { name, watcher };
    tokio::spawn(async move {
        // Moved in here, so that it is dropped by the unwinding when the future panics.
        let _witness = witness;
        future.await
    })
}

/// Reports when it is dropped by a panic.
struct PanicWitness {
    name: String,
    watcher: Option<mpsc::Sender<TaskPanicked>>,
}

impl Drop for PanicWitness {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        tracing::error!(task = %self.name, "task panicked");
        if let Some(watcher) = &self.watcher {
            // A full channel already holds a panic that nobody has looked at.
            watcher
                .try_send(TaskPanicked {
                    task: self.name.clone(),
                })
                .ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn panic_of_a_task_is_told_with_its_name() {
        let (watcher, mut panics) = mpsc::channel(1);
        let handle = spawn_watched("doomed", watcher, async { panic!("on purpose") });
        assert!(handle.await.unwrap_err().is_panic());
        let expected = TaskPanicked {
            task: "doomed".to_owned(),
        };
        assert_eq!(panics.recv().await, Some(expected));
        assert_eq!(panics.recv().await, None);
    }

    #[tokio::test]
    async fn task_that_ends_or_is_aborted_tells_nothing() {
        let (watcher, mut panics) = mpsc::channel(1);
        let done = spawn_watched("done", watcher.clone(), async { 7 });
        assert_eq!(done.await.unwrap(), 7);
        let aborted = spawn_watched("aborted", watcher, std::future::pending::<()>());
        aborted.abort();
        assert!(aborted.await.unwrap_err().is_cancelled());
        assert_eq!(panics.recv().await, None);
    }
}
