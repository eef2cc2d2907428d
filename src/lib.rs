//! `agent` fails a whole site over: it fences the old PostgreSQL primary, promotes the standby,
//! rewrites app config, moves DNS, verifies every one of those, and keeps a journal of it.
//!
//! Data flows one way. Read the modules in this order:
//!
//! ```text
//! probes ─ Observation ─┐
//! lease  ─ LeaseChange ─┤                                  (refused → alert)
//! operator ─ Command ───┼─► Event ─► health ─► diagnose ─► decide ─► plan ─► check_plan
//! timer  ─ Tick(wake_at)┤            └────────── pure, same thread, no await ──────────┘
//! steps  ─ StepFinished ┘                                       │
//!    ▲                                                          ▼
//!    └──────── executor ◄── journal (fsync) ◄────────────── actions
//!                 │                                             │
//!            effects/steps                               status snapshot ─► CLI, API, outbox
//! ```
//!
//! `model` ← `decision` ← `runtime` ← `surfaces`; `effects` sees `model` and its section of
//! `config`, never `decision`. `tests/tidy.rs` checks it.

pub mod model;

pub mod config;
pub mod decision;
pub mod effects;
pub mod runtime;
pub mod surfaces;
