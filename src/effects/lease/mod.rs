//! Stores that keep the lease outside of the members. Transport only: what is written when, and
//! what it means, is for `decision::lease::cell` to say.

pub mod etcd;
mod gateway;
