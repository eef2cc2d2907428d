//! WHAT PEOPLE TOUCH: translates only.
//! WHAT PEOPLE TOUCH. Translates only; never imports `effects`.

pub mod demo;
//! WHAT PEOPLE TOUCH. Translates only; decides nothing.

pub mod api;
pub mod cli;
