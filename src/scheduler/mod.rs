//! Decides who may do what and which job comes when. Never opens a file, never starts a process,
//! never looks into a source; keeps no truth, so that it can be restarted or doubled at any time.
//!
//! Called by `main`. Promises: a job reaches the queue only after its client was identified, an
//! action is recorded only with a proof that its worker was given the job, and nobody is turned
//! away without a word.
//!
//! Reading order: [`settings`], [`run`], [`porter`], [`identity`], [`certificates`], [`door`],
//! [`deny_list`], [`reception`], [`flight`], [`lanes`], [`pace`], [`registry`], [`holds`], [`recorder`], [`audit`],
//! [`examiner`], [`undertaker`];
//! [`spaces`] and [`quota`] keep tenants apart, [`meter`] counts what they send.

pub mod audit;
pub mod certificates;
pub mod deny_list;
pub mod door;
pub mod examiner;
pub mod flight;
pub mod holds;
pub mod identity;
pub mod lanes;
pub mod meter;
pub mod pace;
pub mod porter;
pub mod quota;
pub mod reception;
pub mod recorder;
pub mod registry;
pub mod run;
pub mod settings;
pub mod spaces;
mod told;
pub mod undertaker;

pub use run::run;
pub use settings::Settings;
