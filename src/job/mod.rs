//! The words everybody uses: plain data about one compile, without I/O and without async.
//!
//! Called by every room. Promises: a value that exists is valid (paths are clean, digests are
//! digests, ids have their alphabet), and equal actions have equal keys on every machine.
//!
//! Reading order: [`digest`], [`id`], [`lane`], [`tree`], [`difference`], [`action`], [`outcome`],
//! [`reason`], [`toolchain`], [`principal`], [`denial`], [`reads`], [`wire`],
//! [`audit`], [`bounded`].

pub mod action;
pub mod audit;
pub mod bounded;
pub mod denial;
pub mod difference;
pub mod digest;
pub mod id;
pub mod lane;
pub mod outcome;
pub mod principal;
pub mod reads;
pub mod reason;
pub mod toolchain;
pub mod tree;
pub mod wire;
#[cfg(test)]
mod wire_tests;

pub use action::{Action, ActionKey, Command, Terminal, WantedOutput};
pub use audit::Audit;
pub use denial::{Denial, DeniedBy, Party};
pub use difference::Difference;
pub use digest::Digest;
pub use id::{ClientId, JobId, Pool, Proof, Space, Tenant, WorkerId};
pub use lane::Lane;
pub use outcome::{Content, Exit, Outcome, Output, StepTimes};
pub use principal::{Principal, User};
pub use reason::LocalReason;
pub use toolchain::{Family, Kind, RustTool, Toolchain};
pub use tree::{Node, Tree, TreePath};
