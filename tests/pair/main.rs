//! Whole agents over real PostgreSQL pairs: what they do, what they survive, and what operators
//! and load balancers see of it.

#[path = "../support/mod.rs"]
mod support;

mod agent_faults;
mod agent_pair;
mod etcd_pair;
mod guard;
mod kill9;
mod operator;
mod routing;
