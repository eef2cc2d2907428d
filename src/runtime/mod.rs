//! THE MACHINE: tasks, time, order. Contains no policy: what to do is decided in `decision`.

pub mod scheduler;
pub mod tasks;
