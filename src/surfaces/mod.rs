//! WHAT PEOPLE TOUCH. Translates only; never imports `effects`.

pub mod demo;
