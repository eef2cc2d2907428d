//! THE MACHINE: tasks, time and order. Contains no policy; never imports `surfaces`.

pub mod checked_line;
pub mod http_server;
pub mod journal;
pub mod peer_server;
pub mod vote_file;
