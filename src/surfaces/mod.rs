//! WHAT PEOPLE TOUCH: translates only.
