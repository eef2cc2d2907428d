//! Kills an agent at the very moment when something is seen on the disk.
//!
//! The kernel tells of a write when it has happened, which is before the agent knows that its line
//! is durable: what follows the line has not begun.

use std::fs::File;
use std::io::Read;
use std::mem::MaybeUninit;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

use failover_agent::model::journal::JournalLine;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::time::Timespec;

use super::places::Places;

/// How long the thread waits at most for a line before it looks whether it is still wanted.
const SLOW: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};
/// Between two looks at a fact: short against what an agent needs to look itself and write it down.
const FAST: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 500_000,
};

/// When the victim dies.
pub(crate) enum Moment {
    /// Never: its journal is watched.
    Never,
    /// This place of a plan has become the last of its journal.
    Line(&'static str),
    /// This is true: the work of a step is done, and nothing says so yet.
    Fact(Box<dyn Fn() -> bool + Send>),
}

/// A thread that watches, and kills once.
#[derive(Debug)]
pub(crate) struct Assassin {
    thread: JoinHandle<Vec<Vec<String>>>,
    name: Sender<u32>,
    call_off: Arc<AtomicBool>,
    done: Arc<AtomicBool>,
}

impl Assassin {
    /// Begins to watch; returns when nothing can be missed any more.
    pub(crate) fn hide(journal: &Path, moment: Moment) -> Self {
        let call_off = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicBool::new(false));
        let mut file = File::open(journal).expect("the journal");
        let mut before = String::new();
        file.read_to_string(&mut before).expect("the journal");
        let mut watch = Watch {
            queue: inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).expect("inotify"),
            journal: file,
            places: Places::default(),
            unread: String::new(),
            writes: Vec::new(),
        };
        watch.places_of(&before);
        let flags = WatchFlags::MODIFY;
        inotify::add_watch(&watch.queue, journal, flags).expect("the journal can be watched");
        let (stop, struck) = (Arc::clone(&call_off), Arc::clone(&done));
        let (name, victim) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let due = watch.run(&moment, &stop);
            if due {
                let pid: u32 = victim.recv().expect("a name");
                let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
                let killed = kill_process(pid.expect("a process id"), Signal::KILL);
                killed.expect("the victim can be killed");
            }
            struck.store(due, Ordering::Release);
            watch.writes
        });
        Self {
            thread,
            name,
            call_off,
            done,
        }
    }

    /// Says who is to be killed; it may have begun to live after the watch began.
    pub(crate) fn name(&self, pid: u32) {
        self.name.send(pid).expect("the thread waits");
    }

    /// Whether the victim was killed.
    pub(crate) fn has_struck(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// Ends the watch; whether the victim was killed.
    pub(crate) fn leave(self) -> bool {
        let done = Arc::clone(&self.done);
        self.writes();
        done.load(Ordering::Acquire)
    }

    /// Ends the watch; the places that were seen, write by write.
    pub(crate) fn writes(self) -> Vec<Vec<String>> {
        self.call_off.store(true, Ordering::Release);
        self.thread.join().expect("no panic in the thread")
    }
}

struct Watch {
    queue: rustix::fd::OwnedFd,
    journal: File,
    places: Places,
    /// The beginning of a write that is not whole yet.
    unread: String,
    /// The places that came in one write each.
    writes: Vec<Vec<String>>,
}

impl Watch {
    /// True as soon as the moment has come; false when it is called off.
    fn run(&mut self, moment: &Moment, stop: &AtomicBool) -> bool {
        let at_most = match moment {
            Moment::Never | Moment::Line(_) => &SLOW,
            Moment::Fact(_) => &FAST,
        };
        while !stop.load(Ordering::Acquire) {
            self.wait(at_most);
            let news = self.read();
            let due = match moment {
                Moment::Never => false,
                Moment::Line(place) => news.iter().any(|known| known == place),
                Moment::Fact(holds) => holds(),
            };
            if !news.is_empty() {
                self.writes.push(news);
            }
            if due {
                return true;
            }
        }
        false
    }

    /// Waits until something is written, or for so long.
    fn wait(&mut self, at_most: &Timespec) {
        let mut polled = [PollFd::new(&self.queue, PollFlags::IN)];
        if poll(&mut polled, Some(at_most)).is_ok_and(|ready| ready > 0) {
            let mut buffer = [MaybeUninit::uninit(); 1024];
            let mut events = Reader::new(&self.queue, &mut buffer);
            while let Ok(event) = events.next() {
                assert!(!event.events().contains(ReadFlags::QUEUE_OVERFLOW));
            }
        }
    }

    /// The places that the journal has come to since the last look. A write that is seen half is
    /// waited for: the kernel writes page by page.
    fn read(&mut self) -> Vec<String> {
        self.journal
            .read_to_string(&mut self.unread)
            .expect("the journal can be read");
        if !self.unread.ends_with('\n') {
            return Vec::new();
        }
        let text = std::mem::take(&mut self.unread);
        self.places_of(&text)
    }

    fn places_of(&mut self, text: &str) -> Vec<String> {
        let place = |line: &str| {
            let json = line.find('{').map_or("", |start| &line[start..]);
            let line: JournalLine = serde_json::from_str(json).expect("a line of the journal");
            self.places.next(&line.entry)
        };
        text.lines().map(place).collect()
    }
}
