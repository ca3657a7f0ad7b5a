//! Real servers, disks, farms and projects for the tests; each ends with the value that stands for
//! it.
//!
//! Reading order: [`farm`] (a whole farm), [`project`] (what is compiled, here and there), [`cases`]
//! (scripts that run here and there), [`members`] (a process of the farm), [`nats`] (its server),
//! [`oidc`] (who its users are), [`requests`] (what a client may ask), [`processes`], [`stats`], [`wait`].

pub(crate) mod attacker;
pub(crate) mod cases;
pub(crate) mod farm;
mod insight;
pub(crate) mod members;
pub(crate) mod nats;
pub(crate) mod oidc;
pub(crate) mod processes;
pub(crate) mod project;
pub(crate) mod requests;
pub(crate) mod s3;
pub(crate) mod stats;
pub(crate) mod tiny_disk;
pub(crate) mod wait;
