//! One agent's mind and journal, with every verdict checked.
#![expect(clippy::panic, reason = "a verdict that breaks a rule fails the test")]

use failover_agent::decision::decide::{Action, Verdict, decide};
use failover_agent::decision::journal_rules::Follower;
use failover_agent::decision::policy::Policy;
use failover_agent::decision::resume::resume;
use failover_agent::decision::state::{Inherited, State};
use failover_agent::model::Moment;
use failover_agent::model::event::Event;
use failover_agent::model::journal::{JournalEntry, JournalLine};
use failover_agent::model::time::Now;

use super::rules;

/// An agent under test.
#[derive(Debug)]
pub(crate) struct Agent {
    pub policy: Policy,
    pub state: State,
    pub lines: Vec<JournalLine>,
    entries: Vec<JournalEntry>,
    follower: Follower,
    events: u64,
}

impl Agent {
    /// An agent that starts with this journal.
    pub(crate) fn start(
        policy: Policy,
        lines: Vec<JournalLine>,
        inherited: Inherited,
        now: Now,
    ) -> Self {
        let state = State::new(&policy, &resume(&lines), inherited, now.moment);
        let mut agent = Self {
            policy,
            state,
            lines: Vec::new(),
            entries: Vec::new(),
            follower: Follower::default(),
            events: 0,
        };
        let started = JournalEntry::AgentStarted {
            version: "1".to_owned(),
        };
        let known = lines.into_iter().map(|line| line.entry);
        for entry in known.chain([started]) {
            agent.write(entry, now);
        }
        agent
    }

    /// Appends to the journal; fails the test when the entry cannot follow those before it.
    pub(crate) fn write(&mut self, entry: JournalEntry, now: Now) {
        if let Err(illegal) = self.follower.follow(&entry) {
            let before: Vec<String> = self.entries.iter().map(|e| format!("{e:?}")).collect();
            panic!("{illegal}: {entry:?}\nafter\n  {}", before.join("\n  "));
        }
        self.lines.push(JournalLine {
            number: u64::try_from(self.lines.len()).unwrap_or(0) + 1,
            at: now.wall,
            entry: entry.clone(),
        });
        self.entries.push(entry);
    }

    /// The plan that the journal shows as begun and not ended.
    pub(crate) fn under_way(&self) -> Option<&failover_agent::model::plan::Plan> {
        self.follower.under_way()
    }

    /// Decides on an event, and journals what is to be journalled.
    pub(crate) fn feed(&mut self, event: &Event, now: Now, crash: Crash) -> Fed {
        let before = self.state.phase;
        let given = self.state.clone();
        let Verdict {
            state,
            actions,
            wake_at,
        } = decide(&self.policy, self.state.clone(), event, now);
        // Comparing whole memories takes longer than deciding: most quiet events are left out.
        self.events += 1;
        if !actions.is_empty() || self.events.is_multiple_of(64) {
            let twin = decide(&self.policy, given, event, now);
            assert_eq!(actions, twin.actions, "the same input gives other actions");
            let told = (format!("{state:?}"), format!("{:?}", twin.state));
            assert_eq!(told.0, told.1, "the same input gives another state");
        }
        assert!(wake_at > now.moment, "wakes in the past");
        self.state = state;
        let mut carried_out = Vec::new();
        for action in &actions {
            let lines = self.lines.len();
            let journals = matches!(action, Action::Journal(_));
            let crashed = match crash {
                Crash::Never => false,
                Crash::After(line) => lines >= line,
                Crash::Before(line) => journals && lines + 1 >= line,
            };
            if crashed {
                return Fed {
                    carried_out,
                    wake_at,
                    crashed,
                };
            }
            if let Action::Journal(entry) = action {
                self.write(entry.clone(), now);
            }
            carried_out.push(action.clone());
        }
        let crashed = matches!(crash, Crash::After(line) if self.lines.len() >= line);
        let problems = rules::broken(
            &self.policy,
            before,
            &self.state,
            &actions,
            &self.entries,
            now,
        );
        assert!(
            problems.is_empty(),
            "{problems:?}\nafter {event:?}\nactions {actions:#?}\nphase {before} -> {}",
            self.state.phase
        );
        Fed {
            carried_out,
            wake_at,
            crashed,
        }
    }
}

/// When the agent is to die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crash {
    /// It lives.
    Never,
    /// Once this line is durable, before anything that follows it is done.
    After(usize),
    /// Before this line is written, after all that came before it was done.
    Before(usize),
}

/// What came of one event.
#[derive(Debug)]
pub(crate) struct Fed {
    /// What the runtime got to do.
    pub carried_out: Vec<Action>,
    /// When to tick.
    pub wake_at: Moment,
    /// The agent died on the way.
    pub crashed: bool,
}
