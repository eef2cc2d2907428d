//! What one agent sees of real PostgreSQL nodes and does to them: probes, control, fence, gate,
//! promotion, and every step of a plan. No whole agent runs here.

#[path = "../support/mod.rs"]
mod support;

mod control;
mod exec;
mod executor;
mod fence;
mod gate;
mod grants;
mod postgres_faults;
mod postgres_probe;
mod postgres_promote;
mod steps;
mod support_postgres;
