//! jetcc: distributed compilation over NATS.
//!
//! Follow one compile by opening these in order: `client/wrapper.rs`, `client/compile.rs`,
//! `compiler/plan.rs`, `client/inputs/`, `job/action.rs`, `queue/submit.rs`, `scheduler/`,
//! `queue/pull.rs`, `worker/run.rs`, `worker/execute.rs`, `worker/sandbox/`, `client/outputs/`.

pub mod cli;
pub mod client;
pub mod compiler;
pub mod config;
pub mod dev;
pub mod exec;
pub mod job;
pub mod lifecycle;
pub mod queue;
pub mod scheduler;
pub mod setup;
pub mod store;
pub mod telemetry;
pub mod toolchain;
pub mod tools;
pub mod worker;
