//! THE MACHINE: tasks, time and order. Contains no policy; never imports `surfaces`.

pub mod checked_line;
pub mod journal;
pub mod vote_file;
