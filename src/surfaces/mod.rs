//! WHAT PEOPLE TOUCH. Translates only; decides nothing, and never imports `effects` but for the
//! demo, which plays the whole world.

pub mod api;
pub mod cli;
pub mod demo;
