//! WHAT PEOPLE TOUCH: translates only.
//! WHAT PEOPLE TOUCH. Translates only; never imports `effects`.

pub mod demo;
