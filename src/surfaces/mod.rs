//! WHAT PEOPLE TOUCH. Translates only; decides nothing.

pub mod api;
pub mod cli;
