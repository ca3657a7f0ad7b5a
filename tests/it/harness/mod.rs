//! Real servers, disks, farms and projects for the tests; each ends with the value that stands for
//! it.
//!
//! Reading order: [`farm`] (a whole farm), [`project`] (what is compiled, here and there), [`cases`]
//! (scripts that run here and there), [`members`] (a process of the farm), [`nats`] (its server),
//! [`oidc`] (who its users are), [`s3`] and [`tls_end`] (another store of blobs), [`requests`] (what a client may ask), [`processes`], [`stats`], [`wait`].

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
pub(crate) mod tls_end;
pub(crate) mod wait;
