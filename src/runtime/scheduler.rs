//! When to look: one task per probe, on its own rhythm, never two looks of one probe at once.
//!
//! Owns intervals, jitter, and the outer bound on a look. Knows nothing of what a probe does or of
//! what is seen: the decision side says per target whether it is [`Pace::Suspect`].

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::CancellationToken;

use super::tasks::spawn_named;
use crate::config::settings::ProbeTiming;
use crate::effects::clock::boottime;
use crate::effects::postgres::process::Instance;
use crate::effects::probes::Probe;
use crate::effects::probes::outlet::{Outlet, outlet};
use crate::effects::probes::process::ProcessProbe;
use crate::model::event::Event;
use crate::model::observation::{Channel, Observation, Target};

/// The first look of every probe comes within this, so that a fresh agent soon knows something.
const FIRST_LOOK_WITHIN: Duration = Duration::from_secs(1);

/// How much later than its deadline a look may come back by itself, to say in which phase it was.
const OVERDUE_GRACE: Duration = Duration::from_millis(100);

/// How closely a target is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pace {
    /// Its state is certain: `interval`.
    #[default]
    Settled,
    /// It may be changing: `fast_interval`.
    Suspect,
}

/// Randomness of the start times, so that probes do not all look at the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jitter {
    /// None: every probe looks at once. For tests.
    None,
    /// Drawn from this seed.
    Seeded(u64),
}

/// The running probes.
#[derive(Debug)]
pub struct Scheduler {
    handles: BTreeMap<Target, Handle>,
}

#[derive(Debug)]
struct Handle {
    pace: watch::Sender<Pace>,
    look_now: Arc<Notify>,
    missed: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Scheduler {
    /// Starts one task per probe. Observations go to `events`; all tasks end when `stop` is
    /// cancelled or nobody receives any more.
    #[must_use]
    pub fn start(
        probes: Vec<(Box<dyn Probe>, ProbeTiming)>,
        jitter: Jitter,
        events: &mpsc::Sender<Event>,
        stop: &CancellationToken,
    ) -> Self {
        let mut offsets = Offsets::new(jitter);
        let handles = probes
            .into_iter()
            .map(|(probe, timing)| {
                let start = offsets.draw(timing.interval);
                (
                    probe.target(),
                    Handle::start(probe, timing, start, events, stop),
                )
            })
            .collect();
        Self { handles }
    }

    /// Says how closely `target` is to be watched from now on.
    pub fn set_pace(&self, target: &Target, pace: Pace) {
        if let Some(handle) = self.handles.get(target) {
            handle.pace.send_if_modified(|current| {
                let changed = *current != pace;
                *current = pace;
                changed
            });
        }
    }

    /// Looks at `target` at once, or right after the look that is going on.
    pub fn look_now(&self, target: &Target) {
        if let Some(handle) = self.handles.get(target) {
            handle.look_now.notify_one();
        }
    }

    /// What makes `target` be looked at when notified, for those who must not know the scheduler.
    #[must_use]
    pub fn waker(&self, target: &Target) -> Option<Arc<Notify>> {
        self.handles
            .get(target)
            .map(|handle| Arc::clone(&handle.look_now))
    }

    /// Starts the watch over the own postmaster. Its death, and a new one, make the probes of the
    /// own database look at once. The task ends when `stop` is cancelled.
    #[must_use]
    pub fn watch_process(
        &self,
        instance: Instance,
        events: &mpsc::Sender<Event>,
        stop: &CancellationToken,
    ) -> JoinHandle<()> {
        let urgent = [Channel::Persistent, Channel::Fresh]
            .into_iter()
            .filter_map(|channel| self.waker(&Target::OwnDatabase(channel)))
            .collect();
        let (process, delivery) = outlet(events.clone());
        let (directory, directory_first) = outlet(events.clone());
        let probe = ProcessProbe::new(instance, process, directory, urgent);
        let stop = stop.clone();
        spawn_named(format!("probe {}", Target::OwnProcess), async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = directory_first.run() => {}
                () = delivery.run() => {}
                () = probe.run() => {}
            }
        })
    }

    /// How many looks each target missed because the one before was still going on.
    pub fn missed(&self) -> impl Iterator<Item = (&Target, u64)> {
        self.handles
            .iter()
            .map(|(target, handle)| (target, handle.missed.load(Ordering::Relaxed)))
    }

    /// Waits until all tasks have ended, after `stop` was cancelled.
    pub async fn stopped(self) {
        for handle in self.handles.into_values() {
            // A panic has been logged by `tasks`; there is nothing to add.
            handle.task.await.ok();
        }
    }
}

/// When a probe's first two looks come; from then on it keeps its interval.
#[derive(Debug, Clone, Copy)]
struct Start {
    first: Duration,
    second: Duration,
}

struct Offsets(Option<StdRng>);

impl Offsets {
    fn new(jitter: Jitter) -> Self {
        Self(match jitter {
            Jitter::None => None,
            Jitter::Seeded(seed) => Some(StdRng::seed_from_u64(seed)),
        })
    }

    /// The first look soon; the second somewhere in the interval, which spreads long intervals.
    fn draw(&mut self, interval: Duration) -> Start {
        match &mut self.0 {
            None => Start {
                first: Duration::ZERO,
                second: interval,
            },
            Some(random) => Start {
                first: interval
                    .min(FIRST_LOOK_WITHIN)
                    .mul_f64(random.random_range(0.0..1.0)),
                second: interval.mul_f64(random.random_range(0.5..1.0)),
            },
        }
    }
}

impl Handle {
    fn start(
        probe: Box<dyn Probe>,
        timing: ProbeTiming,
        start: Start,
        events: &mpsc::Sender<Event>,
        stop: &CancellationToken,
    ) -> Self {
        let (pace, pace_seen) = watch::channel(Pace::Settled);
        let look_now = Arc::new(Notify::new());
        let missed = Arc::new(AtomicU64::new(0));
        let (outlet, delivery) = outlet(events.clone());
        let name = format!("probe {}", probe.target());
        let rhythm = Rhythm {
            probe,
            timing,
            pace: pace_seen,
            look_now: Arc::clone(&look_now),
            missed: Arc::clone(&missed),
            outlet,
        };
        let stop = stop.clone();
        let task = spawn_named(name, async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                // Ends when nobody receives any more; dropping the rhythm drops a running look.
                () = delivery.run() => {}
                () = rhythm.run(start) => {}
            }
        });
        Self {
            pace,
            look_now,
            missed,
            task,
        }
    }
}

/// One probe and when it looks.
struct Rhythm {
    probe: Box<dyn Probe>,
    timing: ProbeTiming,
    pace: watch::Receiver<Pace>,
    look_now: Arc<Notify>,
    missed: Arc<AtomicU64>,
    outlet: Outlet,
}

impl Rhythm {
    async fn run(mut self, start: Start) {
        // The timer's own reading of its clock: paused with it in tests, unlike `boottime`.
        let mut due = Box::pin(sleep(start.first));
        let mut second = Some(start.second);
        loop {
            let begun = self.wait(due.as_mut()).await;
            self.look().await;
            // Lets the delivery have its turn before another observation can replace this one.
            tokio::task::yield_now().await;
            let now = sleep(Duration::ZERO).deadline();
            let interval = second.take().unwrap_or_else(|| self.interval());
            // A look that outlasted its interval is followed at once by the next one, not by the
            // next but one tick: that would add up to an interval to every detection.
            let elapsed = now.duration_since(begun);
            self.missed
                .fetch_add(missed_ticks(elapsed, interval), Ordering::Relaxed);
            due.as_mut().reset((begun + interval).max(now));
        }
    }

    /// Waits until the next look is due, and says when it began.
    async fn wait(&mut self, mut due: Pin<&mut Sleep>) -> Instant {
        loop {
            tokio::select! {
                () = &mut due => return due.deadline(),
                () = self.look_now.notified() => return sleep(Duration::ZERO).deadline(),
                changed = self.pace.changed() => match changed {
                    Ok(()) => {
                        let now = sleep(Duration::ZERO).deadline();
                        let sooner = due.deadline().min(now + self.interval());
                        due.as_mut().reset(sooner);
                    }
                    // The scheduler is gone; the rhythm stays what it was until it is stopped.
                    Err(_) => {
                        due.await;
                        return sleep(Duration::ZERO).deadline();
                    }
                },
            }
        }
    }

    fn interval(&self) -> Duration {
        match *self.pace.borrow() {
            Pace::Settled => self.timing.interval,
            Pace::Suspect => self.timing.fast_interval,
        }
    }

    async fn look(&mut self) {
        let began = boottime();
        let timeout = self.timing.timeout;
        let look = self.probe.look(began + timeout);
        let seen = match tokio::time::timeout(timeout + OVERDUE_GRACE, look).await {
            Ok(seen) => seen,
            Err(_) => self.probe.overdue(),
        };
        let at = boottime();
        self.outlet.put(Observation {
            target: self.probe.target(),
            at,
            took: at.since(began),
            seen,
        });
    }
}

/// How many whole ticks passed during a look, not counting the one that is served right after it.
fn missed_ticks(elapsed: Duration, interval: Duration) -> u64 {
    let ticks = elapsed.as_nanos() / interval.as_nanos().max(1);
    u64::try_from(ticks.saturating_sub(1)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::model::observation::{EndpointResult, EndpointSeen, Phases, Seen};
    use crate::model::{Moment, ProbeName};

    const INTERVAL: Duration = Duration::from_secs(10);
    const FAST: Duration = Duration::from_secs(2);
    const TIMEOUT: Duration = Duration::from_secs(60);

    /// Notes when it begins (in the timer's paused time) and takes as long as it is told.
    struct Scripted {
        name: &'static str,
        takes: Vec<Duration>,
        begun: mpsc::UnboundedSender<Duration>,
        zero: Instant,
    }

    #[async_trait]
    impl Probe for Scripted {
        fn target(&self) -> Target {
            target(self.name)
        }

        async fn look(&mut self, _deadline: Moment) -> Seen {
            self.begun.send(now().duration_since(self.zero)).ok();
            if !self.takes.is_empty() {
                sleep(self.takes.remove(0)).await;
            }
            endpoint(EndpointResult::Passed)
        }

        fn overdue(&self) -> Seen {
            endpoint(EndpointResult::Refused)
        }
    }

    fn endpoint(result: EndpointResult) -> Seen {
        Seen::Endpoint(EndpointSeen {
            result,
            phases: Phases::default(),
        })
    }

    fn target(name: &str) -> Target {
        Target::Endpoint(ProbeName::new(name))
    }

    fn now() -> Instant {
        sleep(Duration::ZERO).deadline()
    }

    struct World {
        scheduler: Scheduler,
        begun: mpsc::UnboundedReceiver<Duration>,
        events: mpsc::Receiver<Event>,
        stop: CancellationToken,
    }

    impl World {
        fn start(takes: Vec<Duration>) -> Self {
            Self::with(takes, Jitter::None)
        }

        fn with(takes: Vec<Duration>, jitter: Jitter) -> Self {
            let (begun_sender, begun) = mpsc::unbounded_channel();
            let (event_sender, events) = mpsc::channel(100);
            let stop = CancellationToken::new();
            let probe = Scripted {
                name: "scripted",
                takes,
                begun: begun_sender,
                zero: now(),
            };
            let timing = ProbeTiming {
                interval: INTERVAL,
                fast_interval: FAST,
                timeout: TIMEOUT,
                fall: 3,
                rise: 2,
            };
            let probes: Vec<(Box<dyn Probe>, _)> = vec![(Box::new(probe), timing)];
            Self {
                scheduler: Scheduler::start(probes, jitter, &event_sender, &stop),
                begun,
                events,
                stop,
            }
        }

        async fn begins(&mut self, count: usize) -> Vec<u64> {
            let mut begins = Vec::new();
            for _ in 0..count {
                begins.push(self.begun.recv().await.unwrap().as_secs());
            }
            begins
        }

        fn missed(&self) -> u64 {
            self.scheduler.missed().map(|(_, missed)| missed).sum()
        }

        async fn seen(&mut self) -> Seen {
            let event = self.events.recv().await.unwrap();
            let Event::Observed(observation) = event else {
                panic!("{event:?}");
            };
            observation.seen
        }
    }

    #[tokio::test(start_paused = true)]
    async fn settled_target_is_looked_at_once_per_interval() {
        let mut world = World::start(vec![Duration::from_secs(3)]);
        assert_eq!(world.begins(4).await, [0, 10, 20, 30]);
        assert_eq!(world.missed(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn suspect_target_is_looked_at_faster_from_the_next_look_on() {
        let mut world = World::start(Vec::new());
        assert_eq!(world.begins(1).await, [0]);
        world.scheduler.set_pace(&target("scripted"), Pace::Suspect);
        assert_eq!(world.begins(3).await, [2, 4, 6]);
        world.scheduler.set_pace(&target("scripted"), Pace::Settled);
        let begins = world.begins(2).await;
        assert_eq!(begins.last().unwrap() - begins.first().unwrap(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn look_longer_than_its_interval_is_followed_at_once_and_counted() {
        let mut world = World::start(vec![Duration::from_secs(35)]);
        assert_eq!(world.begins(3).await, [0, 35, 45]);
        // The ticks at 10 and 20; the one at 30 is served at 35.
        assert_eq!(world.missed(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn look_that_does_not_come_back_is_overdue() {
        let mut world = World::start(vec![Duration::from_secs(1_000_000)]);
        assert_eq!(world.seen().await, endpoint(EndpointResult::Refused));
        assert_eq!(world.begins(2).await, [0, 60]);
        assert_eq!(world.seen().await, endpoint(EndpointResult::Passed));
    }

    #[tokio::test(start_paused = true)]
    async fn look_now_does_not_wait_for_the_interval() {
        let mut world = World::start(Vec::new());
        assert_eq!(world.begins(1).await, [0]);
        sleep(Duration::from_secs(4)).await;
        let waker = world.scheduler.waker(&target("scripted")).unwrap();
        waker.notify_one();
        assert_eq!(world.begins(2).await, [4, 14]);
        world.scheduler.look_now(&target("scripted"));
        assert_eq!(world.begins(1).await, [14]);
    }

    #[tokio::test(start_paused = true)]
    async fn cancelled_scheduler_ends_a_running_look() {
        let mut world = World::start(vec![Duration::from_secs(50)]);
        assert_eq!(world.begins(1).await, [0]);
        let before = now();
        world.stop.cancel();
        world.scheduler.stopped().await;
        assert_eq!(now(), before);
        assert_eq!(world.events.recv().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn jittered_probe_starts_within_a_second_and_keeps_its_interval_later() {
        let mut firsts = Vec::new();
        for seed in 0..8 {
            let mut world = World::with(Vec::new(), Jitter::Seeded(seed));
            let mut begins = Vec::new();
            for _ in 0..4 {
                begins.push(world.begun.recv().await.unwrap());
            }
            let between = |index: usize| begins[index + 1] - begins[index];
            assert!(begins[0] < FIRST_LOOK_WITHIN);
            assert!(between(0) <= INTERVAL);
            assert!(between(1).abs_diff(INTERVAL) < Duration::from_millis(5));
            assert!(between(2).abs_diff(INTERVAL) < Duration::from_millis(5));
            firsts.push(begins[0]);
            world.stop.cancel();
        }
        firsts.dedup();
        assert_eq!(firsts.len(), 8);
    }

    #[test]
    fn missed_ticks_leave_out_the_one_that_is_served_late() {
        let ticks = |elapsed| missed_ticks(Duration::from_secs(elapsed), INTERVAL);
        assert_eq!([ticks(0), ticks(9), ticks(10), ticks(19)], [0, 0, 0, 0]);
        assert_eq!([ticks(20), ticks(35), ticks(40)], [1, 2, 3]);
    }
}
