//! The tables of the decision core, tried against every combination there is: transitions are
//! complete, no diagnosis is shadowed, no remedy acts where it must not, no unsafe plan passes.
//! `tests/golden/tables/` keeps both tables as `agent explain` shows them; a change is read in
//! review (BLESS=1 rewrites them).
mod diagnoses;
mod plans;
mod steps;
mod transitions;
