//! placeholder

pub mod scheduler;
pub mod tasks;
