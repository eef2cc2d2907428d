//! WHAT PEOPLE TOUCH: the command line, the operator's socket, the demo. They translate; what
//! happens is decided elsewhere.

pub mod api;
pub mod cli;
pub mod demo;
pub mod metrics;
