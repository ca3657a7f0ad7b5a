//! What a compile is of, where that makes a difference: a source of C or C++, or a crate.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::crates::CrateReader;
use super::ipc::Diagnostics;
use super::outputs::Older;
use super::ready_toolchain::ReadyToolchain;
use super::request::{Request, Shelf};
use super::terminal;
use crate::job::{Action, Family};

/// What is compiled.
pub(super) enum Subject {
    /// A source of C or C++, with the variables that travel.
    Unit(Family, BTreeMap<String, String>),
    /// A crate; what was learned of it decides which variables travel.
    Crate(Arc<CrateReader>),
}

impl Subject {
    pub(super) fn older(&self) -> Older {
        match self {
            Self::Unit(..) => Older::Mixed,
            Self::Crate(_) => Older::Replaced,
        }
    }

    /// Local results of crates are not kept: macros may read what nobody names. What rustc would write
    /// to a terminal is not looked for either: cargo gives it none.
    pub(super) fn shelf(&self, shelf: Shelf, diagnostics: Diagnostics) -> Shelf {
        match (self, diagnostics) {
            (Self::Unit(..), _) => shelf,
            (Self::Crate(_), Diagnostics::Stream) => shelf.min(Shelf::Searched),
            (Self::Crate(_), Diagnostics::Terminal(_)) => Shelf::Unused,
        }
    }

    /// The action whose messages are for the terminal of `request`, if it has one.
    pub(super) fn shown(
        &self,
        plain: &Action,
        request: &Request,
        toolchain: &ReadyToolchain,
    ) -> Option<Action> {
        match self {
            Self::Unit(family, _) => {
                terminal::action(plain, request, *family, toolchain.descriptions)
            }
            Self::Crate(_) => None,
        }
    }
}
