//! The only room that knows NATS: connections, subjects, streams, permissions, and the messages'
//! way between client, scheduler and worker.
//!
//! Called by `client` ([`submit`]), `scheduler` ([`serve`], [`flights`], [`holdings`], [`streams`], [`callout`],
//! [`denied`], [`system`]), `worker` ([`pull`]) and by `main`, which hands [`blobs`] to the store.
//! Promises: a message is decoded and bounded before anybody sees it, durable state is in JetStream
//! alone, and everything is declared again after a reconnect.
//!
//! Reading order: [`connect`], [`tls`], [`subjects`], [`permissions`], [`server_config`],
//! [`streams`], [`submit`], [`serve`], [`flights`], [`pull`], [`holdings`], [`queued`], [`reports`],
//! [`records`] and [`read_lists`], [`withdraw`], [`audits`], [`blobs`],
//! [`callout`], [`denied`], [`system`].

pub mod audits;
pub mod blobs;
pub mod callout;
pub mod connect;
pub mod denied;
pub mod flights;
pub mod holdings;
pub mod permissions;
pub mod pull;
mod queued;
mod read_lists;
pub mod records;
pub mod reports;
pub mod serve;
pub mod server_config;
pub mod streams;
pub mod subjects;
pub mod submit;
pub mod system;
pub mod tls;
pub mod traffic;
mod withdraw;

pub use connect::{Connection, Login, Password, Patience, QueueError, Secret};
pub use tls::TlsSettings;
