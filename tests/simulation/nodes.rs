//! What happens to the nodes: start, stop, death, promotion, and WAL from one to the other.

use failover_agent::model::Role;

use crate::clock::MS;
use crate::net::{Packet, Wal};
use crate::node::Process;
use crate::setup::Mutation;
use crate::world::{Ev, NodeTask, World, name};

impl World {
    /// Somebody starts the node; as what, its `standby.signal` says.
    pub(crate) fn start_node(&mut self, site: usize) {
        let now = self.now;
        let takes = self.sites[site].start_takes;
        let node = &mut self.sites[site].node;
        if node.process != Process::Down {
            return;
        }
        node.begin_start(now);
        let (instance, role) = (node.instance, node.role);
        self.note(|| format!("node {}: starts as {role}", name(site)));
        self.after(takes, Ev::Node(site, instance, NodeTask::Started));
        self.process_changed(site);
    }

    /// A node that is started by its host at boot, not by its agent.
    pub(crate) fn autostart_node(&mut self, site: usize) {
        let moment = self.moment(site);
        let gate = self.setup.gate;
        let here = &mut self.sites[site];
        if self.setup.mutation == Mutation::SignalIgnored {
            here.node.signal = false;
        } else if gate {
            // What `agent gate` says before the server starts: as primary with the lease's word.
            let word = here.disk.word;
            let held = word.is_some_and(|(boot, at)| boot == here.clock.boot && at > moment);
            here.node.signal |= !held;
        }
        self.start_node(site);
        let now = self.now;
        let node = &mut self.sites[site].node;
        if node.process == Process::Starting && node.role == Role::Primary && !gate {
            node.self_started = Some(now);
        }
    }

    /// Begins a clean stop: sessions end, the standby gets the rest of the WAL.
    pub(crate) fn stop_node(&mut self, site: usize) {
        self.write(site);
        let follows = self.follows(1 - site, site);
        let node = &mut self.sites[site].node;
        node.begin_stop();
        let instance = node.instance;
        if node.disk_full {
            // The shutdown checkpoint cannot be written: it never ends by itself.
            return;
        }
        if follows {
            self.push_wal(site);
        } else {
            self.after(30 * MS, Ev::Node(site, instance, NodeTask::Stopped));
        }
    }

    /// This site's standby streams from the other site's node right now.
    fn follows(&self, standby: usize, primary: usize) -> bool {
        let (one, other) = (&self.sites[standby], &self.sites[primary]);
        one.node.process == Process::Up
            && !one.node.frozen
            && one.node.role == Role::Standby
            && one.node.streaming
            && !one.wal_paused
            && one.node.can_follow(&other.node.history, other.node.lsn)
            && other.node.role == Role::Primary
            && self.net.up(standby, primary)
            && self.net.up(primary, standby)
    }

    /// No process of the node is left, for whatever reason.
    pub(crate) fn node_gone(&mut self, site: usize) {
        self.write(site);
        let was_sender = self.sites[site].node.role == Role::Primary;
        self.sites[site].node.end();
        if was_sender && self.sites[site].host_up {
            self.send(site, 1 - site, Packet::WalEnd);
        }
        self.process_changed(site);
    }

    /// The postmaster is killed; its backends finish what they do.
    pub(crate) fn kill_postmaster(&mut self, site: usize) {
        self.write(site);
        let node = &mut self.sites[site].node;
        if !node.exists() || node.process == Process::Orphans {
            return;
        }
        node.process = Process::Orphans;
        node.instance += 1;
        node.promoting = false;
        let instance = node.instance;
        let span = self.rng.below(200 * MS);
        self.after(span, Ev::Node(site, instance, NodeTask::OrphansGone));
        self.note(|| format!("node {}: postmaster killed", name(site)));
        self.process_changed(site);
    }

    pub(crate) fn promoted(&mut self, site: usize) {
        self.next_branch += 1;
        let branch = self.next_branch;
        let node = &mut self.sites[site].node;
        node.promote(branch);
        let (timeline, lsn) = (node.timeline(), node.lsn);
        self.note(|| {
            format!(
                "node {}: promoted to timeline {timeline} at {lsn}",
                name(site)
            )
        });
        self.promotion_happened(site);
        self.began_to_write(site);
    }

    pub(crate) fn send_wal(&mut self, site: usize) {
        self.after(100 * MS, Ev::Wal(site));
        if self.sites[site].host_up {
            self.push_wal(site);
        }
    }

    fn push_wal(&mut self, site: usize) {
        self.write(site);
        let node = &self.sites[site].node;
        let sends = matches!(node.process, Process::Up | Process::Stopping)
            && node.role == Role::Primary
            && !node.frozen;
        // A stream needs both directions.
        if !sends || !self.net.up(1 - site, site) {
            return;
        }
        let wal = Wal {
            history: node.history.clone(),
            lsn: node.lsn,
            heartbeat: node.heartbeat,
            instance: node.instance,
            last: node.process == Process::Stopping && !node.disk_full,
        };
        self.send(site, 1 - site, Packet::Wal(Box::new(wal)));
    }

    pub(crate) fn receive_wal(&mut self, site: usize, wal: &Wal) {
        let now = self.now;
        let here = &mut self.sites[site];
        let node = &mut here.node;
        let follows = node.process == Process::Up
            && !node.frozen
            && node.role == Role::Standby
            && !node.disk_full;
        if !follows || here.wal_paused {
            return;
        }
        if !wal.history.starts_with(&node.history) || !node.can_follow(&wal.history, wal.lsn) {
            // Diverged: it connects and is sent away again.
            node.streaming = false;
            node.heard = None;
            return;
        }
        node.history.clone_from(&wal.history);
        node.lsn = node.lsn.max(wal.lsn);
        node.heartbeat = node.heartbeat.max(wal.heartbeat);
        node.streaming = true;
        node.heard = Some(now);
        let sender = &mut self.sites[1 - site].node;
        sender.follower_heard = now;
        if wal.last {
            let instance = wal.instance;
            self.send(site, 1 - site, Packet::WalAck { instance });
        }
    }

    pub(crate) fn wal_received(&mut self, site: usize, instance: u32) {
        let node = &self.sites[site].node;
        if node.instance == instance && node.process == Process::Stopping && !node.frozen {
            self.truth.handed_on = node.history.last().map(|branch| (branch.id, node.lsn));
            self.after(5 * MS, Ev::Node(site, instance, NodeTask::Stopped));
        }
    }

    pub(crate) fn sender_gone(&mut self, site: usize) {
        let node = &mut self.sites[site].node;
        if node.role == Role::Standby {
            node.streaming = false;
            node.heard = None;
        }
    }

    /// An operator makes the node a copy of the other site's primary again, and starts it.
    pub(crate) fn rebuild(&mut self, site: usize) {
        self.write(1 - site);
        let source = self.sites[1 - site].node.clone();
        let node = &mut self.sites[site].node;
        let sensible = source.role == Role::Primary
            && source.process == Process::Up
            && !source.frozen
            && node.process == Process::Down;
        if !sensible {
            return;
        }
        node.history.clone_from(&source.history);
        node.lsn = source.lsn;
        node.heartbeat = source.heartbeat;
        node.role = Role::Standby;
        node.signal = true;
        node.disk_full = false;
        self.note(|| format!("node {}: rebuilt by an operator", name(site)));
        self.start_node(site);
    }
}
