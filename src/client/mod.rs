//! Everything on the developer's machine: the wrapper that the build system starts, and the daemon
//! that answers it.
//!
//! Called by `main`. Promises: a compile ends as the local compiler would have ended it; whatever
//! goes wrong on the way leads to a local compile with a [`crate::job::LocalReason`].
//!
//! Reading order: [`wrapper`], [`view`], [`ipc`], [`request`], [`command`], [`compile`] (the story), [`named`] and [`terminal`] (which results answer), [`subject`], [`inputs`] (with `memory`, `folders` and
//! [`scan`]), [`crates`] (the same for Rust), [`ready_toolchain`], [`upload`], [`remote`], [`early`],
//! [`locale`], [`cache`] (results on this disk), [`outputs`], [`fill`] and [`written`] (results of local compiles), [`slots`], [`daemon`], [`link`], [`login`] (who we are), [`stats`], [`history`], [`settings`].

pub mod bases;
pub mod cache;
mod command;
pub mod compile;
pub mod crates;
pub mod daemon;
pub mod early;
mod fill;
mod folders;
pub mod history;
pub mod inputs;
pub mod ipc;
mod keeper;
pub mod link;
pub mod locale;
pub mod login;
mod memory;
mod named;
pub mod outputs;
mod ready_toolchain;
pub mod remote;
pub mod report;
mod request;
pub mod scan;
pub mod sent;
pub mod settings;
pub mod slots;
pub mod socket;
pub mod stats;
mod subject;
mod terminal;
pub mod upload;
pub mod view;
pub mod wrapper;
mod written;

pub use settings::Settings;
