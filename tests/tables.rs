//! The tables of the decision core, tried against every combination there is: transitions are
//! complete, no diagnosis is shadowed, no remedy acts where it must not, no unsafe plan passes.
//! `tests/golden/tables/` keeps both tables as `agent explain` shows them; a change is read in
//! review (BLESS=1 rewrites them).
#[path = "tables/diagnoses.rs"]
mod diagnoses;
#[path = "support/golden.rs"]
mod golden;
#[path = "tables/plans.rs"]
mod plans;
#[path = "tables/steps.rs"]
mod steps;
#[path = "tables/transitions.rs"]
mod transitions;
#[path = "support/world/mod.rs"]
mod world;
